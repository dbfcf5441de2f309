"""The generators of SRGAN, ESRGAN and BSRGAN, and the discriminators that they are trained against.

A generator is first trained by squared error, and then against its discriminator, which is never shipped. The published
ones also compare features of a network trained on photographs; ours do not.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name
from torch.nn.utils.parametrizations import spectral_norm

from irst_stream.learn.methods.method import register
from irst_stream.learn.methods.shared import Residual, SingleFrame, Solved, conv
from irst_stream.learn.methods.super_resolution import enlarged
from irst_stream.optics import FineGrid

__all__ = ["DISCRIMINATORS", "RELATIVISTIC", "PatchDiscriminator", "Rrdb", "SrResNet"]

FAMILY = "generative"


@register("srresnet", "SRResNet (SRGAN before its adversary)", FAMILY)
@register("srgan", "SRGAN", FAMILY, "adversarial")
class SrResNet(SingleFrame):
    """Residual blocks on whole pixels, pixel shuffle, plus the enlarged patch."""

    def __init__(self, grid: FineGrid, width: int = 64, blocks: int = 16) -> None:
        super().__init__(grid)
        self.head, self.body = conv(1, width), nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.grow = nn.Sequential(conv(width, width * grid.division**2), nn.PixelShuffle(grid.division))
        self.tail = nn.Sequential(nn.LeakyReLU(0.1), conv(width, width), nn.LeakyReLU(0.1), conv(width, 1))

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        patch = light[:, None]
        x = self.body(F.leaky_relu(self.head(patch), 0.1))
        return Solved((self.tail(self.grow(x)) + enlarged(patch, self.grid.division))[:, 0])


@register("rrdb", "RRDB (ESRGAN and BSRGAN before their adversaries)", FAMILY)
@register("esrgan", "ESRGAN", FAMILY, "adversarial")
@register("bsrgan", "BSRGAN", FAMILY, "adversarial")
class Rrdb(SingleFrame):
    """Residual blocks of dense blocks, enlarged by repetition: 23 blocks for ESRGAN, 16 for BSRGAN as published."""

    def __init__(self, grid: FineGrid, width: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__(grid)
        self.head, self.after = conv(1, width), conv(width, width)
        self.body = nn.Sequential(*(DenseOfDense(width, growth) for _ in range(blocks)))
        self.fine, self.last = conv(width, width), conv(width, width)
        self.tail = conv(width, 1)

    def solve(self, light: Tensor) -> Solved:
        """Compute maps of patches (B, h, w), both in units of light."""
        first = self.head(light[:, None])
        x = first + self.after(self.body(first))
        x = F.interpolate(x, scale_factor=self.grid.division, mode="nearest")
        x = F.leaky_relu(self.last(F.leaky_relu(self.fine(x), 0.2)), 0.2)
        return Solved(self.tail(x)[:, 0])


class DenseOfDense(nn.Module):
    """Three dense blocks in a row, a fifth of whose result is added."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(FiveConvolutions(width, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        output: Tensor = x + 0.2 * self.blocks(x)
        return output


class FiveConvolutions(nn.Module):
    """Five convolutions that each read all before them, starting small; a fifth of the last is added."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(width + k * growth, growth if k < 4 else width) for k in range(5))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
            with torch.no_grad():
                layer.weight.mul_(0.1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        seen = x
        for layer in self.layers[:-1]:
            seen = torch.cat([seen, F.leaky_relu(layer(seen), 0.2)], dim=1)
        output: Tensor = x + 0.2 * self.layers[-1](seen)
        return output


class PatchDiscriminator(nn.Module):
    """SRGAN's: levels of convolutions and strided convolutions, then two linear layers; one logit a map."""

    def __init__(self, grid: FineGrid, width: int = 64) -> None:
        super().__init__()
        levels, side = [1, 2, 4, 8, 8], min(grid.shape)
        levels = levels[: max(side.bit_length() - 1, 1)]  # each halves the map, which has at least one cell left
        parts: list[nn.Module] = []
        before = 1
        for factor in levels:
            channels = width * factor
            for inputs, size, stride in ((before, 3, 1), (channels, 4, 2)):
                parts.append(nn.Conv2d(inputs, channels, size, stride, padding=1, bias=not parts))
                if len(parts) > 1:
                    parts.append(nn.BatchNorm2d(channels))
                parts.append(nn.LeakyReLU(0.2))
            before = channels
        cells = (grid.shape[0] >> len(levels)) * (grid.shape[1] >> len(levels))
        self.features = nn.Sequential(*parts, nn.Flatten())
        self.logit = nn.Sequential(nn.Linear(before * cells, 100), nn.LeakyReLU(0.2), nn.Linear(100, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, 1) of maps (B, H, W) in units of light."""
        logits: Tensor = self.logit(self.features(maps[:, None]))
        return logits


class UNetDiscriminator(nn.Module):
    """BSRGAN's: a U-Net with spectral norm that judges every cell."""

    def __init__(self, grid: FineGrid, width: int = 64) -> None:  # noqa: ARG002 - it takes maps of any size
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.head = conv(1, width)
        self.down = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, 2, 1, bias=False)) for a, b in pairwise(widths))
        self.up = nn.ModuleList(
            spectral_norm(conv(b, a, bias=False)) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.body = nn.ModuleList(spectral_norm(conv(width, width, bias=False)) for _ in range(2))
        self.tail = conv(width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of maps (B, H, W) in units of light."""
        x = F.leaky_relu(self.head(maps[:, None]), 0.2)
        skips = []
        for layer in self.down:
            skips.append(x)
            x = F.leaky_relu(layer(x), 0.2)
        for layer, skip in zip(self.up, reversed(skips), strict=True):
            x = F.leaky_relu(layer(F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)), 0.2) + skip
        for layer in self.body:
            x = F.leaky_relu(layer(x), 0.2)
        logits: Tensor = self.tail(x)
        return logits


DISCRIMINATORS = {"srgan": PatchDiscriminator, "esrgan": PatchDiscriminator, "bsrgan": UNetDiscriminator}
RELATIVISTIC = ("esrgan", "bsrgan")  # a logit is compared with the mean of the other kind
