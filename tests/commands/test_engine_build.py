"""irst-stream engine build, where there is no GPU, and what it would build."""

import pytest
from networks import random_engine

from irst_stream.cli import main
from irst_stream.commands import engine_build
from irst_stream.commands.engine_build import BuildOrder, draw_builds
from irst_stream.unmix.plans import Place
from irst_stream.unmix.tensorrt_build import recipe_of, version_of
from irst_stream.unmix.tensorrt_here import TensorRt


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), head=True)


def without(monkeypatch, missing):
    monkeypatch.setattr(engine_build, "look_for_tensorrt", lambda: TensorRt(None, missing))


def said(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return err.strip()


@pytest.mark.parametrize("name", ["{}", "{}/manifest.toml"])
def test_without_a_gpu_it_says_so_in_one_line(engine, monkeypatch, capsys, name):
    without(monkeypatch, "no NVIDIA driver is installed")
    assert main(["engine", "build", name.format(engine.folder)]) == 2
    expected = "irst-stream: engine build: no NVIDIA driver is installed; plans are built on the GPU that they are for"
    assert said(capsys) == expected


def test_what_is_not_an_engine_is_told_first(tmp_path, capsys):
    assert main(["engine", "build", str(tmp_path)]) == 2
    assert "not an engine" in said(capsys)


@pytest.mark.parametrize("text", ["0", "8,8", "a", "1,", "5000", "-1"])
def test_batch_sizes_are_different_whole_numbers(engine, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["engine", "build", str(engine.folder), "--batch", text])
    assert ended.value.code == 2
    assert "different whole numbers from 1 to 1024" in capsys.readouterr().err


@pytest.mark.parametrize(("version", "kinds"), [("8.6.1", (1, True)), ("10.13.3", (10, False))])
def test_half_precision_is_in_the_graph_or_what_must_be_held_single_is_named(engine, version, kinds):
    import onnx

    place = Place(version, "GPU", "9.0", "CUDA 13.0")
    order = BuildOrder(engine, place, "fp16", (1, 8), recipe_of(version_of(version), "fp16"))
    for build in draw_builds(order):
        model = onnx.load_from_string(build.graph)
        types = {one.name: one.data_type for one in model.graph.initializer}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        assert {types[node.input[1]] for node in convolutions} == {kinds[0]}
        assert bool(build.singles) == kinds[1]
        names = {node.name for node in model.graph.node}
        assert len(build.singles & names) >= 0.9 * len(build.singles)
        assert not build.singles & {node.name for node in convolutions}
        assert build.batches == (1, 8)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_layer_that_an_old_tensorrt_must_hold_single_is_in_its_graph(engine, precision, monkeypatch):
    import onnx

    monkeypatch.setattr(engine_build, "CALIBRATED", 16)
    order = BuildOrder(engine, Place("8.6.1", "GPU", "9.0", "CUDA 12.2"), precision, (1,), recipe_of((8, 6, 1), precision))
    for build in draw_builds(order):
        nodes = onnx.load_from_string(build.graph).graph.node
        assert build.singles
        assert build.singles <= {node.name for node in nodes}
        assert not build.singles & {node.name for node in nodes if node.op_type == "Conv"}
