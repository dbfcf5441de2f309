"""Unfolded iterations: steps towards the data by the imaging model, each followed by a learned shrinkage.

ISTA-Net, ISTA-Net+, FISTA-Net and ISTA-Net++ differ in where the shrinkage stands and in what their stages share. In
training they report `symmetry`, how far the way back from the features is from undoing the way there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import (
    STABLE_STEP,
    GradientStep,
    Imaging,
    LinearGuess,
    Residual,
    SingleFrame,
    Solved,
    chain,
    conv,
    inverse_softplus,
    soft_threshold,
    xavier,
)
from irst_stream.optics import FineGrid

__all__ = ["FistaNet", "IstaNet", "IstaNetPlus", "IstaNetPlusPlus", "Unfolded"]

FAMILY = "unfolding"
THRESHOLD = 0.01  # units of light


class Unfolded(SingleFrame):
    """Stages with own weights, from the linear guess on; each turns (x, y, imaging) into x and a symmetry error."""

    def __init__(self, grid: FineGrid, stages: list[nn.Module]) -> None:
        super().__init__(grid)
        self.imaging, self.guess = Imaging(grid), LinearGuess(grid)
        self.stages = nn.ModuleList(stages)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        x, errors = self.guess(light), []
        for stage in self.stages:
            x, error = stage(x, light, self.imaging)
            errors.append(error)
        if not self.training:
            return Solved(x)
        return Solved(x, {"symmetry": torch.stack([error.float().square().mean() for error in errors]).sum()})


@register("ista-net", "ISTA-Net", FAMILY)
def ista_net(grid: FineGrid, width: int = 32, stages: int = 9) -> Unfolded:
    """ISTA-Net: the features are all there is of a stage's map."""
    return Unfolded(grid, [IstaNet(Imaging(grid), width) for _ in range(stages)])


@register("ista-net+", "ISTA-Net+", FAMILY)
def ista_net_plus(grid: FineGrid, width: int = 32, stages: int = 9) -> Unfolded:
    """ISTA-Net+: the features correct a stage's gradient step."""
    return Unfolded(grid, [IstaNetPlus(Imaging(grid), width) for _ in range(stages)])


class IstaNet(nn.Module):
    """Gradient step, convolutions, soft threshold, convolutions back to the map."""

    def __init__(self, imaging: Imaging, width: int) -> None:
        super().__init__()
        self.step, self.threshold = GradientStep(imaging), nn.Parameter(torch.tensor(THRESHOLD))
        self.there, self.back = chain(1, width, width, bias=False), chain(width, width, 1, bias=False)
        self.apply(xavier)

    def forward(self, x: Tensor, y: Tensor, imaging: Imaging) -> tuple[Tensor, Tensor]:
        """Compute the next map (B, H, W), and the symmetry error in training."""
        r = self.step(x, y, imaging)[:, None]
        features = self.there(r)
        image = self.back(soft_threshold(features, self.threshold))[:, 0]
        return image, self.back(features) - r if self.training else r


class IstaNetPlus(nn.Module):
    """Gradient step, then the correction that thresholded features give to it."""

    def __init__(self, imaging: Imaging, width: int) -> None:
        super().__init__()
        self.step, self.threshold = GradientStep(imaging), nn.Parameter(torch.tensor(THRESHOLD))
        self.shrink = Shrinkage(width, bias=False)
        self.apply(xavier)

    def forward(self, x: Tensor, y: Tensor, imaging: Imaging) -> tuple[Tensor, Tensor]:
        """Compute the next map (B, H, W), and the symmetry error in training."""
        r = self.step(x, y, imaging)[:, None]
        correction, error, _ = self.shrink(r, self.threshold)
        return (r + correction)[:, 0], error


class Shrinkage(nn.Module):
    """Features of an image, thresholded in a second set of features, and the image that they give."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.draw, self.read = conv(1, width, bias=bias), conv(width, 1, bias=bias)
        self.there, self.back = chain(width, width, width, bias=bias), chain(width, width, width, bias=bias)

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the correction (B, 1, H, W), the symmetry error in training, and the thresholded features."""
        drawn = self.draw(image)
        features = self.there(drawn)
        kept = soft_threshold(features, threshold)
        error = self.back(features) - drawn if self.training else drawn
        return self.read(self.back(kept)), error, kept


@register("fista-net", "FISTA-Net", FAMILY)
class FistaNet(SingleFrame):
    """One shrinkage shared by all iterations, with momentum; steps and thresholds fall along learned curves.

    In training it also reports the features' mean size, `sparse`.
    """

    def __init__(self, grid: FineGrid, width: int = 32, iterations: int = 7) -> None:
        super().__init__(grid)
        self.imaging, self.guess, self.iterations = Imaging(grid), LinearGuess(grid), iterations
        self.shrink = Shrinkage(width, bias=True)
        first = inverse_softplus(STABLE_STEP / self.imaging.norm_squared)
        self.step = nn.Parameter(torch.tensor([-0.2, first]))
        self.threshold = nn.Parameter(torch.tensor([-0.5, -2.0]))
        self.momentum = nn.Parameter(torch.tensor([0.5, 0.0]))
        self.shrink.apply(xavier)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        x = last = ahead = self.guess(light)
        errors, sizes = [], []
        for k in range(self.iterations):
            r = ahead + self._curve(self.step, k) * self.imaging.adjoint(light - self.imaging(ahead))
            correction, error, kept = self.shrink(r[:, None], self._curve(self.threshold, k))
            last, x = x, F.relu(r + correction[:, 0])
            rho = 1 - self._curve(self.momentum, 0) / self._curve(self.momentum, k)
            ahead = x + rho * (x - last)
            errors.append(error)
            sizes.append(kept)
        if not self.training:
            return Solved(x)
        symmetry = torch.stack([error.float().square().mean() for error in errors]).sum()
        return Solved(x, {"symmetry": symmetry, "sparse": torch.stack([kept.abs().mean() for kept in sizes]).sum()})

    @staticmethod
    def _curve(line: Tensor, k: int) -> Tensor:
        """softplus(slope k + start)."""
        return F.softplus(line[0] * k + line[1])


@register("ista-net++", "ISTA-Net++", FAMILY)
class IstaNetPlusPlus(SingleFrame):
    """Stages of residual blocks that see the gradient step and a learned constant; no thresholds."""

    def __init__(self, grid: FineGrid, width: int = 32, stages: int = 20) -> None:
        super().__init__(grid)
        self.imaging = Imaging(grid)
        self.stages = nn.ModuleList(IstaNetPlusPlusStage(self.imaging, width) for _ in range(stages))

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        x = self.imaging.adjoint(light)
        for stage in self.stages:
            x = stage(x, light, self.imaging)
        return Solved(x)


class IstaNetPlusPlusStage(nn.Module):
    """Gradient step, then a residual network on it and on a constant plane."""

    def __init__(self, imaging: Imaging, width: int) -> None:
        super().__init__()
        self.step, self.plane = GradientStep(imaging), nn.Parameter(torch.tensor(0.1))
        self.body = nn.Sequential(conv(2, width), *(Residual(width, nn.LeakyReLU(0.1)) for _ in range(2)), conv(width, 1))

    def forward(self, x: Tensor, y: Tensor, imaging: Imaging) -> Tensor:
        """Compute the next map (B, H, W)."""
        r = self.step(x, y, imaging)[:, None]
        output: Tensor = (r + self.body(torch.cat([r, self.plane.expand_as(r)], dim=1)))[:, 0]
        return output
