"""A tracker for one sensor: detections in, tracks out; all it believes lies in arrays (track/compiled)."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from irst_stream.chain.platform import is_known, middle, to_frame, to_world
from irst_stream.errors import UsageError
from irst_stream.system.numba_cache import compile_elsewhere
from irst_stream.track.compiled import (
    CONFIRMED,
    DETECTION,
    ID,
    PARENT,
    REALS,
    WHOLES,
    Beliefs,
    Rules,
    advance,
    predict,
    published,
    smoothed,
    unusual,
)
from irst_stream.track.motion import acceleration, acceleration_noise, turn, velocity, velocity_noise
from irst_stream.track.seen import MOST_PARTS, Measurements, look
from irst_stream.track.settings import TrackSettings, check_tracking
from irst_stream.types import Detections, Floats, Pose, Stamp, Tracks

__all__ = ["Tracker"]

EXISTS_FRAMES = 1000.0  # that a target stays in view, roughly
# By this power of what the next window is new in do errors fade, so that the filter is as sure as it should be.
LINGERS = 1.7
MEMORY = 0.05  # of what brightness is usual: what each detection adds to it
LONGEST_S = 10.0  # without detections: whatever was in view has moved on
CALM = 0.5  # of what moves each target by itself: a group that flies on calmly may still swing within
STAYS = 0.98  # of the motion models, from frame to frame
MOST_HELD = 64  # moments beside those of the lag: what came before them is settled


def warm_up() -> None:
    """Compiles, or loads what was compiled before, so that no later call waits for it."""
    compile_elsewhere("the tracker", smoothed, warm_up)
    tracker = Tracker(TrackSettings(smoothing_lag=1))
    for k in range(3):
        tracker.step(Detections.bare(Stamp("", 0, k, k), np.zeros((1, 2)), np.ones(1), np.ones(1)))


class _Given(NamedTuple):
    """A frame as it came; first: the id of what its first detection may start, the others' follow."""

    detections: Detections
    pose: Pose | None
    first: int


class _Moment(NamedTuple):
    """What was believed after a frame, and how it came from the frame before.

    pose: where the platform pointed, as far as is known; usual: see compiled.unusual.
    """

    given: _Given
    pose: Pose | None
    beliefs: Beliefs
    usual: tuple[float, float]
    transition: Floats
    noise: Floats
    fade: float

    @property
    def stamp(self) -> Stamp:
        return self.given.detections.stamp


class Tracker:
    """Follows the targets of one sensor.

    `shape` (H, W) is that of the sensor's frames, about whose middle poses roll; None where they do not. `late` counts
    frames' detections that came too late to be used; `next_id` is the next new track's.
    """

    def __init__(
        self, settings: TrackSettings | None = None, shape: tuple[int, int] | None = None, first_id: int = 1
    ) -> None:
        self.settings = settings or TrackSettings()
        self.shape = shape
        check_tracking(self.settings)
        self.late = 0
        self._late_ns = round(self.settings.late_s * 1e9)
        self._size = (6 if self.settings.motion == "acceleration" else 4) + (2 if self.settings.shared_frames > 0 else 0)
        self._parts = MOST_PARTS if self.settings.shared_frames > 0 else 0
        self._models = 4 if self.settings.motion == "imm" else 1
        self._rules = _rules(self.settings)
        self._switch = _switch(self._models)
        self._space = self._empty(256)  # to work in
        self.next_id = first_id
        self.reset()

    def reset(self) -> None:
        """Forgets all targets; ids go on."""
        self._moments: list[_Moment] = []  # by time; the last ones, from which those of late frames can be made anew
        self._settled_ns = -math.inf  # what is not later than this cannot be put in order any more

    def step(self, detections: Detections, pose: Pose | None = None) -> Tracks:
        """Takes the next frame's detections; the tracks of the newest frame, or of the one `lag` before it, as known now.

        A frame of another epoch starts anew, as does one whose clock went back while its index rose. One that is earlier
        than the newest by less than `late_s` is put where it belongs, and what came after it is judged again, as if all had
        come in order; only ids may differ from that, for what was published keeps its own. One that is later still, or of
        the time of another, is dropped and counted in `late`.

        pose: where the platform pointed meanwhile. Targets are then followed in the stabilised frame; tracks are in px of
        the sensor's frame at their stamp, their velocities without the platform's own. A frame without a pose, or whose
        pose is not finite, is taken to have that of the frame before.
        """
        stamp = detections.stamp
        if is_known(pose) and pose.roll_rad != 0 and self.shape is None:
            raise UsageError("shape: expected that of the frames, (H, W), as their poses roll; got None")
        if self.is_new_start(stamp):
            self.reset()
        place = self._place(stamp.time_ns)
        if place is None:
            self.late += 1
            return self._tracks(self.settings.smoothing_lag)
        moments = self._moments[:place]
        for given in (_Given(detections, pose, self.next_id), *(moment.given for moment in self._moments[place:])):
            moments.append(self._advanced(moments[-1] if moments else None, given))
        self.next_id += len(detections)
        self._moments = moments
        self._settle()
        return self._tracks(self.settings.smoothing_lag)

    def settle(
        self, detections: Detections, pose: Pose | None = None, shape: tuple[int, int] | None = None
    ) -> list[Tracks]:
        """The tracks that the next frame settles: usually its own, or those of the frame `smoothing_lag` before it.

        Where it starts from nothing, those that waited come first. pose and shape (H, W): of that frame, where poses are
        known.
        """
        ended = self.finish() if self.is_new_start(detections.stamp) else []
        self.shape = shape or self.shape
        tracks = self.step(detections, pose)
        return ended if self.waits else [*ended, tracks]

    @property
    def waits(self) -> bool:
        """Whether fewer frames have come than the lag asks for; so long, `step` gives the first one's tracks each time."""
        return len(self._moments) <= self.settings.smoothing_lag

    def finish(self) -> list[Tracks]:
        """The tracks of the frames within the lag, in order, of which no more will be known; forgets all targets."""
        ended = [self._tracks(back) for back in range(min(self.settings.smoothing_lag, len(self._moments)) - 1, -1, -1)]
        self.reset()
        return ended

    def is_new_start(self, stamp: Stamp) -> bool:
        """Whether a frame has nothing to do with what is followed, so that all is forgotten before it."""
        if not self._moments:
            return False
        newest = self._moments[-1].stamp
        went_back = stamp.index > newest.index and stamp.time_ns <= newest.time_ns
        return newest.epoch != stamp.epoch or stamp.time_ns - newest.time_ns > LONGEST_S * 1e9 or went_back

    def _place(self, time_ns: int) -> int | None:
        """Where among the moments a frame belongs; None where it is too late, or another has its time."""
        moments = self._moments
        if not moments or time_ns > moments[-1].stamp.time_ns:
            return len(moments)
        if time_ns <= max(self._settled_ns, moments[-1].stamp.time_ns - self._late_ns):
            return None
        place = bisect_left(moments, time_ns, key=lambda moment: moment.stamp.time_ns)
        return None if moments[place].stamp.time_ns == time_ns else place

    def _settle(self) -> None:
        """Lets go of moments that neither the lag nor a late frame can ask for, all but the last of them."""
        moments = self._moments
        open_ns = moments[-1].stamp.time_ns - self._late_ns
        most = len(moments) - 1 - self.settings.smoothing_lag
        gone = max(most - MOST_HELD, 0)
        while gone < most and moments[gone + 1].stamp.time_ns <= open_ns:
            gone += 1
        if gone > 0:
            del moments[:gone]
            self._settled_ns = moments[0].stamp.time_ns

    def _advanced(self, last: _Moment | None, given: _Given) -> _Moment:
        stamp, s = given.detections.stamp, self.settings
        pose = given.pose if is_known(given.pose) else last.pose if last else None
        dt = (stamp.time_ns - last.stamp.time_ns) / 1e9 if last else 0.0
        frames = max(stamp.index - last.stamp.index, 1) if last else 1
        fade = (1 - 1 / s.shared_frames) ** (LINGERS * frames) if s.shared_frames > 0 else -1.0
        transitions, together, alone = _motion(s, dt, fade)
        seen = look(self._stabilised(given.detections, pose), given.first, dt / frames, s)
        clutter, *usual = unusual(seen.lights, *(last.usual if last else (math.nan, math.nan)), MEMORY)
        before = last.beliefs if last else self._empty(0)
        moved = predict(before, transitions, together, alone, self._switch, fade, self._rules)
        beliefs = self._judged(moved, seen, clutter, given.first, stamp.time_ns / 1e9)
        return _Moment(given, pose, beliefs, (usual[0], usual[1]), transitions[0], together[0] + alone[0], fade)

    def _judged(self, moved: Beliefs, seen: Measurements, clutter: Floats, first: int, now_s: float) -> Beliefs:
        while True:
            out = self._space
            groups, hypotheses, rows = advance(moved, *seen, clutter, first, now_s, self._rules, out)
            if groups >= 0:
                break
            self._space = self._empty(2 * len(out.x))
        cut = (groups + 1, hypotheses + 1, hypotheses + 1, hypotheses, hypotheses, rows, out.block[hypotheses], rows, rows)
        return Beliefs(*(column[:end].copy() for column, end in zip(out, cut, strict=True)))

    def _empty(self, rows: int) -> Beliefs:
        """Room for beliefs of so many rows, in groups of four."""
        size, models = self._size, self._models
        return Beliefs(
            np.zeros(rows + 1, np.int64),
            np.zeros(rows + 1, np.int64),
            np.zeros(rows + 1, np.int64),
            np.zeros(rows),
            np.zeros((rows, models)),
            np.zeros((rows, models, size)),
            np.zeros(4 * rows * models * size * size),
            np.zeros((rows, REALS + 2 * self._parts)),
            np.zeros((rows, WHOLES), np.int64),
        )

    def _stabilised(self, detections: Detections, pose: Pose | None) -> Detections:
        if pose is None:
            return detections
        xy, cov, factor = to_world(pose, self._centre(), detections.xy, detections.cov, detections.factor)
        return replace(detections, xy=xy, cov=cov, factor=factor)

    def _centre(self) -> Floats:
        return middle(self.shape or (1, 1))

    def _tracks(self, back: int) -> Tracks:
        """The tracks of the moment so many before the newest, or of the first, as they look from the newest."""
        moments = self._moments[-1 - back :]
        newest, oldest = moments[-1], moments[0]
        rows, score, state, cov = published(newest.beliefs)
        number, confirmed = newest.beliefs.whole[rows, ID], newest.beliefs.whole[rows, CONFIRMED] != 0
        for later, earlier in zip(moments[:0:-1], moments[-2::-1], strict=True):
            parents = later.beliefs.whole[rows, PARENT]
            there = parents >= 0
            rows, score, state, cov, number, confirmed = (c[there] for c in (parents, score, state, cov, number, confirmed))
            state, cov = smoothed(earlier.beliefs, rows, state, cov, later.transition, later.noise, later.fade)
        order = np.argsort(number)
        rows, state, cov = rows[order], state[order, :4], cov[order, :4, :4]
        if oldest.pose is not None:
            state, cov = to_frame(oldest.pose, self._centre(), state, cov)
        real, whole = oldest.beliefs.real[rows], oldest.beliefs.whole[rows]
        return Tracks(
            oldest.stamp,
            number[order],
            state,
            cov,
            real[:, 0],
            np.clip(score[order], 0, 1),
            confirmed[order],
            whole[:, DETECTION],
        )


def _rules(s: TrackSettings) -> Rules:
    return Rules(
        detected=s.detection_probability,
        resolution=s.resolution_px,
        softness=s.resolution_sd_px,
        gate=s.gate_chi2,
        near=s.group_radius_px,
        coloured=s.shared_frames > 0,
        lights=s.brightness,
        drift=1e-5,
        hits=s.confirm_hits,
        of=s.confirm_window,
        by_score=s.confirm_by == "score",
        enough=s.confirm_score,
        end_s=s.max_coast_s,
        least=s.min_existence_probability,
        survives=1 - 1 / EXISTS_FRAMES,
        speed_var=s.speed_px_s**2,
        most=s.max_hypotheses,
    )


def _switch(models: int) -> Floats:
    """(M, M): how likely each motion model is followed by each."""
    if models == 1:
        return np.ones((1, 1))
    others = (1 - STAYS) / (models - 1)
    return np.full((models, models), others) + (STAYS - others) * np.eye(models)


@lru_cache(maxsize=16)
def _motion(s: TrackSettings, dt: float, fade: float) -> tuple[Floats, Floats, Floats]:
    """Transitions, noise together and alone (M, D, D), for a step of dt seconds; fade: of errors that stay."""
    move, noise = (
        (velocity(dt), velocity_noise(dt)) if s.motion != "acceleration" else (acceleration(dt), acceleration_noise(dt))
    )
    moves, scales = [move], [1.0]
    if s.motion == "turn":
        moves = [turn(dt, s.turn_rad_s)]
    if s.motion == "imm":
        moves, scales = [move, move, turn(dt, s.turn_rad_s), turn(dt, -s.turn_rad_s)], [0.1, 2.0, 0.3, 0.3]
    n = len(move)
    size = n + 2 if s.shared_frames > 0 else n
    out = np.zeros((3, len(moves), size, size))
    for m, (each, scale) in enumerate(zip(moves, scales, strict=True)):
        out[0, m, :n, :n] = each
        out[1, m, :n, :n] = (scale * s.sway_px_s) ** 2 * noise
        out[2, m, :n, :n] = (max(scale, CALM) * s.own_sway_px_s) ** 2 * noise
    if s.shared_frames > 0:
        out[0, :, n, n] = out[0, :, n + 1, n + 1] = fade
    return out[0], out[1], out[2]
