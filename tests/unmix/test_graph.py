"""The exported graphs: which operators, where the numbers are, what may vary."""

import onnx
import pytest
from networks import ENGINES, random_engine

from irst_stream.unmix.graph import FORMS, build

USUAL = {
    *("Add", "Clip", "Concat", "Conv", "DepthToSpace", "Div", "Exp", "Gather", "Identity", "MatMul", "Max", "Mul"),
    *("ReduceMax", "ReduceMean", "Relu", "Reshape", "Sigmoid", "SpaceToDepth", "Sub", "Tile", "Transpose"),
}
"""What every runtime has, TensorRT from 8.6 on among them."""


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), exported=False, **ENGINES[request.param])


@pytest.mark.parametrize("form", FORMS)
def test_operators_and_opsets_are_those_of_the_form(engine, form):
    special = {"deform": {"DeformConv"}, "portable": {"GridSample"}}[form]
    for part, data in build(engine.manifest, engine.data, form).items():
        model = onnx.load_from_string(data)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", FORMS[form])]
        used = {node.op_type for node in model.graph.node}
        assert used - USUAL == (special if part == "fuse" else set())


@pytest.mark.parametrize("form", FORMS)
def test_graphs_refer_to_the_weights_and_hold_none(engine, form, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(engine.data)
    for part, data in build(engine.manifest, engine.data, form).items():
        (tmp_path / f"{part}.onnx").write_bytes(data)
        model = onnx.load(tmp_path / f"{part}.onnx")  # reads the numbers from where the graph says they are
        found = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
        shared = found.keys() & engine.weights.keys()
        assert len(shared) > 20
        assert all((found[name] == engine.weights[name]).all() for name in shared)
        onnx.checker.check_model(str(tmp_path / f"{part}.onnx"), full_check=True)


def test_only_the_batch_may_vary(engine):
    for data in build(engine.manifest, engine.data, "deform").values():
        graph = onnx.load_from_string(data).graph
        for value in (*graph.input, *graph.output):
            dims = value.type.tensor_type.shape.dim
            assert dims[0].dim_param == "B"
            assert all(d.dim_value > 0 for d in dims[1:])
