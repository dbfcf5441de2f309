"""Methods that see a window of five frames: TDAN here, DeRefNet in learn.network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.deform import deform_conv
from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import Residual, Solved, conv
from irst_stream.learn.network import DeRefNet
from irst_stream.optics import FineGrid
from irst_stream.unmix.engine import LIGHT_UNIT_DN, WINDOW

__all__ = ["Tdan"]

GROUPS = 8  # of channels that move together in a deformable convolution
MIDDLE = WINDOW // 2


@register("derefnet", "DeRefNet", "multi-frame", "none")
def derefnet(grid: FineGrid) -> DeRefNet:
    """DeRefNet with its plain head; tools/train.py trains it, in stages of its own."""
    return DeRefNet(grid)


@register("tdan", "TDAN", "multi-frame", "window")
class Tdan(nn.Module):
    """Neighbours aligned to the centre frame by deformable convolutions on whole pixels, then one network on all five.

    It is in two parts, so that a stream computes each frame's features once. In training it also reports `align`, how far
    the aligned neighbours are from the centre's patch.
    """

    def __init__(self, grid: FineGrid, width: int = 32, blocks: int = 10, feature_blocks: int = 5) -> None:
        super().__init__()
        self.grid, self.width = grid, width
        self.head = conv(1, width)
        self.features = nn.Sequential(*(Residual(width, start=0.1) for _ in range(feature_blocks)))
        self.both = conv(2 * width, width)
        self.steer_1, self.steer_2, self.align_1, self.align_2 = (Deform(width) for _ in range(4))
        self.image = conv(width, 1)
        self.merge, self.blocks = conv(WINDOW, width), nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.grow = nn.Sequential(conv(width, width * grid.division**2), nn.PixelShuffle(grid.division))
        self.tail = conv(width, 1, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Compute maps (B, H, W) DN of the centre frames of windows (B, 5, h, w) DN."""
        return self.fuse(self.unfold(patches.flatten(0, 1)).reshape(-1, WINDOW, self.width + 1, *self.grid.patch))

    def unfold(self, patches: Tensor) -> Tensor:
        """Compute what fuse needs of single frames (B, h, w) DN: their light and features, (B, 1 + 32, h, w)."""
        light = (patches / LIGHT_UNIT_DN)[:, None]
        return torch.cat([light, self.features(F.relu(self.head(light)))], dim=1)

    def fuse(self, maps: Tensor) -> Tensor:
        """Compute the centre frames' maps (B, H, W) DN from five frames' unfolded (B, 5, 33, h, w)."""
        return self._merged(maps)[0] * LIGHT_UNIT_DN

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of windows (B, 5, h, w), both in units of light."""
        maps = self.unfold(light.flatten(0, 1) * LIGHT_UNIT_DN)
        fine, aligned = self._merged(maps.reshape(-1, WINDOW, *maps.shape[1:]))
        if not self.training:
            return Solved(fine)
        return Solved(fine, {"align": (aligned.float() - light[:, MIDDLE, None]).square().mean()})

    def begin(self, qinit: Tensor) -> None:
        """Nothing: it has no linear guess."""

    def _merged(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The fine map (B, H, W) and the aligned neighbours (B, 4, h, w), in units of light."""
        light, features = maps[:, :, 0], maps[:, :, 1:]
        aligned = torch.cat([self._align(features[:, MIDDLE], features[:, t]) for t in range(WINDOW) if t != MIDDLE], dim=1)
        by_time = torch.cat([aligned[:, :MIDDLE], light[:, MIDDLE : MIDDLE + 1], aligned[:, MIDDLE:]], dim=1)
        x = self.blocks(F.relu(self.merge(by_time)))
        return self.tail(self.grow(x))[:, 0], aligned

    def _align(self, centre: Tensor, neighbour: Tensor) -> Tensor:
        """The neighbour's patch (B, 1, h, w) as seen at the centre's time."""
        steering = self.both(torch.cat([centre, neighbour], dim=1))
        steering = self.steer_1(steering, steering)
        steering = self.steer_2(steering, steering)
        moved = self.align_1(neighbour, steering)
        image: Tensor = self.image(self.align_2(moved, moved))
        return image


class Deform(nn.Module):
    """A deformable convolution in groups, whose offsets are computed from steering features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.offset = conv(width, 18 * GROUPS)
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)  # starts as an ordinary convolution

    def forward(self, features: Tensor, steering: Tensor) -> Tensor:
        """Convolve features (B, C, h, w), with offsets from steering (B, C, h, w), to (B, C, h, w)."""
        return deform_conv(features, self.offset(steering), self.weight)
