"""By how much a network's answers change with the precision that it is computed in, as far as that needs no GPU."""

from irst_stream.commands.engine_build import BuildOrder, draw_builds
from irst_stream.unmix.onnx import WholeOnCpu
from irst_stream.unmix.plans import Place
from irst_stream.unmix.tensorrt_build import recipe_of, version_of

NOWHERE = Place("10.13.3", "none", "0.0", "none")


def rounded(engine, precision):
    """The very graphs that TensorRT is given, by ONNX Runtime on the CPU, which rounds as a GPU does."""
    order = BuildOrder(engine, NOWHERE, precision, (1,), recipe_of(version_of(NOWHERE.tensorrt), precision))
    return WholeOnCpu({build.part: build.graph for build in draw_builds(order)}, threads=1)


def bounds(half):
    """How far each precision's answers are from those of single precision, given how far those of half precision are."""
    return {"fp32": (0.0, half / 10), "fp16": (half / 10, 5 * half), "int8": (5 * half, 1.0)}
