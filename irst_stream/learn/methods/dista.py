"""DISTA-Net: unfolded stages whose features get a filter made for each image, and thresholds from attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import GradientStep, Imaging, chain, conv, soft_threshold, xavier
from irst_stream.learn.methods.unfolding import Unfolded
from irst_stream.optics import FineGrid

__all__ = ["DistaStage"]

HIDDEN = 256  # numbers between the map and the kernel made of it
OWN_SHARE = 0.7  # of the convolutions' features; the rest is the filtered image
TAPS = 9  # of a 3 x 3 kernel


@register("dista-net", "DISTA-Net", "unfolding")
def dista_net(grid: FineGrid, width: int = 64, stages: int = 6) -> Unfolded:
    """Six stages at division 3, as published."""
    return Unfolded(grid, [DistaStage(grid, width) for _ in range(stages)])


class DistaStage(nn.Module):
    """Gradient step, features mixed with a filter of the image's own, a threshold for each feature, the way back.

    Ours differs from the published toolkit where that is in error: the kernel is trained, each image is filtered by its
    own kernel only, and no threshold is negative.
    """

    def __init__(self, grid: FineGrid, width: int) -> None:
        super().__init__()
        self.shape = grid.shape
        self.step = GradientStep(Imaging(grid))
        self.there, self.back = chain(1, width, width, bias=False), chain(width, width, 1, bias=False)
        self.kernel = nn.Sequential(nn.Linear(grid.shape[0] * grid.shape[1], HIDDEN), nn.Linear(HIDDEN, TAPS))
        self.attention = Attention(width)
        for part in (self.there, self.back):
            part.apply(xavier)

    def forward(self, x: Tensor, y: Tensor, imaging: Imaging) -> tuple[Tensor, Tensor]:
        """Compute the next map (B, H, W), and the symmetry error in training."""
        r = self.step(x, y, imaging)[:, None]
        own = torch.sigmoid(self._filtered(r, self.kernel(x.flatten(1))))
        features = OWN_SHARE * self.there(r) + (1 - OWN_SHARE) * own
        image = self.back(soft_threshold(features, F.relu(features.abs() * self.attention(features))))[:, 0]
        return image, self.back(features) - r if self.training else r

    def _filtered(self, image: Tensor, kernel: Tensor) -> Tensor:
        """Filter each image (B, 1, H, W) by its own 3 x 3 kernel (B, 9): nine shifted copies, weighted and summed."""
        rows, columns = self.shape
        padded = F.pad(image, (1, 1, 1, 1))
        copies = [padded[:, :, k // 3 : k // 3 + rows, k % 3 : k % 3 + columns] for k in range(TAPS)]
        return (torch.cat(copies, dim=1) * kernel[:, :, None, None]).sum(1, keepdim=True)


class Attention(nn.Module):
    """Weigh features against their surroundings; the result scales each feature to its threshold."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.near, self.far = conv(width, width // 2, 1), conv(width, width // 2, 1)
        self.squeeze, self.widen = conv(2, 2), conv(width // 2, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        near, far = self.near(features), self.far(self.around(features))
        both = torch.cat([near, far], dim=1)
        weights = torch.sigmoid(self.squeeze(torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=1)))
        output: Tensor = self.widen(near * weights[:, :1] + far * weights[:, 1:])
        return output
