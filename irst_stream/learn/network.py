r"""DeRefNet in plain PyTorch, split where a stream wants it split.

`Unfold` turns one frame into a fine map and knows of no other frame, so a stream computes each frame's map once.
`Fuse` gates five maps by their place in time, aligns the neighbours to the centre and merges them into the reference's
single map, the plain head. The continuous head reads Fuse's features and the window's patches, and says of each fine cell
whether it holds a target, where in px, how bright, and how sure it is of that.

    patches (B, 11, 11) DN --Unfold--> maps (B, 33, 33) --TimeCode, Fuse--> map (B, 33, 33) of a window's centre frame
                                                                     \--Head--> claims (B, 7, 33, 33)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from irst_stream.errors import UsageError
from irst_stream.learn.deform import deform_conv
from irst_stream.optics import SIGMA, FineGrid
from irst_stream.unmix.engine import CLAIMS, FAINTEST, LOG_SD, PLANES, UNIT, WINDOW

__all__ = ["DeRefNet", "Fuse", "Fused", "Head", "Unfold", "claims"]

WIDTH = 32  # channels
STAGES = 9
BLOCKS = 5
HEAD_WIDTH, HEAD_BLOCKS = 96, 6  # of the continuous head, which works on whole pixels
BRIGHTNESS = 2.0  # of a target before training, in the unit of light
RARE = -6.0  # logit of presence before training: few of a thousand cells hold a target


class Fused(NamedTuple):
    """What a window shows at its centre frame.

    The map (B, 33, 33) DN, the centre frame's gated map (B, 33, 33) and its neighbours aligned to it (B, 4, 33, 33), the
    features (B, 32, 33, 33); the continuous head's raw
    claims (B, 7, 33, 33), None without that head; the scale (B, 1, 1, 1) of its light, DN.
    """

    map: Tensor
    centre: Tensor
    aligned: Tensor
    features: Tensor
    raw: Tensor | None = None
    scale: Tensor | None = None


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
        with torch.autocast(x.device.type, enabled=False):  # the data are known to more digits than half precision has
            x = x.to(phi.dtype)
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
        with torch.autocast(y.device.type, enabled=False):
            x = y @ self.qinit.T
        errors = []
        for stage in self.fcs:
            x, error = stage(x, y, self.phi, self.grid.shape)
            errors.append(error)
        return x.view(-1, *self.grid.shape), torch.cat(errors, dim=1)


class TimeCode(nn.Module):
    """A gate by a frame's place in time: sigmoid(place / length x slope + bias).

    The reference has one for every cell, and counts places in a clip of `length` frames. A stream has places 0 to 4 only,
    and one gate for all cells, since where in its patch a group stands is chance.
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

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
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
        return Fused(self.tail(merged)[:, 0], maps[:, middle], aligned, merged)

    def _align(self, centre: Tensor, neighbour: Tensor) -> Tensor:
        """Features of two frames to the neighbour's map as seen from the centre, (B, 1, H, W)."""
        moved = self.align_1(neighbour, self.select(centre, neighbour))
        image: Tensor = self.conv(self.align_2(moved, moved))
        return image


class Head(nn.Module):
    """What each fine cell holds, from the fused features and the window's patches; works on whole pixels, being cheaper."""

    def __init__(self, division: int, planes: int) -> None:
        """planes: input planes after the window's patches, which describe the sensor."""
        super().__init__()
        self.division = division
        cells = division**2
        self.patches = nn.Conv2d(WINDOW + planes, HEAD_WIDTH, 3, padding=1)
        self.features = nn.Conv2d(WIDTH * cells, HEAD_WIDTH, 3, padding=1, bias=False)
        nn.init.zeros_(self.features.weight)  # so that a head trained on patches alone is a good beginning
        self.blocks = nn.Sequential(*(Block(HEAD_WIDTH) for _ in range(HEAD_BLOCKS)))
        self.tail = nn.Conv2d(HEAD_WIDTH, CLAIMS * cells, 1)
        with torch.no_grad():
            for block in self.blocks:
                block.conv2.weight.mul_(0.3)  # type: ignore[union-attr, operator]
            self.tail.weight.mul_(0.1)
            self.tail.bias.copy_(torch.tensor([RARE, 0, 0, 0, 0, BRIGHTNESS, 0]).repeat_interleave(cells))  # type: ignore[union-attr]

    def forward(self, patches: Tensor, features: Tensor | None) -> Tensor:
        """Patches (B, 5 + planes, h, w) and features (B, 32, H, W) or None, in units, to raw claims (B, 7, H, W)."""
        x = self.patches(patches)
        if features is not None:
            x = x + self.features(F.pixel_unshuffle(features, self.division))
        return F.pixel_shuffle(self.tail(self.blocks(F.relu(x))), self.division)


def claims(raw: Tensor, scale: Tensor) -> Tensor:
    """The head's raw output (B, 7, H, W), light in shares of the scale, DN, to what types.Unmixed describes.

    x and y are offsets from the cell's centre; the scale is (B, 1, 1, 1).
    """
    log_sd = raw[:, [3, 4, 6]].clamp(*LOG_SD)
    sd = log_sd.exp()
    return torch.cat([raw[:, :1].sigmoid(), raw[:, 1:3], sd[:, :2], raw[:, 5:6] * scale, sd[:, 2:] * scale], dim=1)


class DeRefNet(nn.Module):
    """The whole network, over windows or over clips; code_length 5 for streams, 20 for the reference's clips.

    head: whether it has the continuous head. by_peak: whether light is counted in shares of the brightest pixel, for
    targets of any brightness, rather than in DN, as the reference does. told: whether the head is told of the sensor; then
    the patches of a window come with the planes of unmix.told, (B, 5 + 7, h, w).
    """

    def __init__(
        self,
        grid: FineGrid | None = None,
        code_length: int = WINDOW,
        *,
        head: bool = False,
        by_peak: bool = False,
        told: bool = False,
    ) -> None:
        super().__init__()
        self.unfold = Unfold(grid)
        self.code = TimeCode(1 if code_length == WINDOW else self.unfold.phi.shape[1], code_length)
        self.fuse = Fuse()
        self.head = Head(self.unfold.grid.division, PLANES if told else 0) if head else None
        self.by_peak = by_peak

    def forward(self, patches: Tensor) -> Fused:
        """Windows (B, 5, 11, 11) DN, coded by each frame's place in its window."""
        maps = self.maps(patches.flatten(0, 1))[0]
        return self.merge(maps.view(*patches.shape[:2], *maps.shape[1:]), torch.arange(WINDOW), patches)

    def forward_clip(self, patches: Tensor) -> Fused:
        """A clip (T, 11, 11) DN, coded by each frame's place in the clip, to its T - 4 whole windows."""
        places = torch.arange(len(patches)).unfold(0, WINDOW, 1)
        windows = patches.unfold(0, WINDOW, 1).movedim(-1, 1)
        return self.merge(self.maps(patches)[0].unfold(0, WINDOW, 1).movedim(-1, 1), places, windows)

    def maps(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, 11, 11) DN to maps (B, 33, 33) DN, each by itself, and the stages' symmetry errors."""
        scale = self.scale(patches) / UNIT
        found, errors = self.unfold(patches / scale)
        return found * scale, errors

    def merge(self, maps: Tensor, places: Tensor, patches: Tensor) -> Fused:
        """The maps and patches (B, 5, ...) of windows, and their frames' places (5,) or (B, 5), to what is seen in them."""
        gates = self.code(places.to(maps))
        maps = maps * gates.view(*places.shape, *(self.unfold.grid.shape if gates.shape[-1] > 1 else (1, 1)))
        scale = self.scale(patches[:, :WINDOW])
        found: Fused = self.fuse(maps / (scale / UNIT))
        raw = None if self.head is None else self.look(patches, scale, found.features)
        return found._replace(map=found.map * (scale[:, 0] / UNIT), raw=raw, scale=scale)

    def look(self, patches: Tensor, scale: Tensor, features: Tensor | None) -> Tensor:
        """The head's raw claims (B, 7, H, W) of windows' patches and planes (B, 5 + planes, h, w), by this scale, DN."""
        if self.head is None:
            raise UsageError("expected a network with a continuous head")
        light = torch.cat([patches[:, :WINDOW] / scale, patches[:, WINDOW:]], dim=1)
        raw: Tensor = self.head(light, None if features is None else features / UNIT)
        return raw

    def scale(self, patches: Tensor) -> Tensor:
        """What light is counted in, (B, ..., 1, 1) DN: UNIT, or the brightest pixel of each patch (B, ..., h, w)."""
        if self.by_peak:
            brightest = patches.flatten(1).amax(1).clamp(min=FAINTEST)
        else:
            brightest = torch.full_like(patches.flatten(1)[:, 0], UNIT)
        return brightest.view(-1, *[1] * (patches.ndim - 1))
