#!/usr/bin/env bash
# Builds the example strategies in other languages, and checks that each keeps the promises of the contract (`aehost plugins
# test`). Components go to target/examples.
#
#   scripts/example-strategies.sh             all of them
#   scripts/example-strategies.sh python c    some
#
# Needs aehost, built or named by AEHOST, and what each language needs: Python 3 with pip; Node.js with npm; Python and
# cargo for C. Compilers are fetched once, to target/toolchains.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh

python_with_pip
aehost=${AEHOST:-$(target_folder)/release/aehost}
need "$aehost" "build it first (cargo build --release --package aehost), or name it in AEHOST"
languages=("$@")
[ $# -gt 0 ] || languages=(python javascript c)

results=()
failed=0
for language in "${languages[@]}"; do
  build=examples/strategies/$language/build.sh
  [ -x "$build" ] || fail "there is no example in $language"
  step "$language"
  if component=$("$build" | tail -1) && "$aehost" plugins test "$component"; then
    results+=("$(printf '%-12s passed   %s, %s KB' "$language" "$component" "$(($(wc -c <"$component") / 1000))")")
  else
    results+=("$(printf '%-12s FAILED' "$language")")
    failed=1
  fi
done

step "Results"
printf '%s\n' "${results[@]}"
exit $failed
