"""The sliding window over a feed of patches: frames in, windows of an odd number of frames out.

One window for each sensor and epoch. A frame that does not follow its predecessor, by index or in size, empties its
sensor's window and nothing else; a frame seen before, or older, is dropped and counted.
"""

from __future__ import annotations

from collections import Counter, deque

import numpy as np

from irst_stream.errors import UsageError
from irst_stream.types import Frame, Window

__all__ = ["PatchWindows"]


class PatchWindows:
    """Windows over sources whose every frame is one region, such as SeqCSIST's.

    length: frames of a window, odd; 1 gives each frame alone. `dropped` counts frames that were not taken, by reason.
    """

    def __init__(self, length: int = 5) -> None:
        if length < 1 or length % 2 == 0:
            raise UsageError(f"window: expected an odd number of frames, got {length}")
        self.length = length
        self.dropped: Counter[str] = Counter()
        self._frames: dict[str, deque[Frame]] = {}
        self._times = np.arange(float(length)) - length // 2

    def push(self, frame: Frame) -> Window | None:
        """Takes the next frame of any sensor; the window it completes, centred (length - 1) / 2 frames ago, or None."""
        held = self._frames.setdefault(frame.stamp.sensor, deque(maxlen=self.length))
        if held and not self._follows(frame, held[-1]):
            return None
        if held and (held[-1].stamp.index + 1 != frame.stamp.index or held[-1].pixels.shape != frame.pixels.shape):
            held.clear()
        held.append(frame)
        if len(held) < self.length:
            return None
        patches = np.stack([f.pixels for f in held]).astype(np.float32, copy=False)[None]
        return Window(held[self.length // 2].stamp, np.zeros((1, 2)), patches, self._times)

    def forget(self, sensor: str) -> None:
        """Drops what is held of a sensor that will not come back."""
        self._frames.pop(sensor, None)

    def _follows(self, frame: Frame, last: Frame) -> bool:
        """Whether a frame is newer than the last one; one of another epoch always is, and starts anew."""
        if frame.stamp.epoch != last.stamp.epoch:
            self._frames[frame.stamp.sensor].clear()
            return True
        if frame.stamp.index <= last.stamp.index:
            self.dropped["duplicate" if frame.stamp.index == last.stamp.index else "late"] += 1
            return False
        return True
