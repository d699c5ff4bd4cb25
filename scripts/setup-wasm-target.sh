#!/usr/bin/env bash
# Makes the target wasm32-unknown-unknown available, for which plugins are compiled. In this order:
#
#   1. the toolchain in use has it           nothing to do
#   2. rustup can add it                     rustup target add
#   3. Debian or Ubuntu, rustup cannot       unpack the distribution's rustc into a private folder, compile the standard
#                                            library for the target (offline, about a minute), and register the result
#                                            with rustup as the toolchain `wasm-guest`
#
# Nothing is installed system-wide, and root is not needed. The last line printed names the toolchain for cargo:
# "+wasm-guest", or an empty line for the one in use.
#
#   WASM_GUEST_HOME    where step 3 keeps its toolchain (default ~/.cache/wasm-guest)
#   WASM_GUEST_FORCE   1 skips steps 1 and 2
#   RUSTUP_TIMEOUT     seconds that step 2 may take (default 60)
#   JOBS               jobs for compiling the standard library (default 2)
set -euo pipefail

target=wasm32-unknown-unknown
name=wasm-guest
home=${WASM_GUEST_HOME:-$HOME/.cache/wasm-guest}

say() { printf 'setup-wasm-target: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
finish() { printf '%s\n' "$1"; exit 0; }
has_target() { # rustc
  local libraries
  libraries=$("$1" --print target-libdir --target "$target" 2>/dev/null) &&
    compgen -G "$libraries/libcore-*.rlib" >/dev/null
}

if [ "${WASM_GUEST_FORCE:-0}" != 1 ]; then
  if has_target rustc; then finish ""; fi
  if command -v rustup >/dev/null; then
    say "adding $target with rustup"
    if timeout "${RUSTUP_TIMEOUT:-60}" rustup target add "$target" >&2 && has_target rustc; then finish ""; fi
    say "rustup could not add it; using the distribution's compiler instead"
  fi
fi

command -v apt-get >/dev/null ||
  fail "neither rustup nor apt-get can provide $target; install it for your toolchain and try again"
mkdir -p "$home"
exec 9>"$home/.lock"
flock 9

candidate() { apt-cache policy rustc-web 2>/dev/null | sed -n 's/ *Candidate: //p'; }
version=$(candidate)
if [ -z "$version" ] || [ "$version" = "(none)" ]; then
  say "refreshing apt's package lists"
  apt-get update >&2 || sudo -n apt-get update >&2
  version=$(candidate)
fi
[ -n "$version" ] && [ "$version" != "(none)" ] || fail "this distribution has no package rustc-web"

toolchain="$home/rustc-web_$version" # one folder for each version of the compiler
register() {
  command -v rustup >/dev/null || return 0
  local linked="${RUSTUP_HOME:-$HOME/.rustup}/toolchains/$name"
  [ "$(readlink -f "$linked" 2>/dev/null)" = "$(readlink -f "$toolchain/usr")" ] ||
    rustup toolchain link "$name" "$toolchain/usr" >&2
}
if [ -e "$toolchain/.complete" ]; then
  register
  finish "+$name"
fi

say "unpacking rustc-web $version into $toolchain"
rm -rf "$toolchain"
mkdir -p "$toolchain/debs" "$toolchain/build/src"
# What those packages need and this machine lacks, by apt's own resolver.
needed=$(apt-get -s -o Debug::NoLocking=1 install --no-install-recommends rustc-web rust-web-src |
  sed -n 's/^Inst \([^ ]*\) .*/\1/p')
# shellcheck disable=SC2086 # a list of package names
(cd "$toolchain/debs" && apt-get download -o APT::Sandbox::User=root $needed >&2)
for package in "$toolchain"/debs/*.deb; do dpkg-deb -x "$package" "$toolchain"; done
rm -rf "$toolchain/debs" "$toolchain/usr/share" "$toolchain/usr/src/"*/{compiler,src,debian}
library="$toolchain/usr/lib/rustlib/src/rust/library"
[ -d "$library/vendor" ] || fail "the package rust-web-src has no library/vendor"

# rustc finds its private shared libraries through a wrapper; its sysroot is $toolchain/usr.
for program in rustc rustdoc; do
  mv "$toolchain/usr/bin/$program" "$toolchain/usr/bin/$program.real"
  cat > "$toolchain/usr/bin/$program" <<WRAPPER
#!/bin/sh
usr="$toolchain/usr"
LD_LIBRARY_PATH="\$usr/lib/$(uname -m)-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "\$usr/bin/$program.real" "\$@"
WRAPPER
  chmod +x "$toolchain/usr/bin/$program"
done
machine=$("$toolchain/usr/bin/rustc" -vV | sed -n 's/^host: //p')

# Linker and cargo are those of the ordinary toolchain, or else the distribution's.
mkdir -p "$toolchain/usr/lib/rustlib/$machine/bin"
linker=
if command -v rustup >/dev/null; then
  sysroot=$(rustc --print sysroot)
  linker="$sysroot/lib/rustlib/$machine/bin/rust-lld"
  if [ -x "$sysroot/bin/cargo" ]; then ln -sf "$sysroot/bin/cargo" "$toolchain/usr/bin/cargo"; fi
fi
[ -x "$linker" ] || linker=$(command -v rust-lld lld-22 lld-19 lld | head -1 || true)
[ -n "$linker" ] || fail "no lld found; install one (apt-get install lld) and try again"
ln -sf "$linker" "$toolchain/usr/lib/rustlib/$machine/bin/rust-lld"

say "compiling the standard library for $target"
cat > "$toolchain/build/Cargo.toml" <<'MANIFEST'
[package]
name = "seed"
version = "0.0.0"
edition = "2021"
[workspace]
[profile.release]
codegen-units = 1
debug = 0
MANIFEST
: > "$toolchain/build/src/lib.rs"
(
  cd "$toolchain/build"
  unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
  # The paths of an official standard library, so that no local path gets into a plugin.
  commit=$("$toolchain/usr/bin/rustc" -vV | sed -n 's/^commit-hash: //p')
  export RUSTC="$toolchain/usr/bin/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$toolchain/build/target"
  export RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=$library=/rustc/$commit/library"
  "$(command -v "$toolchain/usr/bin/cargo" || command -v cargo)" build --release --offline -j "${JOBS:-2}" \
    -Zbuild-std=std,panic_abort --target "$target" \
    --config 'source.crates-io.replace-with="vendored"' \
    --config "source.vendored.directory=\"$library/vendor\"" >&2
)
libraries="$toolchain/usr/lib/rustlib/$target/lib"
mkdir -p "$libraries"
cp "$toolchain/build/target/$target/release/deps/"*.rlib "$libraries/"
rm -f "$libraries"/libseed-*
rm -rf "$toolchain/build" "$toolchain/usr/src" "$toolchain/usr/lib/rustlib/src"
has_target "$toolchain/usr/bin/rustc" || fail "the standard library was compiled, but rustc does not find it"
touch "$toolchain/.complete"
register
say "ready: $("$toolchain/usr/bin/rustc" --version), $(du -sh "$toolchain" | cut -f1)"
finish "+$name"
