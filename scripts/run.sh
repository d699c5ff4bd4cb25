#!/usr/bin/env bash
# From a clone to a finished study: builds aehost and its plugins, fetches the default model and data, and runs the default
# study. Further words are handed to `aehost run`, as in: scripts/run.sh --trials 40 --time 1h
#
# Needs Rust (https://rustup.rs), a C compiler, and Python 3 with pip, through which model and data are fetched. Nothing is
# installed outside this folder, the caches of cargo and rustup, and the caches of aehost. The first build takes about
# 20 minutes on 2 cores; later runs build what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh

need cargo "install Rust: https://rustup.rs"
need cc "install a C compiler (Debian: build-essential), which SQLite is compiled with"
python_with_pip

step "Building aehost"
cargo build --release --locked --package aehost
step "Building the plugins"
cargo xtask plugins --quiet
step "Running the default study"
exec "$(target_folder)/release/aehost" run --plugins plugins "$@"
