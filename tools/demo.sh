#!/usr/bin/env bash
# Makes .venv, installs, and runs the main jobs on embedded defaults; needs no server, GPU or download of data.
# Results go to out/demo, which is made anew each time; out/demo/report.html shows them. While the live pipeline runs, its page
# is at http://127.0.0.1:8600/ (VIEW_PORT=PORT for another one).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up plot
cd "$root"
out=out/demo
feed=tcp://127.0.0.1:5791
view=${VIEW_PORT:-8600}

run() {
  printf '\n$ irst-stream %s\n' "$*"
  "$venv/bin/irst-stream" "$@"
}

rm -rf "$out"
mkdir -p "$out"
run warm-up
echo 'Patches, each a group of targets that the sensor sees as one spot, at 5 DN of noise.'
run simulate seqcsist "$out/data" --trajectories 60 --split test --seed 1 --noise 5
echo 'As far as a perfect network gets when it is read at cell centres:'
run baseline "$out/data/test" "$out/cell-centres.jsonl"
run score "$out/cell-centres.jsonl" "$out/data/test" --mode legacy
echo 'The fit of the imaging model, with the network for hypotheses:'
run replay "$out/data/test" --detections "$out/irst-stream.jsonl"
run score "$out/irst-stream.jsonl" "$out/data/test" --mode legacy --json "$out/score.json" --plot "$out/precision-recall.png"
run inspect "$out/data/test" --png "$out/compared.png" --detections "$out/cell-centres.jsonl" "$out/irst-stream.jsonl"

printf '\nA camera of 640 x 512 px at 50 frames/s, as a process of its own, and a live pipeline on its feed, for half a minute.\n'
printf 'Look at it in a browser meanwhile: http://127.0.0.1:%s/\n' "$view"
run simulate scene "$out/scene" --frames 1500 --rate 50 --seed 3
known='s/^amplitude_dn = .*/amplitude_dn = 235.0/; s/^amplitude_sd_dn = .*/amplitude_sd_dn = 12.0/'
cat >"$out/live.toml" <<TOML
# The configuration "scene", with the targets' brightness known to some 5 %.
$(sed "/^\[\[receive\]\]/,\$d; /^#/d; $known" configs/scene.toml)
[[receive]]
endpoint = "$feed"
bind = true

[[write]]
path = "$out/live.jsonl"

[[write]]
path = "$out/tracks.jsonl"
what = "tracks"

[[record]]
path = "$out/live.mcap"
keep_free_mb = 500.0
TOML
"$venv/bin/irst-stream" feed "$out/scene" --to "$feed" --epoch 0 --wait 300 >"$out/feed.log" 2>&1 &
feeding=$!
trap 'kill "$feeding" 2>/dev/null || true' EXIT
run run "$out/live.toml" --seconds 34 --view "$view"
wait "$feeding"
run score "$out/live.jsonl" "$out/scene" --frames 2:-2 --json "$out/live.json"
run score "$out/tracks.jsonl" "$out/scene" --frames 2:-2 --radius 0.5 --json "$out/tracks.json" --plot "$out/tracks.png"
run inspect "$out/scene" --png "$out/live.png" --detections "$out/live.jsonl"
echo 'The recording of it gives the same detections and tracks again:'
run replay "$out/live.mcap" --detections "$out/again.jsonl" --tracks "$out/followed.jsonl"
if cmp -s "$out/live.jsonl" "$out/again.jsonl" && cmp -s "$out/tracks.jsonl" "$out/followed.jsonl"; then
  echo 'the same bytes'
else
  echo 'not the same bytes: what the live run had no time for (see "frames not used" above), the replay has used'
fi
run report "$out/report.html" "$out"
printf '\nPictures:'
printf ' %s' "$out"/*.png
printf '\nOpen %s in a browser: scores, the recording, settings.\n' "$out/report.html"
printf 'Look at the recording, frame by frame: %s look %s\n' "$venv/bin/irst-stream" "$out/live.mcap"
