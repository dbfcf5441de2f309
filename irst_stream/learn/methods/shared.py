"""What the methods share: the protocol of a network, the separable imaging model, the linear guess, thresholds, blocks.

Inside a network light is in units of LIGHT_UNIT_DN, so that thresholds of ordinary size matter; outside it is in DN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.optics import SIGMA, FineGrid, line_response
from irst_stream.unmix.engine import LIGHT_UNIT_DN

__all__ = [
    "GradientStep",
    "Imaging",
    "LinearGuess",
    "Residual",
    "SingleFrame",
    "Solved",
    "chain",
    "conv",
    "inverse_softplus",
    "single",
    "soft_threshold",
    "xavier",
]

STABLE_STEP = 0.86  # of 1 / ||Phi||^2: well inside the limit 2, beyond which untrained stages amplify smooth light
GUESS_CUTOFF = 1e-3  # singular values of Phi below this share of the largest are noise to the untrained guess


class Solved(NamedTuple):
    """A network's answer in units of light: map (B, H, W); in training also its extra terms and the maps of earlier passes.

    terms: scalars by name, which the training settings weight; passes: further maps that the label is compared with.
    """

    map: Tensor
    terms: dict[str, Tensor] = {}  # noqa: RUF012 - a default that is never changed
    passes: tuple[Tensor, ...] = ()


class SingleFrame(nn.Module, ABC):
    """A method that sees one frame: patches (B, h, w) DN to fine maps (B, H, W) DN, each independently of the others."""

    def __init__(self, grid: FineGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, patches: Tensor) -> Tensor:
        """Compute maps (B, H, W) DN of patches (B, h, w) DN."""
        return self.solve(patches / LIGHT_UNIT_DN).map * LIGHT_UNIT_DN

    @abstractmethod
    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""

    def begin(self, qinit: Tensor) -> None:
        """Take over the linear guess (cells, pixels), fitted to training data, before training starts."""
        for part in self.modules():
            if isinstance(part, LinearGuess):
                part.qinit.copy_(qinit)


class Imaging(nn.Module):
    """The imaging model of a fine map, Phi = P (x) P, applied along rows and columns; Phi itself is never formed."""

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: FineGrid, sigma: float = SIGMA) -> None:
        super().__init__()
        for name, centres, size in (
            ("rows", grid.centres[:, 0, 1], grid.patch[0]),
            ("columns", grid.centres[0, :, 0], grid.patch[1]),
        ):
            self.register_buffer(name, torch.tensor(line_response(centres, size, sigma).T, dtype=torch.float32))
        # ||Phi||^2, the largest eigenvalue of Phi^T Phi
        self.norm_squared = float(torch.linalg.matrix_norm(self.rows, 2) * torch.linalg.matrix_norm(self.columns, 2)) ** 2

    def forward(self, fine: Tensor) -> Tensor:
        """Image fine maps (B, H, W) to patches (B, h, w)."""
        return single(lambda x: self.rows @ x @ self.columns.T, fine)

    def adjoint(self, patches: Tensor) -> Tensor:
        """Spread patches (B, h, w) over the cells that light them, (B, H, W)."""
        return single(lambda y: self.rows.T @ y @ self.columns, patches)


class GradientStep(nn.Module):
    """A step of learned length towards the data: x + length Phi^T (y - Phi x)."""

    def __init__(self, imaging: Imaging) -> None:
        super().__init__()
        self.length = nn.Parameter(torch.tensor(STABLE_STEP / imaging.norm_squared))

    def forward(self, x: Tensor, y: Tensor, imaging: Imaging) -> Tensor:
        """Compute the step from maps x (B, H, W) towards patches y (B, h, w)."""
        return x.float() + self.length * imaging.adjoint(y - imaging(x))


class LinearGuess(nn.Module):
    """The linear map from a patch to its fine map of least squared error, a constant fitted before training."""

    qinit: Tensor

    def __init__(self, grid: FineGrid) -> None:
        super().__init__()
        self.shape = grid.shape
        self.register_buffer("qinit", torch.linalg.pinv(torch.tensor(grid.phi()), rtol=GUESS_CUTOFF).float())

    def forward(self, patches: Tensor) -> Tensor:
        """Guess maps (B, H, W) of patches (B, h, w)."""
        return single(lambda y: (y.flatten(1) @ self.qinit.T).view(-1, *self.shape), patches)


class Residual(nn.Module):
    """Convolution, activation, convolution, addition; start: factor on the initial weights."""

    def __init__(self, width: int, activation: nn.Module | None = None, *, bias: bool = True, start: float = 1.0) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(width, width, bias=bias), conv(width, width, bias=bias)
        self.activation = activation or nn.ReLU()
        with torch.no_grad():
            for layer in (self.conv1, self.conv2):
                layer.weight.mul_(start)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        output: Tensor = x + self.conv2(self.activation(self.conv1(x)))
        return output


def conv(inputs: int, outputs: int, size: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the image's size, with zeros outside it."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)


def chain(*widths: int, size: int = 3, bias: bool = True) -> nn.Sequential:
    """Convolutions from width to width with ReLU between them, none at the end."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [conv(inputs, outputs, size, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """sign(x) max(|x| - threshold, 0)."""
    return x.sign() * F.relu(x.abs() - threshold)


def xavier(module: nn.Module) -> None:
    """Start a convolution as the unfolding networks do, from Xavier's normal distribution; use with Module.apply."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)


def inverse_softplus(value: float) -> float:
    """The number whose softplus is this positive value."""
    return math.log(math.expm1(value))


def single(work: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """Compute in single precision: half is too coarse for the data."""
    kind = value.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return work(value.float())
    with torch.autocast(kind, enabled=False):
        return work(value.float())
