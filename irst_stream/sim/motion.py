"""How groups of targets move through a frame: enter, drift, cross, leave. Everything is a closed form of time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irst_stream.types import Floats

__all__ = ["Groups", "Life", "plan_lives"]

MARGIN = 3.0  # px: how far outside the frame a group is born and dies
LONGEST_S = 600.0  # a life ends then at the latest


@dataclass(frozen=True)
class Groups:
    """Which targets fly, and how."""

    groups: int = 5  # groups in view at any time; one that leaves is replaced
    members: tuple[int, int] = (2, 5)
    singles: int = 2  # targets in view that fly alone
    spacing_px: tuple[float, float] = (0.5, 1.2)  # between neighbours of a group
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


def plan_lives(settings: Groups, width: int, height: int, duration_s: float, rng: np.random.Generator) -> list[Life]:
    """Every flight that touches the frame within the duration, by the time it starts."""
    planner = _Planner(settings, np.array([width, height], np.float64), duration_s)
    lives: list[Life] = []
    for slot in range(settings.groups + settings.singles):
        members = settings.members if slot < settings.groups else (1, 1)
        partner = lives[-1] if lives and slot % 2 else None
        lives.extend(planner.fill_slot(rng.spawn(1)[0], members, partner))
    return sorted(lives, key=lambda life: life.start_s)


@dataclass(frozen=True, slots=True)
class _Planner:
    settings: Groups
    size: Floats
    duration_s: float

    def fill_slot(self, rng: np.random.Generator, members: tuple[int, int], partner: Life | None) -> list[Life]:
        """One flight after another, the first already under way when the scene begins."""
        lives: list[Life] = []
        start = 0.0
        while start < self.duration_s:
            life = self._life(rng, members, start, inside=not lives)
            if partner is not None and rng.random() < self.settings.crossing:
                life = self._aim(life, partner, rng)
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
        offsets = _spread(rng, n, rng.uniform(*s.spacing_px))
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
            return np.array([along - 0.5, height - 0.5 + MARGIN if far else -0.5 - MARGIN])
        return np.array([width - 0.5 + MARGIN if far else -0.5 - MARGIN, along - width - 0.5])

    def _aim(self, life: Life, partner: Life, rng: np.random.Generator) -> Life:
        """Turns a flight so that it meets its partner's path while the partner is there."""
        first, last = max(life.start_s, partner.start_s), min(partner.end_s, self.duration_s)
        if last - first < 0.2:
            return life
        meeting = rng.uniform(first + 0.1, last)
        way = partner.middle(meeting) - life.origin
        age = meeting - life.start_s
        velocity = way / age - life.acceleration * age / 2
        fastest = 2 * self.settings.speed_px_s[1]
        return replace(life, velocity=velocity) if np.linalg.norm(velocity) <= fastest else life

    def _leaves(self, life: Life) -> float:
        """When the group's middle has gone beyond the margin for good, to a hundredth of a second."""
        times = life.start_s + np.arange(0, LONGEST_S, 0.01)
        middle = life.middle(times)
        near = ((middle > -0.5 - MARGIN - 1e-6) & (middle < self.size - 0.5 + MARGIN + 1e-6)).all(-1)
        return float(times[np.flatnonzero(near)[-1]] + 0.01)


def _spread(rng: np.random.Generator, members: int, spacing: float) -> Floats:
    """(M, 2) offsets about their mean: each new member stands `spacing` from one already there and no nearer to any."""
    points = [np.zeros(2)]
    while len(points) < members:
        angle = rng.uniform(0, 2 * np.pi)
        point = points[rng.integers(len(points))] + spacing * np.array([np.cos(angle), np.sin(angle)])
        if min(np.linalg.norm(point - p) for p in points) >= spacing * (1 - 1e-9):
            points.append(point)
    return np.asarray(np.stack(points) - np.mean(points, axis=0))
