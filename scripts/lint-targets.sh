#!/usr/bin/env bash
# Checks with clippy that the programs are right for other systems than this one, as far as Rust's standard library for them can be had:
# the agent for Android, fleetfoot and the agent for macOS and Windows. Nothing is linked, so that no other tools are needed.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra cargo <<<"${CARGO:-cargo}"
read -ra flags <<<"${CARGO_FLAGS:-}"

has_target() { [ -d "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$1/lib" ]; }

check() {
    local target=$1
    shift
    if ! has_target "$target" && ! { type -P rustup >/dev/null && timeout 300 rustup target add "$target"; }; then
        printf 'lint: not for %s: Rust has no standard library for it here (rustup target add %s).\n' "$target" "$target" >&2
        return
    fi
    "${cargo[@]}" clippy --release "${flags[@]}" --target "$target" "${@/#/--package=}" -- -D warnings
}

check aarch64-linux-android fleetfoot-agent
check aarch64-apple-darwin fleetfoot fleetfoot-agent
check x86_64-pc-windows-gnu fleetfoot fleetfoot-agent
