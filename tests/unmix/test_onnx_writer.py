"""The graphs for TensorRT: their operators, types and outputs, by ONNX Runtime on the CPU."""

from typing import get_args

import numpy as np
import onnx
import pytest
from random_networks import ENGINES, random_engine
from rounded_networks import bounds, rounded

from irst_stream.commands.trials import calibration_windows, frame_places, run_network
from irst_stream.system.shipped import find_engine
from irst_stream.unmix.calibration import activation_ranges
from irst_stream.unmix.engine import read_engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx import GpuGraphsOnCpu, OnnxUnmixer
from irst_stream.unmix.onnx_writer import GraphOptions
from irst_stream.unmix.parity import largest_differences
from irst_stream.unmix.plans import Precision
from irst_stream.unmix.tensorrt_build import recipe_for

SUPPORTED = {
    *("Abs", "Add", "Cast", "Clip", "Concat", "Conv", "DepthToSpace", "DequantizeLinear", "Div", "Exp", "Gather"),
    *("GridSample", "Identity", "MatMul", "Max", "Mul", "QuantizeLinear", "ReduceMax", "ReduceMean", "Relu", "Reshape"),
    *("Sigmoid", "Sign", "SpaceToDepth", "Sub", "Tile", "Transpose"),
}
"""Operators that the ONNX parsers of TensorRT 8.6 and all later versions support."""

OPSETS = {(8, 6, 0): 17, (10, 1, 0): 20, (10, 13, 3): 20, (11, 4, 0): 20}
FLOAT, HALF, INT8 = 1, 10, 3


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), exported=False, **ENGINES[request.param])


@pytest.fixture(scope="module")
def windows(engine):
    return calibration_windows(engine.manifest, 4)


@pytest.fixture(scope="module")
def ranges(engine, windows):
    return activation_ranges(engine, windows, frame_places(len(windows)))


def serialised(engine, options):
    return {part: writer.serialise(part) for part, writer in build_for_gpu(engine.manifest, engine.data, options).items()}


def outputs(engine, options, windows):
    return run_network(GpuGraphsOnCpu(serialised(engine, options), threads=1), windows)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_the_requested_number_of_windows_is_generated(engine, count):
    assert calibration_windows(engine.manifest, count).shape == (
        count,
        engine.manifest.input_planes,
        *engine.manifest.patch,
    )


@pytest.mark.parametrize("version", OPSETS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_graphs_use_only_what_each_version_supports(engine, ranges, version, precision):
    recipe = recipe_for(version, precision)
    options = GraphOptions(
        self_contained=True, half=recipe.half, ranges=ranges if recipe.quantised else None, opset=recipe.opset
    )
    for part, data in serialised(engine, options).items():
        model = onnx.load_from_string(data)
        used = {node.op_type for node in model.graph.node}
        assert used <= SUPPORTED, part
        assert all(o.domain == "" and o.version <= OPSETS[version] for o in model.opset_import)
        assert ("QuantizeLinear" in used) == (precision == "int8")


def test_both_forms_and_both_opsets_give_the_same(engine, windows):
    wanted = outputs(engine, GraphOptions(self_contained=True), windows)
    for options in (GraphOptions("deform", self_contained=True), GraphOptions(self_contained=True, opset=19)):
        assert max(largest_differences(outputs(engine, options, windows), wanted).values()) < 1e-4


def test_convolutions_are_in_half_precision_and_inputs_and_outputs_are_not(engine):
    for data in serialised(engine, GraphOptions(self_contained=True, half=True)).values():
        model = onnx.load_from_string(data)
        types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
        types |= {one.name: one.data_type for one in model.graph.initializer}
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.elem_type in (FLOAT, 6)
        for node in model.graph.node:
            wanted = {"Conv": HALF, "MatMul": FLOAT, "GridSample": FLOAT}.get(node.op_type)
            if wanted:
                assert {types.get(name, FLOAT) for name in node.input} == {wanted}, node.name


def test_half_precision_changes_outputs_by_at_most_two_percent_of_the_range(engine, windows):
    differences = largest_differences(
        outputs(engine, GraphOptions(self_contained=True, half=True), windows),
        outputs(engine, GraphOptions(self_contained=True), windows),
    )
    assert max(differences.values()) < 0.02
    assert differences["map"] > 0


def test_quantised_convolutions_take_integers_with_calibrated_steps(engine, ranges):
    data = serialised(engine, GraphOptions(self_contained=True, ranges=ranges))["unfold"]
    model = onnx.load_from_string(data)
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    quantised = [n for n in model.graph.node if n.op_type == "Conv" and made[n.input[0]].op_type == "DequantizeLinear"]
    assert len(quantised) == 3 * 9  # of the four in a stage, the first takes a single channel
    for node in quantised:
        kernel = made[node.input[1]]
        steps, step, zero = (arrays[name] for name in kernel.input)
        assert steps.dtype == np.int8
        assert (np.abs(steps.astype(int)).max(axis=(1, 2, 3)) == 127).all()
        assert not zero.any()
        name = kernel.input[0].removesuffix(".steps")
        np.testing.assert_allclose(steps * step[:, None, None, None], engine.weights[name], atol=0.51 * step.max())
        limit = arrays[made[node.input[0]].input[1]] * 127
        np.testing.assert_allclose(limit, ranges[name], rtol=1e-6)


def test_quantised_in_half_precision_the_steps_are_half_too(engine, ranges):
    for data in serialised(engine, GraphOptions(self_contained=True, half=True, ranges=ranges, opset=19)).values():
        model = onnx.load_from_string(data)
        kinds = {one.name: one.data_type for one in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "DequantizeLinear":
                assert kinds[node.input[1]] == HALF


def test_a_kernel_close_to_zero_has_positive_steps(engine, ranges):
    writer = build_for_gpu(
        engine.manifest, engine.data, GraphOptions(self_contained=True, half=True, ranges=ranges, opset=19)
    )["fuse"]
    steps = writer._step_sizes(np.array([0.0, 1e-9, 1.0], np.float32))
    np.testing.assert_array_equal(steps, np.float32([2.0**-20, 2.0**-20, np.float16(1 / 127)]))


def test_quantised_outputs_stay_close(engine, ranges, windows):
    exact, near = (outputs(engine, GraphOptions(self_contained=True, ranges=r), windows) for r in (None, ranges))
    span = np.ptp(exact.map)
    assert 0 < np.sqrt(np.mean((near.map - exact.map) ** 2)) < 0.05 * span


def test_precisions_are_distinguished_by_their_rounding():
    engine = read_engine(find_engine("seqcsist"))
    windows = calibration_windows(engine.manifest, 8)
    oracle = run_network(OnnxUnmixer(engine, threads=1), windows)
    differences = {
        name: max(largest_differences(run_network(rounded(engine, name), windows), oracle).values())
        for name in get_args(Precision)
    }
    for name, (least, most) in bounds(differences["fp16"]).items():
        assert least <= differences[name] < most, differences


def test_the_store_may_hold_more_maps_than_a_window_needs(engine, windows):
    import onnxruntime as ort

    graphs = serialised(engine, GraphOptions(self_contained=True))
    fuse = ort.InferenceSession(graphs["fuse"], providers=["CPUExecutionProvider"])
    maps = GpuGraphsOnCpu(graphs, threads=1).unfold(np.ascontiguousarray(windows[0, :5]))
    store = np.full((20, *engine.manifest.cells), np.nan, np.float32)
    rows = np.array([[3, 17, 0, 9, 4]], np.int32)
    store[rows[0]] = maps
    given = {"store": store, "rows": rows, "patches": windows[:1], "places": np.arange(5, dtype=np.float32)[None]}
    results = fuse.run(None, {node.name: given[node.name] for node in fuse.get_inputs()})
    np.testing.assert_allclose(
        results[0], outputs(engine, GraphOptions(self_contained=True), windows[:1]).map, rtol=1e-4, atol=1e-3
    )
