#!/usr/bin/env bash
# Builds target/examples/strategy-local-search.wasm. Needs Python 3.10 or newer with pip; what else it takes goes to
# target/toolchains/python.
set -euo pipefail
cd "$(dirname "$0")/../../.."

tools=target/toolchains/python
out=target/examples/strategy-local-search.wasm

mkdir -p target/examples
[ -x $tools/bin/pip ] || "${AEHOST_PYTHON:-python3}" -m venv $tools
$tools/bin/pip install --quiet --disable-pip-version-check componentize-py==0.25.1
# Everything that the module imports is loaded now and is in the component: nothing is looked for when it runs.
$tools/bin/componentize-py --wit-path wit --world strategy-plugin componentize --stub-wasi \
  --python-path examples/strategies/python --python-path sdk/python --output $out strategy
echo "$out"
