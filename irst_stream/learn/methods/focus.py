"""FOCUS: two small gated units, the cheapest network of the field by far."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import SingleFrame, Solved, conv
from irst_stream.optics import FineGrid

__all__ = ["Focus"]


@register("focus", "FOCUS", "gated")
class Focus(SingleFrame):
    """One unit enlarges the patch, a second one corrects the fine map.

    In training it also reports how far the map's light is from the patch's (`energy`) and the map's mean size (`sparse`).
    """

    def __init__(self, grid: FineGrid, width: int = 64) -> None:
        super().__init__(grid)
        self.enlarge, self.correct = Unit(width, grid.division), Unit(width, 1)
        self.activation = nn.PReLU()

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        coarse = self.activation(self.enlarge(light[:, None]))
        fine = (coarse + self.correct(coarse))[:, 0]
        if not self.training:
            return Solved(fine)
        energy = (fine.float().sum((1, 2)) - light.sum((1, 2))).abs().mean()
        return Solved(fine, {"energy": energy, "sparse": fine.abs().mean()})


class Unit(nn.Module):
    """Intensity times a mask from 0 to 1, both from the same features and shuffled to the fine grid."""

    def __init__(self, width: int, division: int) -> None:
        super().__init__()
        half = width // 2
        self.first, self.second = conv(1, width, 5), conv(width, half)
        self.intensity, self.mask = conv(half, division**2), conv(half, division**2)
        self.shuffle = nn.PixelShuffle(division)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) to (B, 1, h c, w c)."""
        features = F.relu(self.second(F.relu(self.first(x))))
        output: Tensor = self.shuffle(self.intensity(features)) * torch.sigmoid(self.shuffle(self.mask(features)))
        return output
