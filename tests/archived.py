"""Small recordings for the tests of archives, and what a single replay makes of them."""

import numpy as np

from irst_stream import Frame, Stamp
from irst_stream.cli import main
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.optics import render

PLAIN = 'readout = "fit"\n[fit]\namplitude_dn = 235.0\namplitude_sd_dn = 30.0\nmost_targets = 2\n'  # remembers nothing


def patches(count=60, seed=0, shape=(11, 11)):
    """Frames (count, 11, 11) uint16: two targets that drift through the middle, 100 DN of sky and 3 DN of noise."""
    rng = np.random.default_rng(seed)
    start, speed = np.array([[4.0, 4.5], [5.5, 5.0]]) + rng.uniform(-0.3, 0.3, 2), rng.uniform(0.005, 0.02, (2, 2))
    light = [render(start + speed * k, np.full(2, 235.0), shape, 0.5) for k in range(count)]
    return np.rint(np.clip(light + rng.normal(0, 3, (count, *shape)), 0, 4095)).astype(np.uint16)


def write_patches(path, count=60, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, patches(count, seed))
    return path


def record_patches(path, sensors=("a", "b"), count=30, config=PLAIN):
    """A recording of sensors whose frames come in turns."""
    stacks = {name: patches(count, seed) for seed, name in enumerate(sensors)}
    recorder = Recorder(RecordSettings(str(path)), config, lambda _: 10**12)
    for k in range(count):
        for name, stack in stacks.items():
            recorder.write(Frame(Stamp(name, 1, k, k * 20_000_000), stack[k], 4095.0), k * 20_000_000)
    recorder.close()
    return path


def replay(source, folder, *words):
    """What a single run writes of a source, by the names that an archive uses."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.jsonl" for name in ("detections", "tracks")}
    outputs = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    assert main(["replay", str(source), *outputs, *map(str, words)]) == 0
    return {path.name: path.read_bytes() for path in paths.values()}


def archive(*words):
    """Exit code of irst-stream archive."""
    return main(["archive", *map(str, words)])


def results(out):
    """The files of results of each recording: names and bytes, by the recording's name without its mark."""
    return {
        folder.name.rpartition("-")[0]: {path.name: path.read_bytes() for path in sorted(folder.glob("*s.jsonl"))}
        for folder in sorted((out / "recordings").iterdir())
    }
