"""DeRefNet as ONNX graphs: `unfold` for single frames and `fuse` for windows, in two forms.

The form "deform" has ONNX's own DeformConv (opset 19: ONNX Runtime from 1.31, TensorRT from 10.1); "portable" samples with
GridSample (opset 17) for anything older. Graphs hold no weights: their initialisers point into the engine's
weights.safetensors, so that an engine has its numbers once, under one hash. All dimensions but the batch are fixed.

    unfold: patches (B, h, w) DN -> maps (B, H, W) DN
    fuse:   maps (B, 5, H, W) DN[, patches (B, 5, h, w) DN][, places (B, 5)] -> map (B, H, W) DN[, claims (B, 7, H, W)]

patches go in and claims come out where the engine has the continuous head or counts light by its peak; places go in
where the time code is by clip. Arrays and pieces are named as in learn.network, whose restatement this is.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError, MissingPackageError
from irst_stream.unmix.engine import FAINTEST, LOG_SD, UNIT, WEIGHTS, WINDOW, EngineManifest

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingPackageError("onnx", "train", "writing ONNX graphs") from error

__all__ = ["FORMS", "Form", "build", "build_all"]

Form = Literal["deform", "portable"]
FORMS: dict[Form, tuple[int, int]] = {"deform": (19, 9), "portable": (17, 8)}  # opset, and the file format's version


def build(manifest: EngineManifest, data: bytes, form: Form) -> dict[str, bytes]:
    """The graphs of the engine whose weights.safetensors is `data`: "unfold" and "fuse", serialised."""
    try:
        graphs = {"unfold": _unfold(_Graph(data, manifest, form)), "fuse": _fuse(_Graph(data, manifest, form))}
    except KeyError as error:
        raise FormatError(f"the engine has no array {error}; it is not this network's") from error
    return {name: graph.serialise(name) for name, graph in graphs.items()}


def build_all(manifest: EngineManifest, data: bytes) -> dict[tuple[str, Form, int], bytes]:
    """Both graphs in both forms, by part, form and opset, as engine.write_graphs takes them."""
    return {
        (part, form, opset): graph
        for form, (opset, _) in FORMS.items()
        for part, graph in build(manifest, data, form).items()
    }


class _Graph:
    """A graph that grows node by node; a value is known by its name."""

    def __init__(self, data: bytes, manifest: EngineManifest, form: Form) -> None:
        self.manifest, self.form = manifest, form
        self.opset, self.format = FORMS[form]
        self.patch = manifest.patch
        self.cells = tuple(manifest.division * side for side in manifest.patch)
        length = int.from_bytes(data[:8], "little")
        self._data, self._start, self._arrays = data, 8 + length, json.loads(data[8 : 8 + length])
        self._nodes: list[Any] = []
        self._initialisers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, *shape: int) -> str:
        """Declares an input (B, *shape), float32."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]))
        return name

    def output(self, value: str, name: str, *shape: int) -> None:
        """Declares that a value is an output (B, *shape), float32."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]))

    def names(self, prefix: str, suffix: str) -> list[str]:
        """The arrays of the engine that begin and end so, without the suffix, in order."""
        found = [n.removesuffix(suffix) for n in self._arrays if n.startswith(prefix) and n.endswith(suffix)]
        return sorted(found, key=lambda name: [int(p) if p.isdigit() else p for p in name.split(".")])

    def has(self, name: str) -> bool:
        """Whether the engine has such an array."""
        return name in self._arrays

    def weight(self, name: str) -> str:
        """One of the engine's arrays, by reference."""
        facts = self._arrays[name]
        begin, end = facts["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=facts["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", self._start + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        self._initialisers[name] = tensor
        return name

    def number(self, name: str) -> float:
        """One of the engine's scalars, by value."""
        begin, end = self._arrays[name]["data_offsets"]
        return float(np.frombuffer(self._data[self._start + begin : self._start + end], "<f4")[0])

    def constant(self, value: NDArray[Any] | float | list[int]) -> str:
        """A small array: whole numbers as int64, others as float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"constant_{len(self._initialisers)}"
        self._initialisers[name] = numpy_helper.from_array(array, name)
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output."""
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        """To (-1, *shape)."""
        return self.op("Reshape", value, self.constant([-1, *shape]))

    def take(self, value: str, *rows: int) -> str:
        """Some rows along axis 1."""
        return self.op("Gather", value, self.constant(list(rows)), axis=1)

    def reduce(self, kind: str, value: str, *axes: int) -> str:
        """Mean or max over axes, which stay, 1 long."""
        if self.opset >= 18:
            return self.op(kind, value, self.constant(list(axes)))
        return self.op(kind, value, axes=list(axes))

    def shape(self, name: str) -> list[int]:
        """Of one of the engine's arrays."""
        shape: list[int] = self._arrays[name]["shape"]
        return shape

    def conv(self, value: str, name: str) -> str:
        """The convolution of that name, same size out as in."""
        reach = self._arrays[f"{name}.weight"]["shape"][-1] // 2
        bias = [self.weight(f"{name}.bias")] if self.has(f"{name}.bias") else []
        return self.op("Conv", value, self.weight(f"{name}.weight"), *bias, pads=[reach] * 4)

    def scale(self, patches: str, *axes: int) -> str | None:
        """The brightest pixel over these axes, in UNIT; None where light is counted in DN."""
        if self.manifest.scale == "none":
            return None
        brightest = self.op("Max", self.reduce("ReduceMax", patches, *axes), self.constant(FAINTEST))
        return self.op("Div", brightest, self.constant(UNIT))

    def serialise(self, name: str) -> bytes:
        """The checked model."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._initialisers.values()))
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.format, producer_name="irst-stream")
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        data: bytes = inferred.SerializeToString()
        return data


def _unfold(g: _Graph) -> _Graph:
    patches = g.input("patches", *g.patch)
    scale = g.scale(patches, 1, 2)
    phi = g.weight("unfold.phi")
    back = g.op("Transpose", phi, perm=[1, 0])
    y = g.reshape(g.op("Div", patches, scale) if scale else patches, int(np.prod(g.patch)))
    x = g.op("MatMul", y, g.op("Transpose", g.weight("unfold.qinit"), perm=[1, 0]))
    for stage in g.names("unfold.fcs.", ".lambda_step"):
        step = g.constant(g.number(f"{stage}.lambda_step"))
        seen = g.op("MatMul", g.op("Sub", y, g.op("MatMul", x, back)), phi)
        r = g.reshape(g.op("Add", x, g.op("Mul", seen, step)), 1, *g.cells)
        features = g.conv(g.op("Relu", g.conv(r, f"{stage}.conv1_forward")), f"{stage}.conv2_forward")
        shrunk = _shrink(g, features, g.number(f"{stage}.soft_thr"))
        image = g.conv(g.op("Relu", g.conv(shrunk, f"{stage}.conv1_backward")), f"{stage}.conv2_backward")
        x = g.reshape(image, int(np.prod(g.cells)))
    maps = g.reshape(x, *g.cells)
    g.output(g.op("Mul", maps, scale) if scale else maps, "maps", *g.cells)
    return g


def _shrink(g: _Graph, x: str, threshold: float) -> str:
    """sign(x) max(|x| - threshold, 0), in operators that every runtime has."""
    if threshold < 0:
        return g.op("Sub", x, g.op("Mul", g.op("Sign", x), g.constant(threshold)))
    return g.op("Sub", x, g.op("Clip", x, g.constant(-threshold), g.constant(threshold)))


def _fuse(g: _Graph) -> _Graph:
    maps = g.op("Mul", g.input("maps", WINDOW, *g.cells), _gates(g))
    with_patches = g.manifest.head == "continuous" or g.manifest.scale == "peak"
    patches = g.input("patches", WINDOW, *g.patch) if with_patches else ""
    scale = g.scale(patches, 1, 2, 3) if patches else None
    if scale:
        maps = g.op("Div", maps, scale)
    x = g.op("Relu", g.conv(_in_order(g, maps), "fuse.merge"))
    for block in g.names("fuse.blocks.", ".conv1.weight"):
        x = _block(g, x, block)
    image = g.conv(x, "fuse.tail")
    g.output(g.reshape(g.op("Mul", image, scale) if scale else image, *g.cells), "map", *g.cells)
    if g.manifest.head == "continuous":
        g.output(_head(g, x, patches, scale), "claims", 7, *g.cells)
    return g


def _gates(g: _Graph) -> str:
    """(1 or B, 5, H or 1, W or 1); constant, and folded by the runtime, where the code is by the place in the window."""
    known = g.manifest.time_code == "window"
    places = g.constant(np.arange(float(WINDOW))[None]) if known else g.input("places", WINDOW)
    share = g.op("Div", g.reshape(places, WINDOW, 1), g.constant(float(g.manifest.code_length)))
    logits = g.op("Add", g.op("Mul", share, g.weight("code.slope")), g.weight("code.bias"))
    return g.reshape(g.op("Sigmoid", logits), WINDOW, *(g.cells if g.shape("code.slope") != [1] else (1, 1)))


def _in_order(g: _Graph, maps: str) -> str:
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


def _select(g: _Graph, centre: str, neighbours: str, each: int) -> str:
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


def _deform(g: _Graph, features: str, steering: str, name: str) -> str:
    """The deformable convolution of that name; offset channel 2k is tap k's rows down, 2k + 1 its columns right."""
    offset = g.conv(steering, f"{name}.conv_offset")
    weight = g.weight(f"{name}.weight")
    if g.form == "deform":
        return g.op("DeformConv", features, weight, offset, kernel_shape=[3, 3], pads=[1] * 4)
    height, width = g.cells
    tap = np.arange(9)[:, None, None]
    rows = np.arange(height)[:, None] + tap // 3 - 1 + np.zeros((9, 1, width))
    columns = np.arange(width) + tap % 3 - 1 + np.zeros((9, height, 1))
    offset = g.reshape(offset, 9, 2, height, width)
    down = _across(g, g.op("Gather", offset, g.constant(0), axis=2), rows, height)
    right = _across(g, g.op("Gather", offset, g.constant(1), axis=2), columns, width)
    grid = g.reshape(g.op("Concat", right, down, axis=4), 9 * height, width, 2)
    sampled = g.op("GridSample", features, grid, mode="bilinear", padding_mode="zeros", align_corners=1)
    channels, taken = g.shape(f"{name}.weight")[:2]
    flat = g.op("Reshape", weight, g.constant([channels, taken * 9, 1, 1]))
    return g.op("Conv", g.reshape(sampled, taken * 9, height, width), flat)


def _across(g: _Graph, offset: str, place: NDArray[Any], size: int) -> str:
    """Offsets (B, 9, H, W) from a place in cells to (B, 9, H, W, 1), from -1 to 1 across the image."""
    scaled = g.op("Mul", offset, g.constant(2 / (size - 1)))
    moved = g.op("Add", scaled, g.constant(place * (2 / (size - 1)) - 1))
    return g.reshape(moved, 9, *place.shape[1:], 1)


def _head(g: _Graph, features: str, patches: str, scale: str | None) -> str:
    """Claims (B, 7, H, W) of the continuous head."""
    division = g.manifest.division
    unit = g.op("Mul", scale, g.constant(UNIT)) if scale else g.constant(UNIT)
    light = g.op("Div", patches, unit)
    wide = g.op("SpaceToDepth", g.op("Div", features, g.constant(UNIT)), blocksize=division)
    x = g.op("Add", g.conv(light, "head.patches"), g.op("Conv", wide, _by_block(g), pads=[1] * 4))
    x = g.op("Relu", x)
    for block in g.names("head.blocks.", ".conv1.weight"):
        x = _block(g, x, block)
    raw = g.op("DepthToSpace", g.conv(x, "head.tail"), blocksize=division, mode="CRD")
    sd = g.op("Exp", g.op("Clip", g.take(raw, 3, 4, 6), g.constant(LOG_SD[0]), g.constant(LOG_SD[1])))
    light, light_sd = (g.op("Mul", value, unit) for value in (g.take(raw, 5), g.take(sd, 2)))
    presence = g.op("Sigmoid", g.take(raw, 0))
    return g.op("Concat", presence, g.take(raw, 1, 2), g.take(sd, 0, 1), light, light_sd, axis=1)


def _by_block(g: _Graph) -> str:
    """The head's weight for features, (O, C, 3, 3) over channels, rows, columns of a pixel, as SpaceToDepth orders them."""
    outs, ins = g.shape("head.features.weight")[:2]
    cells = g.manifest.division**2
    split = g.op("Reshape", g.weight("head.features.weight"), g.constant([outs, ins // cells, cells, 3, 3]))
    return g.op("Reshape", g.op("Transpose", split, perm=[0, 2, 1, 3, 4]), g.constant([outs, ins, 3, 3]))


def _block(g: _Graph, x: str, name: str) -> str:
    return g.op("Add", x, g.conv(g.op("Relu", g.conv(x, f"{name}.conv1")), f"{name}.conv2"))
