"""The option --correct of calibrate: the corrections of a configuration, applied to footage as a pipeline does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from irst_stream.build import front_end_maker
from irst_stream.calibrate.conditioned import Conditioned
from irst_stream.calibrate.noise import measure_noise
from irst_stream.chain.front_end import FrontEnd
from irst_stream.chain.platform import is_known
from irst_stream.commands.console import working
from irst_stream.commands.footage import Footage, stack_of
from irst_stream.conditioning.nonuniformity import read_correction
from irst_stream.conditioning.settings import CorrectSettings, RegisterSettings
from irst_stream.config import Config, read_config
from irst_stream.errors import FormatError, UsageError
from irst_stream.types import Frame

__all__ = ["condition", "conditioning_of"]

PATTERN_FRAMES = 100  # from which the pattern of frames as received is measured


def conditioning_of(path: Path | None) -> Config:
    """The corrections that --correct names: of a configuration's [correct] and [register], or of a table alone."""
    if path is None:
        return Config()
    if path.suffix.lower() == ".npz":
        read_correction(path)
        return Config(correct=CorrectSettings(table=str(path)))
    try:
        config = read_config(path)
    except FormatError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            what = "a correction table (.npz) or a configuration (.toml)"
            raise UsageError(f"--correct: {path}: not {what}") from error
        raise
    if config.correct == CorrectSettings() and config.register == RegisterSettings():
        raise UsageError(f"--correct: {path}: neither [correct] nor [register] says anything; expected one of them")
    return config


def condition(footage: Footage, config: Config, *, single: bool = False) -> tuple[Footage, Conditioned]:
    """Apply a configuration's corrections and registration to footage; return the frames as the pipeline sees them.

    Offsets that are learnt from the scene are learnt on these frames first. single: the frames are unrelated images, which
    are not registered.
    """
    correct, register = config.correct, RegisterSettings() if single else config.register
    if correct == CorrectSettings() and register == RegisterSettings():
        return footage, _poses_of(footage.frames, single=single)
    raw = footage.frames
    with working("correct"):
        front_end = front_end_maker(replace(config, register=register))(lambda *_: None)
        if correct.scene_frames and not single:
            _pass_through(front_end, raw)
        frames = _pass_through(front_end, raw, again=correct.scene_frames > 0 and not single)
        few = raw if single else raw[:PATTERN_FRAMES]
        pattern = np.nan if single or correct == CorrectSettings() else measure_noise(stack_of(few)).fixed
    table = read_correction(Path(correct.table)) if correct.table else None
    level = float(np.nanmedian([np.nanmedian(frame.pixels) for frame in frames[:PATTERN_FRAMES]]))
    done = replace(
        _poses_of(frames, single=single),
        correct=correct,
        table=table,
        register=register,
        sent=any(is_known(frame.pose) for frame in raw),
        pixel_type=raw[0].pixels.dtype,
        step_dn=frames[0].step_dn,
        raw_pattern=pattern,
        table_error=np.nan if table is None else table.error(level),
    )
    return replace(footage, frames=frames), done


def _poses_of(frames: Sequence[Frame], *, single: bool = False) -> Conditioned:
    """Say which poses frames have, and that nothing else was done to them."""
    poses = [frame.pose if is_known(frame.pose) else None for frame in frames]
    known = not single and any(pose is not None for pose in poses)
    return Conditioned(poses=poses if known else (), sent=known, step_dn=frames[0].step_dn)


def _pass_through(front_end: FrontEnd, frames: Sequence[Frame], *, again: bool = False) -> list[Frame]:
    """Pass frames through a front end, in order; again: it has seen them before, and keeps what it has learnt."""
    return [front_end(frame, "" if k or again else "first") for k, frame in enumerate(frames)]
