"""Settings of what is done to whole frames before they are searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from irst_stream.settings import about, refuse

__all__ = ["CorrectSettings", "RegisterSettings", "check_conditioning"]


@dataclass(frozen=True)
class CorrectSettings:
    """How the frames of a sensor whose pixels differ in gain and offset are made uniform."""

    table: Annotated[
        str,
        about(
            "Gain and offset of each pixel, a .npz file that irst-stream correct wrote; relative to the configuration's"
            " folder. A recording keeps it."
        ),
    ] = ""
    lines: Annotated[
        Literal["off", "rows", "columns", "both"],
        about(
            "Remove offsets that all pixels of a row or of a column share and that change from frame to frame: noise of"
            " readout circuits. Lines that stay are the table's."
        ),
    ] = "off"
    scene_frames: Annotated[
        int,
        about(
            "Frames over which each pixel's offset is learnt from the scene as it moves, 100 or more; a table is the start."
            " Larger values learn more exactly, and follow a drift more slowly. 0 switches this off."
        ),
    ] = 0
    scene_when: Annotated[
        Literal["moving", "always"],
        about(
            '"moving": offsets are learnt only where the pose, sent or registered, says that the scene has moved; a scene'
            ' that stays would be taken for offsets. "always": for a platform that never rests, without poses.'
        ),
    ] = "moving"

    @property
    def changes_pixels(self) -> bool:
        """Whether any correction is switched on."""
        return bool(self.table) or self.lines != "off" or self.scene_frames > 0


@dataclass(frozen=True)
class RegisterSettings:
    """How the platform's pose is measured on a sensor's frames."""

    when: Annotated[
        Literal["off", "auto", "always"],
        about(
            '"auto": the frames of a sensor that sends no poses are registered with each other, and the estimate serves as'
            " pose where it is sure; for platforms that drift, shake, pan or roll over land or cloud. A calm sky tells"
            ' nothing. "always": poses that a sensor sends are not used either; for clouds that drift against a platform,'
            " whose clutter stays at its place only where the frames follow them. Needs frames of more than 64 px a side."
        ),
    ] = "off"
    max_sd_px: Annotated[
        float,
        about("Largest standard deviation of an estimate that serves as pose, px. Larger values use weaker patterns."),
    ] = 0.1


def check_conditioning(correct: CorrectSettings, register: RegisterSettings) -> None:
    """Raise one UsageError that names every setting out of range."""
    refuse(_faults(correct, register))


def _faults(correct: CorrectSettings, register: RegisterSettings) -> Iterator[str]:
    if correct.scene_frames and not 20 <= correct.scene_frames <= 1_000_000:
        yield f"correct.scene_frames: expected 0, or 20 to 1,000,000 frames, got {correct.scene_frames}"
    if not 0.001 <= register.max_sd_px <= 10:
        yield f"register.max_sd_px: expected 0.001 to 10 px, got {register.max_sd_px}"
