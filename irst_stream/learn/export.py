"""Write a method's network as ONNX graphs, from the operators that torch.export finds in it.

Each operator has one line in TRANSLATIONS or one function; arrays stay in the engine's weights file, to which the graphs
refer, as in unmix.graph. What depends on no input and no weight is computed here.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from irst_stream.errors import FormatError
from irst_stream.unmix.engine import WINDOW, EngineManifest
from irst_stream.unmix.onnx_writer import FORM_OPSETS, Form, GraphOptions, GraphWriter

__all__ = ["method_graphs"]

FORM: Form = "portable"
MAX_BATCH = 65536
INFERRED = -1  # the batch's size, as reshapes have it


class Part(nn.Module):
    """One of a multi-frame network's two functions, as a network of its own."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, value: Tensor) -> Tensor:
        """Call the function."""
        result: Tensor = getattr(self.network, self.name)(value)
        return result


def method_graphs(network: nn.Module, manifest: EngineManifest, data: bytes) -> dict[tuple[str, Form, int], bytes]:
    """Return a network's graphs, keyed by (part, form, opset) as engine.write_graphs takes them.

    data: the content of weights.safetensors. A single-frame method has "unfold" only; a multi-frame one has both parts, and
    its maps may have any shape.
    """
    patches = torch.rand(3, *manifest.patch) * 100
    key = FORM, FORM_OPSETS[FORM]
    network = network.eval()
    if manifest.window == 1:
        return {("unfold", *key): _graph(network, "", patches, ("patches", "maps"), manifest, data)}
    with torch.no_grad():
        maps = network.unfold(patches)  # type: ignore[operator]
    windows = maps[:, None].expand(-1, WINDOW, *maps.shape[1:]).contiguous()
    return {
        ("unfold", *key): _graph(network, "unfold", patches, ("patches", "maps"), manifest, data),
        ("fuse", *key): _graph(network, "fuse", windows, ("maps", "map"), manifest, data),
    }


def _graph(
    network: nn.Module, part: str, example: Tensor, names: tuple[str, str], manifest: EngineManifest, data: bytes
) -> bytes:
    """The serialised graph of the network, or of one of its functions; names: of its input and output."""
    module = Part(network, part) if part else network
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with warnings.catch_warnings():  # of torch about its own insides
        warnings.simplefilter("ignore", FutureWarning)
        exported = torch.export.export(module, (example,), dynamic_shapes=({0: batch},), strict=False)
    writer = _Writer(GraphWriter(data, manifest, GraphOptions(FORM)), exported, "network." if part else "")
    return writer.write(names, example.shape[1:], part or "unfold")


class _Writer:
    """Translates an exported program node by node; values are names in the graph, or constants."""

    def __init__(self, g: GraphWriter, exported: Any, prefix: str) -> None:
        """prefix: what the program's names of arrays have before the engine's."""
        self.g, self.exported, self.prefix = g, exported, prefix
        self.values: dict[Any, Any] = {}

    def write(self, names: tuple[str, str], shape: torch.Size, part: str) -> bytes:
        """Write all nodes; names: of the input, (B, *shape), and the output."""
        signature = self.exported.graph_signature
        arrays = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = (
                    self._array(arrays[node.name]) if node.name in arrays else self.g.input(names[0], *shape)
                )
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                (result,) = node.args[0]
                self.g.output(self.values[result], names[1], *result.meta["val"].shape[1:])
        return self.g.serialise(part)

    def _array(self, name: str) -> str:
        name = name.removeprefix(self.prefix)
        return self.g.weight(name) if self.g.shape(name) else self.g.constant(self.g.array(name))

    def _call(self, node: Any) -> Any:
        packet = getattr(node.target, "overloadpacket", None)
        if packet is None:
            return self._python(node)
        kind = packet.__name__
        if kind in IGNORED:
            return None
        if kind == "sym_size":
            return INFERRED
        args = [self._value(a) for a in node.args]
        if kind in PASSED:
            return args[0]
        if all(not isinstance(a, str) for a in _flat(args)):  # a constant
            return node.target(*args, **{k: v for k, v in node.kwargs.items() if k != "pin_memory"})
        if kind not in TRANSLATIONS:
            raise FormatError(f"{kind}: no ONNX form of this operator is known; learn/export.py lists those that have one")
        return TRANSLATIONS[kind](self, node, args)

    def _python(self, node: Any) -> Any:
        """Python's own operators: items of tuples, products with the batch's size."""
        left, right = (self._value(a) for a in node.args)
        return left[right] if node.target is operator.getitem else INFERRED

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self._value(a) for a in argument]
        return self.values[argument] if isinstance(argument, torch.fx.Node) else argument

    def name(self, value: Any) -> str:
        """A value as a name in the graph; numbers and tensors become constants."""
        if isinstance(value, str):
            return value
        return self.g.constant(value.numpy() if isinstance(value, Tensor) else float(value))

    def ints(self, values: list[int]) -> str:
        """A constant of whole numbers."""
        return self.g.constant(values)


def _flat(values: list[Any]) -> list[Any]:
    return [leaf for value in values for leaf in (_flat(value) if isinstance(value, list) else [value])]


Translation = Callable[[_Writer, Any, list[Any]], Any]


def _plain(kind: str) -> Translation:
    """An operator that ONNX has under another name, with tensors or numbers as its only arguments."""
    return lambda w, _, args: w.g.op(kind, *(w.name(a) for a in args))


def _reshape(w: _Writer, node: Any, args: list[Any]) -> str:
    """To the node's static shape; the batch's size is inferred."""
    shape = [side if isinstance(side, int) else -1 for side in node.meta["val"].shape]
    return w.g.op("Reshape", args[0], w.ints(shape))


def _convolution(w: _Writer, _: Any, args: list[Any]) -> str:
    defaults: list[Any] = [None, [1, 1], [0, 0], [1, 1], 1]
    value, kernel, bias, stride, padding, _dilation, groups = [*args, *defaults[len(args) - 2 :]]
    options = {"strides": _pair(stride), "pads": _pair(padding) * 2, "group": groups}
    return w.g.op("Conv", value, kernel, *([bias] if bias else []), **options)


def _transposed_convolution(w: _Writer, _: Any, args: list[Any]) -> str:
    defaults: list[Any] = [None, [1, 1], [0, 0]]
    value, kernel, bias, stride, padding = [*args, *defaults[len(args) - 2 :]][:5]
    options = {"strides": _pair(stride), "pads": _pair(padding) * 2}
    return w.g.op("ConvTranspose", value, kernel, *([bias] if bias else []), **options)


def _pair(value: list[int] | int) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _linear(w: _Writer, _: Any, args: list[Any]) -> str:
    product = w.g.op("MatMul", args[0], w.g.op("Transpose", args[1], perm=[1, 0]))
    return w.g.op("Add", product, args[2]) if len(args) > 2 and args[2] else product


def _transpose(w: _Writer, node: Any, args: list[Any]) -> str:
    order = list(range(node.args[0].meta["val"].ndim))
    return w.g.op("Transpose", args[0], perm=order[::-1])


def _permute(w: _Writer, _: Any, args: list[Any]) -> str:
    return w.g.op("Transpose", args[0], perm=list(args[1]))


def _select(w: _Writer, _: Any, args: list[Any]) -> str:
    return w.g.op("Gather", args[0], w.g.constant(_whole(args[2])), axis=args[1])


def _whole(value: int) -> Any:
    return torch.tensor(value).numpy()


def _slice(w: _Writer, _: Any, args: list[Any]) -> str:
    value, axis, start, end = [*args, *[0, 0, 2**63 - 1][len(args) - 1 :]][:4]
    return w.g.op("Slice", value, w.ints([start or 0]), w.ints([2**63 - 1 if end is None else end]), w.ints([axis]))


def _pad(w: _Writer, node: Any, args: list[Any]) -> str:
    ndim, pairs = node.args[0].meta["val"].ndim, args[1]
    before, after = [0] * ndim, [0] * ndim
    for k in range(len(pairs) // 2):
        before[ndim - 1 - k], after[ndim - 1 - k] = pairs[2 * k], pairs[2 * k + 1]
    return w.g.op("Pad", args[0], w.ints([*before, *after]))


def _reduction(kind: str) -> Translation:
    """A sum, mean or maximum over axes; ONNX has the axes of a sum as an input, those of the others as an attribute."""

    def write(w: _Writer, node: Any, args: list[Any]) -> str:
        keep = bool(args[2]) if len(args) > 2 else bool(node.kwargs.get("keepdim", False))
        axes = [args[1]] if isinstance(args[1], int) else list(args[1])
        if kind == "ReduceSum" or w.g.opset >= 18:
            return w.g.op(kind, args[0], w.ints(axes), keepdims=int(keep))
        return w.g.op(kind, args[0], axes=axes, keepdims=int(keep))

    return write


def _concatenate(w: _Writer, _: Any, args: list[Any]) -> str:
    return w.g.op("Concat", *(w.name(a) for a in args[0]), axis=args[1] if len(args) > 1 else 0)


def _stack(w: _Writer, _: Any, args: list[Any]) -> str:
    axis = args[1] if len(args) > 1 else 0
    return w.g.op("Concat", *(w.g.op("Unsqueeze", a, w.ints([axis])) for a in args[0]), axis=axis)


def _prelu(w: _Writer, node: Any, args: list[Any]) -> str:
    ones = [1] * (node.args[0].meta["val"].ndim - 2)
    return w.g.op("PRelu", args[0], w.g.op("Reshape", args[1], w.ints([-1, *ones])))


def _enlargement(mode: str, **attributes: str) -> Translation:
    def write(w: _Writer, _: Any, args: list[Any]) -> str:
        scale = w.g.constant(torch.tensor([1.0, 1.0, *args[-1]]).numpy())
        return w.g.op("Resize", args[0], "", scale, mode=mode, **attributes)

    return write


def _normalised(w: _Writer, _: Any, args: list[Any]) -> str:
    value, scale, bias, mean, variance, *_others, epsilon, _cudnn = args
    return w.g.op("BatchNormalization", value, scale, bias, mean, variance, epsilon=epsilon)


def _largest(w: _Writer, _: Any, args: list[Any]) -> list[str]:
    values, indices = w.g.ops("TopK", 2, args[0], w.ints([args[1]]), axis=args[2])
    return [values, indices]


def _expand_as(w: _Writer, _: Any, args: list[Any]) -> str:
    """By adding to zeros of the other's shape."""
    return w.g.op("Add", w.g.op("Mul", args[1], w.name(0.0)), w.name(args[0]))


def _repeat(w: _Writer, node: Any, args: list[Any]) -> str:
    """Repeat each entry along an axis: a new axis of copies, folded into it."""
    copies = [w.g.op("Unsqueeze", args[0], w.ints([args[2] + 1]))] * args[1]
    return _reshape(w, node, [w.g.op("Concat", *copies, axis=args[2] + 1)])


def _compared(kind: str) -> Translation:
    return lambda w, _, args: w.g.op(kind, w.name(args[0]), w.name(args[1]))


def _not_equal(w: _Writer, _: Any, args: list[Any]) -> str:
    return w.g.op("Not", w.g.op("Equal", args[0], w.name(args[1])))


def _cast(w: _Writer, node: Any, args: list[Any]) -> str:
    """Truth values become numbers; numbers stay, since all are in single precision."""
    return w.g.op("Cast", args[0], to=1) if node.args[0].meta["val"].dtype == torch.bool else str(args[0])


def _sampled(w: _Writer, _: Any, args: list[Any]) -> str:
    return w.g.op("GridSample", args[0], args[1], mode="bilinear", padding_mode="zeros", align_corners=int(args[4]))


IGNORED = ("_assert_tensor_metadata", "promote_types")
PASSED = ("clone", "detach", "contiguous", "dropout")
TRANSLATIONS: Mapping[str, Translation] = {
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "div": _plain("Div"),
    "rsub": lambda w, _, args: w.g.op("Sub", w.name(args[1]), args[0]),
    "matmul": _plain("MatMul"),
    "relu": _plain("Relu"),
    "sigmoid": _plain("Sigmoid"),
    "softplus": _plain("Softplus"),
    "abs": _plain("Abs"),
    "sign": _plain("Sign"),
    "sqrt": _plain("Sqrt"),
    "exp": _plain("Exp"),
    "square": lambda w, _, args: w.g.op("Mul", args[0], args[0]),
    "zeros_like": lambda w, _, args: w.g.op("Mul", args[0], w.name(0.0)),
    "leaky_relu": lambda w, _, args: w.g.op("LeakyRelu", args[0], alpha=float(args[1]) if len(args) > 1 else 0.01),
    "prelu": _prelu,
    "gt": _compared("Greater"),
    "ge": _compared("GreaterOrEqual"),
    "ne": _not_equal,
    "__and__": _plain("And"),
    "to": _cast,
    "conv2d": _convolution,
    "conv_transpose2d": _transposed_convolution,
    "linear": _linear,
    "batch_norm": _normalised,
    "pixel_shuffle": lambda w, _, args: w.g.op("DepthToSpace", args[0], blocksize=args[1], mode="CRD"),
    "upsample_bilinear2d": _enlargement("linear", coordinate_transformation_mode="half_pixel"),
    "upsample_nearest2d": _enlargement("nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "grid_sampler": _sampled,
    "view": _reshape,
    "reshape": _reshape,
    "flatten": _reshape,
    "unsqueeze": lambda w, _, args: w.g.op("Unsqueeze", args[0], w.ints([args[1]])),
    "expand_as": _expand_as,
    "numpy_T": _transpose,
    "permute": _permute,
    "select": _select,
    "slice": _slice,
    "pad": _pad,
    "cat": _concatenate,
    "stack": _stack,
    "repeat_interleave": _repeat,
    "sum": _reduction("ReduceSum"),
    "mean": _reduction("ReduceMean"),
    "amax": _reduction("ReduceMax"),
    "topk": _largest,
}
