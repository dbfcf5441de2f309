"""DeRefNet in NumPy: short, readable, slow. What every other backend is held against.

`weights` are the network's arrays by name, as learn.network.DeRefNet names them in its state dict, float32 or float64.
Images are (B, C, H, W), maps (B, H, W), in DN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.unmix.engine import Engine, window_places

__all__ = ["fuse", "gates", "run", "unfold"]

Array = NDArray[Any]
Weights = Mapping[str, Array]


def run(engine: Engine, patches: Array) -> Array:
    """A sequence of patches (frames, h, w) DN to the maps (frames - 4, H, W) of its whole windows' centre frames."""
    places, w = window_places(engine.manifest, len(patches)), engine.weights
    try:
        maps = unfold(np.asarray(patches, np.float32), w)
        gated = gates(places.ravel(), engine.manifest.code_length, w).reshape(*places.shape, *maps.shape[1:])
        windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(maps, places.shape[1], axis=0), -1, 1)
        return np.concatenate([fuse((m * g)[None], w) for m, g in zip(windows, gated, strict=True)])
    except KeyError as error:
        raise FormatError(f"the engine has no array {error}; it is not this network's") from error


def unfold(patches: Array, weights: Weights) -> Array:
    """Patches (B, h, w) to maps (B, H, W): each frame by itself. The fine grid is square, like the patch."""
    phi = weights["unfold.phi"]
    y = patches.reshape(len(patches), -1)
    side = int(np.sqrt(phi.shape[1]))
    x = y @ weights["unfold.qinit"].T
    stages = sum(name.endswith("lambda_step") for name in weights)
    for k in range(stages):
        x = _stage(x, y, phi, _part(weights, f"unfold.fcs.{k}."), side)
    return x.reshape(-1, side, side)


def gates(places: Array, length: int, weights: Weights) -> Array:
    """Places (T,) in a window or clip of this length to gates (T, H, W), which multiply the maps of those frames."""
    logits = places[:, None] / length * weights["code.slope"] + weights["code.bias"]
    side = int(np.sqrt(logits.shape[1]))
    return np.asarray(1 / (1 + np.exp(-logits))).reshape(-1, side, side)


def fuse(maps: Array, weights: Weights) -> Array:
    """Five gated maps of each window (B, 5, H, W) to the map of its centre frame (B, H, W)."""
    w = _part(weights, "fuse.")
    frames = maps.shape[1]
    middle = frames // 2
    features = [_relu(_conv(maps[:, t : t + 1], w, "extract")) for t in range(frames)]
    in_order = [maps[:, t : t + 1] if t == middle else _align(features[middle], features[t], w) for t in range(frames)]
    x = _relu(_conv(np.concatenate(in_order, axis=1), w, "merge"))
    for k in range(sum(name.endswith("conv1.weight") and name.startswith("blocks.") for name in w)):
        x = x + _conv(_relu(_conv(x, w, f"blocks.{k}.conv1")), w, f"blocks.{k}.conv2")
    return _conv(x, w, "tail")[:, 0]


def _stage(x: Array, y: Array, phi: Array, w: Weights, side: int) -> Array:
    """A gradient step towards the data, then a learned shrinkage."""
    r = (x + w["lambda_step"] * (y - x @ phi.T) @ phi).reshape(-1, 1, side, side)
    features = _conv(_relu(_conv(r, w, "conv1_forward")), w, "conv2_forward")
    shrunk = np.sign(features) * _relu(np.abs(features) - w["soft_thr"])
    return _conv(_relu(_conv(shrunk, w, "conv1_backward")), w, "conv2_backward").reshape(len(x), -1)


def _align(centre: Array, neighbour: Array, w: Weights) -> Array:
    """The neighbour's map as seen from the centre (B, 1, H, W), from both frames' features (B, C, H, W)."""
    moved = _deform(neighbour, _select(centre, neighbour, _part(w, "select.")), _part(w, "align_1."))
    return _conv(_deform(moved, moved, _part(w, "align_2.")), w, "conv")


def _select(centre: Array, neighbour: Array, w: Weights) -> Array:
    halves = _conv(centre, w, "conv0_s"), _conv(neighbour, w, "conv1_s")
    both = np.concatenate(halves, axis=1)
    pooled = np.stack([both.mean(1), both.max(1)], axis=1)
    weight = 1 / (1 + np.exp(-_conv(pooled, w, "conv_squeeze")))
    return np.concatenate([halves[0] * weight[:, :1], halves[1] * weight[:, 1:]], axis=1)


def _deform(features: Array, steering: Array, w: Weights) -> Array:
    """A 3 x 3 convolution whose tap k looks offset (2k, 2k + 1) rows down, columns right of its usual place."""
    offset = _conv(steering, w, "conv_offset")
    _, _, height, width = features.shape
    rows, columns = np.indices((height, width))
    out = 0.0
    for tap in range(9):
        i, j = divmod(tap, 3)
        sampled = _bilinear(features, rows + i - 1 + offset[:, 2 * tap], columns + j - 1 + offset[:, 2 * tap + 1])
        out = out + np.einsum("oc,bchw->bohw", w["weight"][:, :, i, j], sampled)
    return np.asarray(out)


def _bilinear(features: Array, rows: Array, columns: Array) -> Array:
    """Features (B, C, H, W) at places (B, H, W); zero outside."""
    batch, _, height, width = features.shape
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    sampled = np.zeros_like(features)
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = (1 - np.abs(rows - row)) * (1 - np.abs(columns - column)) * inside
            corner = features[np.arange(batch)[:, None, None], :, row.clip(0, height - 1), column.clip(0, width - 1)]
            sampled += share[:, None] * np.moveaxis(corner, -1, 1)
    return sampled


def _conv(x: Array, w: Weights, name: str) -> Array:
    """The convolution of that name, same size out as in."""
    kernel = w[f"{name}.weight"]
    reach = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    views = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
    out: Array = np.einsum("bchwij,ocij->bohw", views, kernel, optimize=True)
    return out + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else out


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _part(weights: Weights, prefix: str) -> dict[str, Array]:
    """The weights below a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
