"""Deformable 3 x 3 convolution in plain PyTorch: no bias, bilinear sampling, zeros outside the image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the customary name

__all__ = ["deform_conv"]


def deform_conv(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Convolve features (B, C, H, W) with weight (O, C, 3, 3) at positions shifted by offset (B, 18 G, H, W) px.

    Returns (B, O, H, W); padding is 1. The channels are in G groups of equal size, each with offsets of its own.

    Tap k = 3 i + j of the kernel, at row i - 1 and column j - 1, samples offset[2k] rows further down and
    offset[2k + 1] columns further right.
    """
    _, channels, height, width = features.shape
    groups = offset.shape[1] // 18
    dtype = torch.promote_types(features.dtype, torch.float32)  # half precision is too coarse for positions
    positions = _sampling_positions(offset.to(dtype).reshape(-1, 18, height, width))
    grouped = features.to(dtype).reshape(-1, channels // groups, height, width)
    sampled = F.grid_sample(grouped, positions, padding_mode="zeros", align_corners=True)
    taps = sampled.view(-1, channels * 9, height, width)
    return F.conv2d(taps, weight.flatten(1)[:, :, None, None])


def _sampling_positions(offset: Tensor) -> Tensor:
    """The positions (B, 9 H, W, 2) that the nine taps sample, as column and row from -1 to 1 across the image."""
    batch, _, height, width = offset.shape
    tap = torch.arange(9, dtype=offset.dtype, device=offset.device)
    row = torch.arange(height, dtype=offset.dtype, device=offset.device)
    column = torch.arange(width, dtype=offset.dtype, device=offset.device)
    shift = offset.view(batch, 9, 2, height, width)
    rows = row[:, None] + (tap.div(3, rounding_mode="floor") - 1)[:, None, None] + shift[:, :, 0]
    columns = column + (tap.remainder(3) - 1)[:, None, None] + shift[:, :, 1]
    positions = torch.stack([columns * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1], dim=-1)
    return positions.view(batch, 9 * height, width, 2)
