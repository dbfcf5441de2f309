"""Full-frame sensor sequences with exact truth: groups of targets over a background, seen by a moving camera."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import UsageError
from irst_stream.psf_field import PsfField, sensor_psf
from irst_stream.sim.background import Background, Sky
from irst_stream.sim.sensor import Detector, Sensor
from irst_stream.sim.trajectories import Groups, GroupTrajectory, plan_trajectories
from irst_stream.types import Floats, Frame, Ints, Pose, Stamp, Truth

__all__ = ["Background", "Groups", "Platform", "Scene", "SceneSettings"]


@dataclass(frozen=True)
class Platform:
    """Camera motion: the world drifts through the frame, and each frame jitters independently about the drift."""

    drift_x_px_s: float = 0.0
    drift_y_px_s: float = 0.0
    jitter_px: float = 0.0
    roll_jitter_mrad: float = 0.0


@dataclass(frozen=True)
class SceneSettings:
    """All parameters of a scene except its seed and its number of frames."""

    sensor: Sensor = field(default_factory=Sensor)
    background: Background = field(default_factory=Background)
    groups: Groups = field(default_factory=Groups)
    platform: Platform = field(default_factory=Platform)


class Scene:
    """A simulated sequence. Frames can be rendered in any order; a frame is always the same.

    Iterating yields (Frame, Truth, Pose) for each frame in order.
    """

    def __init__(
        self,
        settings: SceneSettings,
        frames: int,
        seed: int = 0,
        name: str = "scene",
        trajectories: Sequence[GroupTrajectory] = (),
    ) -> None:
        """trajectories: shown instead of those drawn from the settings and the seed."""
        _check(settings, frames, seed)
        self.settings, self.frames, self.seed, self.name = settings, frames, seed, name
        sensor = settings.sensor
        self._psf = sensor_psf(sensor.sigma_px, sensor.axis_ratio, sensor.axis_angle_deg, sensor.psf_table)
        self._peak = float(self._psf.middle.images(np.zeros(2), (1, 1))[0, 0])  # share of a target's light in its pixel
        self._sky = Sky(settings.background, sensor.width, sensor.height, self._stream(0))
        self._detector = Detector(sensor, self._stream(1))
        duration_s = frames / sensor.rate_hz
        platform = settings.platform
        roll_px = platform.roll_jitter_mrad * 1e-3 * np.hypot(sensor.width, sensor.height) / 2
        sway_px = 5.0 * float(platform.jitter_px + roll_px)
        size = sensor.width, sensor.height
        self._trajectories = trajectories or plan_trajectories(settings.groups, *size, duration_s, sway_px, self._stream(2))
        self._first_id = np.cumsum([0, *(len(trajectory.offsets) for trajectory in self._trajectories)])

    def __iter__(self) -> Iterator[tuple[Frame, Truth, Pose]]:
        return ((self.frame(i), self.truth(i), self.pose(i)) for i in range(self.frames))

    def __len__(self) -> int:
        return self.frames

    def frame(self, index: int) -> Frame:
        """Render the frame that the sensor reads out, (H, W) uint8 or uint16 DN."""
        pose = self.pose(index)
        light = self._sky.view(self._time_s(index), (pose.x, pose.y), pose.roll_rad)
        _, _, xy, amplitude = self._targets(index)
        _add_targets(light, xy, amplitude, self._psf)
        return Frame(self.stamp(index), self._detector.expose(light, self._stream(3, index)))

    def truth(self, index: int) -> Truth:
        """The targets whose centre lies inside the frame, in px of this frame, jitter and roll included."""
        ids, groups, xy, amplitude = self._targets(index)
        sensor = self.settings.sensor
        inside = ((xy >= -0.5) & (xy < np.array([sensor.width, sensor.height]) - 0.5)).all(-1)
        return Truth(self.stamp(index), ids[inside], groups[inside], xy[inside], amplitude[inside])

    def pose(self, index: int) -> Pose:
        """The platform's pose: its drift so far and this frame's jitter."""
        platform, time_s = self.settings.platform, self._time_s(index)
        x, y, roll = self._stream(4, index).standard_normal(3) * (1, 1, 1e-3)
        x = platform.drift_x_px_s * time_s + platform.jitter_px * x
        y = platform.drift_y_px_s * time_s + platform.jitter_px * y
        return Pose(self.stamp(index), float(x), float(y), float(platform.roll_jitter_mrad * roll))

    def bad_pixels(self) -> dict[str, list[list[int]]]:
        """The pixels under "dead" and "hot", each a list of [x, y]."""
        masks = {"dead": self._detector.dead, "hot": self._detector.hot}
        return {kind: np.argwhere(mask)[:, ::-1].tolist() for kind, mask in masks.items()}

    def stamp(self, index: int) -> Stamp:
        """The frame's stamp; time starts at 0 and advances at the sensor's rate."""
        return Stamp(self.name, 0, index, round(index * 1e9 / self.settings.sensor.rate_hz))

    def _targets(self, index: int) -> tuple[Ints, Ints, Floats, Floats]:
        """All present targets, including those just outside the frame: id, group, xy in px of this frame, amplitude DN."""
        present = [(k, t) for k, t in enumerate(self._trajectories) if self._is_present(t, index)]
        rows = [self._members(k, trajectory, index) for k, trajectory in present]
        if not rows:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
        ids, groups, steady, amplitude = (np.concatenate(column) for column in zip(*rows, strict=True))
        return ids, groups, self._to_frame(steady, index), amplitude

    def _members(self, k: int, trajectory: GroupTrajectory, index: int) -> tuple[Ints, Ints, Floats, Floats]:
        """The members of group k in one frame: id, group, xy in px without jitter and roll, amplitude DN."""
        members = len(trajectory.offsets)
        ids = self._first_id[k] + np.arange(members)
        fluctuation = 1 + self.settings.groups.fluctuation * self._stream(5, index, k).standard_normal(members)
        amplitude = self._amplitude(trajectory.strength) * np.maximum(fluctuation, 0)
        return ids, np.full(members, k), trajectory.positions(self._time_s(index)), amplitude

    def _amplitude(self, strength: Floats) -> Floats:
        """Map strengths (M,), 0 to 1, to DN: to the SNR range at the background's mean level, or to the amplitude range."""
        groups, sensor = self.settings.groups, self.settings.sensor
        snr_1_dn = sensor.noise_dn(self.settings.background.level_dn) / self._peak
        low, high = groups.amplitude_dn if groups.snr is None else (groups.snr[0] * snr_1_dn, groups.snr[1] * snr_1_dn)
        return low + (high - low) * strength

    def _to_frame(self, steady: Floats, index: int) -> Floats:
        """Transform (N, 2) px of a frame that only drifts to px of this frame, which also jitters and rolls."""
        pose, sensor, platform = self.pose(index), self.settings.sensor, self.settings.platform
        drift = np.array([platform.drift_x_px_s, platform.drift_y_px_s]) * self._time_s(index)
        centre = np.array([(sensor.width - 1) / 2, (sensor.height - 1) / 2])
        c, s = np.cos(pose.roll_rad), np.sin(pose.roll_rad)
        turned = (steady - drift - centre) @ np.array([[c, s], [-s, c]])
        return np.asarray(turned + centre + (pose.x, pose.y), np.float64)

    def _is_present(self, trajectory: GroupTrajectory, index: int) -> bool:
        return trajectory.start_s <= self._time_s(index) < trajectory.end_s

    def _time_s(self, index: int) -> float:
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of a scene of {self.frames} frames")
        return index / self.settings.sensor.rate_hz

    def _stream(self, *key: int) -> np.random.Generator:
        """A random stream of its own for each key, so that frames do not depend on each other."""
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=key)))


def _add_targets(light: NDArray[np.float32], xy: Floats, amplitude: Floats, psf: PsfField) -> None:
    """Add each target's image to `light` in place, within 6 sigma of it, which holds all but 1e-8 of its light."""
    reach = int(np.ceil(6 * psf.widest_px)) + 1
    middle = np.rint(xy).astype(np.int64)
    size = 2 * reach + 1
    stamps = np.empty((len(xy), size, size))
    for own, rows in psf.groups(xy):
        stamps[rows] = amplitude[rows, None, None] * own.images(xy[rows] - middle[rows] + reach, (size, size))
    for (x, y), stamp in zip(middle, stamps, strict=True):
        top, left = max(y - reach, 0), max(x - reach, 0)
        part = light[top : max(y + reach + 1, 0), left : max(x + reach + 1, 0)]
        r, c = top - (y - reach), left - (x - reach)
        part += stamp[r : r + part.shape[0], c : c + part.shape[1]].astype(np.float32)


def _check(settings: SceneSettings, frames: int, seed: int) -> None:
    """Raise a UsageError that names the first invalid setting."""
    sensor, background, groups = settings.sensor, settings.background, settings.groups
    for name, value in _numbers(settings):
        if not math.isfinite(value):
            raise UsageError(f"{name}: expected a finite number, got {value}")
    rules = [
        (1 <= frames <= 10**8, f"frames: expected 1 to 100,000,000, got {frames}"),
        (seed >= 0, f"seed: expected 0 or more, got {seed}"),
        (_within(16, 2**14, sensor.width, sensor.height), "size: expected 16x16 to 16384x16384"),
        (1e-3 <= sensor.rate_hz <= 1e6, f"rate: expected 0.001 to 1,000,000 Hz, got {sensor.rate_hz:g}"),
        (8 <= sensor.bits <= 16, f"bits: expected 8 to 16, got {sensor.bits}"),
        (0.1 <= sensor.sigma_px <= 10, f"sigma: expected 0.1 to 10 px, got {sensor.sigma_px:g}"),
        (1 <= sensor.axis_ratio <= 10, f"axis_ratio: expected 1 to 10, got {sensor.axis_ratio:g}"),
        (_within(0, 1e6, sensor.read_noise_dn, sensor.electrons_per_dn), "noise: expected 0 to 1,000,000"),
        (
            _within(0, 1e5, sensor.gain_spread, sensor.offset_spread_dn, sensor.column_spread_dn),
            "spread: expected 0 or more",
        ),
        (_within(0, 0.5, sensor.dead_fraction, sensor.hot_fraction), "dead, hot fractions: expected 0 to 0.5"),
        (
            0 <= background.level_dn <= sensor.ceiling,
            f"background: expected a level of 0 to {sensor.ceiling} DN at {sensor.bits} bits, got {background.level_dn:g}",
        ),
        (_within(0, 1e5, background.cloud_dn, background.edge_dn), "cloud and edge contrast: expected 0 or more"),
        (0 <= background.cloud_slope <= 5, f"cloud slope: expected 0 to 5, got {background.cloud_slope:g}"),
        (background.edge_width_px > 0, f"edge_width_px: expected more than 0, got {background.edge_width_px:g}"),
        (_rising(1, *groups.members, 5), f"members: expected 1 <= low <= high <= 5, got {groups.members}"),
        (_within(0, 10**4, groups.groups, groups.singles), "groups, singles: expected 0 to 10,000"),
        (0 <= groups.crossing <= 1, f"crossing: expected 0 to 1, got {groups.crossing:g}"),
        (_rising(0.01, *groups.spacing_px, 100), f"spacing: expected 0.01 <= low <= high <= 100, got {groups.spacing_px}"),
        (_rising(0.01, *groups.speed_px_s, 1e6), f"speed: expected 0.01 <= low <= high <= 1e6, got {groups.speed_px_s}"),
        (_rising(0, *groups.amplitude_dn, 1e9), f"amplitude: expected 0 <= low <= high, got {groups.amplitude_dn}"),
        (groups.snr is None or _rising(0, *groups.snr, 1e6), f"snr: expected 0 <= low <= high, got {groups.snr}"),
        (0 <= groups.fluctuation <= 10, f"fluctuation: expected 0 to 10, got {groups.fluctuation:g}"),
        (settings.platform.jitter_px >= 0 and settings.platform.roll_jitter_mrad >= 0, "jitter: expected 0 or more"),
    ]
    for valid, message in rules:
        if not valid:
            raise UsageError(message)


def _numbers(settings: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in nested settings with its dotted name."""
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if is_dataclass(value):
            yield from _numbers(value, f"{prefix}{entry.name}.")
        else:
            parts = value if isinstance(value, tuple) else () if value is None or isinstance(value, str) else (value,)
            yield from ((prefix + entry.name, part) for part in parts)


def _within(low: float, high: float, *values: float) -> bool:
    return all(low <= value <= high for value in values)


def _rising(*values: float) -> bool:
    return all(a <= b for a, b in pairwise(values))
