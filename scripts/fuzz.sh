#!/usr/bin/env bash
# Hands hostile files to everything that reads files: so many seconds for each target, all of them unless some are named.
#   scripts/fuzz.sh [SECONDS [TARGET...]]
# What has been found lies in fuzz/artifacts/TARGET; it becomes a test. Needs rustup, for a nightly compiler, and cargo-fuzz, which is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift $(($# > 0))
nightly=${FUZZ_TOOLCHAIN:-nightly}
# Some targets write files, thousands a second.
[ -n "${TMPDIR:-}" ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm

if ! cargo "+$nightly" --version >/dev/null 2>&1; then
    rustup toolchain install "$nightly" --profile minimal
fi
if ! type -P cargo-fuzz >/dev/null; then
    cargo install --locked cargo-fuzz
fi

# Files to begin with: small ones that the project holds anyway, and a few made for it.
seed() {
    local target=$1 into=fuzz/corpus/$1
    mkdir -p "$into"
    case $target in
        tables) find data -name '*.csv' -size -4k ;;
        spaces) find space/presets -name '*.toml' ;;
        devices) find device-configs -name '*.toml' ;;
    esac | while read -r file; do
        cp "$file" "$into/${file//\//_}"
    done
    [ ! -d "fuzz/seeds/$target" ] || cp fuzz/seeds/"$target"/* "$into/"
    # Their words, which no chance would find.
    { find "$into" -type f -size -8k -exec grep -IohE '[A-Za-z_][A-Za-z0-9_.-]{2,40}' {} + || true; } |
        sort -u | sed -n '1,2000s/.*/"&"/p' >"fuzz/corpus/$target.dict"
    echo '"fleetfoot"' >>"fuzz/corpus/$target.dict"
}

if [ $# = 0 ]; then
    mapfile -t targets < <(cargo "+$nightly" fuzz list --fuzz-dir fuzz)
    set -- "${targets[@]}"
fi
for target; do
    seed "$target"
    cargo "+$nightly" fuzz run --fuzz-dir fuzz "$target" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 -dict="fuzz/corpus/$target.dict"
done
