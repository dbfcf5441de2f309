"""The exported graphs: their operators, external weights and dynamic dimensions."""

import onnx
import pytest
from random_networks import ENGINES, random_engine

from irst_stream.unmix.graph import FORM_OPSETS, build

COMMON = {
    *("Add", "Clip", "Concat", "Conv", "DepthToSpace", "Div", "Exp", "Gather", "Identity", "MatMul", "Max", "Mul"),
    *("ReduceMax", "ReduceMean", "Relu", "Reshape", "Sigmoid", "SpaceToDepth", "Sub", "Tile", "Transpose"),
}
"""Operators that every runtime supports, including TensorRT from 8.6 on."""


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), exported=False, **ENGINES[request.param])


@pytest.mark.parametrize("form", FORM_OPSETS)
def test_operators_and_opsets_are_those_of_the_form(engine, form):
    special = {"deform": {"DeformConv"}, "portable": {"GridSample"}}[form]
    for part, data in build(engine.manifest, engine.data, form).items():
        model = onnx.load_from_string(data)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", FORM_OPSETS[form])]
        used = {node.op_type for node in model.graph.node}
        assert used - COMMON == (special if part == "fuse" else set())


@pytest.mark.parametrize("form", FORM_OPSETS)
def test_graphs_refer_to_the_weights_file_and_contain_no_weights(engine, form, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(engine.data)
    for part, data in build(engine.manifest, engine.data, form).items():
        (tmp_path / f"{part}.onnx").write_bytes(data)
        model = onnx.load(tmp_path / f"{part}.onnx")  # reads the weights from the file that the graph names
        found = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
        shared = found.keys() & engine.weights.keys()
        assert len(shared) > 20
        assert all((found[name] == engine.weights[name]).all() for name in shared)
        onnx.checker.check_model(str(tmp_path / f"{part}.onnx"), full_check=True)


def test_only_the_batch_dimension_is_dynamic(engine):
    for data in build(engine.manifest, engine.data, "deform").values():
        graph = onnx.load_from_string(data).graph
        for value in (*graph.input, *graph.output):
            dims = value.type.tensor_type.shape.dim
            assert dims[0].dim_param == "B"
            assert all(d.dim_value > 0 for d in dims[1:])
