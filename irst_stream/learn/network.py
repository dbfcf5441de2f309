"""DeRefNet in plain PyTorch, split where a stream wants it split.

`Unfold` turns one frame into a fine map and knows of no other frame, so a stream computes each frame's map once.
`Fuse` gates five maps by their place in time, aligns the neighbours to the centre and merges them.

    patches (B, 11, 11) DN --Unfold--> maps (B, 33, 33) --TimeCode, Fuse--> map (B, 33, 33) of a window's centre frame
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from irst_stream.learn.deform import deform_conv
from irst_stream.optics import SIGMA, FineGrid

__all__ = ["WINDOW", "DeRefNet", "Fuse", "Fused", "TimeCode", "Unfold"]

WINDOW = 5
WIDTH = 32  # channels
STAGES = 9
BLOCKS = 5


class Fused(NamedTuple):
    """The centre frame's map (B, 33, 33), the aligned neighbours (B, 4, 33, 33), the features (B, 32, 33, 33)."""

    map: Tensor
    aligned: Tensor
    features: Tensor


class Stage(nn.Module):
    """One step of the unfolded iteration: towards the data, then a learned shrinkage."""

    def __init__(self) -> None:
        super().__init__()
        self.lambda_step = nn.Parameter(torch.tensor(0.5))
        self.soft_thr = nn.Parameter(torch.tensor(0.01))
        self.conv1_forward = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.conv2_forward = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.conv1_backward = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.conv2_backward = nn.Conv2d(WIDTH, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor, y: Tensor, phi: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """X (B, cells) and the data y (B, pixels) to the next x and the symmetry error (B, 1, *shape)."""
        r = x + self.lambda_step * (y - x @ phi.T) @ phi  # PhiT Phi has the rank of Phi, so it is never formed
        r = r.view(-1, 1, *shape)
        features = self.conv2_forward(F.relu(self.conv1_forward(r)))
        shrunk = features.sign() * F.relu(features.abs() - self.soft_thr)
        symmetry = self._back(features) - r if self.training else torch.zeros_like(r)
        return self._back(shrunk).flatten(1), symmetry

    def _back(self, features: Tensor) -> Tensor:
        image: Tensor = self.conv2_backward(F.relu(self.conv1_backward(features)))
        return image


class Unfold(nn.Module):
    """Patches (B, H, W) DN to fine maps (B, H c, W c) DN. qinit (cells, pixels) is the first guess's linear map."""

    phi: Tensor
    qinit: Tensor

    def __init__(self, grid: FineGrid | None = None, sigma: float = SIGMA) -> None:
        super().__init__()
        self.grid = grid or FineGrid()
        phi = torch.tensor(self.grid.phi(sigma), dtype=torch.float32)
        self.register_buffer("phi", phi)
        self.register_buffer("qinit", torch.linalg.pinv(phi, rtol=1e-3))  # until a training set gives its own
        self.fcs = nn.ModuleList(Stage() for _ in range(STAGES))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The maps, and the stages' symmetry errors (B, stages, H c, W c), zero outside training."""
        y = patches.flatten(1)
        x = y @ self.qinit.T
        errors = []
        for stage in self.fcs:
            x, error = stage(x, y, self.phi, self.grid.shape)
            errors.append(error)
        return x.view(-1, *self.grid.shape), torch.cat(errors, dim=1)


class TimeCode(nn.Module):
    """A gate for every cell by a frame's place in time: sigmoid(place / length x slope + bias).

    `length` is 20 for the reference's clips, whose frames count from the clip's start; a stream has places 0 to 4 only.
    """

    def __init__(self, cells: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.slope = nn.Parameter(torch.zeros(cells))
        self.bias = nn.Parameter(torch.full((cells,), 2.0))  # nearly open

    def forward(self, places: Tensor) -> Tensor:
        """(...) places to gates (..., cells)."""
        return torch.sigmoid(places[..., None] / self.length * self.slope + self.bias)


class Deform(nn.Module):
    """A deformable convolution whose offsets come from a convolution of the features that steer it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(WIDTH, WIDTH, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.conv_offset = nn.Conv2d(WIDTH, 18, 3, padding=1)
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)  # begins as an ordinary convolution

    def forward(self, features: Tensor, steering: Tensor) -> Tensor:
        """Features and steering (B, 32, H, W) to (B, 32, H, W)."""
        return deform_conv(features, self.conv_offset(steering), self.weight)


class Select(nn.Module):
    """What steers the alignment: both frames' features, each half weighted by where it matters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0_s = nn.Conv2d(WIDTH, WIDTH // 2, 1)
        self.conv1_s = nn.Conv2d(WIDTH, WIDTH // 2, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, centre: Tensor, neighbour: Tensor) -> Tensor:
        """Features (B, 32, H, W) of both to (B, 32, H, W)."""
        halves = self.conv0_s(centre), self.conv1_s(neighbour)
        both = torch.cat(halves, dim=1)
        pooled = torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=1)
        weight = torch.sigmoid(self.conv_squeeze(pooled))
        return torch.cat([halves[0] * weight[:, :1], halves[1] * weight[:, 1:]], dim=1)


class Block(nn.Module):
    """conv, ReLU, conv, add."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 32, H, W) to the same."""
        added: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return added


class Fuse(nn.Module):
    """Five gated maps of a window (B, 5, H, W) to one."""

    def __init__(self) -> None:
        super().__init__()
        self.extract = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.select = Select()
        self.align_1, self.align_2 = Deform(), Deform()
        self.conv = nn.Conv2d(WIDTH, 1, 3, padding=1)
        self.merge = nn.Conv2d(WINDOW, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.tail = nn.Conv2d(WIDTH, 1, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Fused:
        """The centre's map, with all five frames taken into account."""
        middle = WINDOW // 2
        features = F.relu(self.extract(maps.flatten(0, 1)[:, None]))
        features = features.view(*maps.shape[:2], *features.shape[1:])  # (B, 5, 32, H, W)
        others = [t for t in range(WINDOW) if t != middle]
        aligned = torch.cat([self._align(features[:, middle], features[:, t]) for t in others], dim=1)
        in_order = torch.cat([aligned[:, :middle], maps[:, middle : middle + 1], aligned[:, middle:]], dim=1)
        merged = self.blocks(F.relu(self.merge(in_order)))
        return Fused(self.tail(merged)[:, 0], aligned, merged)

    def _align(self, centre: Tensor, neighbour: Tensor) -> Tensor:
        """Features of two frames to the neighbour's map as seen from the centre, (B, 1, H, W)."""
        moved = self.align_1(neighbour, self.select(centre, neighbour))
        image: Tensor = self.conv(self.align_2(moved, moved))
        return image


class DeRefNet(nn.Module):
    """The whole network, over windows or over clips; code_length 5 for streams, 20 for the reference's clips."""

    def __init__(self, grid: FineGrid | None = None, code_length: int = WINDOW) -> None:
        super().__init__()
        self.unfold = Unfold(grid)
        self.code = TimeCode(self.unfold.phi.shape[1], code_length)
        self.fuse = Fuse()

    def forward(self, patches: Tensor) -> Fused:
        """Windows (B, 5, 11, 11) DN, coded by each frame's place in its window."""
        maps, _ = self.unfold(patches.flatten(0, 1))
        gated = self.gated(maps.view(*patches.shape[:2], *maps.shape[1:]), torch.arange(WINDOW, device=maps.device))
        fused: Fused = self.fuse(gated)
        return fused

    def forward_clip(self, patches: Tensor) -> Fused:
        """A clip (T, 11, 11) DN, coded by each frame's place in the clip, to its T - 4 whole windows."""
        maps, _ = self.unfold(patches)
        gated = self.gated(maps, torch.arange(len(patches), device=maps.device))
        fused: Fused = self.fuse(gated.unfold(0, WINDOW, 1).movedim(-1, 1))
        return fused

    def gated(self, maps: Tensor, places: Tensor) -> Tensor:
        """Maps (..., T, H, W), each gated by its frame's place (T,)."""
        gates: Tensor = self.code(places.to(maps.dtype))
        return maps * gates.view(-1, *self.unfold.grid.shape)
