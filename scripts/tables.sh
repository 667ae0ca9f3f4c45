#!/usr/bin/env bash
# Measures the tables that data/ ships, on this CPU: presets x {optimisation all, basic} x {one, two threads} x {fp32, int8}.
#     [OPTIONS="--min-rounds 12 --max-rounds 24"] scripts/tables.sh FOLDER [SPACE...]
# Tables and their journals go to runs/tables (a killed run goes on where it was), the tables then to FOLDER.
# About an hour and a half; nothing else should run meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: scripts/tables.sh FOLDER [SPACE...]}
shift
[ $# -gt 0 ] || set -- fashion-28 cifar-32 proxyless-224
runs=${RUNS:-runs/tables}
fleetfoot=${FLEETFOOT:-target/release/fleetfoot}
read -ra options <<<"${OPTIONS:-}"
mkdir -p "$runs" "$folder"
devices=(local-cpu local-cpu-basic local-cpu-2threads local-cpu-int8)
for device in basic-2threads int8-2threads int8-basic int8-basic-2threads; do
    devices+=("data/epyc-genoa/devices/local-cpu-$device.toml")
done
for space in "$@"; do
    for device in "${devices[@]}"; do
        table=$space.$(basename "$device" .toml).csv
        if [ ! -e "$runs/$table" ]; then
            "$fleetfoot" profile --space "$space" --device "$device" -o "$runs/$table" --resume "${options[@]}"
        fi
        cp "$runs/$table" "$folder/"
    done
done
