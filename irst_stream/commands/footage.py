"""The frames that a calibration rests on: consecutive ones of one sensor, from files, recordings or a feed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.calibrate.frame_rate import FrameRate, rate_of_stamps
from irst_stream.chain.window import DROPPED, SequenceCheck
from irst_stream.commands.console import pluralise, progress
from irst_stream.errors import IrstError, UsageError
from irst_stream.io.files import FileSource
from irst_stream.io.recording.recorder import Recording
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.types import Frame, Policy

__all__ = ["MIN_SIDE", "Footage", "read_footage", "receive_footage", "stack_of"]

MIN_SIDE = 32  # px: smaller frames are patches
MAX_BYTES = 600_000_000  # of frames held
FEWEST_BEFORE_FAULT = 20  # frames: with fewer, a damaged source tells nothing of its sensor
EVENTS = {"missing": "missing", "late": "came late", "duplicate": "came twice"}  # of frames, as a note says it


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """Frames of one sensor, all of one size, in order; or unrelated images, of any sizes.

    rate: by whoever states it, or by the stamps; notes: what the frames' order says against them, and why no more were
    taken, each in a few words; fault: of the source after these frames, None for none.
    """

    frames: Sequence[Frame]
    rate: FrameRate
    notes: tuple[str, ...]
    fault: IrstError | None = None

    @property
    def stack(self) -> NDArray[np.generic]:
        """The pixels (T, H, W)."""
        return stack_of(self.frames)

    @property
    def sizes(self) -> str:
        """Width and height of the frames in words, of the smallest and the largest where they differ."""
        shapes = sorted({frame.pixels.shape for frame in self.frames}, key=lambda shape: (shape[0] * shape[1], shape))
        ends = dict.fromkeys((shapes[0], shapes[-1]))
        return " to ".join(f"{columns} x {rows}" for rows, columns in ends) + " px"

    @property
    def full_scale(self) -> float:
        """DN at which pixels saturate."""
        return self.frames[0].full_scale


def stack_of(frames: Sequence[Frame]) -> NDArray[np.generic]:
    """Return the pixels (T, H, W) of frames of one size, NaN where they hold no measurement."""
    stack = np.stack([frame.pixels for frame in frames])
    if stack.dtype.kind == "f":
        stack[~np.isfinite(stack)] = np.nan
    return np.asarray(stack)


def read_footage(
    source: FileSource | Recording, most: int, *, sensor: str = "", single: bool = False, pixel_bytes: int = 1
) -> Footage:
    """Read the first frames of a source: of its first sequence, or of the sensor named.

    single: frames are unrelated images, each a sequence of its own; pixel_bytes: least size of a pixel as it is going to be
    held. Raise a UsageError where no frame does.
    """
    several = isinstance(source, Recording)
    if sensor and not several:
        raise UsageError(f"--sensor: {source.path} is a {source.kind}; expected a recording or --from ENDPOINT")
    with progress("read", min(most, source.frames or most)) as done:
        taken, notes, fault = _take(source, str(source.path), most, sensor, several, single, done, pixel_bytes)
    rate = rate_of_stamps([frame.stamp for frame in taken])
    if isinstance(source, FileSource):
        rate = FrameRate(None, float("nan"), "not stated") if source.rate_from == "default" else _stated(source)
    return Footage(taken, rate, notes, fault)


def receive_footage(
    given: ReceiveSettings, policy: Policy, seconds: float, most: int | None, pixel_bytes: int = 1
) -> Footage:
    """Receive the frames of one sensor for some seconds, or until Ctrl-C, which uses what has come by then.

    given: where from; its one entry of `sensors` names the sensor where there are several; pixel_bytes: see read_footage.
    """
    with ZmqSource(given, policy) as source:
        timer = threading.Timer(seconds, source.stop)
        timer.daemon = True
        timer.start()
        try:
            with _stopped_by_interrupt(source), progress("receive", most) as done:
                sensor = "".join(given.sensors)
                taken, notes, fault = _take(source, given.endpoint, most, sensor, True, False, done, pixel_bytes)
        except _NoFramesError as error:
            raise UsageError(f"{error}{'' if given.bind else '. Does the sensor connect too? Then add --bind'}") from error
        finally:
            timer.cancel()
        rejected = [f"{count} messages rejected ({reason})" for reason, count in source.rejected.items()]
    return Footage(taken, rate_of_stamps([frame.stamp for frame in taken]), (*notes, *rejected), fault)


@contextmanager
def _stopped_by_interrupt(source: ZmqSource) -> Iterator[None]:
    """While it lasts, the first Ctrl-C or SIGTERM ends the source; the next one interrupts as usual."""

    def stop(*_: Any) -> None:
        source.stop()
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stated(source: FileSource) -> FrameRate:
    words = {"stated": "--rate"}.get(source.rate_from, f"the {source.rate_from}")
    return FrameRate(source.rate_hz, float("nan"), words)


def _take(
    frames: Iterable[Frame],
    where: str,
    most: int | None,
    sensor: str,
    several: bool,
    single: bool,
    done: Any,
    pixel_bytes: int,
) -> tuple[list[Frame], tuple[str, ...], IrstError | None]:
    """Take frames until they end, are `most`, or fill the memory; a fault of the source ends them.

    The fault is raised if fewer than FEWEST_BEFORE_FAULT have come by then.
    """
    taken: list[Frame] = []
    notes: list[str] = []
    check, seen, held = SequenceCheck(), dict[str, None](), 0
    fault: IrstError | None = None
    try:
        for frame in frames:
            seen[frame.stamp.sensor] = None
            if sensor and frame.stamp.sensor != sensor:
                continue
            if several and len(seen) > 1 and not sensor:
                raise _SeveralSensorsError(
                    f"{where}: frames of several sensors, {', '.join(seen)}; choose one: calibrate --sensor NAME"
                )
            if taken and not single and (reason := _differs(frame, taken[0], several)):
                notes.append(f"{reason}; the {pluralise(len(taken), 'frame')} before are used")
                break
            if not single and check.judge(frame) in DROPPED:
                continue
            taken.append(frame)
            done(1)
            held += frame.pixels.size * max(frame.pixels.itemsize, pixel_bytes)
            if len(taken) == most:
                break
            if held > MAX_BYTES:
                notes.append(f"the first {len(taken)} frames are used, {held / 1e6:.0f} MB")
                break
    except _SeveralSensorsError:
        raise
    except IrstError as error:
        if len(taken) < FEWEST_BEFORE_FAULT:
            raise
        fault = error
    _check(taken, where, f" of sensor {sensor}; there are {', '.join(seen)}" if sensor and seen else "")
    events = {event: count for (_, event), count in check.events.items()}
    notes += [f"{pluralise(events[event], 'frame')} {words}" for event, words in EVENTS.items() if event in events]
    notes += ["the sensor restarted"] * ("restart" in events)
    return taken, tuple(notes), fault


class _SeveralSensorsError(UsageError):
    """Frames of several sensors, none of which was chosen: no frame of either is used."""


class _NoFramesError(UsageError):
    """No frame came at all."""


def _check(taken: Sequence[Frame], where: str, others: str) -> None:
    """Raise a UsageError where frames do not do for a calibration."""
    if not taken:
        raise (UsageError if others else _NoFramesError)(f"{where}: no frames came{others}")
    if len({frame.pixels.shape for frame in taken}) == 1:
        measured = np.zeros(taken[0].pixels.shape)
        for frame in taken:
            measured += np.isfinite(frame.pixels)
        if not (measured > 0.5 * len(taken)).any():
            raise UsageError(f"{where}: no pixel holds a measurement in most of the frames; expected finite values")
    first = taken[0].pixels[np.isfinite(taken[0].pixels)].ravel()[:1]
    if len(first) and all((frame.pixels[np.isfinite(frame.pixels)] == first).all() for frame in taken):
        raise UsageError(f"{where}: all pixels of all frames hold {first[0]:g} DN; expected frames that show something")
    rows, columns = np.min([frame.pixels.shape for frame in taken], axis=0)
    if min(rows, columns) < MIN_SIDE:
        raise UsageError(
            f"{where}: frames of {columns} x {rows} px are patches; expected full ones, {MIN_SIDE} x {MIN_SIDE} px or more"
        )


def _differs(frame: Frame, first: Frame, same_sequence: bool) -> str:
    """Why a frame does not go with the first one; "" if it does."""
    now, then = frame.pixels, first.pixels
    if (now.shape, now.dtype) != (then.shape, then.dtype):
        sizes = (f"{pixels.shape[1]} x {pixels.shape[0]} px, {pixels.dtype}" for pixels in (now, then))
        return "frames of {} follow those of {}".format(*sizes)
    if not same_sequence and frame.stamp.sensor != first.stamp.sensor:
        return f"another sequence, {frame.stamp.sensor}, begins"
    return ""
