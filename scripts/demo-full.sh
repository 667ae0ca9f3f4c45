#!/usr/bin/env bash
# The demo, then more to hold the found network against: k3e3 everywhere, three random networks of its measured latency
# (one alone may be a lucky draw), and three seeds of everything.
set -euo pipefail
export RUN=${RUN:-runs/demo-full}
. "$(dirname "$0")/demo.sh"
TABLE=$RUN/table.csv
latency() { awk -F, -v name="$1" '!/^#/ && $1 == name { print $2 }' "$2"; } # of an architecture in a CSV

say "7. Random networks as fast as the found one: the first three of 20 drawn near its prediction that are measured within 5 %"
if [ ! -e "$RUN/random.txt" ]; then
  GOAL=$(latency "$FOUND" "$RUN/predicted.csv")
  fleetfoot predict --table "$TABLE" --space $SPACE --random 20 --near "${GOAL}ms" --seed 7 |
    awk -F, -v found="$FOUND" 'NR > 1 && $1 != found { print $1 }' > "$RUN/close.txt"
  fleetfoot measure --space $SPACE --device local-cpu "$FOUND" --architectures "$RUN/close.txt" > "$RUN/close.csv"
  GOAL=$(latency "$FOUND" "$RUN/close.csv")
  awk -F, -v goal="$GOAL" -v found="$FOUND" \
    '!/^#/ && $2 + 0 > 0.95 * goal && $2 + 0 < 1.05 * goal && $1 != found { print $1; if (++n == 3) exit }' "$RUN/close.csv" > "$RUN/random.part"
  [ "$(wc -l < "$RUN/random.part")" = 3 ] || { echo "not three random networks within 5 % of the found one's latency" >&2; exit 1; }
  mv "$RUN/random.part" "$RUN/random.txt"
fi
mapfile -t RANDOM_NETWORKS < "$RUN/random.txt"

say "8. Train what is missing, two networks at a time"
export SPACE
export -f train
for seed in 0 1 2; do
  NTH=.seed$seed
  [ $seed != 0 ] || NTH= # the demo's own folders
  printf '%s\n' "baseline$NTH k3e6 $seed" "found$NTH $FOUND $seed" "k3e3$NTH k3e3 $seed" "shallowest$NTH shallowest $seed"
  for i in 0 1 2; do echo "random$((i + 1))$NTH ${RANDOM_NETWORKS[i]} $seed"; done
done | xargs -P 2 -L 1 bash -c 'train "$@" 2> >(tail -n 3 >&2)' train

say "9. Measure everything, interleaved, and report"
fleetfoot measure --device local-cpu --onnx "$RUN"/train/*/model.onnx -o "$RUN/measured.csv" --force
fleetfoot predict --table "$TABLE" --space $SPACE "$FOUND" k3e6 k3e3 "${RANDOM_NETWORKS[@]}" shallowest > "$RUN/predicted.csv"
fleetfoot report "$RUN"
