"""Training batches of the methods: frames or windows cut around their light, and their labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from irst_stream.learn.data import Clips, benchmark_batches, crop_clips, linear_guess
from irst_stream.learn.training.settings import MethodTraining
from irst_stream.optics import FineGrid
from irst_stream.unmix.engine import LIGHT_UNIT_DN, WINDOW

__all__ = ["Batch", "Draw", "fitted_guess", "grid_of", "label_batches"]

GUESSED = 20_000  # frames that the linear guess is fitted to


class Batch(NamedTuple):
    """B frames (B, h, w), or windows (B, 5, h, w), and their (centre frames') labels (B, H, W), in units of light."""

    light: Tensor
    label: Tensor


Draw = Callable[[int], Batch]


def grid_of(settings: MethodTraining) -> FineGrid:
    """The fine grid that the method's maps are on."""
    return FineGrid(settings.division, (settings.patch, settings.patch))


def label_batches(settings: MethodTraining, frames: int, device: torch.device) -> Draw:
    """Return the batches by number; frames: 1, or the window's length. The same number always gives the same batch."""
    grid, source = grid_of(settings), benchmark_batches(settings.seed, settings.noise_dn, settings.still)

    def draw(number: int) -> Batch:
        rng = np.random.default_rng((settings.seed, number, 1))
        clips = crop_clips(source(number, settings.batch, frames), grid.patch, rng)
        light = clips.frames if frames > 1 else clips.frames[:, 0]
        arrays = (light / LIGHT_UNIT_DN, _labels(clips, grid) / LIGHT_UNIT_DN)
        return Batch(*(torch.from_numpy(np.asarray(array, np.float32)).to(device) for array in arrays))

    return draw


def fitted_guess(settings: MethodTraining) -> Tensor:
    """The linear guess (cells, pixels) for the settings' data."""
    grid, source = grid_of(settings), benchmark_batches(settings.seed, settings.noise_dn, settings.still)
    clips = crop_clips(source(0, GUESSED, 1), grid.patch, np.random.default_rng((settings.seed, 0, 1)))
    return torch.from_numpy(linear_guess(clips.frames[:, 0].astype(np.float64), _labels(clips, grid)).astype(np.float32))


def _labels(clips: Clips, grid: FineGrid) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(B, H, W) DN: the labels of the clips' middle frames."""
    middle = clips.frames.shape[1] // 2 if clips.frames.shape[1] >= WINDOW else 0
    return grid.label(clips.xy[:, middle], clips.amplitude)
