#!/usr/bin/env bash
# Builds target/examples/strategy-crossover.wasm. Needs Node.js 20 or newer with npm; what else it takes goes to
# target/toolchains/javascript.
set -euo pipefail
cd "$(dirname "$0")/../../.."

tools=target/toolchains/javascript
out=target/examples/strategy-crossover.wasm

mkdir -p target/examples $tools
[ -x $tools/node_modules/.bin/componentize-qjs ] ||
  npm install --prefix $tools --silent --no-audit --no-fund --save-exact componentize-qjs@0.4.5
# --module-root: relative imports are followed as far as there.
$tools/node_modules/.bin/componentize-qjs --wit wit --world strategy-plugin --stub-wasi --sync \
  --js examples/strategies/javascript/strategy.js --module-root . --output $out
echo "$out"
