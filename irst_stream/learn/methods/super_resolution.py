"""Single-image super-resolution networks: a fine map by convolutions and pixel shuffle, without an imaging model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import LinearGuess, Residual, SingleFrame, Solved, conv
from irst_stream.optics import FineGrid

__all__ = ["GMFN", "enlarged"]

FAMILY = "super-resolution"
PRELU = 0.2  # initial slope below 0


@register("srcnn", "SRCNN", FAMILY)
class SRCNN(SingleFrame):
    """Three convolutions of falling size on the linear guess."""

    def __init__(self, grid: FineGrid, widths: tuple[int, int] = (32, 16)) -> None:
        super().__init__(grid)
        self.guess = LinearGuess(grid)
        first, second = widths
        self.body = nn.Sequential(conv(1, first, 9), nn.ReLU(), conv(first, second, 5), nn.ReLU(), conv(second, 1, 5))

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        return Solved(self.body(self.guess(light)[:, None])[:, 0])


@register("espcn", "ESPCN", FAMILY)
class ESPCN(SingleFrame):
    """Three convolutions on whole pixels, whose last channels are the cells of a pixel."""

    def __init__(self, grid: FineGrid, width: int = 64) -> None:
        super().__init__(grid)
        half = width // 2
        self.body = nn.Sequential(
            conv(1, width, 5), nn.ReLU(), conv(width, half), nn.ReLU(), conv(half, grid.division**2),
            nn.PixelShuffle(grid.division),
        )  # fmt: skip

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        return Solved(self.body(light[:, None])[:, 0])


@register("edsr", "EDSR", FAMILY)
class EDSR(SingleFrame):
    """Residual blocks without normalisation on whole pixels, then pixel shuffle."""

    def __init__(self, grid: FineGrid, width: int = 32, blocks: int = 16) -> None:
        super().__init__(grid)
        self.head = conv(1, width)
        self.body = nn.Sequential(*(Residual(width) for _ in range(blocks)), conv(width, width))
        self.tail = shuffled_tail(width, grid.division)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        x = self.head(light[:, None])
        return Solved(self.tail(x + self.body(x))[:, 0])


@register("rdn", "RDN", FAMILY)
class RDN(SingleFrame):
    """Densely connected blocks whose outputs are all read together."""

    def __init__(self, grid: FineGrid, width: int = 64, blocks: int = 16, layers: int = 8) -> None:
        super().__init__(grid)
        self.head, self.second = conv(1, width), conv(width, width)
        self.blocks = nn.ModuleList(Dense(width, width, layers, nn.ReLU) for _ in range(blocks))
        self.merge = nn.Sequential(conv(width * blocks, width, 1), conv(width, width))
        self.tail = shuffled_tail(width, grid.division)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        first = self.head(light[:, None])
        x, outputs = self.second(first), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return Solved(self.tail(first + self.merge(torch.cat(outputs, dim=1)))[:, 0])


@register("dbpn", "DBPN", FAMILY)
class DBPN(SingleFrame):
    """Back-projection: features go up to fine cells and down to pixels in turn, each time corrected by what was lost."""

    def __init__(self, grid: FineGrid, width: int = 32, rounds: int = 6) -> None:
        super().__init__(grid)
        self.head = pixel_features(width)
        turns = [Projection(width, grid.division, up=True)]
        for _ in range(rounds):
            turns += [Projection(width, grid.division, up=False), Projection(width, grid.division, up=True)]
        self.body = nn.Sequential(*turns)
        self.tail = conv(width, 1, 1)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        return Solved(self.tail(self.body(self.head(light[:, None])))[:, 0])


@register("gmfn", "GMFN", FAMILY)
class GMFN(SingleFrame):
    """Dense blocks on whole pixels, passed once or, with feedback, several times.

    From the second pass on each block's input is mixed with all blocks' outputs of the pass before. Every pass gives a map;
    the last is read, and all are compared with the label. The published toolkit scores one pass only.
    """

    def __init__(self, grid: FineGrid, width: int = 32, blocks: int = 8, layers: int = 8, passes: int = 1) -> None:
        super().__init__(grid)
        self.passes = passes
        self.head = pixel_features(width)
        self.blocks = nn.ModuleList(Dense(width, width, layers, prelu, scale=0.2) for _ in range(blocks))
        if passes > 1:
            self.remember = nn.Sequential(conv(width * blocks, width, 1), prelu())
            self.mix = nn.Sequential(conv(2 * width, width, 1), prelu())
        self.tail = nn.Sequential(up_conv(width, grid.division), prelu(), conv(width, 1))

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        first, skip = self.head(light[:, None]), enlarged(light[:, None], self.grid.division)
        maps: list[Tensor] = []
        outputs: list[Tensor] = []
        for number in range(self.passes):
            memory = self.remember(torch.cat(outputs, dim=1)) if number else None
            x, outputs = first, []
            for block in self.blocks:
                x = block(x if memory is None else self.mix(torch.cat([memory, x], dim=1)))
                outputs.append(x)
            maps.append((self.tail(x) + skip)[:, 0])
        return Solved(maps[-1], passes=tuple(maps[:-1]))


class Dense(nn.Module):
    """A dense block: each convolution reads the input and all outputs before it; 1 x 1 back to the width, addition."""

    def __init__(
        self, width: int, growth: int, layers: int, activation: type[nn.Module] | object, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(conv(width + k * growth, growth), activation())  # type: ignore[operator]
            for k in range(layers)
        )
        self.merge, self.scale = conv(width + layers * growth, width, 1), scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        seen = x
        for layer in self.layers:
            seen = torch.cat([seen, layer(seen)], dim=1)
        output: Tensor = x + self.scale * self.merge(seen)
        return output


class Projection(nn.Module):
    """Features enlarged (or reduced) by the division, and corrected by what the way back misses."""

    def __init__(self, width: int, division: int, *, up: bool) -> None:
        super().__init__()
        there, back = (up_conv, down_conv) if up else (down_conv, up_conv)
        self.first, self.back, self.correct = (
            nn.Sequential(layer(width, division), prelu()) for layer in (there, back, there)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to c times or a c-th of the height and width."""
        first = self.first(x)
        output: Tensor = first + self.correct(self.back(first) - x)
        return output


def prelu() -> nn.PReLU:
    """A ReLU with one learned slope below 0."""
    return nn.PReLU(init=PRELU)


def pixel_features(width: int) -> nn.Sequential:
    """Features of whole pixels (B, width, h, w) from (B, 1, h, w), by way of four times as many."""
    return nn.Sequential(conv(1, 4 * width), prelu(), conv(4 * width, width, 1), prelu())


def up_conv(width: int, division: int) -> nn.ConvTranspose2d:
    """A transposed convolution to `division` times the size; 7 x 7 at division 3."""
    return nn.ConvTranspose2d(width, width, division + 4, stride=division, padding=2)


def down_conv(width: int, division: int) -> nn.Conv2d:
    """A strided convolution to a `division`-th of the size; 7 x 7 at division 3."""
    return nn.Conv2d(width, width, division + 4, stride=division, padding=2)


def shuffled_tail(width: int, division: int) -> nn.Sequential:
    """Features of whole pixels to a fine map: convolution, pixel shuffle, convolution."""
    return nn.Sequential(conv(width, width * division**2), nn.PixelShuffle(division), conv(width, 1))


def enlarged(image: Tensor, division: int) -> Tensor:
    """Bilinear enlargement (B, C, h, w) to the fine grid."""
    return F.interpolate(image, scale_factor=division, mode="bilinear", align_corners=False)
