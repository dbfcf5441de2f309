"""DeRefNet as ONNX graphs: `unfold` for single frames and `fuse` for windows, in two forms.

The form "deform" has ONNX's own DeformConv (opset 19: ONNX Runtime from 1.31); "portable" samples with GridSample (opset
17) for all others, TensorRT among them. All dimensions but the batch are fixed.

    unfold: patches (B, h, w) DN -> maps (B, H, W) DN
    fuse:   maps (B, 5, H, W) DN[, patches (B, 5, h, w) DN][, places (B, 5)] -> map (B, H, W) DN[, claims (B, 7, H, W)]

patches go in and claims come out where the engine has the continuous head or counts light by its peak; places go in
where the time code is by clip. An engine that is told of the sensor takes seven more planes after the five patches
(unmix.told). Arrays and pieces are named as in learn.network, whose restatement this is.

What an engine is exported with refers to its weights, so that it has its numbers once, under one hash. For a GPU
(build_for_gpu) a graph holds its weights, in half precision or in whole numbers where that is asked for, and takes

    fuse:   store (M, H, W) DN, rows (B, 5) int32: the maps of all frames that are held, and which of them a window has

so that maps stay where they are made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.unmix.engine import LOG_SD, UNIT, WINDOW, EngineManifest
from irst_stream.unmix.onnx_writer import FORMS, Drawing, Form, Style

__all__ = ["build", "build_all", "build_for_gpu"]

INT32 = 6  # ONNX's number of this type


def build(manifest: EngineManifest, data: bytes, form: Form) -> dict[str, bytes]:
    """The graphs of the engine whose weights.safetensors is `data`: "unfold" and "fuse", serialised, without weights."""
    return {name: drawing.serialise(name) for name, drawing in _draw(manifest, data, Style(form)).items()}


def build_all(manifest: EngineManifest, data: bytes) -> dict[tuple[str, Form, int], bytes]:
    """Both graphs in both forms, by part, form and opset, as engine.write_graphs takes them."""
    return {
        (part, form, opset): graph for form, opset in FORMS.items() for part, graph in build(manifest, data, form).items()
    }


def build_for_gpu(manifest: EngineManifest, data: bytes, style: Style) -> dict[str, Drawing]:
    """The graphs that TensorRT takes, "unfold" and "fuse", with their weights; see above."""
    return _draw(manifest, data, style)


def _draw(manifest: EngineManifest, data: bytes, style: Style) -> dict[str, Drawing]:
    try:
        return {name: draw(Drawing(data, manifest, style)) for name, draw in (("unfold", _unfold), ("fuse", _fuse))}
    except KeyError as error:
        raise FormatError(f"the engine has no array {error}; it is not this network's") from error


def _unfold(g: Drawing) -> Drawing:
    patches = g.input("patches", *g.patch)
    scale = g.scale(patches, 1, 2)
    phi, back = g.weight("unfold.phi"), _transposed(g, "unfold.phi")
    y = g.reshape(g.op("Div", patches, scale) if scale else patches, int(np.prod(g.patch)))
    x = g.op("MatMul", y, _transposed(g, "unfold.qinit"))
    for stage in g.names("unfold.fcs.", ".lambda_step"):
        step = g.constant(g.number(f"{stage}.lambda_step"))
        seen = g.op("MatMul", g.op("Sub", y, g.op("MatMul", x, back)), phi)
        r = g.reshape(g.op("Add", x, g.op("Mul", seen, step)), 1, *g.cells)
        features = g.conv(g.op("Relu", g.conv(r, f"{stage}.conv1_forward")), f"{stage}.conv2_forward")
        shrunk = _shrink(g, features, g.number(f"{stage}.soft_thr"))
        image = g.conv(g.op("Relu", g.conv(shrunk, f"{stage}.conv1_backward")), f"{stage}.conv2_backward")
        x = g.reshape(g.wide(image), int(np.prod(g.cells)))
    maps = g.reshape(x, *g.cells)
    g.output(g.op("Mul", maps, scale) if scale else maps, "maps", *g.cells)
    return g


def _transposed(g: Drawing, name: str) -> str:
    rows, columns = g.shape(name)
    return g.rearranged(name, [rows, columns], [1, 0], [columns, rows])


def _shrink(g: Drawing, x: str, threshold: float) -> str:
    """sign(x) max(|x| - threshold, 0), in operators that every runtime has."""
    if threshold < 0:
        return g.op("Sub", x, g.op("Mul", g.op("Sign", x), g.constant(threshold)))
    return g.op("Sub", x, g.op("Clip", x, g.constant(-threshold), g.constant(threshold)))


def _fuse(g: Drawing) -> Drawing:
    maps = g.op("Mul", _held_maps(g), _gates(g))
    with_patches = g.manifest.head == "continuous" or g.manifest.scale == "peak"
    given = g.input("patches", g.manifest.planes, *g.patch) if with_patches else ""
    patches = g.take(given, *range(WINDOW)) if g.manifest.told else given
    scale = g.scale(patches, 1, 2, 3) if patches else None
    if scale:
        maps = g.op("Div", maps, scale)
    x = g.op("Relu", g.conv(_in_order(g, maps), "fuse.merge"))
    for block in g.names("fuse.blocks.", ".conv1.weight"):
        x = _block(g, x, block)
    image = g.wide(g.conv(x, "fuse.tail"))
    g.output(g.reshape(g.op("Mul", image, scale) if scale else image, *g.cells), "map", *g.cells)
    if g.manifest.head == "continuous":
        g.output(_head(g, x, patches, given, scale), "claims", 7, *g.cells)
    return g


def _held_maps(g: Drawing) -> str:
    """The maps of the windows' frames, (B, 5, H, W)."""
    if not g.style.whole:
        return g.input("maps", WINDOW, *g.cells)
    store = g.input("store", *g.cells, batch="M")
    return g.op("Gather", store, g.input("rows", WINDOW, kind=INT32), axis=0)


def _gates(g: Drawing) -> str:
    """(1 or B, 5, H or 1, W or 1); constant, and folded by the runtime, where the code is by the place in the window."""
    known = g.manifest.time_code == "window"
    places = g.constant(np.arange(float(WINDOW))[None]) if known else g.input("places", WINDOW)
    share = g.op("Div", g.reshape(places, WINDOW, 1), g.constant(float(g.manifest.code_length)))
    logits = g.op("Add", g.op("Mul", share, g.weight("code.slope")), g.weight("code.bias"))
    return g.reshape(g.op("Sigmoid", logits), WINDOW, *(g.cells if g.shape("code.slope") != [1] else (1, 1)))


def _in_order(g: Drawing, maps: str) -> str:
    """The centre's map between its aligned neighbours, (B, 5, H, W); all neighbours are aligned as one batch."""
    middle = WINDOW // 2
    others = [t for t in range(WINDOW) if t != middle]
    centre = g.take(maps, middle)
    single = g.reshape(g.take(maps, *others), 1, *g.cells)
    moved = g.op("Relu", g.conv(single, "fuse.extract"))  # B x 4
    seen = g.op("Relu", g.conv(centre, "fuse.extract"))  # B
    moved = _deform(g, moved, _select(g, seen, moved, len(others)), "fuse.align_1")
    moved = _deform(g, moved, moved, "fuse.align_2")
    aligned = g.reshape(g.conv(moved, "fuse.conv"), len(others), *g.cells)
    earlier, later = g.take(aligned, *range(middle)), g.take(aligned, *range(middle, 2 * middle))
    return g.op("Concat", earlier, centre, later, axis=1)


def _select(g: Drawing, centre: str, neighbours: str, each: int) -> str:
    """Features of B centres and B x each neighbours to what steers the alignment, (B x each, C, H, W)."""
    own = g.conv(centre, "fuse.select.conv0_s")
    half = g.shape("fuse.select.conv0_s.weight")[0]
    own = g.reshape(g.op("Tile", own, g.constant([1, each, 1, 1])), half, *g.cells)
    other = g.conv(neighbours, "fuse.select.conv1_s")
    both = g.op("Concat", own, other, axis=1)
    mean, most = g.reduce("ReduceMean", both, 1), g.reduce("ReduceMax", both, 1)
    weight = g.op("Sigmoid", g.conv(g.op("Concat", mean, most, axis=1), "fuse.select.conv_squeeze"))
    halves = g.op("Mul", own, g.take(weight, 0)), g.op("Mul", other, g.take(weight, 1))
    return g.op("Concat", *halves, axis=1)


def _deform(g: Drawing, features: str, steering: str, name: str) -> str:
    """The deformable convolution of that name; offset channel 2k is tap k's rows down, 2k + 1 its columns right."""
    offset = g.conv(steering, f"{name}.conv_offset")
    if g.style.form == "deform":
        return g.op("DeformConv", features, g.weight(f"{name}.weight"), offset, kernel_shape=[3, 3], pads=[1] * 4)
    height, width = g.cells
    tap = np.arange(9)[:, None, None]
    rows = np.arange(height)[:, None] + tap // 3 - 1 + np.zeros((9, 1, width))
    columns = np.arange(width) + tap % 3 - 1 + np.zeros((9, height, 1))
    offset = g.reshape(g.wide(offset), 9, 2, height, width)
    down = _across(g, g.op("Gather", offset, g.constant(0), axis=2), rows, height)
    right = _across(g, g.op("Gather", offset, g.constant(1), axis=2), columns, width)
    grid = g.reshape(g.op("Concat", right, down, axis=4), 9 * height, width, 2)
    sampled = g.op("GridSample", g.wide(features), grid, mode="bilinear", padding_mode="zeros", align_corners=1)
    channels, taken = g.shape(f"{name}.weight")[:2]
    whole, flat = g.shape(f"{name}.weight"), [channels, taken * 9, 1, 1]
    kernel = g.rearranged(f"{name}.weight", whole, [0, 1, 2, 3], flat)
    return g.convolve(g.reshape(sampled, taken * 9, height, width), kernel)


def _across(g: Drawing, offset: str, place: NDArray[Any], size: int) -> str:
    """Offsets (B, 9, H, W) from a place in cells to (B, 9, H, W, 1), from -1 to 1 across the image."""
    scaled = g.op("Mul", offset, g.constant(2 / (size - 1)))
    moved = g.op("Add", scaled, g.constant(place * (2 / (size - 1)) - 1))
    return g.reshape(moved, 9, *place.shape[1:], 1)


def _head(g: Drawing, features: str, patches: str, given: str, scale: str | None) -> str:
    """Claims (B, 7, H, W) of the continuous head; given: the patches, then the sensor's planes."""
    division = g.manifest.division
    unit = g.op("Mul", scale, g.constant(UNIT)) if scale else g.constant(UNIT)
    light = g.op("Div", patches, unit)
    if g.manifest.told:
        light = g.op("Concat", light, g.take(given, *range(WINDOW, g.manifest.planes)), axis=1)
    wide = g.op("SpaceToDepth", g.op("Div", features, g.constant(UNIT)), blocksize=division)
    x = g.op("Add", g.conv(light, "head.patches"), g.convolve(wide, _by_block(g), pads=[1] * 4))
    x = g.op("Relu", x)
    for block in g.names("head.blocks.", ".conv1.weight"):
        x = _block(g, x, block)
    raw = g.op("DepthToSpace", g.wide(g.conv(x, "head.tail")), blocksize=division, mode="CRD")
    sd = g.op("Exp", g.op("Clip", g.take(raw, 3, 4, 6), g.constant(LOG_SD[0]), g.constant(LOG_SD[1])))
    light, light_sd = (g.op("Mul", value, unit) for value in (g.take(raw, 5), g.take(sd, 2)))
    presence = g.op("Sigmoid", g.take(raw, 0))
    return g.op("Concat", presence, g.take(raw, 1, 2), g.take(sd, 0, 1), light, light_sd, axis=1)


def _by_block(g: Drawing) -> str:
    """The head's weight for features, (O, C, 3, 3) over channels, rows, columns of a pixel, as SpaceToDepth orders them."""
    outs, ins = g.shape("head.features.weight")[:2]
    cells = g.manifest.division**2
    split, whole = [outs, ins // cells, cells, 3, 3], [outs, ins, 3, 3]
    return g.rearranged("head.features.weight", split, [0, 2, 1, 3, 4], whole)


def _block(g: Drawing, x: str, name: str) -> str:
    return g.op("Add", x, g.conv(g.op("Relu", g.conv(x, f"{name}.conv1")), f"{name}.conv2"))
