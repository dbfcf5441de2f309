"""The tracker of one sensor: detections in, tracks out. Its hypotheses are arrays (track/compiled)."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from irst_stream.chain.platform import frame_centre, is_known, to_frame, to_world
from irst_stream.errors import UsageError
from irst_stream.system.numba_cache import CompiledPart, compile_in_children
from irst_stream.track.clutter import ClutterMap, confirm_score, density_at, false_detections, learn
from irst_stream.track.compiled import (
    AMPLITUDE,
    CONFIRMED,
    DETECTION,
    FLOAT_COLUMNS,
    ID,
    INT_COLUMNS,
    PARENT_ROW,
    Beliefs,
    FrameDetections,
    Rules,
    advance,
    best_tracks,
    clutter_brightness,
    predict,
    smooth_back,
)
from irst_stream.track.measurements import MAX_ERROR_PARTS, Measurements, to_measurements
from irst_stream.track.motion import MODELS
from irst_stream.track.settings import TrackSettings, check_tracking
from irst_stream.types import Detections, Floats, Pose, Stamp, Tracks

__all__ = ["COMPILED", "Tracker"]

MEAN_LIFE_FRAMES = 1000.0  # of a target in view, roughly
# Errors decorrelate by this power of the windows' overlap: it makes the filter's covariances consistent.
DECORRELATION_POWER = 1.7
BRIGHTNESS_LEARNING_RATE = 0.05  # weight of each new detection in the usual brightness
MAX_GAP_S = 10.0  # between frames: after a longer one all targets are taken to be gone
MIN_OWN_AGILITY = 0.5  # factor of own_manoeuvre_px_s2 in calm modes: a group that flies calmly may still move within
MODE_PERSISTENCE = 0.98  # probability that a motion mode continues, from frame to frame
MAX_LATE_FRAMES = 64  # kept for late frames, besides those of the lag


def warm_up() -> None:
    """Compile the tracker's functions, or load them from the cache, so that no later call waits for it."""
    compile_in_children(COMPILED)
    tracker = Tracker(TrackSettings(smoothing_lag=1))
    for k in range(3):
        tracker.step(Detections.bare(Stamp("", 0, k, k), np.zeros((1, 2)), np.ones(1), np.ones(1)))


COMPILED = CompiledPart("the tracker", smooth_back, warm_up)


class _Input(NamedTuple):
    """A frame as given to `step`; first_id: id of the track that its first detection may start, the others' follow."""

    detections: Detections
    pose: Pose | None
    first_id: int


class _FrameState(NamedTuple):
    """The hypotheses after a frame, and the prediction step that led to them, which smoothing needs.

    pose: the platform's, or the last known one; brightness: mean and variance of amplitudes, see clutter_brightness;
    clutter: as measured so far; error_correlation: of consecutive detections' errors, negative where errors are not part of
    the state.
    """

    given: _Input
    pose: Pose | None
    beliefs: Beliefs
    clutter: ClutterMap
    brightness: tuple[float, float]
    transition: Floats
    noise: Floats
    error_correlation: float

    @property
    def stamp(self) -> Stamp:
        return self.given.detections.stamp


class Tracker:
    """Tracks the targets of one sensor.

    `shape` (H, W) of the sensor's frames: poses roll about their centre; None where no pose rolls. `repeats`: consecutive
    frames in which one false alarm may be detected; 0: as many as detections share. `late` counts the frames
    that were dropped because they came too late, `exhausted` those that used up the settings' max_steps, `refused` the
    detections that started no track because of max_tracks; `steps`: of the newest frame; `next_id` is the next new track's.
    """

    def __init__(
        self, settings: TrackSettings | None = None, shape: tuple[int, int] | None = None, first_id: int = 1
    ) -> None:
        self.settings = settings or TrackSettings()
        self.shape, self.repeats = shape, 0
        check_tracking(self.settings)
        self.late = self.exhausted = self.refused = self.steps = 0
        self._late_ns = round(self.settings.late_s * 1e9)
        model = MODELS[self.settings.motion]
        self._size = model.size + (2 if self.settings.shared_frames > 0 else 0)
        self._error_parts = MAX_ERROR_PARTS if self.settings.shared_frames > 0 else 0
        self._modes = len(model.modes)
        self._rules = _rules(self.settings)
        self._mode_switching = _mode_switching(self._modes)
        self._workspace = self._empty(256)  # advance writes here; grows as needed
        self.next_id = first_id
        self.reset()

    def reset(self) -> None:
        """Forget all targets; ids continue."""
        self._states: list[_FrameState] = []  # latest frames, by time: late frames are inserted and the rest recomputed
        self._settled_ns = -math.inf  # frames up to this time cannot be inserted any more

    def step(self, detections: Detections, pose: Pose | None = None) -> Tracks:
        """Update with a frame's detections; return the tracks of the newest frame, or of the one `smoothing_lag` before it.

        A frame of another epoch resets the tracker, and so does one whose time went back while its index rose. A frame that
        is older than the newest by less than `late_s` is inserted at its time and later frames are processed again: the
        result is as if all had come in order, except for ids, since published tracks keep theirs. A frame that is older
        still, or has the time of another, is dropped and counted in `late`.

        pose: the platform's at this frame. Targets are then tracked in the stabilised frame; tracks are in px of the
        sensor's frame at their stamp, their velocities without the platform's motion. A frame without a pose, or with one
        that is not finite, takes that of the frame before.
        """
        stamp = detections.stamp
        if is_known(pose) and pose.roll_rad != 0 and self.shape is None:
            raise UsageError("shape: expected (H, W) of the frames, since poses roll about their centre; got None")
        if self.is_new_start(stamp):
            self.reset()
        place = self._place(stamp.time_ns)
        if place is None:
            self.late += 1
            return self._tracks(self.settings.smoothing_lag)
        states = self._states[:place]
        for given in (_Input(detections, pose, self.next_id), *(state.given for state in self._states[place:])):
            states.append(self._advance(states[-1] if states else None, given))
        self.next_id += len(detections)
        self._states = states
        self._drop_old_states()
        return self._tracks(self.settings.smoothing_lag)

    def settle(
        self, detections: Detections, pose: Pose | None = None, shape: tuple[int, int] | None = None
    ) -> list[Tracks]:
        """Update with a frame's detections; return the tracks that become final: usually those of one frame, at the lag.

        Where the frame resets the tracker, the tracks of all frames within the lag come first. Empty while fewer frames
        have come than the lag needs. pose and shape (H, W): of this frame, where poses are known.
        """
        ended = self.finish() if self.is_new_start(detections.stamp) else []
        self.shape = shape or self.shape
        tracks = self.step(detections, pose)
        return ended if self.is_filling else [*ended, tracks]

    @property
    def is_filling(self) -> bool:
        """Whether fewer frames have come than the lag needs; until then `step` returns the first frame's tracks."""
        return len(self._states) <= self.settings.smoothing_lag

    def finish(self) -> list[Tracks]:
        """Return the tracks of the frames within the lag, in order, and forget all targets."""
        ended = [self._tracks(back) for back in range(min(self.settings.smoothing_lag, len(self._states)) - 1, -1, -1)]
        self.reset()
        return ended

    def is_new_start(self, stamp: Stamp) -> bool:
        """Whether a frame resets the tracker: another epoch, a long gap, or a clock that went back."""
        if not self._states:
            return False
        newest = self._states[-1].stamp
        went_back = stamp.index > newest.index and stamp.time_ns <= newest.time_ns
        return newest.epoch != stamp.epoch or stamp.time_ns - newest.time_ns > MAX_GAP_S * 1e9 or went_back

    def _place(self, time_ns: int) -> int | None:
        """Index at which a frame is inserted into the states; None where it is too late, or another frame has its time."""
        states = self._states
        if not states or time_ns > states[-1].stamp.time_ns:
            return len(states)
        if time_ns <= max(self._settled_ns, states[-1].stamp.time_ns - self._late_ns):
            return None
        place = bisect_left(states, time_ns, key=lambda state: state.stamp.time_ns)
        return None if states[place].stamp.time_ns == time_ns else place

    def _drop_old_states(self) -> None:
        """Drop states that neither the lag nor late frames need, except the latest: late frames follow it."""
        states = self._states
        open_ns = states[-1].stamp.time_ns - self._late_ns
        limit = len(states) - 1 - self.settings.smoothing_lag
        dropped = max(limit - MAX_LATE_FRAMES, 0)
        while dropped < limit and states[dropped + 1].stamp.time_ns <= open_ns:
            dropped += 1
        if dropped > 0:
            del states[:dropped]
            self._settled_ns = states[0].stamp.time_ns

    def _advance(self, last: _FrameState | None, given: _Input) -> _FrameState:
        """The state after a frame, from that after the frame before, None for the first one."""
        stamp, s = given.detections.stamp, self.settings
        pose = given.pose if is_known(given.pose) else last.pose if last else None
        dt = (stamp.time_ns - last.stamp.time_ns) / 1e9 if last else 0.0
        frames = max(stamp.index - last.stamp.index, 1) if last else 1
        correlation = (1 - 1 / s.shared_frames) ** (DECORRELATION_POWER * frames) if s.shared_frames > 0 else -1.0
        transitions, group_noise, own_noise = _motion(s, dt, correlation)
        seen = self._stabilised(given.detections, pose)
        known = last.clutter if last else ClutterMap.empty(s)
        density = density_at(known, seen.xy, s)
        measurements = to_measurements(seen, density, given.first_id, dt / frames, s)
        mean, variance = last.brightness if last else (math.nan, math.nan)
        log_clutter, mean, variance = clutter_brightness(measurements.amplitudes, mean, variance, BRIGHTNESS_LEARNING_RATE)
        before = last.beliefs if last else self._empty(0)
        predicted = predict(before, transitions, group_noise, own_noise, self._mode_switching, correlation, self._rules)
        rules = self._rules._replace(confirm_score=confirm_score(known, s), repeats=self.repeats or max(s.shared_frames, 1))
        beliefs = self._update(predicted, measurements, log_clutter, given.first_id, stamp.time_ns / 1e9, rules)
        clutter = learn(known, *false_detections(before, beliefs, seen.xy), dt, s)
        noise = group_noise[0] + own_noise[0]
        return _FrameState(given, pose, beliefs, clutter, (mean, variance), transitions[0], noise, correlation)

    def _update(
        self, predicted: Beliefs, measurements: Measurements, log_clutter: Floats, first_id: int, now_s: float, rules: Rules
    ) -> Beliefs:
        """The beliefs after a frame, in arrays of their own; the workspace grows until they fit."""
        every_row = np.arange(len(measurements.columns))
        detections = FrameDetections(*measurements, log_clutter, every_row, first_id, now_s)
        while True:
            out = self._workspace
            groups, hypotheses, rows, steps, refused = advance(predicted, detections, rules, out)
            if groups >= 0:
                break
            self._workspace = self._empty(2 * len(out.x))
        self.steps = int(steps)
        self.exhausted += steps >= rules.max_steps
        self.refused += int(refused)
        elements = out.first_cov[hypotheses]
        cut = (groups + 1, hypotheses + 1, hypotheses + 1, hypotheses, hypotheses, rows, elements, rows, rows)
        return Beliefs(*(column[:end].copy() for column, end in zip(out, cut, strict=True)))

    def _empty(self, rows: int) -> Beliefs:
        """Zeros for beliefs of this number of rows; `cov` has room for them in groups of up to four targets."""
        size, modes = self._size, self._modes
        return Beliefs(
            np.zeros(rows + 1, np.int64),
            np.zeros(rows + 1, np.int64),
            np.zeros(rows + 1, np.int64),
            np.zeros(rows),
            np.zeros((rows, modes)),
            np.zeros((rows, modes, size)),
            np.zeros(4 * rows * modes * size * size),
            np.zeros((rows, FLOAT_COLUMNS + 2 * self._error_parts)),
            np.zeros((rows, INT_COLUMNS), np.int64),
        )

    def _stabilised(self, detections: Detections, pose: Pose | None) -> Detections:
        if pose is None:
            return detections
        xy, cov, factor = to_world(pose, self._centre(), detections.xy, detections.cov, detections.factor)
        return replace(detections, xy=xy, cov=cov, factor=factor)

    def _centre(self) -> Floats:
        return frame_centre(self.shape or (1, 1))

    def _tracks(self, back: int) -> Tracks:
        """The tracks of the frame `back` before the newest, or of the first one, smoothed by all later frames."""
        states = self._states[-1 - back :]
        newest, oldest = states[-1], states[0]
        rows, score, state, cov = best_tracks(newest.beliefs)
        track_id, confirmed = newest.beliefs.ints[rows, ID], newest.beliefs.ints[rows, CONFIRMED] != 0
        for later, earlier in zip(states[:0:-1], states[-2::-1], strict=True):
            parents = later.beliefs.ints[rows, PARENT_ROW]
            kept = parents >= 0
            rows, score, state, cov, track_id, confirmed = (
                column[kept] for column in (parents, score, state, cov, track_id, confirmed)
            )
            state, cov = smooth_back(
                earlier.beliefs, rows, state, cov, later.transition, later.noise, later.error_correlation
            )
        order = np.argsort(track_id)
        rows, state, cov = rows[order], state[order, :4], cov[order, :4, :4]
        if oldest.pose is not None:
            state, cov = to_frame(oldest.pose, self._centre(), state, cov)
        return Tracks(
            oldest.stamp,
            track_id[order],
            state,
            cov,
            oldest.beliefs.floats[rows, AMPLITUDE],
            np.clip(score[order], 0, 1),
            confirmed[order],
            oldest.beliefs.ints[rows, DETECTION],
        )


def _rules(s: TrackSettings) -> Rules:
    return Rules(
        detection_probability=s.detection_probability,
        resolution_px=s.resolution_px,
        resolution_sd_px=s.resolution_sd_px,
        gate_chi2=s.gate_chi2,
        group_radius_px=s.group_radius_px,
        errors_in_state=s.shared_frames > 0,
        brightness=s.brightness,
        amplitude_drift=1e-5,
        repeats=1,
        confirm_score=0.0,
        confirm_travel_px=s.confirm_travel_px,
        jump_px=s.jump_px,
        max_coast_s=s.max_coast_s,
        min_existence_probability=s.min_existence_probability,
        survival_probability=1 - 1 / MEAN_LIFE_FRAMES,
        speed_var=s.speed_px_s**2,
        acceleration_var=s.manoeuvre_px_s2**2 + s.own_manoeuvre_px_s2**2,
        max_hypotheses=s.max_hypotheses,
        max_steps=s.max_steps,
        max_tracks=s.max_tracks,
    )


def _mode_switching(modes: int) -> Floats:
    """Transition probabilities (M, M) from each motion mode to each."""
    if modes == 1:
        return np.ones((1, 1))
    others = (1 - MODE_PERSISTENCE) / (modes - 1)
    return np.full((modes, modes), others) + (MODE_PERSISTENCE - others) * np.eye(modes)


@lru_cache(maxsize=16)
def _motion(s: TrackSettings, dt: float, error_correlation: float) -> tuple[Floats, Floats, Floats]:
    """Transitions, process noise of the group and of each target (M, D, D), of a step of dt seconds."""
    model = MODELS[s.motion]
    n, noise = model.size, model.density(s.manoeuvre_s) * model.noise(dt)
    size = n + 2 if s.shared_frames > 0 else n
    out = np.zeros((3, len(model.modes), size, size))
    for m, mode in enumerate(model.modes):
        out[0, m, :n, :n] = mode.transition(dt, s.turn_rad_s)
        out[1, m, :n, :n] = (mode.agility * s.manoeuvre_px_s2) ** 2 * noise
        out[2, m, :n, :n] = (max(mode.agility, MIN_OWN_AGILITY) * s.own_manoeuvre_px_s2) ** 2 * noise
    if s.shared_frames > 0:
        out[0, :, n, n] = out[0, :, n + 1, n + 1] = error_correlation
    return out[0], out[1], out[2]
