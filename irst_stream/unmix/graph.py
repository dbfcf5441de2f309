"""Write DeRefNet as ONNX graphs: `unfold` for single frames and `fuse` for windows, in two forms.

The form "deform" uses ONNX's own DeformConv (opset 19: ONNX Runtime from 1.31); "portable" samples with GridSample (opset
17) for all other runtimes, TensorRT among them. All dimensions but the batch are fixed.

    unfold: patches (B, h, w) DN -> maps (B, H, W) DN
    fuse:   maps (B, 5, H, W) DN[, patches (B, 5, h, w) DN][, places (B, 5)] -> map (B, H, W) DN[, claims (B, 7, H, W)]

`fuse` takes patches if the engine has the continuous head or scales light by its peak, and places (time indices) if the
time code is by clip; it returns claims if the engine has the continuous head. An engine that takes sensor facts has seven
more planes after the five patches (unmix.told). Weights and parts are named as in learn.network, which this module mirrors.

Exported graphs refer to the engine's weights file, so that every number exists once, under one hash. A graph for a GPU
(build_for_gpu) contains its weights, in half precision or quantised to 8 bits if so requested, and takes

    fuse:   store (M, H, W) DN, rows (B, 5) int32: the maps of all stored frames, and the rows that make up each window

so that maps stay in GPU memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.unmix.engine import LIGHT_UNIT_DN, LOG_SD, WINDOW, EngineManifest
from irst_stream.unmix.onnx_writer import FORM_OPSETS, Form, GraphOptions, GraphWriter

__all__ = ["build", "build_all", "build_for_gpu"]

INT32 = 6  # TensorProto.INT32


def build(manifest: EngineManifest, data: bytes, form: Form) -> dict[str, bytes]:
    """Return the serialised graphs "unfold" and "fuse" of a form; `data` is weights.safetensors, to which they refer."""
    return {name: writer.serialise(name) for name, writer in _write_parts(manifest, data, GraphOptions(form)).items()}


def build_all(manifest: EngineManifest, data: bytes) -> dict[tuple[str, Form, int], bytes]:
    """Return both graphs in both forms, keyed by (part, form, opset) as engine.write_graphs takes them."""
    return {
        (part, form, opset): graph
        for form, opset in FORM_OPSETS.items()
        for part, graph in build(manifest, data, form).items()
    }


def build_for_gpu(manifest: EngineManifest, data: bytes, options: GraphOptions) -> dict[str, GraphWriter]:
    """Return the writers of the graphs for TensorRT, "unfold" and "fuse"; see the module's docstring."""
    return _write_parts(manifest, data, options)


def _write_parts(manifest: EngineManifest, data: bytes, options: GraphOptions) -> dict[str, GraphWriter]:
    try:
        parts = (("unfold", _unfold), ("fuse", _fuse))
        return {name: write(GraphWriter(data, manifest, options)) for name, write in parts}
    except KeyError as error:
        raise FormatError(f"the engine has no array {error}; expected the weights of DeRefNet") from error


def _unfold(g: GraphWriter) -> GraphWriter:
    patches = g.input("patches", *g.patch)
    scale = g.scale(patches, 1, 2)
    phi, phi_transposed = g.weight("unfold.phi"), _transposed(g, "unfold.phi")
    y = g.reshape(g.op("Div", patches, scale) if scale else patches, int(np.prod(g.patch)))
    x = g.op("MatMul", y, _transposed(g, "unfold.qinit"))
    for stage in g.names_between("unfold.fcs.", ".lambda_step"):
        step = g.constant(g.scalar(f"{stage}.lambda_step"))
        gradient = g.op("MatMul", g.op("Sub", y, g.op("MatMul", x, phi_transposed)), phi)
        r = g.reshape(g.op("Add", x, g.op("Mul", gradient, step)), 1, *g.cells)
        features = g.conv(g.op("Relu", g.conv(r, f"{stage}.conv1_forward")), f"{stage}.conv2_forward")
        shrunk = _soft_threshold(g, features, g.scalar(f"{stage}.soft_thr"))
        image = g.conv(g.op("Relu", g.conv(shrunk, f"{stage}.conv1_backward")), f"{stage}.conv2_backward")
        x = g.reshape(g.as_single(image), int(np.prod(g.cells)))
    maps = g.reshape(x, *g.cells)
    g.output(g.op("Mul", maps, scale) if scale else maps, "maps", *g.cells)
    return g


def _transposed(g: GraphWriter, name: str) -> str:
    rows, columns = g.shape(name)
    return g.rearranged_weight(name, [rows, columns], [1, 0], [columns, rows])


def _soft_threshold(g: GraphWriter, x: str, threshold: float) -> str:
    """sign(x) max(|x| - threshold, 0), written with operators that every runtime supports."""
    if threshold < 0:
        return g.op("Sub", x, g.op("Mul", g.op("Sign", x), g.constant(threshold)))
    return g.op("Sub", x, g.op("Clip", x, g.constant(-threshold), g.constant(threshold)))


def _fuse(g: GraphWriter) -> GraphWriter:
    maps = g.op("Mul", _window_maps(g), _gates(g))
    with_patches = g.manifest.head == "continuous" or g.manifest.scale == "peak"
    planes = g.input("patches", g.manifest.input_planes, *g.patch) if with_patches else ""
    patches = g.select(planes, *range(WINDOW)) if g.manifest.told else planes
    scale = g.scale(patches, 1, 2, 3) if patches else None
    if scale:
        maps = g.op("Div", maps, scale)
    x = g.op("Relu", g.conv(_align_neighbours(g, maps), "fuse.merge"))
    for block in g.names_between("fuse.blocks.", ".conv1.weight"):
        x = _residual_block(g, x, block)
    image = g.as_single(g.conv(x, "fuse.tail"))
    g.output(g.reshape(g.op("Mul", image, scale) if scale else image, *g.cells), "map", *g.cells)
    if g.manifest.head == "continuous":
        g.output(_continuous_head(g, x, patches, planes, scale), "claims", 7, *g.cells)
    return g


def _window_maps(g: GraphWriter) -> str:
    """The maps of the windows' frames, (B, 5, H, W): an input, or gathered from the store."""
    if not g.options.self_contained:
        return g.input("maps", WINDOW, *g.cells)
    store = g.input("store", *g.cells, batch="M")
    return g.op("Gather", store, g.input("rows", WINDOW, kind=INT32), axis=0)


def _gates(g: GraphWriter) -> str:
    """The time code's gates, (1 or B, 5, H or 1, W or 1); for a code by window they are constant, so runtimes fold them."""
    by_window = g.manifest.time_code == "window"
    places = g.constant(np.arange(float(WINDOW))[None]) if by_window else g.input("places", WINDOW)
    fraction = g.op("Div", g.reshape(places, WINDOW, 1), g.constant(float(g.manifest.code_length)))
    logits = g.op("Add", g.op("Mul", fraction, g.weight("code.slope")), g.weight("code.bias"))
    return g.reshape(g.op("Sigmoid", logits), WINDOW, *(g.cells if g.shape("code.slope") != [1] else (1, 1)))


def _align_neighbours(g: GraphWriter, maps: str) -> str:
    """Align the neighbours' maps to the centre frame, in one batch; (B, 5, H, W) in order of time."""
    middle = WINDOW // 2
    others = [t for t in range(WINDOW) if t != middle]
    centre = g.select(maps, middle)
    single = g.reshape(g.select(maps, *others), 1, *g.cells)
    neighbours = g.op("Relu", g.conv(single, "fuse.extract"))  # B x 4
    centre_features = g.op("Relu", g.conv(centre, "fuse.extract"))  # B
    offset_features = _select_features(g, centre_features, neighbours, len(others))
    neighbours = _deform(g, neighbours, offset_features, "fuse.align_1")
    neighbours = _deform(g, neighbours, neighbours, "fuse.align_2")
    aligned = g.reshape(g.conv(neighbours, "fuse.conv"), len(others), *g.cells)
    earlier, later = g.select(aligned, *range(middle)), g.select(aligned, *range(middle, 2 * middle))
    return g.op("Concat", earlier, centre, later, axis=1)


def _select_features(g: GraphWriter, centre: str, neighbours: str, each: int) -> str:
    """Weigh features of B centres and B x each neighbours against each other, for the offsets; (B x each, C, H, W)."""
    own = g.conv(centre, "fuse.select.conv0_s")
    half = g.shape("fuse.select.conv0_s.weight")[0]
    own = g.reshape(g.op("Tile", own, g.constant([1, each, 1, 1])), half, *g.cells)
    other = g.conv(neighbours, "fuse.select.conv1_s")
    both = g.op("Concat", own, other, axis=1)
    mean, most = g.reduce("ReduceMean", both, 1), g.reduce("ReduceMax", both, 1)
    weight = g.op("Sigmoid", g.conv(g.op("Concat", mean, most, axis=1), "fuse.select.conv_squeeze"))
    halves = g.op("Mul", own, g.select(weight, 0)), g.op("Mul", other, g.select(weight, 1))
    return g.op("Concat", *halves, axis=1)


def _deform(g: GraphWriter, features: str, offset_features: str, name: str) -> str:
    """Apply the named deformable 3 x 3 convolution, with offsets computed from offset_features.

    Offset channel 2k moves tap k down by rows, channel 2k + 1 moves it right by columns.
    """
    offset = g.conv(offset_features, f"{name}.conv_offset")
    if g.options.form == "deform":
        return g.op("DeformConv", features, g.weight(f"{name}.weight"), offset, kernel_shape=[3, 3], pads=[1] * 4)
    height, width = g.cells
    tap = np.arange(9)[:, None, None]
    rows = np.arange(height)[:, None] + tap // 3 - 1 + np.zeros((9, 1, width))
    columns = np.arange(width) + tap % 3 - 1 + np.zeros((9, height, 1))
    offset = g.reshape(g.as_single(offset), 9, 2, height, width)
    down = _normalised(g, g.op("Gather", offset, g.constant(0), axis=2), rows, height)
    right = _normalised(g, g.op("Gather", offset, g.constant(1), axis=2), columns, width)
    grid = g.reshape(g.op("Concat", right, down, axis=4), 9 * height, width, 2)
    sampled = g.op("GridSample", g.as_single(features), grid, mode="bilinear", padding_mode="zeros", align_corners=1)
    outs, ins = g.shape(f"{name}.weight")[:2]
    whole, flat = g.shape(f"{name}.weight"), [outs, ins * 9, 1, 1]
    kernel = g.rearranged_weight(f"{name}.weight", whole, [0, 1, 2, 3], flat)
    return g.convolve(g.reshape(sampled, ins * 9, height, width), kernel)


def _normalised(g: GraphWriter, offset: str, position: NDArray[Any], size: int) -> str:
    """Add offsets (B, 9, H, W) to positions, in cells, and scale to GridSample's -1 to 1; (B, 9, H, W, 1)."""
    scaled = g.op("Mul", offset, g.constant(2 / (size - 1)))
    moved = g.op("Add", scaled, g.constant(position * (2 / (size - 1)) - 1))
    return g.reshape(moved, 9, *position.shape[1:], 1)


def _continuous_head(g: GraphWriter, features: str, patches: str, planes: str, scale: str | None) -> str:
    """Claims (B, 7, H, W) of the continuous head; planes: the patches, followed by the sensor planes."""
    division = g.manifest.division
    unit = g.op("Mul", scale, g.constant(LIGHT_UNIT_DN)) if scale else g.constant(LIGHT_UNIT_DN)
    light = g.op("Div", patches, unit)
    if g.manifest.told:
        light = g.op("Concat", light, g.select(planes, *range(WINDOW, g.manifest.input_planes)), axis=1)
    by_pixel = g.op("SpaceToDepth", g.op("Div", features, g.constant(LIGHT_UNIT_DN)), blocksize=division)
    x = g.op("Add", g.conv(light, "head.patches"), g.convolve(by_pixel, _depth_ordered_kernel(g), pads=[1] * 4))
    x = g.op("Relu", x)
    for block in g.names_between("head.blocks.", ".conv1.weight"):
        x = _residual_block(g, x, block)
    raw = g.op("DepthToSpace", g.as_single(g.conv(x, "head.tail")), blocksize=division, mode="CRD")
    sd = g.op("Exp", g.op("Clip", g.select(raw, 3, 4, 6), g.constant(LOG_SD[0]), g.constant(LOG_SD[1])))
    light, light_sd = (g.op("Mul", value, unit) for value in (g.select(raw, 5), g.select(sd, 2)))
    presence = g.op("Sigmoid", g.select(raw, 0))
    return g.op("Concat", presence, g.select(raw, 1, 2), g.select(sd, 0, 1), light, light_sd, axis=1)


def _depth_ordered_kernel(g: GraphWriter) -> str:
    """The head's kernel for features, (O, C, 3, 3), its input channels reordered as SpaceToDepth orders a pixel's cells."""
    outs, ins = g.shape("head.features.weight")[:2]
    cells = g.manifest.division**2
    split, whole = [outs, ins // cells, cells, 3, 3], [outs, ins, 3, 3]
    return g.rearranged_weight("head.features.weight", split, [0, 2, 1, 3, 4], whole)


def _residual_block(g: GraphWriter, x: str, name: str) -> str:
    return g.op("Add", x, g.conv(g.op("Relu", g.conv(x, f"{name}.conv1")), f"{name}.conv2"))
