"""Trajectories of groups through a frame: they enter, drift, cross and leave. Positions are closed forms of time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from irst_stream.types import Floats

__all__ = ["GroupTrajectory", "Groups", "formation", "plan_trajectories"]

PSF_REACH = 3.0  # px: how far from its position a target is visible
GAP_S = 0.01  # between the end of one trajectory and the start of its successor
MIN_OVERLAP_S = 0.2  # two trajectories must overlap longer than this to be made to meet
MAX_CROSSING_TRIES = 8  # trajectories that a crossing one tries to meet
MAX_DURATION_S = 1e6  # ends a trajectory that never leaves the frame


@dataclass(frozen=True)
class Groups:
    """How many targets there are, and how they move. Speeds are in the frame and include the platform's drift."""

    groups: int = 5  # present at any time, including those about to enter or just gone
    members: tuple[int, int] = (2, 5)
    singles: int = 2  # targets outside groups, counted likewise
    spacing_px: tuple[float, float] = (0.5, 1.2)  # between neighbours of a group; its maximum if members cross
    speed_px_s: tuple[float, float] = (5.0, 40.0)
    turn_px_s2: float = 2.0  # rms acceleration perpendicular to the path
    crossing: float = 0.3  # share of the groups whose members cross, and of those whose paths cross
    snr: tuple[float, float] | None = None  # peak pixel over noise; None: amplitude_dn is used
    amplitude_dn: tuple[float, float] = (220.0, 250.0)
    fluctuation: float = 0.0  # rms of each target's relative brightness from frame to frame


@dataclass(frozen=True, slots=True, eq=False)
class GroupTrajectory:
    """The motion of one group of M targets from start_s to end_s, in px of a frame that drifts but does not jitter.

    origin (2,) px, velocity (2,) px/s, acceleration (2,) px/s^2: of the group's middle, at start_s; offsets (M, 2): the
    members' positions, px from the middle; oscillation_rad_s, phase (M,): offsets are multiplied by the cosine of
    oscillation_rad_s * age + phase; strength (M,): each member's place in the amplitude range, 0 to 1.
    """

    start_s: float
    end_s: float
    origin: Floats
    velocity: Floats
    acceleration: Floats
    offsets: Floats
    oscillation_rad_s: Floats
    phase: Floats
    strength: Floats

    def middle(self, time_s: Floats | float) -> Floats:
        """The position (..., 2) px of the group's middle at times (...) s."""
        age = (np.asarray(time_s) - self.start_s)[..., None]
        return self.origin + self.velocity * age + self.acceleration * age**2 / 2

    def positions(self, time_s: float) -> Floats:
        """The members' positions (M, 2) px; with oscillation and phase 0 they keep their formation."""
        age = time_s - self.start_s
        stretch = np.cos(self.oscillation_rad_s * age + self.phase)[:, None]
        return self.middle(time_s) + self.offsets * stretch


def plan_trajectories(
    settings: Groups, width: int, height: int, duration_s: float, sway_px: float, rng: np.random.Generator
) -> list[GroupTrajectory]:
    """Draw the trajectories of a scene, sorted by start time.

    width, height: px; sway_px: how far the camera's jitter may move a target, so that none appears or vanishes inside
    the frame.
    """
    widest = settings.spacing_px[1] * (settings.members[1] - 1)
    planner = _Planner(settings, np.array([width, height], np.float64), duration_s, PSF_REACH + widest + sway_px)
    trajectories: list[GroupTrajectory] = []
    for slot in range(settings.groups + settings.singles):
        members = settings.members if slot < settings.groups else (1, 1)
        to_cross = trajectories if slot % 2 else []
        trajectories.extend(planner.fill_slot(rng.spawn(1)[0], members, to_cross))
    return sorted(trajectories, key=lambda trajectory: trajectory.start_s)


@dataclass(frozen=True, slots=True)
class _Planner:
    """Draws trajectories that enter and leave a frame of `size` (2,) px, extended by `margin` px on every side."""

    settings: Groups
    size: Floats
    duration_s: float
    margin: float

    def fill_slot(
        self, rng: np.random.Generator, members: tuple[int, int], to_cross: list[GroupTrajectory]
    ) -> list[GroupTrajectory]:
        """Draw consecutive trajectories for the whole duration; the first starts inside the frame.

        members: fewest and most in a group; to_cross: trajectories that a share of the new ones is to meet.
        """
        trajectories: list[GroupTrajectory] = []
        start = 0.0
        while start < self.duration_s:
            trajectory = self._draw(rng, members, start, inside=not trajectories)
            if to_cross and rng.random() < self.settings.crossing:
                trajectory = self._aim(trajectory, to_cross, rng)
            trajectory = replace(trajectory, end_s=self._end_s(trajectory))
            trajectories.append(trajectory)
            start = trajectory.end_s
        return trajectories

    def _draw(self, rng: np.random.Generator, members: tuple[int, int], start: float, *, inside: bool) -> GroupTrajectory:
        """Draw one trajectory whose end is still open: it starts inside the frame or just outside its border."""
        s = self.settings
        n = int(rng.integers(members[0], members[1] + 1))
        target = self.size * rng.uniform(0.25, 0.75, 2)
        origin = self.size * rng.uniform(0.05, 0.95, 2) - 0.5 if inside else self._border(rng)
        heading = (target - origin) / max(float(np.linalg.norm(target - origin)), 1e-9)
        velocity = heading * rng.uniform(*s.speed_px_s)
        across = np.array([-heading[1], heading[0]])
        offsets = formation(rng, n, rng.uniform(*s.spacing_px))
        crosses = n > 1 and rng.random() < s.crossing
        oscillation = np.full(n, 2 * np.pi / rng.uniform(2.0, 6.0) if crosses else 0.0)
        phase = rng.uniform(0, 2 * np.pi, n) if crosses else np.zeros(n)
        acceleration = across * s.turn_px_s2 * rng.standard_normal()
        return GroupTrajectory(start, start, origin, velocity, acceleration, offsets, oscillation, phase, rng.random(n))

    def _border(self, rng: np.random.Generator) -> Floats:
        """A point (2,) px outside a random edge by the margin; longer edges are more frequent."""
        width, height = self.size
        along = rng.uniform(0, width + height)
        far = rng.random() < 0.5
        if along < width:
            return np.array([along - 0.5, height - 0.5 + self.margin if far else -0.5 - self.margin])
        return np.array([width - 0.5 + self.margin if far else -0.5 - self.margin, along - width - 0.5])

    def _aim(
        self, trajectory: GroupTrajectory, to_cross: list[GroupTrajectory], rng: np.random.Generator
    ) -> GroupTrajectory:
        """Change the velocity so that the trajectory meets one of `to_cross`, if the range of speeds allows it."""
        slowest, fastest = self.settings.speed_px_s
        for _ in range(MAX_CROSSING_TRIES):
            other = to_cross[rng.integers(len(to_cross))]
            first, last = max(trajectory.start_s, other.start_s), min(other.end_s, self.duration_s)
            if last - first > MIN_OVERLAP_S:
                age = rng.uniform(first + MIN_OVERLAP_S / 2, last) - trajectory.start_s
                displacement = other.middle(trajectory.start_s + age) - trajectory.origin
                velocity = displacement / age - trajectory.acceleration * age / 2
                if slowest <= np.linalg.norm(velocity) <= fastest:
                    return replace(trajectory, velocity=velocity)
        return trajectory

    def _end_s(self, trajectory: GroupTrajectory) -> float:
        """The time, s, after the group's middle has left the frame and its margin for good."""
        ages = [0.0, MAX_DURATION_S]
        for axis in (0, 1):
            for edge in (-0.5 - self.margin, self.size[axis] - 0.5 + self.margin):
                offset = trajectory.origin[axis] - edge
                ages += _crossing_times(offset, trajectory.velocity[axis], trajectory.acceleration[axis])
        ages = sorted(age for age in ages if 0 <= age <= MAX_DURATION_S)
        inside = [
            end
            for start, end in pairwise(ages)
            if self._contains(trajectory.middle(trajectory.start_s + (start + end) / 2))
        ]
        return trajectory.start_s + max(inside, default=0.0) + GAP_S

    def _contains(self, point: Floats) -> bool:
        return bool(((point > -0.5 - self.margin) & (point < self.size - 0.5 + self.margin)).all())


def _crossing_times(offset: float, velocity: float, acceleration: float) -> list[float]:
    """The times at which offset + velocity t + acceleration t^2 / 2 is 0."""
    roots = np.roots(np.trim_zeros(np.array([acceleration / 2, velocity, offset]), "f"))
    return [float(root.real) for root in roots if abs(root.imag) < 1e-12]


def formation(rng: np.random.Generator, members: int, spacing: float) -> Floats:
    """Draw a group's offsets from their mean, (M, 2) px.

    Each new member is `spacing` px from one earlier member and no nearer to any other.
    """
    points = [np.zeros(2)]
    while len(points) < members:
        angle = rng.uniform(0, 2 * np.pi)
        point = points[rng.integers(len(points))] + spacing * np.array([np.cos(angle), np.sin(angle)])
        if min(np.linalg.norm(point - p) for p in points) >= spacing * (1 - 1e-9):
            points.append(point)
    return np.asarray(np.stack(points) - np.mean(points, axis=0))
