"""An ONNX graph that grows node by node, with the arrays of an engine as its weights.

In half precision all convolutions, and what stands between them, are float16; what is given, what is found, the imaging
model's products and the places that are sampled stay float32, since they hold more digits than a float16 has. Quantised,
convolutions of many channels take whole numbers of 8 bits, by scales that calibration has found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import MissingPackageError
from irst_stream.unmix.engine import FAINTEST, UNIT, WEIGHTS, EngineManifest

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingPackageError("onnx", "onnx", "writing ONNX graphs") from error

__all__ = ["FORMS", "Drawing", "Form", "Style"]

Form = Literal["deform", "portable"]
FORMS: dict[Form, int] = {"deform": 19, "portable": 17}  # opset
FORMATS = {17: 8, 19: 9}  # the file format's version, by opset
FEWEST_CHANNELS = 8  # of a convolution that is quantised
LARGEST_INT8 = 127
SMALLEST_STEP = {False: 1e-14, True: 2.0**-20}  # in single and in half precision, where a channel holds next to nothing
QUANTISING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Style:
    """How a graph is drawn.

    whole: it holds its weights, folded, and takes its maps from a store; half: in half precision; ranges: the largest
    magnitude that comes into each quantised convolution, by the name of its weight; None where none is; opset: 0 for the
    form's own.
    """

    form: Form = "portable"
    whole: bool = False
    half: bool = False
    ranges: Mapping[str, float] | None = None
    opset: int = 0


class Drawing:
    """A graph; a value is known by its name.

    `inputs_of` holds what comes into each convolution, wherever it stands, by its weight's name; `singles` the names of the
    nodes that are in float32.
    """

    def __init__(self, data: bytes, manifest: EngineManifest, style: Style) -> None:
        self.manifest, self.style = manifest, style
        self.opset = style.opset or FORMS[style.form]
        self.patch = manifest.patch
        self.cells = manifest.cells
        self.inputs_of: dict[str, list[str]] = {}
        self.singles: list[str] = []
        length = int.from_bytes(data[:8], "little")
        self._data, self._start, self._arrays = data, 8 + length, json.loads(data[8 : 8 + length])
        self._nodes: list[Any] = []
        self._initialisers: dict[str, Any] = {}
        self._fixed: dict[str, NDArray[Any]] = {}  # float initialisers that may be had in half precision too
        self._halves: set[str] = set()  # values in half precision
        self._whole_numbers: set[str] = set()
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    def input(self, name: str, *shape: int, batch: str = "B", kind: int = TensorProto.FLOAT) -> str:
        """Declares an input (batch, *shape)."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, [batch, *shape]))
        if kind != TensorProto.FLOAT:
            self._whole_numbers.add(name)
        return name

    def output(self, value: str, name: str, *shape: int) -> None:
        """Declares that a value is an output (B, *shape), float32."""
        self._count += 1
        self._nodes.append(helper.make_node("Identity", [self.wide(value)], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]))

    def names(self, prefix: str, suffix: str) -> list[str]:
        """The arrays of the engine that begin and end so, without the suffix, in order."""
        found = [n.removesuffix(suffix) for n in self._arrays if n.startswith(prefix) and n.endswith(suffix)]
        return sorted(found, key=lambda name: [int(p) if p.isdigit() else p for p in name.split(".")])

    def has(self, name: str) -> bool:
        """Whether the engine has such an array."""
        return name in self._arrays

    def weight(self, name: str) -> str:
        """One of the engine's arrays: by reference, or held."""
        if name in self._initialisers:
            return name
        if self.style.whole:
            return self._hold(self.array(name), name)
        facts = self._arrays[name]
        begin, end = facts["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=facts["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", self._start + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        self._initialisers[name] = tensor
        return name

    def array(self, name: str) -> NDArray[np.float32]:
        """One of the engine's arrays, by value."""
        facts = self._arrays[name]
        begin, end = facts["data_offsets"]
        return np.frombuffer(self._data[self._start + begin : self._start + end], "<f4").reshape(facts["shape"])

    def number(self, name: str) -> float:
        """One of the engine's scalars, by value."""
        return float(self.array(name).ravel()[0])

    def constant(self, value: NDArray[Any] | float | list[int]) -> str:
        """A small array: whole numbers as int64, others as float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        return self._hold(array, f"constant_{len(self._initialisers)}")

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output, in half precision where all that comes in is."""
        single = any(self._is_single(value) for value in inputs)
        half = not single and any(value in self._halves for value in inputs)
        given = [self.wide(value) if single else self._as_half(value) if half else value for value in inputs]
        name = f"{kind}_{self._count}"
        self._count += 1
        self._nodes.append(helper.make_node(kind, given, [name], name, **attributes))
        if half:
            self._halves.add(name)
        elif kind not in QUANTISING:
            self.singles.append(name)
        return name

    def wide(self, value: str) -> str:
        """The value in single precision."""
        return self._cast(value, TensorProto.FLOAT) if value in self._halves else value

    def narrow(self, value: str) -> str:
        """The value in half precision, if that is the style."""
        if not self.style.half or value in self._halves:
            return value
        cast = self._as_half(value)
        self._halves.add(cast)
        return cast

    def reshape(self, value: str, *shape: int) -> str:
        """To (-1, *shape)."""
        return self.op("Reshape", value, self.constant([-1, *shape]))

    def rearranged(self, name: str, split: list[int], order: list[int], shape: list[int]) -> str:
        """One of the engine's arrays, split into axes, which are put in order and taken together again."""
        if self.style.whole:
            array = self.array(name).reshape(split).transpose(order).reshape(shape)
            return self._hold(np.ascontiguousarray(array), f"{name}.rearranged")
        value = self.weight(name)
        if split != self.shape(name):
            value = self.op("Reshape", value, self.constant(split))
        if order != sorted(order):
            value = self.op("Transpose", value, perm=order)
        return value if shape == [split[k] for k in order] else self.op("Reshape", value, self.constant(shape))

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
        return self.convolve(value, self.weight(f"{name}.weight"), *bias, pads=[reach] * 4)

    def convolve(self, value: str, kernel: str, *bias: str, **attributes: Any) -> str:
        """A convolution with this kernel, in the style's precision."""
        value = self.narrow(value)
        self.inputs_of.setdefault(kernel, []).append(value)
        limit = (self.style.ranges or {}).get(kernel, 0.0)
        if limit and self._fixed[kernel].shape[1] >= FEWEST_CHANNELS:
            value, kernel = self._quantised(value, limit), self._quantised_kernel(kernel)
        return self.op("Conv", value, kernel, *bias, **attributes)

    def scale(self, patches: str, *axes: int) -> str | None:
        """The brightest pixel over these axes, in UNIT; None where light is counted in DN."""
        if self.manifest.scale == "none":
            return None
        brightest = self.op("Max", self.reduce("ReduceMax", patches, *axes), self.constant(FAINTEST))
        return self.op("Div", brightest, self.constant(UNIT))

    def serialise(self, name: str, *also: str) -> bytes:
        """The checked model; also: values that are to come out besides its outputs."""
        more = [helper.make_empty_tensor_value_info(value) for value in also]
        outputs = [*self._outputs, *more]
        used = {value for node in self._nodes for value in node.input}
        held = [tensor for tensor in self._initialisers.values() if tensor.name in used]
        graph = helper.make_graph(self._nodes, name, self._inputs, outputs, held)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=FORMATS[self.opset], producer_name="irst-stream")
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        data: bytes = inferred.SerializeToString()
        return data

    def _is_single(self, value: str) -> bool:
        return not (value in self._halves or value in self._fixed or value in self._whole_numbers)

    def _hold(self, array: NDArray[Any], name: str) -> str:
        self._initialisers[name] = numpy_helper.from_array(array, name)
        if array.dtype.kind == "f":
            self._fixed[name] = array
        else:
            self._whole_numbers.add(name)
        return name

    def _as_half(self, value: str) -> str:
        if value in self._halves or value in self._whole_numbers:
            return value
        if value not in self._fixed:
            return self._cast(value, TensorProto.FLOAT16)
        name = f"{value}.half"
        self._initialisers[name] = numpy_helper.from_array(self._fixed[value].astype(np.float16), name)
        self._halves.add(name)
        return name

    def _cast(self, value: str, to: int) -> str:
        name = f"{value}.{'half' if to == TensorProto.FLOAT16 else 'single'}"
        if all(name not in node.output for node in self._nodes):
            self._nodes.append(helper.make_node("Cast", [value], [name], name, to=to))
        return name

    def _quantised(self, value: str, limit: float) -> str:
        """The value in 256 steps over plus and minus the limit."""
        step = self.constant(self._steps(limit))
        zero = self._hold(np.zeros((), np.int8), f"{step}.zero")
        steps = self.op("QuantizeLinear", value, step, zero)
        self._halves.discard(steps)
        self._whole_numbers.add(steps)
        return self._restored(steps, step, value in self._halves)

    def _quantised_kernel(self, name: str) -> str:
        """A kernel in 256 steps, those of each channel that comes out its own."""
        array = self._fixed[name]
        steps = self._steps(np.abs(array).max(axis=(1, 2, 3)))
        held = self._hold(np.rint(array / steps[:, None, None, None]).astype(np.int8), f"{name}.steps")
        step = self._hold(steps.astype(np.float32), f"{name}.step")
        return self._restored(held, step, self.style.half, axis=0)

    def _steps(self, limits: NDArray[np.float32] | float) -> NDArray[np.float32]:
        """The steps that reach these limits, as the style's precision holds them."""
        steps = np.maximum(np.asarray(limits, np.float32) / LARGEST_INT8, SMALLEST_STEP[self.style.half])
        return steps.astype(np.float16 if self.style.half else np.float32).astype(np.float32)

    def _restored(self, steps: str, step: str, half: bool, **attributes: int) -> str:
        step = self._as_half(step) if half else step
        zero = self._hold(np.zeros(self._shape_of(step), np.int8), f"{step}.none")
        return self.op("DequantizeLinear", steps, step, zero, **attributes)

    def _shape_of(self, initialiser: str) -> tuple[int, ...]:
        return tuple(self._initialisers[initialiser].dims)
