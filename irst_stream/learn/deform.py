"""Deformable 3 x 3 convolution in plain PyTorch: one group, no bias, bilinear, zeros outside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

__all__ = ["deform_conv"]


def deform_conv(features: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Features (B, C, H, W), offset (B, 18, H, W) px, weight (O, C, 3, 3) to (B, O, H, W), padding 1.

    Tap k = 3 i + j of the kernel, whose place is row i - 1, column j - 1, looks offset[2k] rows further down and
    offset[2k + 1] columns further right.
    """
    batch, channels, height, width = features.shape
    whole = torch.promote_types(features.dtype, torch.float32)  # places need more digits than half precision has
    places = _places(offset.to(whole))
    sampled = F.grid_sample(features.to(whole), places, padding_mode="zeros", align_corners=True)
    taps = sampled.view(batch, channels * 9, height, width)
    return F.conv2d(taps, weight.flatten(1)[:, :, None, None])


def _places(offset: Tensor) -> Tensor:
    """Where each of the nine taps looks, as columns and rows from -1 to 1 across the image: (B, 9 H, W, 2)."""
    batch, _, height, width = offset.shape
    tap = torch.arange(9, dtype=offset.dtype, device=offset.device)
    row = torch.arange(height, dtype=offset.dtype, device=offset.device)
    column = torch.arange(width, dtype=offset.dtype, device=offset.device)
    moved = offset.view(batch, 9, 2, height, width)
    rows = row[:, None] + (tap.div(3, rounding_mode="floor") - 1)[:, None, None] + moved[:, :, 0]
    columns = column + (tap.remainder(3) - 1)[:, None, None] + moved[:, :, 1]
    across = torch.stack([columns * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1], dim=-1)
    return across.view(batch, 9 * height, width, 2)
