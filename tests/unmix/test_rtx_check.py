"""The graphs that TensorRT is given, through the parser and the builder of TensorRT for RTX, which need no GPU."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from irst_stream.cli import main
from irst_stream.commands.engine_rtx import graphs_of_all_precisions
from irst_stream.errors import FormatError, IrstError, MissingPackageError
from irst_stream.system.shipped import find_engine
from irst_stream.unmix import rtx_build, rtx_check
from irst_stream.unmix.engine import read_engine
from irst_stream.unmix.graph import build_for_gpu
from irst_stream.unmix.onnx_writer import GraphOptions
from irst_stream.unmix.rtx_check import HARMLESS, build_by_rtx, check_tensors, expected_tensors, find_libraries
from irst_stream.unmix.tensorrt_build import GraphToBuild


@pytest.fixture(autouse=True, scope="module")
def libraries():
    try:
        return find_libraries()
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def engine():
    return read_engine(find_engine("seqcsist"))


@pytest.fixture(scope="module")
def unfold(engine):
    writer = build_for_gpu(engine.manifest, engine.data, GraphOptions(self_contained=True))["unfold"]
    return GraphToBuild("unfold", writer.serialise("unfold"), frozenset(), (1, 8))


@pytest.mark.parametrize("name", ["seqcsist", "general"])
def test_every_graph_is_built_and_is_what_the_manifest_says(name):
    engine = read_engine(find_engine(name))
    builds = [build for _, build in graphs_of_all_precisions(engine)]
    assert len(builds) == 6
    for build, built in zip(builds, build_by_rtx(builds), strict=True):
        assert not isinstance(built, IrstError), built
        check_tensors(engine.manifest, build, built)
        assert built.profiles == 4
        assert built.plan_bytes > 2**20
        assert built.warnings.keys() <= HARMLESS


def test_a_plan_of_another_manifest_is_refused(engine, unfold):
    (built,) = build_by_rtx([unfold])
    check_tensors(engine.manifest, unfold, built)
    other = msgspec.structs.replace(engine.manifest, patch=(11, 11))
    with pytest.raises(FormatError, match=r"unfold graph: inputs by the manifest: .*11, 11.*; in the plan: .*7, 7"):
        check_tensors(other, unfold, built)
    with pytest.raises(FormatError, match=r"unfold graph: profiles by the manifest: 3; in the plan: 2"):
        check_tensors(engine.manifest, replace(unfold, batches=(1, 2, 3)), built)


def test_the_tensors_of_every_kind_of_engine_are_expected(engine):
    inputs, outputs = expected_tensors(msgspec.structs.replace(engine.manifest, time_code="clip"), "fuse")
    assert {name for name, _, _ in inputs} == {"store", "rows", "patches", "places"}
    assert {name for name, _, _ in outputs} == {"map", "claims"}
    plain = msgspec.structs.replace(engine.manifest, head="map", scale="none")
    assert {name for name, _, _ in expected_tensors(plain, "fuse")[0]} == {"store", "rows"}


def refusal(build):
    (built,) = build_by_rtx([build])
    assert isinstance(built, IrstError)
    assert "\n" not in str(built)
    return str(built)


def test_a_node_that_the_parser_refuses_is_named(engine):
    options = GraphOptions("deform", self_contained=True)
    fuse = build_for_gpu(engine.manifest, engine.data, options)["fuse"].serialise("fuse")
    words = refusal(GraphToBuild("fuse", fuse, frozenset(), (1,)))
    assert words.startswith("the fuse graph: TensorRT for RTX cannot parse the graph: node DeformConv_")
    assert "(DeformConv): " in words


@pytest.mark.parametrize("damage", ["emptied", "truncated", "scrambled"])
def test_a_damaged_graph_is_one_line(unfold, damage, monkeypatch):
    monkeypatch.setattr(rtx_check, "_open_inputs", lambda _: {"patches": (7, 7)})
    graph = {"emptied": b"", "truncated": unfold.graph[:5000], "scrambled": unfold.graph[::-1]}[damage]
    assert refusal(replace(unfold, graph=graph)).startswith("the unfold graph: TensorRT for RTX ")


def test_a_profile_that_does_not_fit_is_refused(unfold, monkeypatch):
    monkeypatch.setattr(rtx_check, "profile_shapes", lambda *_: {"patches": ([8, 7, 7], [4, 7, 7], [1, 7, 7])})
    assert "does not take the profile" in refusal(unfold)


def changed(monkeypatch, tmp_path, change):
    """The program of the child process, changed."""
    path = tmp_path / "changed.py"
    path.write_text(change(Path(rtx_build.__file__).read_text()))
    monkeypatch.setattr(rtx_build, "__file__", str(path))


def test_a_version_with_unknown_tables_is_refused_before_any_of_them_is_used(unfold, monkeypatch, tmp_path):
    changed(monkeypatch, tmp_path, lambda text: text.replace("(10701,)", "(10609, 10700)").replace("CFUNCTYPE(", "no("))
    expected = "version 1.7.1 has an interface that is not known here; expected 1.6.9, 1.7.0"
    assert refusal(unfold) == f"the unfold graph: TensorRT for RTX {expected}"


def test_a_wrong_table_is_one_line(unfold, monkeypatch, tmp_path):
    changed(monkeypatch, tmp_path, lambda text: text.replace("(table[method.place])", "(8)"))  # no function is there
    words = "the unfold graph: the builder of TensorRT for RTX crashed (exit code -11; no error message)"
    assert refusal(unfold) == words


def test_a_builder_that_never_ends_is_one_line(unfold, monkeypatch, tmp_path):
    changed(monkeypatch, tmp_path, lambda _: "while True: pass")
    monkeypatch.setattr(rtx_check, "TIMEOUT_S", 0.2)
    assert refusal(unfold).startswith("the unfold graph: TensorRT for RTX did not answer (")


def test_the_command_says_what_is_refused_and_why(monkeypatch, tmp_path, capsys):
    changed(monkeypatch, tmp_path, lambda text: text.replace("(10701,)", "(10800,)"))
    assert main(["engine", "check", "seqcsist", "--tensorrt-rtx"]) == 2
    out, err = capsys.readouterr()
    assert out.count("refused") == 6
    assert "6 of 6 graphs are refused: fp32: the unfold graph: TensorRT for RTX version 1.7.1" in err
    assert "Traceback" not in err


def test_without_the_libraries_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(rtx_check, "PACKAGE", "no_such_package")
    assert main(["engine", "check", "seqcsist", "--tensorrt-rtx"]) == 2
    expected = "building graphs without a GPU needs TensorRT for RTX: pip install 'irst-stream[rtx]'"
    assert capsys.readouterr().err.strip() == f"irst-stream: {expected}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["focus", "--tensorrt-rtx"], "plans are of DeRefNet alone, not of focus"),
        (["seqcsist", "--tensorrt-rtx", "--patches", "x.npy"], "expected no --patches beside it"),
    ],
)
def test_what_cannot_be_checked_is_one_line(arguments, words, capsys):
    assert main(["engine", "check", *arguments]) == 2
    assert words in capsys.readouterr().err
