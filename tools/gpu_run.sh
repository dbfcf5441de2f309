#!/usr/bin/env bash
# One piece of work at a time for a GPU machine without a package index, which may be taken back soon: each part ends within a
# time that is stated, writes what it has as it goes, and goes on where an earlier run of it stopped.
#
#   gpu_run.sh pack [NAME ...]      here: wheels of the packages that the other machine lacks, into .gpu/ (default: msgspec)
#   gpu_run.sh PART [--dry-run]     there; or here, with --dry-run, as far as the CPU goes:
#     train      tools/train.py on the GPU; CONFIG: default configs/train-general.toml; WORKERS: processes that draw batches
#     fit        the fit's kernel: parity with the CPU, regions/s, latency
#     torch      the network by PyTorch, with CUDA graphs and with torch.compile
#     tensorrt   TensorRT: a plan of one layer, then plans of an engine, timed; TENSORRT_PYTHON: a python that imports TensorRT
#                and has irst-stream's required packages and onnx, where PYTHON does not
#
# OUT: where results go (default out/gpu): PART.log, PART.json, and PART.tgz.00, .01, ... of 15 MiB. For an earlier run to go
# on, copy what it left into .gpu/resume/. LIMIT: seconds after which a part is stopped (default 420). EACH: seconds of each
# timing (default 5). PYTHON: default python3. PYTHON_VERSION: that wheels are packed for (default 3.12). The other machine
# needs this checkout, .gpu/, PyTorch and NVRTC.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${OUT:-$root/out/gpu} python=${PYTHON:-python3} limit=${LIMIT:-420} piece=15M
parts='train fit torch tensorrt'

say() { echo "gpu_run: $*" >&2; }

pack() {  # the wheels of names, for Python 3.12 (PYTHON_VERSION) on 64-bit Linux
  (($#)) || set -- msgspec
  mkdir -p "$root/.gpu/wheels"
  "$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
    --implementation cp --python-version "${PYTHON_VERSION:-3.12}" --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --dest "$root/.gpu/wheels" "$@" || { say "no wheels of: $*"; exit 2; }
  echo "packed $* into .gpu/wheels, $(du -sh "$root/.gpu/wheels" | cut -f1)"
}

unpack() {  # installs the wheels that came along, once, beside what the machine has; not in a dry run
  local site=$root/.gpu/site
  export PYTHONPATH=$root:$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
  if [ -z "${1:-}" ] && compgen -G "$root/.gpu/wheels/*.whl" >/dev/null && [ ! -d "$site" ]; then
    "$python" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --target "$site" "$root"/.gpu/wheels/*.whl
  fi
}

imports() {  # says which packages are missing, and how they come along
  local missing
  missing=$("$1" - "${@:2}" <<'P'
import sys
from importlib.util import find_spec

print(*(name for name in sys.argv[1:] if find_spec(name) is None))
P
  ) || { say "$1 does not start"; exit 2; }
  [ -z "$missing" ] || { say "$1 has no $missing; run gpu_run.sh pack with their names where there is a package index"; exit 2; }
}

leave() {  # a folder as an archive in pieces, each small enough to be taken away by itself
  rm -f "$out/$1".tgz.[0-9][0-9]
  tar -C "$2" --exclude='*.part' -czf - . | split -b "$piece" -d -a 2 - "$out/$1.tgz."
}

run() {  # a command within the time limit; 124 is no fault, since the next run goes on
  local code=0
  timeout --signal=INT --kill-after=20 "$limit" "$@" || code=$?
  [ "$code" -ne 124 ] || say "stopped after $limit s; run it again to go on"
  [ "$code" -eq 124 ] || return "$code"
}

train() {
  local config=${CONFIG:-$root/configs/train-general.toml} work=$root/.gpu/work/train${1:+-dry-run}
  [ -f "$config" ] || { say "CONFIG: $config: no such file"; exit 2; }
  imports "$python" torch msgspec numpy scipy cv2 h5py tifffile safetensors onnx rich matplotlib
  mkdir -p "$work"
  if compgen -G "$root/.gpu/resume/train.tgz.*" >/dev/null; then
    cat "$root"/.gpu/resume/train.tgz.* | tar -C "$work" -xzf - || { say ".gpu/resume: not all pieces of train.tgz"; exit 2; }
  fi
  local time="--seconds $((limit > 180 ? limit - 90 : limit / 2))" code=0
  run "$python" "$root/tools/train.py" "$config" ${1:-$time} --workers "${WORKERS:-8}" --out "$work" || code=$?
  leave "train${1:+-dry-run}" "$work"
  return "$code"
}

measure() {  # a part of bench_gpu.py
  local by=$python
  [ "$1" != tensorrt ] || by=${TENSORRT_PYTHON:-$python}
  [ "$by" = "$python" ] || export PYTHONPATH=$root  # what came along is for PYTHON
  imports "$by" msgspec numpy scipy numba cv2 onnx safetensors
  [ -e "$out/$1.json" ] || cp "$root/.gpu/resume/$1.json" "$out/" 2>/dev/null || true
  run "$by" "$root/tools/bench_gpu.py" "$1" --seconds "${EACH:-5}" --out "$out/$1.json" ${2:+"$2"}
}

case ${1:-} in
  pack) shift; pack "$@" ;;
  train | fit | torch | tensorrt)
    case ${2:-} in '' | --dry-run) ;; *) say "$2: expected --dry-run"; exit 2 ;; esac
    if [ -z "${2:-}" ] && ! "$python" "$root/irst_stream/system/gpu_probe.py" | grep -q '"gpus": \[{'; then
      say "this machine has no NVIDIA GPU that works; --dry-run goes as far as the CPU does"
      exit 2
    fi
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    cd "$root"
    unpack "${2:-}"
    if [ "$1" = train ]; then train "${2:-}"; else measure "$1" "${2:-}"; fi 2>&1 | tee -a "$out/$1.log"
    ;;
  -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" ;;
  *) say "expected pack or a part ($parts), got '${1:-}'; --help says more"; exit 2 ;;
esac
