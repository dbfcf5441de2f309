#!/usr/bin/env bash
# Makes .venv, installs, and runs the main job on embedded defaults; needs no server, GPU or download of data.
# Results go to out/demo, which is made anew each time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up plot
cd "$root"
out=out/demo

run() {
  printf '\n$ irst-stream %s\n' "$*"
  "$venv/bin/irst-stream" "$@"
}

rm -rf "$out"
mkdir -p "$out"
run simulate seqcsist "$out/data" --trajectories 60 --split test --seed 1 --noise 5
echo 'As far as a perfect network gets when it is read at cell centres:'
run baseline "$out/data/test" "$out/cell-centres.jsonl"
run score "$out/cell-centres.jsonl" "$out/data/test" --mode legacy
echo 'The network, and the fit of the imaging model where that is surer:'
run replay "$out/data/test" --detections "$out/irst-stream.jsonl"
run score "$out/irst-stream.jsonl" "$out/data/test" --mode legacy --json "$out/score.json" --plot "$out/precision-recall.png"
run inspect "$out/data/test" --png "$out/compared.png" --detections "$out/cell-centres.jsonl" "$out/irst-stream.jsonl"
printf '\nPictures: %s, %s\n' "$out/compared.png" "$out/precision-recall.png"
