"""irst-stream engine build on machines without a GPU: error messages, and the graphs it prepares."""

import pytest
from random_networks import random_engine

from irst_stream.cli import main
from irst_stream.commands import engine_build
from irst_stream.commands.engine_build import quantisation_ranges
from irst_stream.unmix.tensorrt_build import graphs_to_build, parse_version, recipe_for
from irst_stream.unmix.tensorrt_here import TensorRtReport


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), head=True)


def without(monkeypatch, missing):
    monkeypatch.setattr(engine_build, "look_for_tensorrt", lambda: TensorRtReport(None, missing))


def error_line(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return err.strip()


@pytest.mark.parametrize("name", ["{}", "{}/manifest.toml"])
def test_without_a_gpu_the_error_is_one_line(engine, monkeypatch, capsys, name):
    without(monkeypatch, "no NVIDIA driver is installed")
    assert main(["engine", "build", name.format(engine.folder)]) == 2
    expected = "irst-stream: engine build: no NVIDIA driver is installed; plans must be built on the GPU that runs them"
    assert error_line(capsys) == expected


def test_a_folder_that_is_not_an_engine_is_reported_first(tmp_path, capsys):
    assert main(["engine", "build", str(tmp_path)]) == 2
    assert "not an engine" in error_line(capsys)


@pytest.mark.parametrize("text", ["0", "8,8", "a", "1,", "5000", "-1"])
def test_batch_sizes_are_different_whole_numbers(engine, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["engine", "build", str(engine.folder), "--batch", text])
    assert ended.value.code == 2
    assert "different whole numbers from 1 to 1024" in capsys.readouterr().err


@pytest.mark.parametrize(("version", "kinds"), [("8.6.1", (1, True)), ("10.13.3", (10, False))])
def test_half_precision_is_in_the_graph_or_single_precision_nodes_are_named(engine, version, kinds):
    import onnx

    for build in graphs_to_build(engine, recipe_for(parse_version(version), "fp16"), (1, 8)):
        model = onnx.load_from_string(build.graph)
        types = {one.name: one.data_type for one in model.graph.initializer}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        assert {types[node.input[1]] for node in convolutions} == {kinds[0]}
        assert bool(build.single_precision_nodes) == kinds[1]
        names = {node.name for node in model.graph.node}
        assert len(build.single_precision_nodes & names) >= 0.9 * len(build.single_precision_nodes)
        assert not build.single_precision_nodes & {node.name for node in convolutions}
        assert build.batches == (1, 8)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_single_precision_nodes_for_an_old_tensorrt_are_in_its_graph(engine, precision):
    import onnx

    recipe = recipe_for((8, 6, 1), precision)
    for build in graphs_to_build(engine, recipe, (1,), quantisation_ranges(engine, recipe, 16)):
        nodes = onnx.load_from_string(build.graph).graph.node
        assert build.single_precision_nodes
        assert build.single_precision_nodes <= {node.name for node in nodes}
        assert not build.single_precision_nodes & {node.name for node in nodes if node.op_type == "Conv"}


def test_plans_are_of_derefnet_alone(capsys):
    assert main(["engine", "build", "focus"]) == 2
    assert "plans are of DeRefNet alone; focus runs by onnx or openvino" in capsys.readouterr().err
