"""How frames were conditioned before a calibration measured them: corrected, and placed by their poses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from irst_stream.calibrate.lines import Lines
from irst_stream.calibrate.noise import NoiseFigures
from irst_stream.conditioning.nonuniformity import CorrectionTable
from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings
from irst_stream.settings import to_toml
from irst_stream.types import Pose

__all__ = ["AS_RECEIVED", "Conditioned"]

# in place of a table's path, what the calibration itself has put into it
LEARNT, BAD_ALONE = "offsets learnt from the scene's motion", "bad pixels left out"


@dataclass(frozen=True, slots=True, eq=False)
class Conditioned:
    """What was done to frames, in the order of the pipeline's front end.

    correct, table, register: as in the pipeline, the default settings for nothing; poses: of each frame, as sent or by
    registration, empty where none is to count; sent: whether the sensor sent them; pixel_type: of the frames as received,
    None where it is that of the frames measured; step_dn: see Frame; raw_pattern: fixed-pattern noise of the frames as
    received, DN, NaN if they were not corrected or are unrelated; table_error: DN, pattern that the table's own noise
    leaves in these frames, NaN without a table; raw_lines: noise over time of whole rows, of whole columns, or of both, in
    the frames as received, DN, empty where that was not measured.
    """

    correct: CorrectSettings = field(default_factory=CorrectSettings)
    table: CorrectionTable | None = None
    register: RegisterSettings = field(default_factory=RegisterSettings)
    poses: Sequence[Pose | None] = ()
    sent: bool = False
    pixel_type: np.dtype[Any] | None = None
    step_dn: float | None = None
    raw_pattern: float = math.nan
    table_error: float = math.nan
    raw_lines: tuple[float, ...] = ()

    @property
    def corrects(self) -> bool:
        """Whether the pixels were corrected."""
        return self.correct != CorrectSettings()

    def by_lines(self, lines: Lines, pixel_type: np.dtype[Any], noise: NoiseFigures) -> Conditioned:
        """Return this with the noise of lines removed; pixel_type, noise: of frames as received."""
        raw = {"rows": (noise.row_changes,), "columns": (noise.column_changes,)}.get(
            lines, (noise.row_changes, noise.column_changes)
        )
        return replace(self._learnt_from(pixel_type), correct=replace(self.correct, lines=lines), raw_lines=raw)

    def by_pattern(self, table: CorrectionTable, pixel_type: np.dtype[Any], raw_pattern: float) -> Conditioned:
        """Return this with offsets that the scene's motion told; pixel_type, raw_pattern (DN): of frames as received."""
        offsets = bool(np.nanmax(np.abs(table.offset)) > 0)
        return replace(
            self._learnt_from(pixel_type),
            correct=replace(self.correct, table=LEARNT if offsets else BAD_ALONE),
            table=table,
            raw_pattern=raw_pattern if offsets else math.nan,
            table_error=table.errors[0],
        )

    def by_following(self, frames: int, pixel_type: np.dtype[Any]) -> Conditioned:
        """Return this with scene_frames set to a number of frames; pixel_type: of frames as received."""
        return replace(self._learnt_from(pixel_type), correct=replace(self.correct, scene_frames=frames))

    def _learnt_from(self, pixel_type: np.dtype[Any]) -> Conditioned:
        """Return this with what frames of a type were before they were corrected, unless that is known."""
        step_dn = float(pixel_type != np.float32) if self.step_dn is None else self.step_dn
        return replace(self, pixel_type=self.pixel_type or pixel_type, step_dn=step_dn)

    def settings_lines(self, table: str) -> Iterator[str]:
        """The TOML tables of what was done; table: the name of the correction table's file."""
        stated = {"correct": asdict(self.correct) | {"table": table}, "register": asdict(self.register)}
        for name, plain in (("correct", CorrectSettings()), ("register", RegisterSettings())):
            changed = {key: value for key, value in stated[name].items() if value != asdict(plain)[key]}
            if changed:
                yield f"[{name}]"
                yield to_toml(changed)

    def summary(self, pattern: float) -> str:
        """What the correction did, in a few words; pattern: that of the corrected frames, DN, NaN if unknown."""
        by = self.correct.table if self.correct.table in (LEARNT, BAD_ALONE) else "by a table"
        words = [] if self.table is None else [f"{by}, {self.table.bad} bad pixel{'' if self.table.bad == 1 else 's'}"]
        lines = "rows and columns" if self.correct.lines == "both" else self.correct.lines
        raw = f", {' and '.join(f'{size:.3g} DN' for size in self.raw_lines)}" if self.raw_lines else ""
        words += [f"noise of whole {lines} removed{raw}"] if lines != "off" else []
        words += [f"offsets learnt over {self.correct.scene_frames} frames"] if self.correct.scene_frames else []
        if math.isfinite(self.raw_pattern) and math.isfinite(pattern):
            left = pattern / max(self.raw_pattern, 1e-12)
            words.append(f"{self.raw_pattern:.3g} DN of pattern to {pattern:.3g} DN, {left:.0%} of it left")
        return "; ".join(words)


AS_RECEIVED = Conditioned()
