"""What happens to a sensor's frame before its windows: its pixels are corrected, and its pose is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from irst_stream.conditioning.corrector import Corrector
from irst_stream.conditioning.nonuniformity import CorrectionTable
from irst_stream.conditioning.registration import Registration
from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings
from irst_stream.propose.mask import Excluded
from irst_stream.types import Frame, Stamp

__all__ = ["FrontEnd"]

Count = Callable[[Stamp, str], None]  # counts an event of a frame


class FrontEnd:
    """Conditions the frames of one sensor, in order.

    Event "unregistered": a frame whose images do not tell the platform's pose; it is used without one.
    """

    def __init__(
        self,
        correct: CorrectSettings,
        table: CorrectionTable | None,
        register: RegisterSettings,
        mask: Excluded | None,
        count: Count,
    ) -> None:
        """table: that of the settings, None for none; mask (H, W): pixels that the registration leaves out, None for none,
        unused where frames have another size.
        """
        self._correct, self._table, self._register, self._count = correct, table, register, count
        self._mask = mask
        self._corrects = table is not None or correct.changes_pixels
        self._corrector: Corrector | None = None
        self._registration: Registration | None = None
        self._sends_poses = False

    def __call__(self, frame: Frame, event: str) -> Frame:
        """Return an accepted frame as it is used from here on; event: see chain.window."""
        if event in ("first", "size", "restart"):
            self._corrector, self._registration, self._sends_poses = None, None, False
        if not self._corrects:
            return self._registered(frame)
        if self._corrector is None:
            self._corrector = Corrector(self._correct, _shape(frame), self._table)
        frame = self._registered(self._corrector(frame))
        self._corrector.learn(frame)
        return frame

    def _registered(self, frame: Frame) -> Frame:
        """Return a frame with the pose that the images tell, if the sensor sends none or its own are not to be used."""
        if self._register.when == "always":
            frame = replace(frame, pose=None)
        self._sends_poses = self._sends_poses or frame.pose is not None
        if self._register.when == "off" or self._sends_poses:
            return frame
        if self._registration is None:
            shape = _shape(frame)
            fits = self._mask is not None and self._mask.shape == shape
            self._registration = Registration(self._register, shape, self._mask if fits else None)
        pose = self._registration.locate(frame.pixels, frame.stamp)
        if pose is None:
            self._count(frame.stamp, "unregistered")
        return frame if pose is None else replace(frame, pose=pose)


def _shape(frame: Frame) -> tuple[int, int]:
    return frame.pixels.shape[0], frame.pixels.shape[1]
