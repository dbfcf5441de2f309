"""The sliding windows of one sensor: frames in, windows of an odd number of frames out.

All frames of a window have the same epoch, shape and pixel type, and consecutive indices. Every other frame is an event,
counted by its name:

    gap        frames are missing (1)             a new window starts with this frame; `missing` counts the missing frames
    stray      the last frame's index was a       a new window starts with this frame
               mistake (2)
    restart    another epoch, larger or smaller,  a new window starts with this frame
               or a restart without one (3)
    size       another shape or pixel type        a new window starts with this frame
    pause      more than LONGEST_PAUSE_S passed   a new window starts with this frame: the scene has moved on
    clock      time stands still or runs          no effect: frames are ordered by index, not by time
               backwards
    duplicate  the last frame's index             the frame is dropped
    late       any other smaller index            the frame is dropped
    small      too few pixels                     the frame is dropped
    mask       of another size than the mask of   the frame is dropped
               what is searched

1. One gap counts at most MAX_MISSING frames. Where the index jumps by more than MAX_JUMP, they are counted once another
   frame has followed.
2. The last frame's index jumped by more than MAX_JUMP, and this frame follows those before the jump.
3. RESTART_RUN consecutive late frames whose indices follow each other: the sensor counts from 0 again in its old epoch.

Frames of up to PATCH_LIMIT px a side are one region, a patch. In larger frames the regions that may hold a group are
found, cut out and followed: see chain.regions.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeAlias

import numpy as np

from irst_stream.chain.regions import Cutter
from irst_stream.errors import IrstError, UsageError
from irst_stream.optics import PATCH
from irst_stream.point_spread import PointSpread
from irst_stream.propose.clutter import ClutterMap
from irst_stream.propose.mask import excluded_pixels
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Floats, Frame, Ints, Stamp, Window, at_rest, frames_after_centre

__all__ = ["Events", "SequenceCheck", "WindowBuilder"]

PATCH_LIMIT = 64  # px: a frame with no longer side is one region
LONGEST_PAUSE_S = 10.0
MAX_JUMP = 100  # frames: a larger step of the index may be a mistake
RESTART_RUN = 5  # consecutive late frames that prove a restart
MAX_MISSING = 1_000_000  # frames counted for one gap
DROPPED = ("duplicate", "late", "small")
SAID_ONCE = {  # events of which the first one of a run is logged
    "regions": "%s: frame %d has more regions than propose.most_regions (by %d); such regions are left out, and counted",
    "peaks": "%s: frame %d has more peaks than propose.most_peaks (by %d); such peaks are left out, and counted",
    "targets": "%s: frame %d: regions with as many targets as most_targets allows: %d; such regions are counted",
    "unserved": "%s: frame %d comes before all regions could be fitted (%d left out); such regions are counted",
    "blank": "%s: frame %d holds no measurement, no pixel being finite; such frames give no detections, and are counted",
    "unregistered": "%s: frame %d shows too little to measure the platform's motion; such frames have no pose,"
    " and are counted",
}
log = logging.getLogger(__name__)
Events: TypeAlias = Counter[tuple[str, str]]


class SequenceCheck:
    """Classifies each frame of a sensor by the rules above, and counts the events."""

    def __init__(self, events: Events | None = None, min_shape: tuple[int, int] = (1, 1)) -> None:
        """events: the counter to use, by sensor and event name; min_shape: rows, columns that a patch must have."""
        self.events: Events = Counter() if events is None else events
        self._min_shape = min_shape
        self._last: Frame | None = None
        self._before_jump: Stamp | None = None  # the stamp before the last frame, if its index jumped by more than MAX_JUMP
        self._late_run = (-1, 0)  # the last index of a run of late frames, and its length

    def judge(self, frame: Frame) -> str:
        """Return the frame's event, by its name above; "next" for a frame in sequence, "first" for the first frame."""
        verdict = self._compare(frame, self._last)
        if verdict == "late":
            verdict = self._judge_late(frame)
        if verdict not in ("first", "next"):
            self.count(frame.stamp, verdict)
        if verdict not in DROPPED:
            self._accept(frame, verdict)
        return verdict

    def count(self, stamp: Stamp, event: str, times: int = 1) -> None:
        """Count an event of a frame's sensor; the first one of some kinds is logged."""
        if not times:
            return
        if event in SAID_ONCE and not any(known == event for _, known in self.events):
            where = (stamp.sensor, stamp.index, times)
            log.warning(SAID_ONCE[event], *where[: SAID_ONCE[event].count("%")])
        self.events[stamp.sensor, event] += times

    def _judge_late(self, frame: Frame) -> str:
        """Return "late" for a smaller index, unless the last one was a stray or the sensor restarted in its epoch."""
        index, before = frame.stamp.index, self._before_jump
        if before is not None and before.index < index <= before.index + MAX_JUMP:
            self.count(frame.stamp, "missing", index - before.index - 1)
            return "stray"
        last, run = self._late_run
        run = run + 1 if run and index == last + 1 else 1
        self._late_run = index, run
        return "late" if run < RESTART_RUN else "restart"

    def _accept(self, frame: Frame, verdict: str) -> None:
        """Remember the accepted frame and the state needed to judge later ones."""
        last, before, self._before_jump = self._last, self._before_jump, None
        if last is not None and verdict == "gap" and frame.stamp.index - last.stamp.index > MAX_JUMP:
            self._before_jump = before or last.stamp
        elif before is not None and last is not None and verdict in ("next", "gap", "pause", "size"):
            self.count(frame.stamp, "missing", min(last.stamp.index - before.index - 1, MAX_MISSING))
        self._late_run = (-1, 0)
        self._last = frame

    def _compare(self, frame: Frame, last: Frame | None) -> str:
        min_shape = self._min_shape if max(frame.pixels.shape) <= PATCH_LIMIT else PATCH
        if any(side < least for side, least in zip(frame.pixels.shape, min_shape, strict=True)):
            return "small"
        if last is None:
            return "first"
        now, before = frame.stamp, last.stamp
        if now.epoch != before.epoch:
            return "restart"
        if now.index <= before.index:
            return "duplicate" if now.index == before.index else "late"
        if (frame.pixels.shape, frame.pixels.dtype) != (last.pixels.shape, last.pixels.dtype):
            return "size"
        if now.index != before.index + 1:
            if now.index - before.index <= MAX_JUMP:
                self.count(frame.stamp, "missing", now.index - before.index - 1)
            return "gap"
        if now.time_ns - before.time_ns > LONGEST_PAUSE_S * 1e9:
            return "pause"
        if now.time_ns <= before.time_ns and now.clock != "sensor":
            self.count(frame.stamp, "clock")
        return "next"


class WindowBuilder:
    """Builds the windows of one sensor.

    `events` counts the events named above by sensor and name, and "regions" and "peaks" that were left out because there
    were too many; "blank", frames without a finite pixel; of the fit "postponed", fits from scratch that had to wait, and
    "unserved", regions left out of a frame for want of time; of the tracker "exhausted", frames whose association was cut
    short, and "refused", detections that started no track.
    `restarted`: the last frame was a restart, so state tied to older stamps is invalid.
    """

    def __init__(
        self,
        length: int = 5,
        search: ProposeSettings | None = None,
        min_shape: tuple[int, int] = (1, 1),
        events: Events | None = None,
        psf: PointSpread | None = None,
        lag: int | None = None,
        helper: Executor | None = None,
    ) -> None:
        """length: frames of a window, odd; 1 makes each frame its own window. search: settings for full frames; min_shape:
        rows, columns that a patch must have; events: the counter to use; psf: of the search's filters, see Proposer; lag:
        frames of a window that follow its centre frame, None for half of them; helper: see Cutter.
        """
        if length < 1 or length % 2 == 0:
            raise UsageError(f"window: expected an odd number of frames, got {length}")
        self.length, self.restarted = length, False
        self._lag = frames_after_centre(length, lag)
        self._check = SequenceCheck(events, min_shape)
        self._search, self._psf, self._helper = search or ProposeSettings(), psf, helper
        self._frames: deque[Frame] = deque(maxlen=length)
        self._cutter: Cutter | None = None
        self._misfit = False  # whether the mask is for frames of another size
        self._recalled: tuple[tuple[int, int], Ints, ClutterMap | None] = (0, 0), np.zeros((0, 2), np.int64), None

    @property
    def events(self) -> Events:
        """The number of events, by sensor and name."""
        return self._check.events

    def push(self, frame: Frame, condition: Callable[[Frame, str], Frame] = lambda frame, _: frame) -> Window | None:
        """Add the sensor's next frame; return the window it completes, or None; its centre frame came `lag` earlier.

        condition: changes an accepted frame before it is used, given its event.
        """
        verdict = self._check.judge(frame)
        self.restarted = verdict == "restart"
        if verdict in DROPPED:
            return None
        self._check.count(frame.stamp, "blank", int(_is_blank(frame)))
        frame = condition(frame, verdict)
        if verdict in ("size", "restart", "first"):
            self._frames.clear()
            self._cutter, self._misfit = self._new_cutter(frame)
        elif verdict != "next":
            self._frames.clear()
            if self._cutter is not None:
                self._cutter.clear()
        if self._misfit:
            self._check.count(frame.stamp, "mask")
            return None
        self._frames.append(frame)
        if self._cutter is not None:
            self._cutter.take(frame)
        if len(self._frames) < self.length:
            return None
        if self._cutter is None:
            return _patch_window(self._frames, self._lag)
        window, left_out = self._cutter.cut(self._frames)
        for event, times in left_out.items():
            self._check.count(frame.stamp, event, times)
        return window

    def search_ahead(self) -> None:
        """Search the next window's centre frame, as far as its frames are there, so that the window has not to wait."""
        if self._cutter is not None:
            self._cutter.search_ahead()

    def hold(self, xy: Floats) -> None:
        """Learn static clutter slowly about these places (N, 2) px, where confirmed tracks are."""
        if self._cutter is not None:
            self._cutter.proposer.hold(xy)

    def count(self, stamp: Stamp, event: str, times: int = 1) -> None:
        """Count an event that is not about the frame's place in the sequence."""
        self._check.count(stamp, event, times)

    @property
    def repeats(self) -> int:
        """Consecutive windows in which one false alarm may be detected.

        A patch's in all that hold its frame; a full frame's where the search averages over it.
        """
        return self.length if self._cutter is None else min(self.length, self._search.average)

    @property
    def bad_pixels(self) -> Ints:
        """(N, 2) x, y of the pixels of a full frame known to be bad; none for patches."""
        return np.zeros((0, 2), np.int64) if self._cutter is None else self._cutter.proposer.bad_pixels

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns of the full frames, (0, 0) before the first and for patches."""
        return (0, 0) if self._cutter is None else self._cutter.shape

    @property
    def clutter(self) -> ClutterMap | None:
        """The clutter of full frames as learnt so far; None where it is not learnt."""
        return None if self._cutter is None else self._cutter.proposer.learnt_clutter()

    def recall(self, shape: tuple[int, int], bad_pixels: Ints, clutter: ClutterMap | None) -> None:
        """Begin full frames of this shape with what an earlier run knew: bad pixels (N, 2) x, y, and clutter."""
        self._recalled = shape, bad_pixels, clutter

    def _new_cutter(self, frame: Frame) -> tuple[Cutter | None, bool]:
        """Return a cutter for full frames, None for patches; and whether the mask does not fit the frames.

        A mask that does not fit one sensor may fit the others, which go on.
        """
        rows, columns = frame.pixels.shape
        if max(rows, columns) <= PATCH_LIMIT:
            return None, False
        try:
            excluded_pixels(self._search, (rows, columns))
        except IrstError as error:
            log.error("%s: %s; its frames are dropped", frame.stamp.sensor, error)
            return None, True
        shape, bad_pixels, clutter = self._recalled
        if shape != (rows, columns):
            proposer = Proposer(self._search, (rows, columns), psf=self._psf)
        else:
            known = clutter if clutter is not None and clutter.mean.shape == shape else None
            proposer = Proposer(self._search, shape, known, psf=self._psf)
            proposer.recall(bad_pixels)
        return Cutter(proposer, (rows, columns), self.length, self._lag, self._helper), False


def _is_blank(frame: Frame) -> bool:
    """Whether no pixel of a frame is finite; the first one tells, as a rule."""
    pixels = frame.pixels
    return pixels.dtype.kind == "f" and not np.isfinite(pixels[0, 0]) and not np.isfinite(pixels).any()


def _patch_window(frames: deque[Frame], lag: int) -> Window:
    """Return the window of frames that are one region each; `lag` of them follow the centre frame."""
    patches = np.stack([f.pixels for f in frames]).astype(np.float32, copy=False)[None]
    centre = frames[-1 - lag]
    region, unknown, ceiling = np.zeros(1, np.int64), np.full(1, np.nan), np.full(1, centre.full_scale)
    return Window(centre.stamp, np.zeros((1, 2)), patches, *at_rest(1, len(frames), lag), region, unknown, ceiling)
