"""Iterations around a general image network: USRNet's shared denoiser, RPCANet's background and target."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import (
    Imaging,
    LinearGuess,
    Residual,
    SingleFrame,
    Solved,
    chain,
    conv,
    inverse_softplus,
    single,
    xavier,
)
from irst_stream.optics import FineGrid

__all__ = ["RpcaNet", "UsrNet"]

WIDTHS = (16, 32, 64, 128)  # channels of the U-Net's levels
DATA_WEIGHT = 0.05  # initial alpha, beside eigenvalues of Phi Phi^T up to 8.6
NOISE_LEVEL = 0.1  # initial beta


@register("usrnet", "USRNet", "unfolding")
class UsrNet(SingleFrame):
    """The closed-form data step and one shared U-Net in turn.

    The data step minimises |y - Phi z|^2 + alpha |z - x|^2 with the true imaging model, by the eigenvectors of
    P P^T, which are constants; so there is no Fourier transform in the graph.
    """

    eigenvalues: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, grid: FineGrid, iterations: int = 8, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__(grid)
        self.imaging, self.iterations = Imaging(grid), iterations
        (of_rows, rows), (of_columns, columns) = (
            torch.linalg.eigh(p @ p.T) for p in (self.imaging.rows, self.imaging.columns)
        )
        for name, value in (("eigenvalues", torch.outer(of_rows, of_columns)), ("rows", rows), ("columns", columns)):
            self.register_buffer(name, value)
        self.data_weight = nn.Parameter(torch.full((iterations,), inverse_softplus(DATA_WEIGHT)))
        self.noise_level = nn.Parameter(torch.full((iterations,), inverse_softplus(NOISE_LEVEL)))
        self.denoise = UNet(widths)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        x = light.repeat_interleave(self.grid.division, 1).repeat_interleave(self.grid.division, 2)
        x = x / self.grid.division**2
        alpha, beta = F.softplus(self.data_weight), F.softplus(self.noise_level)
        for k in range(self.iterations):
            z = x.float() + self._data_step(light - self.imaging(x), alpha[k])
            x = self.denoise(z[:, None], beta[k])[:, 0]
        return Solved(x)

    def _data_step(self, residual: Tensor, alpha: Tensor) -> Tensor:
        """Phi^T (Phi Phi^T + alpha)^-1 residual, (B, h, w) to (B, H, W)."""
        inner = single(lambda r: self.rows.T @ r @ self.columns, residual) / (self.eigenvalues + alpha)
        return self.imaging.adjoint(single(lambda r: self.rows @ r @ self.columns.T, inner))


class UNet(nn.Module):
    """Residual blocks at falling sizes and back, with added skips; no biases."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.head, self.tail = conv(2, widths[0], bias=False), conv(widths[0], 1, bias=False)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width, deeper in pairwise(widths):
            self.down.append(nn.Sequential(*_blocks(width), nn.Conv2d(width, deeper, 2, stride=2, bias=False)))
            self.up.append(nn.Sequential(nn.ConvTranspose2d(deeper, width, 2, stride=2, bias=False), *_blocks(width)))
        self.body = nn.Sequential(*_blocks(widths[-1]))

    def forward(self, image: Tensor, level: Tensor) -> Tensor:
        """Denoise images (B, 1, H, W), with the noise level as a second plane."""
        rows, columns = image.shape[2:]
        step = 2 ** len(self.down)
        image = F.pad(image, (0, -columns % step, 0, -rows % step))
        x = self.head(torch.cat([image, level.expand_as(image)], dim=1))
        skips = []
        for part in self.down:
            skips.append(x)
            x = part(x)
        x = self.body(x)
        for part, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = part(x) + skip
        output: Tensor = self.tail(x)[:, :, :rows, :columns]
        return output


def _blocks(width: int) -> list[nn.Module]:
    return [Residual(width, bias=False) for _ in range(2)]


@register("rpcanet", "RPCANet", "unfolding")
class RpcaNet(SingleFrame):
    """The linear guess parted into background and target, stage by stage; the target is the map.

    In training the last stage also reports `reconstruct`, how far background and target together are from the guess. The
    published toolkit computes that in every stage and reads only the last.
    """

    def __init__(self, grid: FineGrid, width: int = 32, stages: int = 6, layers: int = 6) -> None:
        super().__init__(grid)
        self.guess = LinearGuess(grid)
        self.background = nn.ModuleList(normed_chain(width) for _ in range(stages))
        self.target = nn.ModuleList(nn.Sequential(*chain(1, *[width] * (layers + 1), 1)) for _ in range(stages))
        self.length = nn.Parameter(torch.full((stages,), 0.01))
        self.reconstruct = normed_chain(width)
        self.apply(xavier)
        with torch.no_grad():  # stages that start near the identity; else each doubles the light
            for part in (*self.background, *self.target, self.reconstruct):
                part[-1].weight.mul_(0.1)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        data = self.guess(light)[:, None]
        target = background = torch.zeros_like(data)
        for k, (of_background, of_target) in enumerate(zip(self.background, self.target, strict=True)):
            rest = data - target
            background = rest + of_background(rest)
            both = target + data - background
            target = both - self.length[k] * of_target(both)
        if not self.training:
            return Solved(target[:, 0])
        error = self.reconstruct(background + target) - data
        return Solved(target[:, 0], {"reconstruct": error.float().square().mean()})


def normed_chain(width: int, layers: int = 4) -> nn.Sequential:
    """Convolutions with batch normalisation and ReLU, and a last one to one channel."""
    widths = [1, *[width] * layers]
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [conv(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts, conv(width, 1))
