#!/usr/bin/env bash
# From nothing to a network that was searched for this very CPU: every step is a command of fleetfoot.
# A run that was stopped goes on where it was; RUN names another folder for the results.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="${CARGO_TARGET_DIR:-$PWD/target}/release:$PATH"
RUN=${RUN:-runs/demo}
SPACE=fashion-28
mkdir -p "$RUN"
say() { printf '\n== %s\n' "$*" >&2; }

say "1. Profile: what does each block cost on this CPU?"
fleetfoot profile --space $SPACE --device local-cpu --seed 0 -o "$RUN/table.csv" --resume

say "2. Fit: a regression for blocks that were never measured"
fleetfoot fit --table "$RUN/table.csv" -o "$RUN/model.json" --force

say "3. Evaluate: predictions against 30 random networks, measured now"
evaluate() {
  fleetfoot evaluate --table "$RUN/table.csv" --space $SPACE --device local-cpu --networks 30 --seed 1 -o "$RUN/evaluate.json" "$1" >&2
}
if [ ! -e "$RUN/evaluate.json" ]; then
  evaluate --resume
  # A table of a moment at which this machine ran by more than 5 % faster or slower than it does now is made again, once.
  if sed -n 's/.*"slower_percent": *\([-.0-9]*\).*/\1/p' "$RUN/evaluate.json" | awk '{ far = $1 < -5 || $1 > 5 } END { exit !far }'; then
    say "1 to 3 once more: the table was made while this machine was faster or slower than it is"
    fleetfoot profile --space $SPACE --device local-cpu --seed 0 -o "$RUN/table.csv" --force
    fleetfoot fit --table "$RUN/table.csv" -o "$RUN/model.json" --force
    evaluate --force
  fi
fi

say "4. Search: a network with 65 % of the latency of MobileNetV2's block everywhere (k3e6)"
TARGET=$(fleetfoot predict --table "$RUN/table.csv" --space $SPACE k3e6 | awk -F, 'NR == 2 { printf "%.4fms", 0.65 * $2 }')
FOUND=$(fleetfoot search --space $SPACE --table "$RUN/table.csv" --target "$TARGET" --seed 0 -o "$RUN/search" --resume \
  --train-images 40000 --validation-images 16000 --warmup-epochs 3 --inherit-after 2 --search-epochs 3 --batch 64 \
  --weight-steps 2 --gate-batch 192 --alpha-lr 0.03 --warmup-lr 0.15 --lr 0.05 --shift 0 --no-flip --refine-images 2048 \
  --finalists 8 --finalist-epochs 2)

say "5. Train from scratch, all by one recipe: the found network, the baseline, the shallowest network"
train() { # ROLE ARCHITECTURE [SEED]
  fleetfoot train --space "$SPACE" "$2" -o "$RUN/train/$1" --seed "${3:-0}" --resume \
    --epochs 4 --batch 64 --lr 0.1 --shift 0 --no-flip --threads 1 &&
    fleetfoot export "$RUN/train/$1"
}
train baseline k3e6 2> "$RUN/baseline.log" & # one thread each on two cores is faster than two threads after each other
train found "$FOUND"
train shallowest shallowest
wait $! || { cat "$RUN/baseline.log" >&2; exit 1; }
tail -n 2 "$RUN/baseline.log" >&2

say "6. Measure the exported models, interleaved, and report"
fleetfoot measure --device local-cpu --onnx "$RUN"/train/*/model.onnx -o "$RUN/measured.csv" --force
fleetfoot predict --table "$RUN/table.csv" --space $SPACE "$FOUND" k3e6 shallowest > "$RUN/predicted.csv"
fleetfoot report "$RUN"
