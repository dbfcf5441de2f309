"""How groups of targets move through a frame: enter, drift, cross, leave. Everything is a closed form of time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from irst_stream.types import Floats

__all__ = ["Groups", "Life", "formation", "plan_lives"]

SKIRT = 3.0  # px: how far a target shines
LINGER_S = 0.01  # between one group's end and the next one's beginning
SHORTEST_S = 0.2  # two flights that overlap no longer do not meet
TRIES = 8  # flights that one which is to cross another's path tries to meet
LONGEST_S = 1e6  # a life that never leaves ends then


@dataclass(frozen=True)
class Groups:
    """Which targets fly, and how. Speeds are in the frame, the platform's drift included."""

    groups: int = 5  # groups in flight at any time, those about to enter or just gone included
    members: tuple[int, int] = (2, 5)
    singles: int = 2  # targets that fly alone, counted likewise
    spacing_px: tuple[float, float] = (0.5, 1.2)  # between neighbours of a group; of one that crosses, at its widest
    speed_px_s: tuple[float, float] = (5.0, 40.0)
    turn_px_s2: float = 2.0  # rms acceleration across the path
    crossing: float = 0.3  # share of the groups whose members, or whose paths, cross
    snr: tuple[float, float] | None = None  # peak pixel over noise; None: amplitude_dn holds
    amplitude_dn: tuple[float, float] = (220.0, 250.0)
    fluctuation: float = 0.0  # rms of each target's relative brightness from frame to frame


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """One group's flight: born at `start_s`, gone at `end_s`; positions in px of the steady frame.

    offsets (M, 2) px from the group's middle, strength (M,) 0 to 1 places each member in the amplitude range.
    """

    start_s: float
    end_s: float
    origin: Floats
    velocity: Floats
    acceleration: Floats
    offsets: Floats
    beat_rad_s: Floats
    phase: Floats
    strength: Floats

    def middle(self, time_s: Floats | float) -> Floats:
        """(...) s to (..., 2) px: where the group's middle is."""
        age = (np.asarray(time_s) - self.start_s)[..., None]
        return self.origin + self.velocity * age + self.acceleration * age**2 / 2

    def positions(self, time_s: float) -> Floats:
        """(M, 2) px: where its members are; a beat of 0 keeps them in formation."""
        age = time_s - self.start_s
        swing = np.cos(self.beat_rad_s * age + self.phase)[:, None]
        return self.middle(time_s) + self.offsets * swing


def plan_lives(
    settings: Groups, width: int, height: int, duration_s: float, sway_px: float, rng: np.random.Generator
) -> list[Life]:
    """Every flight that touches the frame within the duration, by the time it starts.

    sway_px: how far the camera's jitter may carry a target, so that none is born or dies within the frame.
    """
    widest = settings.spacing_px[1] * (settings.members[1] - 1)
    planner = _Planner(settings, np.array([width, height], np.float64), duration_s, SKIRT + widest + sway_px)
    lives: list[Life] = []
    for slot in range(settings.groups + settings.singles):
        members = settings.members if slot < settings.groups else (1, 1)
        lives.extend(planner.fill_slot(rng.spawn(1)[0], members, lives if slot % 2 else []))
    return sorted(lives, key=lambda life: life.start_s)


@dataclass(frozen=True, slots=True)
class _Planner:
    settings: Groups
    size: Floats
    duration_s: float
    margin: float

    def fill_slot(self, rng: np.random.Generator, members: tuple[int, int], others: list[Life]) -> list[Life]:
        """One flight after another, the first already under way when the scene begins."""
        lives: list[Life] = []
        start = 0.0
        while start < self.duration_s:
            life = self._life(rng, members, start, inside=not lives)
            if others and rng.random() < self.settings.crossing:
                life = self._aim(life, others, rng)
            life = replace(life, end_s=self._leaves(life))
            lives.append(life)
            start = life.end_s
        return lives

    def _life(self, rng: np.random.Generator, members: tuple[int, int], start: float, *, inside: bool) -> Life:
        s = self.settings
        n = int(rng.integers(members[0], members[1] + 1))
        target = self.size * rng.uniform(0.25, 0.75, 2)
        origin = self.size * rng.uniform(0.05, 0.95, 2) - 0.5 if inside else self._border(rng)
        heading = (target - origin) / max(float(np.linalg.norm(target - origin)), 1e-9)
        velocity = heading * rng.uniform(*s.speed_px_s)
        across = np.array([-heading[1], heading[0]])
        offsets = formation(rng, n, rng.uniform(*s.spacing_px))
        crosses = n > 1 and rng.random() < s.crossing
        beat = np.full(n, 2 * np.pi / rng.uniform(2.0, 6.0) if crosses else 0.0)
        phase = rng.uniform(0, 2 * np.pi, n) if crosses else np.zeros(n)
        acceleration = across * s.turn_px_s2 * rng.standard_normal()
        return Life(start, start, origin, velocity, acceleration, offsets, beat, phase, rng.random(n))

    def _border(self, rng: np.random.Generator) -> Floats:
        """A point just outside a random edge, longer edges more often."""
        width, height = self.size
        along = rng.uniform(0, width + height)
        far = rng.random() < 0.5
        if along < width:
            return np.array([along - 0.5, height - 0.5 + self.margin if far else -0.5 - self.margin])
        return np.array([width - 0.5 + self.margin if far else -0.5 - self.margin, along - width - 0.5])

    def _aim(self, life: Life, others: list[Life], rng: np.random.Generator) -> Life:
        """Turns a flight so that it meets another's path while that one is there, if its speed allows."""
        slowest, fastest = self.settings.speed_px_s
        for _ in range(TRIES):
            other = others[rng.integers(len(others))]
            first, last = max(life.start_s, other.start_s), min(other.end_s, self.duration_s)
            if last - first > SHORTEST_S:
                age = rng.uniform(first + SHORTEST_S / 2, last) - life.start_s
                way = other.middle(life.start_s + age) - life.origin
                velocity = way / age - life.acceleration * age / 2
                if slowest <= np.linalg.norm(velocity) <= fastest:
                    return replace(life, velocity=velocity)
        return life

    def _leaves(self, life: Life) -> float:
        """When the group's middle leaves the frame and its margin for good."""
        ages = [0.0, LONGEST_S]
        for axis in (0, 1):
            for edge in (-0.5 - self.margin, self.size[axis] - 0.5 + self.margin):
                ages += _passes(life.origin[axis] - edge, life.velocity[axis], life.acceleration[axis])
        ages = sorted(age for age in ages if 0 <= age <= LONGEST_S)
        inside = [end for start, end in pairwise(ages) if self._contains(life.middle(life.start_s + (start + end) / 2))]
        return life.start_s + max(inside, default=0.0) + LINGER_S

    def _contains(self, point: Floats) -> bool:
        return bool(((point > -0.5 - self.margin) & (point < self.size - 0.5 + self.margin)).all())


def _passes(offset: float, velocity: float, acceleration: float) -> list[float]:
    """The times at which offset + velocity t + acceleration t^2 / 2 is 0."""
    roots = np.roots(np.trim_zeros(np.array([acceleration / 2, velocity, offset]), "f"))
    return [float(root.real) for root in roots if abs(root.imag) < 1e-12]


def formation(rng: np.random.Generator, members: int, spacing: float) -> Floats:
    """(M, 2) offsets about their mean: each new member stands `spacing` from one already there and no nearer to any."""
    points = [np.zeros(2)]
    while len(points) < members:
        angle = rng.uniform(0, 2 * np.pi)
        point = points[rng.integers(len(points))] + spacing * np.array([np.cos(angle), np.sin(angle)])
        if min(np.linalg.norm(point - p) for p in points) >= spacing * (1 - 1e-9):
            points.append(point)
    return np.asarray(np.stack(points) - np.mean(points, axis=0))
