# What the scripts share; sourced, not run.

step() { printf '\n== %s\n' "$*" >&2; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

need() { # program, what to do
  command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

python_with_pip() {
  local python=${AEHOST_PYTHON:-python3}
  need "$python" "install Python 3, or name it in AEHOST_PYTHON"
  "$python" -m pip --version >/dev/null 2>&1 ||
    fail "$python has no pip, through which model and data are fetched: install it (Debian: python3-pip), or name another Python in AEHOST_PYTHON"
}

# Where cargo puts what it builds.
target_folder() {
  cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
