"""Write ONNX graphs node by node, with an engine's arrays as weights.

In half precision, convolutions and the operators between them are float16; inputs, outputs, the imaging model's products
and sampling coordinates stay float32, since they need more digits than a float16 has. In quantised graphs, convolutions of
many channels take 8-bit integers, with scales from calibration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import MissingPackageError
from irst_stream.unmix.engine import LIGHT_UNIT_DN, MIN_PEAK_DN, WEIGHTS, EngineManifest

if TYPE_CHECKING or find_spec("onnx"):  # who only asks for help, or runs graphs that are there, needs no onnx
    import onnx
    from onnx import TensorProto, helper, numpy_helper

__all__ = ["FORM_OPSETS", "Form", "GraphOptions", "GraphWriter"]

Form = Literal["deform", "portable"]
FORM_OPSETS: dict[Form, int] = {"deform": 19, "portable": 17}
FLOAT = 1  # TensorProto.FLOAT
IR_VERSIONS = {17: 8, 19: 9}  # of the file format, by opset
MIN_QUANTISED_CHANNELS = 8  # convolutions of fewer input channels are not quantised
INT8_MAX = 127
MIN_STEP = {False: 1e-14, True: 2.0**-20}  # quantisation step in single and in half precision, for channels close to 0
QUANTISATION_OPS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class GraphOptions:
    """How a graph is written.

    form:           "deform" or "portable", see graph.py
    self_contained: whether it contains its weights, in the layout that its nodes need, and takes its maps from a store
    half:           whether it computes in half precision
    ranges:         the largest input magnitude of each convolution to quantise, by the name of its weight; None for none
    opset:          0 for the form's own
    """

    form: Form = "portable"
    self_contained: bool = False
    half: bool = False
    ranges: Mapping[str, float] | None = None
    opset: int = 0


class GraphWriter:
    """Builds one ONNX graph; its methods add nodes and return the name of the resulting value.

    convolution_inputs:     the input values of each convolution, by the name of its weight; one for each use of the weight
    single_precision_nodes: the names of the nodes that compute in float32
    """

    def __init__(self, data: bytes, manifest: EngineManifest, options: GraphOptions) -> None:
        """data: the content of weights.safetensors. Raise a MissingPackageError without onnx."""
        if find_spec("onnx") is None:
            raise MissingPackageError("onnx", "onnx", "writing ONNX graphs")
        self.manifest, self.options = manifest, options
        self.opset = options.opset or FORM_OPSETS[options.form]
        self.patch = manifest.patch
        self.cells = manifest.cells
        self.convolution_inputs: dict[str, list[str]] = {}
        self.single_precision_nodes: list[str] = []
        length = int.from_bytes(data[:8], "little")
        self._data, self._start, self._arrays = data, 8 + length, json.loads(data[8 : 8 + length])
        self._nodes: list[Any] = []
        self._initialisers: dict[str, Any] = {}
        self._float_initialisers: dict[str, NDArray[Any]] = {}  # can be written in half precision too
        self._half_values: set[str] = set()
        self._integer_values: set[str] = set()
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    def input(self, name: str, *shape: int, batch: str = "B", kind: int = FLOAT) -> str:
        """Declare an input (batch, *shape); kind: its TensorProto type."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, [batch, *shape]))
        if kind != TensorProto.FLOAT:
            self._integer_values.add(name)
        return name

    def output(self, value: str, name: str, *shape: int) -> None:
        """Declare a value as the output `name`, (B, *shape) float32."""
        self._count += 1
        self._nodes.append(helper.make_node("Identity", [self.as_single(value)], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]))

    def names_between(self, prefix: str, suffix: str) -> list[str]:
        """Return the names of the engine's arrays with this prefix and suffix, without the suffix, in numerical order."""
        found = [n.removesuffix(suffix) for n in self._arrays if n.startswith(prefix) and n.endswith(suffix)]
        return sorted(found, key=lambda name: [int(p) if p.isdigit() else p for p in name.split(".")])

    def has(self, name: str) -> bool:
        """Return whether the engine has an array of this name."""
        return name in self._arrays

    def weight(self, name: str) -> str:
        """Add one of the engine's arrays: by reference to the weights file, or by value in a self-contained graph."""
        if name in self._initialisers:
            return name
        if self.options.self_contained:
            return self._add_initialiser(self.array(name), name)
        facts = self._arrays[name]
        begin, end = facts["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=facts["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", self._start + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        self._initialisers[name] = tensor
        return name

    def array(self, name: str) -> NDArray[np.float32]:
        """Read one of the engine's arrays."""
        facts = self._arrays[name]
        begin, end = facts["data_offsets"]
        return np.frombuffer(self._data[self._start + begin : self._start + end], "<f4").reshape(facts["shape"])

    def scalar(self, name: str) -> float:
        """Read one of the engine's scalars."""
        return float(self.array(name).ravel()[0])

    def constant(self, value: NDArray[Any] | float | list[int]) -> str:
        """Add a small array: integers as int64, other numbers as float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        return self._add_initialiser(array, f"constant_{len(self._initialisers)}")

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; it computes in half precision if all of its float inputs can."""
        single = any(self._is_single(value) for value in inputs)
        half = not single and any(value in self._half_values for value in inputs)
        cast = [self.as_single(value) if single else self._as_half(value) if half else value for value in inputs]
        name = f"{kind}_{self._count}"
        self._count += 1
        self._nodes.append(helper.make_node(kind, cast, [name], name, **attributes))
        if half:
            self._half_values.add(name)
        elif kind not in QUANTISATION_OPS:
            self.single_precision_nodes.append(name)
        return name

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with `count` outputs, in single precision."""
        name = self.op(kind, *inputs, **attributes)
        node = self._nodes[-1]
        node.output.extend(f"{name}_{k}" for k in range(1, count))
        return list(node.output)

    def as_single(self, value: str) -> str:
        """Cast a value to single precision if it is in half precision."""
        return self._cast(value, TensorProto.FLOAT) if value in self._half_values else value

    def to_working_precision(self, value: str) -> str:
        """Cast a value to half precision if the graph computes in it."""
        if not self.options.half or value in self._half_values:
            return value
        cast = self._as_half(value)
        self._half_values.add(cast)
        return cast

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape a value to (-1, *shape)."""
        return self.op("Reshape", value, self.constant([-1, *shape]))

    def rearranged_weight(self, name: str, split: list[int], order: list[int], shape: list[int]) -> str:
        """Add one of the engine's arrays, reshaped to `split`, transposed by `order` and reshaped to `shape`."""
        if self.options.self_contained:
            array = self.array(name).reshape(split).transpose(order).reshape(shape)
            return self._add_initialiser(np.ascontiguousarray(array), f"{name}.rearranged")
        value = self.weight(name)
        if split != self.shape(name):
            value = self.op("Reshape", value, self.constant(split))
        if order != sorted(order):
            value = self.op("Transpose", value, perm=order)
        return value if shape == [split[k] for k in order] else self.op("Reshape", value, self.constant(shape))

    def select(self, value: str, *rows: int) -> str:
        """Select rows along axis 1."""
        return self.op("Gather", value, self.constant(list(rows)), axis=1)

    def reduce(self, kind: str, value: str, *axes: int) -> str:
        """Reduce (kind: "ReduceMean" or "ReduceMax") over axes, which are kept with length 1."""
        if self.opset >= 18:
            return self.op(kind, value, self.constant(list(axes)))
        return self.op(kind, value, axes=list(axes))

    def shape(self, name: str) -> list[int]:
        """Return the shape of one of the engine's arrays."""
        shape: list[int] = self._arrays[name]["shape"]
        return shape

    def conv(self, value: str, name: str) -> str:
        """Add the named convolution, with its bias if it has one; the output has the size of the input."""
        reach = self._arrays[f"{name}.weight"]["shape"][-1] // 2
        bias = [self.weight(f"{name}.bias")] if self.has(f"{name}.bias") else []
        return self.convolve(value, self.weight(f"{name}.weight"), *bias, pads=[reach] * 4)

    def convolve(self, value: str, kernel: str, *bias: str, **attributes: Any) -> str:
        """Add a convolution in the graph's precision, quantised if its kernel has a range and enough channels."""
        value = self.to_working_precision(value)
        self.convolution_inputs.setdefault(kernel, []).append(value)
        limit = (self.options.ranges or {}).get(kernel, 0.0)
        if limit and self._float_initialisers[kernel].shape[1] >= MIN_QUANTISED_CHANNELS:
            value, kernel = self._quantised(value, limit), self._quantised_kernel(kernel)
        return self.op("Conv", value, kernel, *bias, **attributes)

    def scale(self, patches: str, *axes: int) -> str | None:
        """The brightest pixel over axes, in LIGHT_UNIT_DN; None if the engine takes light in DN."""
        if self.manifest.scale == "none":
            return None
        brightest = self.op("Max", self.reduce("ReduceMax", patches, *axes), self.constant(MIN_PEAK_DN))
        return self.op("Div", brightest, self.constant(LIGHT_UNIT_DN))

    def serialise(self, name: str, *extra: str) -> bytes:
        """Check and serialise the model; extra: values to return after the declared outputs."""
        outputs = [*self._outputs, *(helper.make_empty_tensor_value_info(value) for value in extra)]
        used = {value for node in self._nodes for value in node.input}
        initialisers = [tensor for tensor in self._initialisers.values() if tensor.name in used]
        graph = helper.make_graph(self._nodes, name, self._inputs, outputs, initialisers)
        opsets, ir_version = [helper.make_opsetid("", self.opset)], IR_VERSIONS[self.opset]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="irst-stream")
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        data: bytes = inferred.SerializeToString()
        return data

    def _is_single(self, value: str) -> bool:
        return not (value in self._half_values or value in self._float_initialisers or value in self._integer_values)

    def _add_initialiser(self, array: NDArray[Any], name: str) -> str:
        self._initialisers[name] = numpy_helper.from_array(array, name)
        if array.dtype.kind == "f":
            self._float_initialisers[name] = array
        else:
            self._integer_values.add(name)
        return name

    def _as_half(self, value: str) -> str:
        if value in self._half_values or value in self._integer_values:
            return value
        if value not in self._float_initialisers:
            return self._cast(value, TensorProto.FLOAT16)
        name = f"{value}.half"
        self._initialisers[name] = numpy_helper.from_array(self._float_initialisers[value].astype(np.float16), name)
        self._half_values.add(name)
        return name

    def _cast(self, value: str, to: int) -> str:
        name = f"{value}.{'half' if to == TensorProto.FLOAT16 else 'single'}"
        if all(name not in node.output for node in self._nodes):
            self._nodes.append(helper.make_node("Cast", [value], [name], name, to=to))
        return name

    def _quantised(self, value: str, limit: float) -> str:
        """Quantise a value to 8 bits over [-limit, limit] and dequantise it, which marks it as quantised."""
        step = self.constant(self._step_sizes(limit))
        zero = self._add_initialiser(np.zeros((), np.int8), f"{step}.zero")
        integers = self.op("QuantizeLinear", value, step, zero)
        self._half_values.discard(integers)
        self._integer_values.add(integers)
        return self._dequantised(integers, step, value in self._half_values)

    def _quantised_kernel(self, name: str) -> str:
        """Quantise a kernel to 8 bits, with a step size for each output channel, and dequantise it."""
        array = self._float_initialisers[name]
        sizes = self._step_sizes(np.abs(array).max(axis=(1, 2, 3)))
        integers = self._add_initialiser(np.rint(array / sizes[:, None, None, None]).astype(np.int8), f"{name}.steps")
        step = self._add_initialiser(sizes.astype(np.float32), f"{name}.step")
        return self._dequantised(integers, step, self.options.half, axis=0)

    def _step_sizes(self, limits: NDArray[np.float32] | float) -> NDArray[np.float32]:
        """Return the step sizes whose largest 8-bit integer is at the limits, rounded to the graph's precision."""
        sizes = np.maximum(np.asarray(limits, np.float32) / INT8_MAX, MIN_STEP[self.options.half])
        return sizes.astype(np.float16 if self.options.half else np.float32).astype(np.float32)

    def _dequantised(self, integers: str, step: str, half: bool, **attributes: int) -> str:
        step = self._as_half(step) if half else step
        zero = self._add_initialiser(np.zeros(self._initialiser_shape(step), np.int8), f"{step}.none")
        return self.op("DequantizeLinear", integers, step, zero, **attributes)

    def _initialiser_shape(self, initialiser: str) -> tuple[int, ...]:
        return tuple(self._initialisers[initialiser].dims)
