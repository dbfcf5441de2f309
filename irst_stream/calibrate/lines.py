"""Whether noise that all pixels of a row or of a column share is to be removed from a sensor's frames.

It counts for more than its own size, since a target's light spans several pixels of a line: what decides is how much it
adds to the noise of the filtered frame. It is removed where it adds as much as a pattern that matters, and where, in frames
that this was not measured on, removing it lowers the filtered frame's noise by as much as it should, and raises no line's.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from irst_stream.calibrate.noise import NoiseFigures
from irst_stream.calibrate.pattern import HELPS, MATTERS, SD_PER_MEAN_ABS
from irst_stream.conditioning.line_noise import AXES, LineNoise
from irst_stream.propose.coarse import Float32Image
from irst_stream.propose.mask import Excluded
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Pixels

__all__ = ["Lines", "choose_lines", "remove_lines"]

Lines = Literal["off", "rows", "columns", "both"]
FRAMES, BEGIN = 48, 16  # a choice is tried on the last 48 frames; the noise of the first 16 of these is not counted
LOUDER, LOUDER_LINES = 1.05, 0.02  # of a line's noise, and the share of lines that may have more than so much after it


def choose_lines(stack: Pixels, noise: NoiseFigures, settings: ProposeSettings, excluded: Excluded | None = None) -> Lines:
    """Return which lines' noise to remove from frames (T, H, W), in order; FRAMES at least, or none.

    noise: measured on frames before the last FRAMES; excluded (H, W): pixels that are not searched, None for none.
    """
    shape = (stack.shape[1], stack.shape[2])
    if len(stack) < FRAMES or noise.compressed or not noise.temporal > 0:
        return "off"
    shares = {
        name: _line_gain(settings, shape, AXES[name][0]) * sd
        for name, sd in (("rows", noise.row_changes), ("columns", noise.column_changes))
    }
    lines = math.hypot(noise.row_changes, noise.column_changes)
    own = math.sqrt(max(noise.temporal**2 - lines**2, 0.0))
    chosen = [name for name, share in shares.items() if share > MATTERS * own]
    if not chosen:
        return "off"
    choice: Lines = "both" if len(chosen) == 2 else "rows" if chosen == ["rows"] else "columns"
    tried = stack[-FRAMES:]
    before, after = (_filtered_noise(images, settings, excluded) for images in (tried, remove_lines(tried, choice, np.inf)))
    expected = sum(shares[name] ** 2 for name in chosen)
    helps = _median(before) ** 2 - _median(after) ** 2 > HELPS * expected
    return choice if helps and not any(_raises(before, after, axis) for axis in (0, 1)) else "off"


def remove_lines(stack: Pixels, lines: Lines, full_scale: float) -> Float32Image:
    """Return frames (T, H, W), in order, without the noise of their lines, float32 DN; saturated pixels stay saturated."""
    out, remover = stack.astype(np.float32), LineNoise(AXES[lines])
    for image in out:
        saturated = image >= full_scale
        remover.remove(image)
        image[saturated] = full_scale
    return out


def _line_gain(settings: ProposeSettings, shape: tuple[int, int], axis: int) -> float:
    """Return the filtered frame's standard deviation for offsets of lines, rows for axis 1, that have a deviation of 1."""
    light, response = np.zeros(shape, np.float32), np.empty(shape, np.float32)
    middle = shape[1 - axis] // 2
    light[(middle, slice(None)) if axis else (slice(None), middle)] = 1
    Proposer(settings, shape).filter(light, 0, response)
    return float(np.linalg.norm(response[:, shape[1] // 2] if axis else response[shape[0] // 2]))


def _filtered_noise(stack: Pixels, settings: ProposeSettings, excluded: Excluded | None) -> Float32Image:
    """Return the deviation over time (H, W), DN, of filtered frames (T, H, W); NaN where excluded."""
    proposer = Proposer(settings, (stack.shape[1], stack.shape[2]))
    total, responses = np.zeros(stack.shape[1:], np.float32), np.empty((2, *stack.shape[1:]), np.float32)
    for k, pixels in enumerate(stack):
        proposer.filter(np.nan_to_num(np.asarray(pixels, np.float32)), 0, responses[k % 2])
        if k > BEGIN:
            total += np.abs(responses[0] - responses[1])
    if excluded is not None:
        total[excluded] = np.nan
    return np.asarray(total * (SD_PER_MEAN_ABS / math.sqrt(2) / (len(stack) - 1 - BEGIN)), np.float32)


def _median(noise: Float32Image) -> float:
    return float(np.nanmedian(noise))


def _raises(before: Float32Image, after: Float32Image, axis: int) -> bool:
    """Tell whether many lines, rows for axis 1, have more noise (H, W) DN after than before."""
    counted = np.isfinite(before).any(axis=axis)
    was, now = (np.nanmedian(noise[counted] if axis else noise[:, counted], axis=axis) for noise in (before, after))
    return bool(np.mean(now > LOUDER * was) > LOUDER_LINES)
