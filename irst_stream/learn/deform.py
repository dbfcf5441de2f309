"""Deformable 3 x 3 convolution in plain PyTorch: one group, no bias, bilinear, zeros outside."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["deform_conv"]


def deform_conv(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Features (B, C, H, W), offset (B, 18, H, W) px, weight (O, C, 3, 3) to (B, O, H, W), padding 1.

    Tap k = 3 i + j of the kernel, whose place is row i - 1, column j - 1, looks offset[2k] rows further down and
    offset[2k + 1] columns further right.
    """
    batch, channels, height, width = features.shape
    rows, columns = _places(offset)
    sampled = torch.zeros(batch, channels, 9 * height * width, dtype=features.dtype, device=features.device)
    flat = features.flatten(2)
    top, left = rows.floor(), columns.floor()
    for down in (0, 1):
        for right in (0, 1):
            row, column = top + down, left + right
            share = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long().flatten(1)
            corner = flat.gather(2, index[:, None].expand(-1, channels, -1))
            sampled = sampled + corner * (share * inside).flatten(1)[:, None]
    taps = sampled.view(batch, channels * 9, height * width)
    return (weight.flatten(1) @ taps).view(batch, -1, height, width)


def _places(offset: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of the nine taps looks: rows and columns (B, 9, H, W)."""
    batch, _, height, width = offset.shape
    tap = torch.arange(9, dtype=offset.dtype, device=offset.device)
    row = torch.arange(height, dtype=offset.dtype, device=offset.device)
    column = torch.arange(width, dtype=offset.dtype, device=offset.device)
    moved = offset.view(batch, 9, 2, height, width)
    rows = row[:, None] + (tap.div(3, rounding_mode="floor") - 1)[:, None, None] + moved[:, :, 0]
    columns = column + (tap.remainder(3) - 1)[:, None, None] + moved[:, :, 1]
    return rows, columns
