"""The two published patch sets, by their published rules.

Where the publication leaves a rule open, the choice is ours: the curves' shapes (SLOPE to LEAN), an integer start in y as
well as in x, how often each kind of path and each number of targets comes. They are chosen so that perfect labels read at
cell centres score what is known of the originals (52.2 and 46.3); single figures beside that mean may differ from them.

Both are drawn in blocks of a thousand images, each block from its own random streams, which depend on the seed, the
split and the block's number only. So the splits of one seed never share a draw, a small set is the beginning of a large
one, and any number of workers makes the same bytes. Noise has a stream of its own: the same seed with other noise
shows the same targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH, RAYLEIGH_PER_SIGMA, SIGMA, render
from irst_stream.sim.sensor import digitise
from irst_stream.types import Floats, Ints, Pixels

__all__ = [
    "BLOCK_IMAGES",
    "FRAMES_PER_TRAJECTORY",
    "RULES",
    "SPLITS",
    "Patches",
    "check_draw",
    "csist100k",
    "seqcsist",
]

SPLITS = ("train", "val", "test")
FRAMES_PER_TRAJECTORY = 20
BLOCK_IMAGES = 1000

AMPLITUDE = (220.0, 250.0)  # DN, uniform
STEP = 0.04  # px a frame along x, towards the middle
ARM = 0.3  # px from the reference point to each target at the start
DRIFT = 0.0014  # px a frame: each target moves outward by uniform(0, DRIFT)
START = (2, 8)  # px: x and y of the reference point's start, integers, off the border
SLOPE = 1.0  # a line's slope is uniform(-SLOPE, SLOPE)
CURVATURE = 0.25  # 1/px: a parabola is y0 + uniform(-CURVATURE, CURVATURE) (x - x0)^2
RADIUS = (3.0, 6.0)  # px: a circle's radius, uniform
LEAN = np.pi / 4  # a circle starts within LEAN of its top or bottom
SPACING = 0.52 * RAYLEIGH_PER_SIGMA * SIGMA  # px: CSIST-100K's closest pair
DARTS = 100  # misses in a row before a CSIST-100K image is drawn afresh, its count too

LOUDEST = 1e5  # DN of noise; no sensor of 16 bits has more

DIRECTIONS = np.array([(0.0, -1.0), (0.0, 1.0), (-1.0, 0.0), (1.0, 0.0)])  # up, down, left, right as x, y

RULES = {
    "seqcsist": {
        "patch": list(PATCH),
        "sigma_px": SIGMA,
        "frames_per_trajectory": FRAMES_PER_TRAJECTORY,
        "targets": [2, 4],
        "amplitude_dn": list(AMPLITUDE),
        "start_px": list(START),
        "step_px": STEP,
        "paths": ["line", "parabola", "circle"],
        "slope": SLOPE,
        "curvature_per_px": CURVATURE,
        "radius_px": list(RADIUS),
        "lean_rad": LEAN,
        "arm_px": ARM,
        "outward_drift_px": DRIFT,
    },
    "csist100k": {
        "patch": list(PATCH),
        "sigma_px": SIGMA,
        "targets": [1, 5],
        "amplitude_dn": list(AMPLITUDE),
        "pixel": [PATCH[1] // 2, PATCH[0] // 2],
        "spacing_px": SPACING,
    },
}
"""Every constant of each set's rules, as its manifest states them."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """N sequences of T images, with K places for targets.

    frames (N, T, 11, 11) DN, float32 as the optics give them or uint8 / uint16 once digitised; xy (N, T, K, 2) px, NaN
    where there is no target; amplitude (N, K) DN, 0 where there is none; count (N,) targets; noise (N,) DN.
    """

    frames: Pixels
    xy: Floats
    amplitude: Floats
    count: Ints
    noise: Floats

    def __len__(self) -> int:
        return len(self.count)


def seqcsist(
    trajectories: int,
    *,
    seed: int = 0,
    split: str = "train",
    first: int = 0,
    noise: tuple[float, float] = (0.0, 0.0),
    depth: int | None = None,
    ceiling: int | None = None,
) -> Patches:
    """SeqCSIST: groups of 2 to 4 targets, 20 frames each; K is 4.

    first: the number of the first trajectory, so that a large set can be drawn piece by piece; noise: Gaussian, DN,
    each trajectory's own drawn uniformly from this range; depth: 8 or 16 bits, or None to keep float32 DN; ceiling: DN
    at which the sensor saturates, None for the depth's own.
    """
    blocks = _Blocks("seqcsist", seed, split, FRAMES_PER_TRAJECTORY, noise, depth, ceiling)
    return blocks.draw(_draw_trajectories, first, trajectories)


def csist100k(
    images: int,
    *,
    seed: int = 0,
    split: str = "train",
    first: int = 0,
    noise: tuple[float, float] = (0.0, 0.0),
    depth: int | None = None,
    ceiling: int | None = None,
) -> Patches:
    """CSIST-100K: single images of 1 to 5 targets inside the middle pixel's square; T is 1, K is 5. See seqcsist."""
    blocks = _Blocks("csist100k", seed, split, 1, noise, depth, ceiling)
    return blocks.draw(_draw_images, first, images)


def check_draw(seed: int, split: str, noise: tuple[float, float]) -> None:
    """Raises a UsageError that names what makes no draw."""
    if split not in SPLITS:
        raise UsageError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if not 0 <= noise[0] <= noise[1] <= LOUDEST:
        raise UsageError(f"noise: expected 0 <= lowest <= highest <= {LOUDEST:g} DN, got {noise[0]:g}:{noise[1]:g}")
    if seed < 0:
        raise UsageError(f"seed: expected 0 or more, got {seed}")


Draw = Callable[[np.random.Generator, int], tuple[Floats, Floats, Ints]]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Where a set's random streams come from, and how its images are finished."""

    dataset: str
    seed: int
    split: str
    frames: int
    noise: tuple[float, float]
    depth: int | None
    ceiling: int | None

    def __post_init__(self) -> None:
        check_draw(self.seed, self.split, self.noise)
        if self.ceiling is not None and (self.depth is None or self.ceiling < 1):
            raise UsageError(f"ceiling: expected 1 DN or more, together with a depth, got {self.ceiling}")

    def draw(self, draw: Draw, first: int, count: int) -> Patches:
        size = BLOCK_IMAGES // self.frames
        if count < 1 or first < 0:
            raise UsageError(f"expected at least one sequence, from number 0 on; got {count} from {first}")
        blocks = range(first // size, (first + count - 1) // size + 1)
        parts = [self._block(draw, b, slice(max(first - b * size, 0), first + count - b * size)) for b in blocks]
        return Patches(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _block(self, draw: Draw, block: int, rows: slice) -> tuple[NDArray[Any], ...]:
        size = BLOCK_IMAGES // self.frames
        xy, amplitude, count = draw(self._stream(block, 0), size)
        xy, amplitude, count = xy[rows], amplitude[rows], count[rows]
        rng = self._stream(block, 1)
        noise = rng.uniform(*self.noise, size)
        frames = render(np.nan_to_num(xy), amplitude[:, None]).astype(np.float32)
        if self.noise[1] > 0:
            normal = rng.standard_normal((size, *frames.shape[1:]), dtype=np.float32)
            frames += (noise[:, None, None, None] * normal)[rows].astype(np.float32)
        if self.depth is not None:
            return digitise(frames, self.depth, self.ceiling), xy, amplitude, count, noise[rows]
        return frames, xy, amplitude, count, noise[rows]

    def _stream(self, block: int, purpose: int) -> np.random.Generator:
        key = (list(RULES).index(self.dataset), SPLITS.index(self.split), block, purpose)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key)))


def _draw_trajectories(rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Ints]:
    """Draws xy (n, 20, 4, 2), amplitude (n, 4), count (n,)."""
    count = rng.integers(2, 5, n)
    exists = np.arange(4) < count[:, None]
    amplitude = rng.uniform(*AMPLITUDE, (n, 4)) * exists
    direction = DIRECTIONS[np.argsort(rng.random((n, 4)), axis=1)]  # (n, 4, 2), no two alike
    steps = rng.uniform(0, DRIFT, (n, FRAMES_PER_TRAJECTORY, 4))
    steps[:, 0] = 0
    arm = ARM + np.cumsum(steps, axis=1)  # (n, 20, 4)
    xy = _draw_paths(rng, n)[:, :, None] + direction[:, None] * arm[..., None]
    return np.where(exists[:, None, :, None], xy, np.nan), amplitude, count


def _draw_paths(rng: np.random.Generator, n: int) -> Floats:
    """(n, 20, 2): the reference points' paths, a third each of lines, parabolas and circles."""
    start = rng.integers(START[0], START[1] + 1, (n, 2)).astype(np.float64)
    along = np.where(start[:, :1] < 5, STEP, -STEP) * np.arange(float(FRAMES_PER_TRAJECTORY))
    line = rng.uniform(-SLOPE, SLOPE, (n, 1)) * along
    parabola = rng.uniform(-CURVATURE, CURVATURE, (n, 1)) * along**2
    circle = _circle(rng, along)
    across = np.choose(rng.integers(0, 3, (n, 1)), [line, parabola, circle])
    return np.asarray(start[:, None] + np.stack([along, across], axis=-1))


def _circle(rng: np.random.Generator, along: Floats) -> Floats:
    """How far a circle's y has gone from its start, given how far its x has."""
    n = len(along)
    radius = rng.uniform(*RADIUS, (n, 1))
    lean = rng.uniform(-LEAN, LEAN, (n, 1))
    side = rng.choice([-1.0, 1.0], (n, 1))
    height = np.sqrt(radius**2 - (radius * np.sin(lean) + along) ** 2)
    return np.asarray(side * (radius * np.cos(lean) - height))


def _draw_images(rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Ints]:
    """Draws xy (n, 1, 5, 2), amplitude (n, 5), count (n,)."""
    count, darts = _throw_darts(rng, n)
    exists = np.arange(5) < count[:, None]
    amplitude = rng.uniform(*AMPLITUDE, (n, 5)) * exists
    xy = darts + np.array([PATCH[1] // 2, PATCH[0] // 2])
    return np.where(exists[..., None], xy, np.nan)[:, None], amplitude, count


def _throw_darts(rng: np.random.Generator, n: int) -> tuple[Ints, Floats]:
    """(n,) counts of 1 to 5 and (n, 5, 2) offsets in a unit square, at least SPACING apart, thrown one by one.

    An image with no room left is drawn again, count and all, so five targets are rarer than one.
    """
    count = rng.integers(1, 6, n)
    placed, missed = np.zeros(n, np.int64), np.zeros(n, np.int64)
    darts = np.full((n, 5, 2), np.inf)
    rows = np.arange(n)
    while len(rows):
        thrown = rng.uniform(-0.5, 0.5, (len(rows), 2))
        hit = ((darts[rows] - thrown[:, None]) ** 2).sum(-1).min(-1) >= SPACING**2
        darts[rows[hit], placed[rows[hit]]] = thrown[hit]
        placed[rows] += hit
        missed[rows] = np.where(hit, 0, missed[rows] + 1)
        stuck = rows[missed[rows] > DARTS]
        darts[stuck], placed[stuck], missed[stuck] = np.inf, 0, 0
        count[stuck] = rng.integers(1, 6, len(stuck))
        rows = rows[placed[rows] < count[rows]]
    return count, darts
