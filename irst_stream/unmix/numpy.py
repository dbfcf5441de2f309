"""DeRefNet in NumPy: short, readable, slow. The reference for every other backend.

`weights` maps the names in learn.network.DeRefNet's state dict to arrays, float32 or float64. Images are (B, C, H, W), maps
(B, H, W), in DN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.protocols import WindowMaps
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.engine import LIGHT_UNIT_DN, LOG_SD, MIN_PEAK_DN, WINDOW, Engine

__all__ = ["NumpyUnmixer", "fuse", "gates", "head", "sample_bilinear", "unfold"]

Array = NDArray[Any]
Weights = Mapping[str, Array]


class NumpyUnmixer:
    """Runs an engine in NumPy; a protocols.Unmixer."""

    def __init__(self, engine: Engine) -> None:
        self._manifest, self._weights = engine.manifest, engine.weights
        required = {"unfold.phi", "unfold.qinit", "code.slope", "fuse.tail.weight"}
        if engine.manifest.head == "continuous":
            required |= {"head.tail.weight"}
        for name in sorted(required - engine.weights.keys()):
            raise FormatError(f"the engine has no array {name!r}; expected the weights of DeRefNet")

    def unfold(self, patches: Array) -> Array:
        """Turn patches (B, h, w) DN of single frames into maps (B, H, W) DN."""
        scale = self._scale(patches) / LIGHT_UNIT_DN
        return unfold(patches / scale, self._weights) * scale

    def fuse(self, maps: WindowMaps, patches: Array, places: Ints) -> Unmixed:
        """Fuse the maps (B, 5, H, W), patches (B, 5, h, w) and time indices (B, 5) of windows; see protocols.Unmixer."""
        gate = gates(places.ravel(), self._manifest.code_length, self._weights)
        gate = gate.reshape(*places.shape, *gate.shape[1:])
        patches, planes = patches[:, :WINDOW], patches[:, WINDOW:]
        scale = self._scale(patches)
        image, features = fuse(np.asarray(maps) * gate / (scale / LIGHT_UNIT_DN), self._weights)
        image = np.asarray(image * (scale[:, 0] / LIGHT_UNIT_DN), np.float32)
        if self._manifest.head == "map":
            return Unmixed.plain(image)
        light = np.concatenate([patches / scale, planes], axis=1)
        return Unmixed(image, np.asarray(head(light, features / LIGHT_UNIT_DN, scale, self._weights), np.float32))

    def _scale(self, patches: Array) -> Array:
        """The unit of light, (B, ..., 1, 1) DN: LIGHT_UNIT_DN, or the brightest pixel of each of the B inputs."""
        axes = tuple(range(1, patches.ndim))
        if self._manifest.scale == "none":
            return np.full((len(patches), *[1] * len(axes)), LIGHT_UNIT_DN, np.float32)
        return np.asarray(patches.max(axis=axes, keepdims=True, initial=MIN_PEAK_DN))


def unfold(patches: Array, weights: Weights) -> Array:
    """Turn patches (B, h, w) of single frames into maps (B, H, W). The patch and its fine grid are square."""
    phi = weights["unfold.phi"]
    y = patches.reshape(len(patches), -1)
    side = int(np.sqrt(phi.shape[1]))
    x = y @ weights["unfold.qinit"].T
    stages = sum(name.endswith("lambda_step") for name in weights)
    for k in range(stages):
        x = _unfold_stage(x, y, phi, _below(weights, f"unfold.fcs.{k}."), side)
    return x.reshape(-1, side, side)


def gates(places: Array, length: int, weights: Weights) -> Array:
    """Return the time code's gates (T, H, W), which multiply the frames' maps; (T, 1, 1) if all cells share one gate.

    places: (T,) time indices in a window or clip; length: the number of frames that the code covers.
    """
    logits = places[:, None] / length * weights["code.slope"] + weights["code.bias"]
    side = int(np.sqrt(logits.shape[1]))
    return np.asarray(1 / (1 + np.exp(-logits))).reshape(-1, side, side)


def fuse(maps: Array, weights: Weights) -> tuple[Array, Array]:
    """Fuse the gated maps (B, 5, H, W) of windows into the centre frames' maps (B, H, W) and features (B, 32, H, W)."""
    w = _below(weights, "fuse.")
    frames = maps.shape[1]
    middle = frames // 2
    features = [_relu(_conv(maps[:, t : t + 1], w, "extract")) for t in range(frames)]
    in_order = [maps[:, t : t + 1] if t == middle else _align(features[middle], features[t], w) for t in range(frames)]
    x = _relu(_conv(np.concatenate(in_order, axis=1), w, "merge"))
    x = _residual_blocks(x, w)
    return _conv(x, w, "tail")[:, 0], x


def head(light: Array, features: Array, scale: Array, weights: Weights) -> Array:
    """Apply the continuous head; returns claims (B, 7, H, W), see types.Unmixed.

    light: patches (B, 5, h, w), in units of the scale (B, 1, 1, 1) DN, followed by the sensor planes, if any. features:
    (B, 32, H, W), in LIGHT_UNIT_DN.
    """
    w = _below(weights, "head.")
    division = features.shape[-1] // light.shape[-1]
    x = _conv(light, w, "patches") + _conv(_space_to_depth(features, division), w, "features")
    raw = _depth_to_space(_conv(_residual_blocks(_relu(x), w), w, "tail"), division)
    presence, offset, amplitude = 1 / (1 + np.exp(-raw[:, :1])), raw[:, 1:3], raw[:, 5:6]
    sd = np.exp(raw[:, [3, 4, 6]].clip(*LOG_SD))
    return np.concatenate([presence, offset, sd[:, :2], amplitude * scale, sd[:, 2:] * scale], axis=1)


def _residual_blocks(x: Array, w: Weights) -> Array:
    """Apply all residual blocks of a part of the network."""
    for k in range(sum(name.endswith("conv1.weight") and name.startswith("blocks.") for name in w)):
        x = x + _conv(_relu(_conv(x, w, f"blocks.{k}.conv1")), w, f"blocks.{k}.conv2")
    return x


def _space_to_depth(x: Array, division: int) -> Array:
    """Turn the cells of each pixel into channels: (B, C, h c, w c) to (B, C c c, h, w)."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, channels, height // division, division, width // division, division)
    return np.moveaxis(split, (3, 5), (2, 3)).reshape(batch, -1, height // division, width // division)


def _depth_to_space(x: Array, division: int) -> Array:
    """Invert _space_to_depth: (B, C c c, h, w) to (B, C, h c, w c)."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, channels // division**2, division, division, height, width)
    return np.moveaxis(split, (2, 3), (3, 5)).reshape(batch, -1, height * division, width * division)


def _unfold_stage(x: Array, y: Array, phi: Array, w: Weights, side: int) -> Array:
    """Take one gradient step towards the data, then apply learned soft thresholding."""
    r = (x + w["lambda_step"] * (y - x @ phi.T) @ phi).reshape(-1, 1, side, side)
    features = _conv(_relu(_conv(r, w, "conv1_forward")), w, "conv2_forward")
    shrunk = np.sign(features) * _relu(np.abs(features) - w["soft_thr"])
    return _conv(_relu(_conv(shrunk, w, "conv1_backward")), w, "conv2_backward").reshape(len(x), -1)


def _align(centre: Array, neighbour: Array, w: Weights) -> Array:
    """Align a neighbour's map to the centre frame, (B, 1, H, W), from both frames' features (B, C, H, W)."""
    offset_features = _select_features(centre, neighbour, _below(w, "select."))
    once = _deform(neighbour, offset_features, _below(w, "align_1."))
    return _conv(_deform(once, once, _below(w, "align_2.")), w, "conv")


def _select_features(centre: Array, neighbour: Array, w: Weights) -> Array:
    """Weigh both frames' features against each other, for the offsets of the alignment; (B, C, H, W)."""
    halves = _conv(centre, w, "conv0_s"), _conv(neighbour, w, "conv1_s")
    both = np.concatenate(halves, axis=1)
    pooled = np.stack([both.mean(1), both.max(1)], axis=1)
    weight = 1 / (1 + np.exp(-_conv(pooled, w, "conv_squeeze")))
    return np.concatenate([halves[0] * weight[:, :1], halves[1] * weight[:, 1:]], axis=1)


def _deform(features: Array, offset_features: Array, w: Weights) -> Array:
    """Apply a deformable 3 x 3 convolution: tap k is moved by offset channels (2k, 2k + 1), rows down and columns right."""
    offset = _conv(offset_features, w, "conv_offset")
    _, _, height, width = features.shape
    rows, columns = np.indices((height, width))
    out = 0.0
    for tap in range(9):
        i, j = divmod(tap, 3)
        sampled = sample_bilinear(features, rows + i - 1 + offset[:, 2 * tap], columns + j - 1 + offset[:, 2 * tap + 1])
        out = out + np.einsum("oc,bchw->bohw", w["weight"][:, :, i, j], sampled)
    return np.asarray(out)


def sample_bilinear(features: Array, rows: Array, columns: Array) -> Array:
    """Sample features (B, C, H, W) bilinearly at rows and columns (B, H', W'), to (B, C, H', W'); zero outside."""
    batch, channels, height, width = features.shape
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    sampled = np.zeros((batch, channels, *rows.shape[1:]), features.dtype)
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = (1 - np.abs(rows - row)) * (1 - np.abs(columns - column)) * inside
            corner = features[np.arange(batch)[:, None, None], :, row.clip(0, height - 1), column.clip(0, width - 1)]
            sampled += (share[:, None] * np.moveaxis(corner, -1, 1)).astype(features.dtype)
    return sampled


def _conv(x: Array, w: Weights, name: str) -> Array:
    """Apply the named convolution; the output has the size of the input."""
    kernel = w[f"{name}.weight"]
    reach = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    views = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
    out: Array = np.einsum("bchwij,ocij->bohw", views, kernel, optimize=True)
    return out + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else out


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _below(weights: Weights, prefix: str) -> dict[str, Array]:
    """Return the weights whose names begin with a prefix, with the prefix removed."""
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
