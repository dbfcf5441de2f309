"""What happens to a sensor's frame before its windows: the pose is measured where the sensor sends none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from irst_stream.conditioning.registration import Registration
from irst_stream.conditioning.settings import RegisterSettings
from irst_stream.types import Frame

__all__ = ["FrontEnd"]

Count = Callable[[Frame, str], None]  # counts an event of a frame


class FrontEnd:
    """Conditions the frames of one sensor, in order.

    Event "unregistered": a frame whose images do not tell the platform's pose; it is used without one.
    """

    def __init__(self, register: RegisterSettings, count: Count) -> None:
        self._register, self._count = register, count
        self._registration: Registration | None = None
        self._sends_poses = False

    def __call__(self, frame: Frame, event: str) -> Frame:
        """Return an accepted frame as it is used from here on; event: see chain.window."""
        if event in ("first", "size", "restart"):
            self._registration, self._sends_poses = None, False
        return self._registered(frame)

    def _registered(self, frame: Frame) -> Frame:
        """Return a frame with a pose, if the sensor sends none and the images tell."""
        self._sends_poses = self._sends_poses or frame.pose is not None
        if self._register.when == "off" or self._sends_poses:
            return frame
        if self._registration is None:
            shape = frame.pixels.shape[0], frame.pixels.shape[1]
            self._registration = Registration(self._register, shape)
        pose = self._registration.locate(frame.pixels, frame.stamp)
        if pose is None:
            self._count(frame, "unregistered")
        return frame if pose is None else replace(frame, pose=pose)
