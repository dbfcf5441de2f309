"""By how much a network's answers change with the precision that it is computed in, as far as that needs no GPU."""

from irst_stream.commands.engine_build import quantisation_ranges
from irst_stream.unmix.onnx import GpuGraphsOnCpu
from irst_stream.unmix.tensorrt_build import graphs_to_build, recipe_for

TENSORRT = (10, 13, 3)


def rounded(engine, precision):
    """The very graphs that TensorRT is given, by ONNX Runtime on the CPU, which rounds as a GPU does."""
    recipe = recipe_for(TENSORRT, precision)
    builds = graphs_to_build(engine, recipe, (1,), quantisation_ranges(engine, recipe))
    return GpuGraphsOnCpu({build.part: build.graph for build in builds}, threads=1)


def bounds(half):
    """How far each precision's answers are from those of single precision, given how far those of half precision are."""
    return {"fp32": (0.0, half / 10), "fp16": (half / 10, 5 * half), "int8": (5 * half, 1.0)}
