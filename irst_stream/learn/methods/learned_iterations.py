"""Learned iterations with dense matrices: sixteen layers, each with its own, and a threshold for each cell; no convolution.

The matrices bind a network to its patch size. Each layer starts from its own copy of the linear guess.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import Imaging, LinearGuess, SingleFrame, Solved, soft_threshold
from irst_stream.optics import FineGrid

__all__ = ["Lamp", "Liht", "Lista", "TiLista"]

FAMILY = "learned iterations"
LAYERS = 16
SHRINK = 0.4  # times 1 / ||Phi||^2: LISTA's initial threshold, units of light
HARD_THRESHOLD = 0.3  # LIHT's, units of light
SLOPE_WIDTH = 0.1  # units of light over which the hard threshold's gradient is spread
MOST_KEPT, KEPT_A_LAYER = 0.13, 0.012  # TiLISTA: share of cells that pass unshrunk, and its growth from layer to layer


class LearnedIterations(SingleFrame):
    """What the four share: the linear guess, the imaging model, sixteen matrices from patch to cells and thresholds."""

    def __init__(self, grid: FineGrid, layers: int, threshold: float) -> None:
        super().__init__(grid)
        self.imaging, self.guess, self.layers = Imaging(grid), LinearGuess(grid), layers
        self.cells, self.pixels = grid.shape[0] * grid.shape[1], grid.patch[0] * grid.patch[1]
        self.to_cells = nn.ParameterList(torch.empty(self.cells, self.pixels) for _ in range(layers))
        self.threshold = nn.ParameterList(torch.full((self.cells,), threshold) for _ in range(layers))

    def phi(self) -> Tensor:
        """The imaging matrix (pixels, cells)."""
        return torch.kron(self.imaging.rows, self.imaging.columns)

    def begin(self, qinit: Tensor) -> None:
        """Take over the linear guess (cells, pixels): the network's own, and each layer's first matrix."""
        super().begin(qinit)
        with torch.no_grad():
            for matrix in self.to_cells:
                matrix.copy_(qinit)

    def image(self, x: Tensor) -> Tensor:
        """Image maps (B, cells) to patches (B, pixels)."""
        patches: Tensor = self.imaging(x.view(-1, *self.grid.shape))
        return patches.flatten(1)


class Recurrent(LearnedIterations):
    """Layers x <- shrink(W x + B y), with a matrix W from cells to cells."""

    def __init__(self, grid: FineGrid, layers: int, threshold: float) -> None:
        super().__init__(grid, layers, threshold)
        self.to_next = nn.ParameterList(torch.empty(self.cells, self.cells) for _ in range(layers))
        self.begin(self.guess.qinit)

    def begin(self, qinit: Tensor) -> None:
        """Take over the linear guess (cells, pixels); W starts at 1 - Qinit Phi."""
        super().begin(qinit)
        with torch.no_grad():
            for matrix in self.to_next:
                matrix.copy_(torch.eye(self.cells) - qinit @ self.phi())

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        x, y = self.guess(light).flatten(1), light.flatten(1)
        for to_next, to_cells, threshold in zip(self.to_next, self.to_cells, self.threshold, strict=True):
            x = self.shrink(x @ to_next.T + y @ to_cells.T, F.relu(threshold))
        return Solved(x.view(-1, *self.grid.shape))

    @abstractmethod
    def shrink(self, x: Tensor, threshold: Tensor) -> Tensor:
        """Threshold maps (B, cells) by (cells,)."""


@register("lista", "LISTA", FAMILY)
class Lista(Recurrent):
    """Soft thresholds."""

    def __init__(self, grid: FineGrid, layers: int = LAYERS) -> None:
        super().__init__(grid, layers, SHRINK / (1.001 * Imaging(grid).norm_squared))

    def shrink(self, x: Tensor, threshold: Tensor) -> Tensor:
        """Threshold maps (B, cells) by (cells,)."""
        return soft_threshold(x, threshold)


@register("liht", "LIHT", FAMILY)
class Liht(Recurrent):
    """Hard thresholds, with a sigmoid's slope in their place in the gradient."""

    def __init__(self, grid: FineGrid, layers: int = LAYERS) -> None:
        super().__init__(grid, layers, HARD_THRESHOLD)

    def shrink(self, x: Tensor, threshold: Tensor) -> Tensor:
        """Threshold maps (B, cells) by (cells,)."""
        kept = (x.abs() > threshold).to(x.dtype)
        if self.training:
            smooth = torch.sigmoid((x.abs() - threshold) / SLOPE_WIDTH)
            kept = smooth + (kept - smooth).detach()
        return x * kept


@register("lamp", "LAMP", FAMILY)
class Lamp(LearnedIterations):
    """Approximate message passing: the residual remembers itself, and its size scales the thresholds; from x = 0."""

    def __init__(self, grid: FineGrid, layers: int = LAYERS) -> None:
        super().__init__(grid, layers, SHRINK)
        del self.guess  # the method starts from nothing
        with torch.no_grad():
            for matrix in self.to_cells:
                matrix.copy_(self.phi().T / self.imaging.norm_squared)

    def begin(self, qinit: Tensor) -> None:
        """Nothing: its matrices start from the imaging model."""

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        y = light.flatten(1)
        x, residual = torch.zeros_like(y @ self.to_cells[0].T), y
        for k, (to_cells, threshold) in enumerate(zip(self.to_cells, self.threshold, strict=True)):
            if k:
                memory = (x != 0).to(x.dtype).sum(1, keepdim=True) / self.pixels
                residual = y - self.image(x) + memory * residual
            size = residual.square().mean(1, keepdim=True).sqrt()
            x = soft_threshold(x + residual @ to_cells.T, F.relu(threshold) * size)
        return Solved(x.view(-1, *self.grid.shape))


@register("tilista", "TiLISTA", FAMILY)
class TiLista(LearnedIterations):
    """Steps by an own matrix; the largest cells pass without being shrunk, more of them from layer to layer."""

    def __init__(self, grid: FineGrid, layers: int = LAYERS) -> None:
        super().__init__(grid, layers, SHRINK / (1.001 * Imaging(grid).norm_squared))
        self.length = nn.Parameter(torch.ones(layers))
        self.begin(self.guess.qinit)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        x, y = self.guess(light).flatten(1), light.flatten(1)
        for k, (to_cells, threshold) in enumerate(zip(self.to_cells, self.threshold, strict=True)):
            x = x + self.length[k] * ((y - self.image(x)) @ to_cells.T)
            kept = max(round(min(KEPT_A_LAYER * (k + 1), MOST_KEPT) * self.cells), 1)
            least = x.abs().topk(kept, dim=1).values[:, -1:]
            limit = F.relu(threshold)
            passes = ((x.abs() >= least) & (x.abs() > limit)).to(x.dtype)
            x = passes * x + (1 - passes) * soft_threshold(x, limit)
        return Solved(x.view(-1, *self.grid.shape))
