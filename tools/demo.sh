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
run simulate seqcsist "$out/data" --trajectories 60 --split test --seed 1
run baseline "$out/data/test" "$out/cells.jsonl"
run score "$out/cells.jsonl" "$out/data/test" --mode legacy
echo 'This is as far as a perfect network gets when it is read at cell centres.'
run replay "$out/data/test" --detections "$out/found.jsonl"
run score "$out/found.jsonl" "$out/data/test" --mode legacy --json "$out/score.json" --plot "$out/precision-recall.png"
echo 'This is the fit of the imaging model, which needs no network.'
run inspect "$out/data/test" --png "$out/data.png" --detections "$out/found.jsonl"
printf '\nPictures: %s, %s\n' "$out/data.png" "$out/precision-recall.png"
