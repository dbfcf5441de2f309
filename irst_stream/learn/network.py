r"""DeRefNet in plain PyTorch, split so that a stream computes each frame's map only once.

`Unfold` turns one frame into a fine map, independently of other frames. `TimeCode` gates the five maps of a window by
their place in time. `Fuse` aligns the neighbours to the centre and merges them into one map, as the reference does: the
plain head. The continuous head reads Fuse's features and the window's patches, and predicts for each fine cell the
probability of a target, its position in px, its amplitude, and the standard deviations of both: the cell's claim.

    patches (B, 11, 11) DN --Unfold--> maps (B, 33, 33) --TimeCode, Fuse--> map (B, 33, 33) of a window's centre frame
                                                                     \--Head--> claims (B, 7, 33, 33)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.errors import UsageError
from irst_stream.learn.deform import deform_conv
from irst_stream.optics import SIGMA, FineGrid
from irst_stream.unmix.engine import CLAIM_CHANNELS, LIGHT_UNIT_DN, LOG_SD, MIN_PEAK_DN, SENSOR_PLANES, WINDOW

__all__ = ["DeRefNet", "Fuse", "Fused", "Head", "Unfold", "decode_claims"]

WIDTH = 32  # channels
STAGES = 9
BLOCKS = 5
HEAD_WIDTH, HEAD_BLOCKS = 96, 6  # of the continuous head, which works on whole pixels
INITIAL_AMPLITUDE = 2.0  # predicted before training, in the unit of light
INITIAL_PRESENCE_LOGIT = -6.0  # few of the thousand cells hold a target


class Fused(NamedTuple):
    """The network's output for the centre frames of B windows.

    map (B, 33, 33) DN; centre (B, 33, 33): the centre frame's gated map; aligned (B, 4, 33, 33): the neighbours' maps,
    aligned to it; features (B, 32, 33, 33); raw (B, 7, 33, 33): the continuous head's output, None without that head;
    scale (B, 1, 1, 1): the unit, DN, of light in raw.
    """

    map: Tensor
    centre: Tensor
    aligned: Tensor
    features: Tensor
    raw: Tensor | None = None
    scale: Tensor | None = None


class Stage(nn.Module):
    """One step of the unfolded iteration: a gradient step towards the data, then a learned shrinkage."""

    def __init__(self) -> None:
        super().__init__()
        self.lambda_step = nn.Parameter(torch.tensor(0.5))
        self.soft_thr = nn.Parameter(torch.tensor(0.01))
        self.conv1_forward = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.conv2_forward = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.conv1_backward = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.conv2_backward = nn.Conv2d(WIDTH, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor, y: Tensor, phi: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Compute the next x and the symmetry error (B, 1, *shape) from x (B, cells) and the data y (B, pixels)."""
        with torch.autocast(x.device.type, enabled=False):  # half precision is too coarse for the data
            x = x.to(phi.dtype)
            r = x + self.lambda_step * (y - x @ phi.T) @ phi  # PhiT Phi (cells x cells) is never formed
        r = r.view(-1, 1, *shape)
        features = self.conv2_forward(F.relu(self.conv1_forward(r)))
        shrunk = features.sign() * F.relu(features.abs() - self.soft_thr)
        symmetry = self._back(features) - r if self.training else torch.zeros_like(r)
        return self._back(shrunk).flatten(1), symmetry

    def _back(self, features: Tensor) -> Tensor:
        image: Tensor = self.conv2_backward(F.relu(self.conv1_backward(features)))
        return image


class Unfold(nn.Module):
    """Patches (B, H, W) DN to fine maps (B, H c, W c) DN. qinit (cells, pixels) maps a patch linearly to the initial x."""

    phi: Tensor
    qinit: Tensor

    def __init__(self, grid: FineGrid | None = None, sigma: float = SIGMA) -> None:
        super().__init__()
        self.grid = grid or FineGrid()
        phi = torch.tensor(self.grid.phi(sigma), dtype=torch.float32)
        self.register_buffer("phi", phi)
        self.register_buffer("qinit", torch.linalg.pinv(phi, rtol=1e-3))  # replaced when training starts
        self.fcs = nn.ModuleList(Stage() for _ in range(STAGES))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the maps, and the stages' symmetry errors (B, stages, H c, W c), which are 0 outside training."""
        y = patches.flatten(1)
        with torch.autocast(y.device.type, enabled=False):
            x = y @ self.qinit.T
        errors = []
        for stage in self.fcs:
            x, error = stage(x, y, self.phi, self.grid.shape)
            errors.append(error)
        return x.view(-1, *self.grid.shape), torch.cat(errors, dim=1)


class TimeCode(nn.Module):
    """Gate maps by their frame's place in time: sigmoid(place / length x slope + bias).

    The reference has a gate for every cell and counts places in a clip of `length` frames. A stream uses only places 0 to
    4, and one gate for all cells, since the position of a group in its patch is arbitrary.
    """

    def __init__(self, cells: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.slope = nn.Parameter(torch.zeros(cells))
        self.bias = nn.Parameter(torch.full((cells,), 2.0))  # nearly open

    def forward(self, places: Tensor) -> Tensor:
        """Gates (..., cells) of places (...)."""
        return torch.sigmoid(places[..., None] / self.length * self.slope + self.bias)


class Deform(nn.Module):
    """A deformable convolution whose offsets are computed from steering features by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(WIDTH, WIDTH, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.conv_offset = nn.Conv2d(WIDTH, 18, 3, padding=1)
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)  # starts as an ordinary convolution

    def forward(self, features: Tensor, steering: Tensor) -> Tensor:
        """Convolve features (B, 32, H, W), with offsets from steering (B, 32, H, W), to (B, 32, H, W)."""
        return deform_conv(features, self.conv_offset(steering), self.weight)


class Select(nn.Module):
    """Combine both frames' features into those that steer the alignment, each weighted by a spatial attention map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0_s = nn.Conv2d(WIDTH, WIDTH // 2, 1)
        self.conv1_s = nn.Conv2d(WIDTH, WIDTH // 2, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, centre: Tensor, neighbour: Tensor) -> Tensor:
        """Combine the features (B, 32, H, W) of two frames to (B, 32, H, W)."""
        halves = self.conv0_s(centre), self.conv1_s(neighbour)
        both = torch.cat(halves, dim=1)
        pooled = torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=1)
        weight = torch.sigmoid(self.conv_squeeze(pooled))
        return torch.cat([halves[0] * weight[:, :1], halves[1] * weight[:, 1:]], dim=1)


class Block(nn.Module):
    """Residual block: convolution, ReLU, convolution, addition."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        output: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return output


class Fuse(nn.Module):
    """Merge the five gated maps of a window (B, 5, H, W) into one."""

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
        """Compute the centre frame's map, in the unit of `maps`, and the features behind it."""
        middle = WINDOW // 2
        features = F.relu(self.extract(maps.flatten(0, 1)[:, None]))
        features = features.view(*maps.shape[:2], *features.shape[1:])  # (B, 5, 32, H, W)
        others = [t for t in range(WINDOW) if t != middle]
        aligned = torch.cat([self._align(features[:, middle], features[:, t]) for t in others], dim=1)
        by_time = torch.cat([aligned[:, :middle], maps[:, middle : middle + 1], aligned[:, middle:]], dim=1)
        merged = self.blocks(F.relu(self.merge(by_time)))
        return Fused(self.tail(merged)[:, 0], maps[:, middle], aligned, merged)

    def _align(self, centre: Tensor, neighbour: Tensor) -> Tensor:
        """The neighbour's map (B, 1, H, W) aligned to the centre, from the features of both frames."""
        moved = self.align_1(neighbour, self.select(centre, neighbour))
        image: Tensor = self.conv(self.align_2(moved, moved))
        return image


class Head(nn.Module):
    """Predict each fine cell's claim from the fused features and the window's patches.

    It computes on whole pixels, with a cell's outputs as channels, which is cheaper than on fine cells.
    """

    def __init__(self, division: int, planes: int) -> None:
        """planes: number of input planes after the window's patches that describe the sensor."""
        super().__init__()
        self.division = division
        cells = division**2
        self.patches = nn.Conv2d(WINDOW + planes, HEAD_WIDTH, 3, padding=1)
        self.features = nn.Conv2d(WIDTH * cells, HEAD_WIDTH, 3, padding=1, bias=False)
        nn.init.zeros_(self.features.weight)  # so a head trained on patches alone is a valid start
        self.blocks = nn.Sequential(*(Block(HEAD_WIDTH) for _ in range(HEAD_BLOCKS)))
        self.tail = nn.Conv2d(HEAD_WIDTH, CLAIM_CHANNELS * cells, 1)
        initial = [INITIAL_PRESENCE_LOGIT, 0, 0, 0, 0, INITIAL_AMPLITUDE, 0]
        with torch.no_grad():
            for block in self.blocks:
                block.conv2.weight.mul_(0.3)  # type: ignore[union-attr, operator]
            self.tail.weight.mul_(0.1)
            self.tail.bias.copy_(torch.tensor(initial).repeat_interleave(cells))  # type: ignore[union-attr]

    def forward(self, patches: Tensor, features: Tensor | None) -> Tensor:
        """Compute raw claims (B, 7, H, W) from patches (B, 5 + planes, h, w) and features (B, 32, H, W) or None.

        Light is in the unit of the network's scale.
        """
        x = self.patches(patches)
        if features is not None:
            x = x + self.features(F.pixel_unshuffle(features, self.division))
        return F.pixel_shuffle(self.tail(self.blocks(F.relu(x))), self.division)


def decode_claims(raw: Tensor, scale: Tensor) -> Tensor:
    """Convert the head's raw output (B, 7, H, W) to the claims of types.Unmixed; x and y are px from the cell's centre.

    scale (B, 1, 1, 1) DN: the unit of light in raw.
    """
    log_sd = raw[:, [3, 4, 6]].clamp(*LOG_SD)
    sd = log_sd.exp()
    return torch.cat([raw[:, :1].sigmoid(), raw[:, 1:3], sd[:, :2], raw[:, 5:6] * scale, sd[:, 2:] * scale], dim=1)


class DeRefNet(nn.Module):
    """The whole network, for windows or for clips.

    code_length: 5 for streams, 20 for the reference's clips. head: whether it has the continuous head. by_peak: whether
    light is relative to the brightest pixel, which suits targets of any brightness, instead of in DN as in the reference.
    told: whether the head takes facts about the sensor; a window's patches are then followed by the planes of unmix.told,
    (B, 5 + 7, h, w).
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
        self.head = Head(self.unfold.grid.division, SENSOR_PLANES if told else 0) if head else None
        self.by_peak = by_peak

    def forward(self, patches: Tensor) -> Fused:
        """Run windows (B, 5, 11, 11) DN, with each frame's place counted in its window."""
        maps = self.maps(patches.flatten(0, 1))[0]
        return self.merge(maps.view(*patches.shape[:2], *maps.shape[1:]), torch.arange(WINDOW), patches)

    def forward_clip(self, patches: Tensor) -> Fused:
        """Run the T - 4 whole windows of a clip (T, 11, 11) DN, with each frame's place counted in the clip."""
        places = torch.arange(len(patches)).unfold(0, WINDOW, 1)
        windows = patches.unfold(0, WINDOW, 1).movedim(-1, 1)
        return self.merge(self.maps(patches)[0].unfold(0, WINDOW, 1).movedim(-1, 1), places, windows)

    def maps(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Unfold patches (B, 11, 11) DN, each independently, to maps (B, 33, 33) DN; also return the symmetry errors."""
        scale = self.scale(patches) / LIGHT_UNIT_DN
        maps, errors = self.unfold(patches / scale)
        return maps * scale, errors

    def merge(self, maps: Tensor, places: Tensor, patches: Tensor) -> Fused:
        """Fuse windows: maps and patches (B, 5, ...) DN, and the frames' places (5,) or (B, 5)."""
        gates = self.code(places.to(maps))
        maps = maps * gates.view(*places.shape, *(self.unfold.grid.shape if gates.shape[-1] > 1 else (1, 1)))
        scale = self.scale(patches[:, :WINDOW])
        fused: Fused = self.fuse(maps / (scale / LIGHT_UNIT_DN))
        raw = None if self.head is None else self.predict_claims(patches, scale, fused.features)
        return fused._replace(map=fused.map * (scale[:, 0] / LIGHT_UNIT_DN), raw=raw, scale=scale)

    def predict_claims(self, patches: Tensor, scale: Tensor, features: Tensor | None) -> Tensor:
        """Run the head on windows' patches DN and planes (B, 5 + planes, h, w): raw claims (B, 7, H, W).

        scale (B, 1, 1, 1) DN; features (B, 32, H, W) of the fused windows, or None to use the patches alone.
        """
        if self.head is None:
            raise UsageError("expected a network with a continuous head, got one without")
        light = torch.cat([patches[:, :WINDOW] / scale, patches[:, WINDOW:]], dim=1)
        raw: Tensor = self.head(light, None if features is None else features / LIGHT_UNIT_DN)
        return raw

    def scale(self, patches: Tensor) -> Tensor:
        """The unit of light (B, ..., 1, 1) DN for patches (B, ..., h, w): LIGHT_UNIT_DN, or each one's brightest pixel."""
        if self.by_peak:
            brightest = patches.flatten(1).amax(1).clamp(min=MIN_PEAK_DN)
        else:
            brightest = torch.full_like(patches.flatten(1)[:, 0], LIGHT_UNIT_DN)
        return brightest.view(-1, *[1] * (patches.ndim - 1))
