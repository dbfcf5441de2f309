"""How exactly and how fast the platform's motion is measured; run it with .venv/bin/python tools/bench_registration.py.

Clouds of a simulated camera that drifts by 0.5 px a frame and jitters by 1 px, with and without a roll of 2 mrad, or that
pans by 3 px a frame; and ground that pans by 7 px a frame below an empty sky, in which nothing is seen but a faint pattern
of the sensor's own. Each method compares every frame with the first, registration with its key frames. With --real also
crops of real frames, moved by whole pixels, with new noise. Errors are those of a step from frame to frame over the square
root of 2; time is that of one core. Prints a table and writes out/bench_registration.json.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_data import describe_machine

from irst_stream import Stamp, open_source
from irst_stream.conditioning.registration import Registration
from irst_stream.conditioning.settings import RegisterSettings
from irst_stream.sim.background import BACKGROUNDS, Sky
from irst_stream.sim.sensor import Detector, Sensor

OUT = Path("out/bench_registration.json")
SMALL, LARGE = (256, 320), (512, 640)
MOTIONS = {"drift, jitter": (0.5, 1.0, 0.0), "and roll 2 mrad": (0.5, 1.0, 2e-3), "pan 3 px": (3.0, 1.0, 0.0)}
Locate = Callable[[np.ndarray, int], tuple[float, float] | None]


def registration(frames: list[np.ndarray]) -> Locate:
    measured = Registration(RegisterSettings("auto"), frames[0].shape)

    def locate(pixels: np.ndarray, k: int) -> tuple[float, float] | None:
        pose = measured.locate(pixels, Stamp("bench", 0, k, k))
        return None if pose is None else (pose.x, pose.y)

    return locate


def phase_correlation(frames: list[np.ndarray]) -> Locate:
    window = cv2.createHanningWindow(frames[0].shape[::-1], cv2.CV_32F)
    first = sharpened(frames[0])
    return lambda pixels, _: cv2.phaseCorrelate(first, sharpened(pixels), window)[0]


def ecc(frames: list[np.ndarray]) -> Locate:
    """Enhanced correlation, a Euclidean motion, begun at what phase correlation finds."""
    first, begin = sharpened(frames[0]), phase_correlation(frames)
    centre = np.array([*[(side - 1) / 2 for side in frames[0].shape[::-1]], 1.0])

    def locate(pixels: np.ndarray, k: int) -> tuple[float, float] | None:
        moved = np.eye(2, 3, dtype=np.float32)
        moved[:, 2] = begin(pixels, k)
        try:
            cv2.findTransformECC(first, sharpened(pixels), moved, cv2.MOTION_EUCLIDEAN, (3, 20, 1e-4), None, 5)
        except cv2.error:
            return None
        x, y = (moved @ centre - centre[:2]).tolist()
        return x, y

    return locate


def sparse_flow(frames: list[np.ndarray]) -> Locate:
    """Corners followed by the pyramid of Lucas and Kanade, and a robust similarity."""
    first = to_bytes(frames[0])
    corners = cv2.goodFeaturesToTrack(first, 200, 0.01, 8)
    centre = np.array([*[(side - 1) / 2 for side in frames[0].shape[::-1]], 1.0])

    def locate(pixels: np.ndarray, _: int) -> tuple[float, float] | None:
        if corners is None:
            return None
        seen, good, _error = cv2.calcOpticalFlowPyrLK(first, to_bytes(pixels), corners, None, winSize=(15, 15))
        kept = good.ravel() == 1
        if kept.sum() < 8:
            return None
        moved, _inliers = cv2.estimateAffinePartial2D(corners[kept], seen[kept], ransacReprojThreshold=0.5)
        if moved is None:
            return None
        x, y = (moved @ centre - centre[:2]).tolist()
        return x, y

    return locate


METHODS = {
    "registration": registration,
    "phase correlation": phase_correlation,
    "ECC": ecc,
    "corners and flow": sparse_flow,
}


def sharpened(image: np.ndarray) -> np.ndarray:
    light = image.astype(np.float32)
    light -= cv2.GaussianBlur(light, (0, 0), 5)
    limit = 3 * float(np.std(light)) + 1e-6
    return np.clip(light, -limit, limit)


def to_bytes(image: np.ndarray) -> np.ndarray:
    light = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1)
    low, high = np.quantile(light, [0.01, 0.99])
    return np.clip((light - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)


def clouds(name: str, shape: tuple[int, int], motion: tuple[float, float, float], frames: int) -> tuple[list, np.ndarray]:
    rng, (drift, jitter, roll) = np.random.default_rng(1), motion
    path = np.outer(np.arange(frames), [drift, 0.4 * drift, 0.0]) + rng.standard_normal((frames, 3)) * [
        jitter,
        jitter,
        roll,
    ]
    path -= path[0]
    sky = Sky(replace(BACKGROUNDS[name], wind_x_px_s=0.0, wind_y_px_s=0.0), shape[1], shape[0], rng)
    detector = Detector(Sensor(shape[1], shape[0]), rng)
    return [detector.expose(sky.view(0.0, (x, y), turn), rng) for x, y, turn in path], path[:, :2]


def ground(shape: tuple[int, int], frames: int) -> tuple[list, np.ndarray]:
    """Ground in the lower third that pans by 6.8 px a frame; in the empty sky above, a pattern of the sensor's own."""
    rng, (height, width) = np.random.default_rng(3), shape
    path = np.outer(np.arange(frames), [-6.8, 0.0])
    size = height - int(0.68 * height), width + math.ceil(7 * frames)
    seen = 1500 * cv2.GaussianBlur(rng.standard_normal(size), (0, 0), 2.0)
    pattern = 1000 + 200 * cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 2.0)
    views = []
    for x, _ in path:
        view = pattern + 3 * rng.standard_normal(shape)
        view[-size[0] :] += cv2.warpAffine(seen, np.array([[1, 0, x], [0, 1, 0.0]]), (width, size[0]))
        views.append(view.astype(np.float32))
    return views, path


def crops(path: Path, frames: int) -> tuple[list, np.ndarray]:
    rng = np.random.default_rng(2)
    whole = next(iter(open_source(path))).pixels.astype(np.float32)
    height, width = whole.shape
    moved = np.vstack([[0, 0], rng.integers(-15, 16, (frames - 1, 2))])
    cut = [whole[16 - y : height - 16 - y, 16 - x : width - 16 - x] for x, y in moved]
    return [np.float32(one + 1.5 * rng.standard_normal(one.shape)) for one in cut], moved


def scenes(real: Path | None, frames: int) -> Iterator[tuple[str, list, np.ndarray]]:
    for shape in (SMALL, LARGE):
        for name in ("cloud", "broken-cloud"):
            for label, motion in MOTIONS.items():
                yield f"{name}, {label}, {shape[1]} x {shape[0]}", *clouds(name, shape, motion, frames)
        yield f"ground under a sky, pan 7 px, {shape[1]} x {shape[0]}", *ground(shape, frames)
    for path in sorted(real.glob("*.mp4")) if real else ():
        yield path.stem, *crops(path, frames)


def measured(method: Callable[[list], Locate], frames: list, path: np.ndarray) -> dict[str, Any]:
    locate, found, ms = method(frames), [], []
    for k, pixels in enumerate(frames):
        began = time.thread_time()
        found.append(locate(pixels, k))
        ms.append(1e3 * (time.thread_time() - began))
    places = np.array([(math.nan, math.nan) if place is None else place for place in found])
    steps = np.diff(places - path, axis=0)[1:] / math.sqrt(2)
    known = np.isfinite(steps).all(axis=1)
    size = np.abs(steps[known]).max(axis=1) if known.any() else np.full(1, math.nan)
    return {
        "known": float(known.mean()),
        "rms_px": float(np.sqrt((steps[known] ** 2).mean())) if known.any() else math.nan,
        "max_px": float(size.max()),
        "ms_p50": float(np.median(ms[2:])),
        "ms_p99": float(np.quantile(ms[2:], 0.99)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40, help="frames of each scene (default 40)")
    parser.add_argument("--real", type=Path, help="a folder of .mp4 clips")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    print(f"{'scene':<44}{'method':<19}{'known':>6}{'rms px':>9}{'max px':>9}{'ms p50':>8}{'ms p99':>8}")
    rows = []
    for scene, frames, path in scenes(args.real, args.frames):
        for name, method in METHODS.items():
            row = measured(method, frames, path)
            rows.append({"scene": scene, "method": name} | row)
            figures = (
                f"{row['known']:>6.2f}{row['rms_px']:>9.3f}{row['max_px']:>9.2f}{row['ms_p50']:>8.2f}{row['ms_p99']:>8.2f}"
            )
            print(f"{scene:<44}{name:<19}{figures}", flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
