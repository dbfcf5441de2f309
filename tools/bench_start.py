"""How long the first start of irst-stream takes, with nothing compiled, and the second: until the first track is written.

    python tools/bench_start.py [--config camera] [--json OUT.json]

Both starts replay the same 60 generated frames with tracks; the first one keeps what it compiles in a new, empty folder.
After them each part is compiled once more, alone, for its processor time. On a busy machine only processor times count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from irst_stream.build import PARTS
from irst_stream.system.machine import usable_cores
from irst_stream.system.numba_cache import COMPILING, CompiledPart, compiler_command

POLL_S = 0.005
PROGRAM = [sys.executable, "-m", "irst_stream.cli"]


def start(scene: Path, config: str, folder: Path, cache: Path) -> dict[str, float]:
    """Seconds from the start of a replay until its first track is written, and processor seconds of its processes."""
    tracks = folder / "tracks.jsonl"
    tracks.unlink(missing_ok=True)
    command = [*PROGRAM, "replay", str(scene), "--config", config, "--tracks", str(tracks), "--speed", "1x"]
    began, found = time.monotonic(), None
    with subprocess.Popen(command, env=_environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while found is None and child.returncode is None:
            if any(b'"tracks":[{' in part.read_bytes() for part in folder.glob("*tracks.jsonl*")):
                found = time.monotonic() - began
            time.sleep(POLL_S)
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode is None:
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        complaint = child.stderr.read().decode() if child.stderr else ""
    if child.returncode or found is None:
        sys.exit(f"{' '.join(command)}: exit code {child.returncode}, {'a' if found else 'no'} track\n{complaint}")
    return {"first_track_s": found, "processor_s": used.ru_utime + used.ru_stime}


def compile_alone(part: CompiledPart, cache: Path) -> float:
    """Processor seconds of the process that compiles a part."""
    child = subprocess.Popen(compiler_command(part), env=_environment(cache) | {COMPILING: "1"})
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{part.name}: its compiler ended with {child.returncode}")
    return float(used.ru_utime + used.ru_stime)


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "NUMBA_CACHE_DIR": str(cache)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="camera")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene, cache = folder / "scene", folder / "cache"
        options = ["--frames", "60", "--rate", "50", "--seed", "1"]
        subprocess.run([*PROGRAM, "simulate", "scene", str(scene), *options], check=True, stdout=subprocess.DEVNULL)
        starts = {which: start(scene, args.config, folder, cache) for which in ("first", "second")}
        entries = len(list(cache.rglob("*.nbc")))
        parts = {part.name: compile_alone(part, folder / f"cache{k}") for k, part in enumerate(PARTS)}
    print(f"{usable_cores()} cores, load {os.getloadavg()[0]:.1f}")
    for which, found in starts.items():
        print(
            f"{which} start: first track after {found['first_track_s']:.1f} s; {found['processor_s']:.1f} s of processors"
        )
    for part, seconds in parts.items():
        print(f"  {part:18} {seconds:6.1f} s of a processor to compile alone")
    print(f"{entries} compiled entries in the cache")
    if args.json:
        args.json.write_text(json.dumps({"starts": starts, "parts": parts, "entries": entries}, indent=2) + "\n")


if __name__ == "__main__":
    main()
