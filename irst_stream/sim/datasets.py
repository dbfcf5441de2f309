"""The two published patch sets, by their published rules.

The publication of SeqCSIST leaves rules open: where paths start in y, the shapes of the curves, how often each kind of path
and each number of targets occurs. SeqCsistRules names them all. Its defaults hold no regularity that a network could learn
and the originals may lack: a path starts at any sub-pixel place.

Both are drawn in blocks of a thousand images, each block from its own random streams, which depend on the seed, the
split and the block's number only. So the splits of one seed never share a draw, a small set is the beginning of a large
one, and any number of workers makes the same bytes. Noise has a stream of its own: the same seed with other noise
shows the same targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.optics import PATCH, RAYLEIGH_PER_SIGMA, SIGMA, render
from irst_stream.sim.sensor import digitise
from irst_stream.types import Floats, Ints, Pixels

__all__ = [
    "BLOCK_IMAGES",
    "DEFAULT_RULES",
    "DIRECTIONS",
    "FRAMES_PER_TRAJECTORY",
    "SPLITS",
    "Patches",
    "SeqCsistRules",
    "Start",
    "check_draw",
    "check_rules",
    "csist100k",
    "rules_of",
    "seqcsist",
    "throw_darts",
]

SPLITS = ("train", "val", "test")
FRAMES_PER_TRAJECTORY = 20
BLOCK_IMAGES = 1000

DATASETS = ("seqcsist", "csist100k")  # the order decides the random streams
AMPLITUDE = (220.0, 250.0)  # DN, uniform
DRIFT = 0.0014  # px a frame: each target moves outward by uniform(0, DRIFT)
LATTICE = (2, 8)  # px: the first and last whole pixel on which a path may start, off the border
ANYWHERE = (1.5, 8.5)  # px: between these a path starts anywhere
MIDDLE = 5.0  # px: paths that start left of it run to the right, others to the left
WAVE = (0.1, 0.4)  # px: a wave's height, uniform
WAVELENGTH = (0.6, 2.0)  # px, uniform
SPACING = 0.52 * RAYLEIGH_PER_SIGMA * SIGMA  # px: CSIST-100K's closest pair
DARTS = 100  # misses in a row before a CSIST-100K image is drawn afresh, its count too

LOUDEST = 1e5  # DN of noise; no sensor of 16 bits has more

DIRECTIONS = np.array([(0.0, -1.0), (0.0, 1.0), (-1.0, 0.0), (1.0, 0.0)])  # up, down, left, right as x, y

Start = Literal["anywhere", "columns", "lattice"]
Path = Literal["line", "parabola", "circle", "wave"]


@dataclass(frozen=True, slots=True)
class SeqCsistRules:
    """The rules of SeqCSIST; what the publication leaves open, and what it fixes, can be set to other values.

    start: where the reference point starts: "anywhere", at any sub-pixel place; "columns", at whole pixels in x, as
    published, and at any place in y; "lattice", at whole pixels in both. paths: the kinds of curve, each as frequent as the
    others; step_px: along x from frame to frame; slope: a line's is uniform(-slope, slope); curvature_per_px: a parabola is
    y0 + uniform(-c, c) (x - x0)^2; radius_px: a circle's, uniform; lean_rad: a circle starts within so much of its top or
    bottom. targets: fewest and most; arm_px: from the reference point to each target at the start, uniform; rotated: arms
    point at any angle instead of up, down, left and right; amplitude_dn: uniform; sigma_px: of the optics along x
    and y.
    """

    start: Start = "anywhere"
    paths: tuple[Path, ...] = ("line", "parabola", "circle")
    step_px: float = 0.04
    slope: float = 1.0
    curvature_per_px: float = 0.25
    radius_px: tuple[float, float] = (3.0, 6.0)
    lean_rad: float = np.pi / 4
    targets: tuple[int, int] = (2, 4)
    arm_px: tuple[float, float] = (0.3, 0.3)
    rotated: bool = False
    amplitude_dn: tuple[float, float] = AMPLITUDE
    sigma_px: tuple[float, float] = (SIGMA, SIGMA)


DEFAULT_RULES = SeqCsistRules()


def rules_of(dataset: str, rules: SeqCsistRules = DEFAULT_RULES) -> dict[str, Any]:
    """Every constant of a set's rules, as its manifest states them; rules: of SeqCSIST."""
    if dataset == "seqcsist":
        stated = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(rules).items()}
        fixed = {"patch": list(PATCH), "frames_per_trajectory": FRAMES_PER_TRAJECTORY, "outward_drift_px": DRIFT}
        return fixed | stated
    return {
        "patch": list(PATCH),
        "sigma_px": SIGMA,
        "targets": [1, 5],
        "amplitude_dn": list(AMPLITUDE),
        "pixel": [PATCH[1] // 2, PATCH[0] // 2],
        "spacing_px": SPACING,
    }


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
    rules: SeqCsistRules = DEFAULT_RULES,
) -> Patches:
    """SeqCSIST: groups of 2 to 4 targets, 20 frames each; K is 4.

    first: the number of the first trajectory, so that a large set can be drawn piece by piece; noise: Gaussian, DN,
    each trajectory's own drawn uniformly from this range; depth: 8 or 16 bits, or None to keep float32 DN; ceiling: DN
    at which the sensor saturates, None for the depth's own; rules: where they are not the published ones.
    """
    check_rules(rules)
    blocks = _Blocks("seqcsist", seed, split, FRAMES_PER_TRAJECTORY, noise, depth, ceiling, rules.sigma_px)
    return blocks.draw(partial(_draw_trajectories, rules), first, trajectories)


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


def check_rules(rules: SeqCsistRules) -> None:
    """Raises a UsageError that names what makes no rule."""
    unknown = [path for path in rules.paths if path not in ("line", "parabola", "circle", "wave")]
    if unknown or not rules.paths:
        raise UsageError(f"paths: expected some of line, parabola, circle, wave, got {', '.join(rules.paths) or 'none'}")
    if rules.start not in ("anywhere", "columns", "lattice"):
        raise UsageError(f"start: expected anywhere, columns or lattice, got {rules.start!r}")
    for name in ("step_px", "slope", "curvature_per_px"):
        if not 0 <= getattr(rules, name) <= 10:
            raise UsageError(f"{name}: expected 0 to 10, got {getattr(rules, name):g}")
    if not 1 <= rules.targets[0] <= rules.targets[1] <= len(DIRECTIONS):
        raise UsageError(f"targets: expected 1 to {len(DIRECTIONS)}, got {rules.targets[0]} to {rules.targets[1]}")


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
    sigma: tuple[float, float] = (SIGMA, SIGMA)

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
        frames = render(np.nan_to_num(xy), amplitude[:, None], PATCH, *self.sigma).astype(np.float32)
        if self.noise[1] > 0:
            normal = rng.standard_normal((size, *frames.shape[1:]), dtype=np.float32)
            frames += (noise[:, None, None, None] * normal)[rows].astype(np.float32)
        if self.depth is not None:
            return digitise(frames, self.depth, self.ceiling), xy, amplitude, count, noise[rows]
        return frames, xy, amplitude, count, noise[rows]

    def _stream(self, block: int, purpose: int) -> np.random.Generator:
        key = (DATASETS.index(self.dataset), SPLITS.index(self.split), block, purpose)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key)))


def _draw_trajectories(rules: SeqCsistRules, rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Ints]:
    """Draws xy (n, 20, 4, 2), amplitude (n, 4), count (n,)."""
    count = rng.integers(rules.targets[0], rules.targets[1] + 1, n)
    exists = np.arange(4) < count[:, None]
    amplitude = rng.uniform(*rules.amplitude_dn, (n, 4)) * exists
    direction = DIRECTIONS[np.argsort(rng.random((n, 4)), axis=1)]  # (n, 4, 2), no two alike
    steps = rng.uniform(0, DRIFT, (n, FRAMES_PER_TRAJECTORY, 4))
    steps[:, 0] = 0
    path = _draw_paths(rules, rng, n)[:, :, None]
    arm = rng.uniform(*rules.arm_px, (n, 4)) if rules.arm_px[0] < rules.arm_px[1] else np.full((n, 4), rules.arm_px[0])
    if rules.rotated:
        turn = rng.uniform(0, np.pi / 2, (n, 1))
        x, y = direction[..., 0], direction[..., 1]
        direction = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], axis=-1)
    reach = arm[:, None] + np.cumsum(steps, axis=1)  # (n, 20, 4)
    xy = path + direction[:, None] * reach[..., None]
    return np.where(exists[:, None, :, None], xy, np.nan), amplitude, count


def _draw_paths(rules: SeqCsistRules, rng: np.random.Generator, n: int) -> Floats:
    """(n, 20, 2): the reference points' paths."""
    lattice = rng.integers(LATTICE[0], LATTICE[1] + 1, (n, 2)).astype(np.float64)
    free = {"anywhere": [0, 1], "columns": [1], "lattice": []}[rules.start]
    if free:
        lattice[:, free] = rng.uniform(*ANYWHERE, (n, len(free)))
    along = np.where(lattice[:, :1] < MIDDLE, rules.step_px, -rules.step_px) * np.arange(float(FRAMES_PER_TRAJECTORY))
    curves = {"line": _line, "parabola": _parabola, "circle": _circle, "wave": _wave}
    across = [curves[name](rules, rng, along) for name in rules.paths]
    chosen = np.choose(rng.integers(0, len(across), (n, 1)), across)
    return np.asarray(lattice[:, None] + np.stack([along, chosen], axis=-1))


def _line(rules: SeqCsistRules, rng: np.random.Generator, along: Floats) -> Floats:
    """How far a path's y has gone from its start, given how far its x has: both (n, 20), as for the other curves."""
    return np.asarray(rng.uniform(-rules.slope, rules.slope, (len(along), 1)) * along)


def _parabola(rules: SeqCsistRules, rng: np.random.Generator, along: Floats) -> Floats:
    return np.asarray(rng.uniform(-rules.curvature_per_px, rules.curvature_per_px, (len(along), 1)) * along**2)


def _circle(rules: SeqCsistRules, rng: np.random.Generator, along: Floats) -> Floats:
    n = len(along)
    radius = rng.uniform(*rules.radius_px, (n, 1))
    lean = rng.uniform(-rules.lean_rad, rules.lean_rad, (n, 1))
    side = rng.choice([-1.0, 1.0], (n, 1))
    height = np.sqrt(radius**2 - (radius * np.sin(lean) + along) ** 2)
    return np.asarray(side * (radius * np.cos(lean) - height))


def _wave(rules: SeqCsistRules, rng: np.random.Generator, along: Floats) -> Floats:  # noqa: ARG001, its shape is its own
    n = len(along)
    height, length, phase = (rng.uniform(*limits, (n, 1)) for limits in (WAVE, WAVELENGTH, (0.0, 2 * np.pi)))
    return np.asarray(height * (np.sin(2 * np.pi * along / length + phase) - np.sin(phase)))


def _draw_images(rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Ints]:
    """Draws xy (n, 1, 5, 2), amplitude (n, 5), count (n,)."""
    count, darts = throw_darts(rng, n)
    exists = np.arange(5) < count[:, None]
    amplitude = rng.uniform(*AMPLITUDE, (n, 5)) * exists
    xy = darts + np.array([PATCH[1] // 2, PATCH[0] // 2])
    return np.where(exists[..., None], xy, np.nan)[:, None], amplitude, count


def throw_darts(rng: np.random.Generator, n: int) -> tuple[Ints, Floats]:
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
