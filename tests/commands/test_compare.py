"""compare: methods side by side on the same frames; what it prints, writes, draws and refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest

from irst_stream import read_config
from irst_stream.cli import main
from irst_stream.commands.comparison import Figures, measure_rate
from irst_stream.commands.contenders import WHOLE, NetworkContender, Scene, find_contender, known_contenders
from irst_stream.errors import UsageError
from irst_stream.io.files import open_source
from irst_stream.score import score_detections
from irst_stream.system.shipped import engines_folder, find_config
from irst_stream.types import Detections
from irst_stream.unmix.engine import read_engine


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    assert main(["simulate", "seqcsist", str(folder), "--trajectories", "1", "--split", "test", "--seed", "3"]) == 0
    return folder / "test"


@pytest.fixture(scope="module")
def scene(data):
    source = open_source(data)
    pairs = list(zip(source, source.truths(), strict=True))
    return Scene.of(pairs, read_config(find_config("seqcsist")), source.dataset)


def bundled():
    return [name for name in known_contenders() if name not in WHOLE]


def test_it_prints_one_row_a_method_and_a_picture(data, tmp_path, capsys):
    png, out = tmp_path / "a.png", tmp_path / "a.json"
    words = ["compare", "--methods", "labels,ista-net,focus,derefnet,fit,default", "--data", str(data)]
    assert main([*words, "--png", str(png), "--json", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{data}: 16 windows of 5, CSO-mAP and APs in %"
    assert [line.split()[0] for line in lines[2:8]] == ["labels", "ista-net", "focus", "derefnet", "fit", "default"]
    assert png.stat().st_size > 10_000
    written = {row["name"]: row for row in json.loads(out.read_text())["methods"]}
    assert written["labels"]["cells"]["count"] > 90
    assert written["labels"]["fit"] is None
    for name in ("ista-net", "focus", "derefnet"):
        assert written[name]["cells"]["cso_map"] > 25
        assert written[name]["fit"]["cso_map"] > 90, "the fit finds the targets from any start"
        assert written[name]["rate"] > 0
    assert written["default"]["cells"] is None
    assert written["default"]["fit"]["count"] == 100.0


def test_without_the_fit_its_columns_are_empty(data, capsys):
    assert main(["compare", "--methods", "focus", "--data", str(data), "--no-fit", "--frames", "8"]) == 0
    captured = capsys.readouterr()
    assert "4 windows of 5" in captured.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "nothing"], "nothing: no such method, and no engine's folder; there are: labels, fit, default"),
        (["--methods", "rdn"], "rdn: not trained here; tools/train_methods.py rdn trains it"),
        (["--methods", "focus,focus"], "focus: named twice"),
        (["--methods", ","], "expected names with commas between them, got ','"),
        (["--methods", "focus", "--frames", "3"], "no window of 5 frames among 3"),
        (["--methods", "focus", "--png", "a.jpg"], "a.jpg: expected a name that ends in .png"),
        (["--methods", "focus", "--config", "nowhere"], "nowhere: no such file, and no bundled configuration"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(words, message, data, capsys):
    try:
        code = main(["compare", "--data", str(data), *words])
    except SystemExit as stopped:  # of the options' parser
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_frames_without_truth_and_frames_that_are_not_patches_are_refused(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((8, 11, 11), np.uint16))
    assert main(["compare", "--methods", "focus", "--data", str(tmp_path / "a.npy")]) == 2
    assert "without truth; expected a split with annotations" in capsys.readouterr().err
    scene = tmp_path / "scene"
    assert main(["simulate", "scene", str(scene), "--frames", "6", "--size", "96x96", "--seed", "1"]) == 0
    capsys.readouterr()
    assert main(["compare", "--methods", "focus", "--data", str(scene), "--config", "general"]) == 2
    assert "compare takes patches of one group each" in capsys.readouterr().err


def test_a_damaged_engine_is_one_line(tmp_path, data, capsys):
    source, copy = engines_folder() / "focus", tmp_path / "focus"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "record.json").write_text("{")
    assert main(["compare", "--methods", str(copy), "--data", str(data)]) == 2
    assert "record.json: not JSON" in capsys.readouterr().err
    (copy / "weights.safetensors").write_bytes((copy / "weights.safetensors").read_bytes()[:-10])
    assert main(["compare", "--methods", str(copy), "--data", str(data)]) == 2
    assert "its hash is not the manifest's" in capsys.readouterr().err


@pytest.mark.parametrize("name", bundled())
def test_a_contenders_maps_lie_on_the_patch(name, scene):
    """Read at cell centres its detections are near true targets, of which each is found once or more."""
    contender = find_contender(name)
    assert isinstance(contender, NetworkContender)
    maps, corners = contender.maps(scene)
    assert maps.shape == (16, *contender.manifest.cells)
    assert corners.shape == (16, 2)
    pairs = contender.at_cells(scene, maps, corners, contender.thresholds.get("seqcsist", 70.0))
    far = [np.hypot(*(found.xy[:, None] - truth.xy).T).min(0) for found, truth in pairs if len(found)]
    assert np.median(np.concatenate(far)) < 0.3


def test_single_images_are_scenes_at_rest(tmp_path):
    assert main(["simulate", "csist100k", str(tmp_path), "--images", "40", "--split", "test"]) == 0
    source = open_source(tmp_path / "test")
    pairs = list(zip(source, source.truths(), strict=True))
    scene = Scene.of(pairs, read_config(find_config("csist100k")), source.dataset)
    assert scene.patches().shape == (len(pairs), 5, 11, 11)
    for name in ("focus", "derefnet"):
        maps, _ = find_contender(name).maps(scene)
        assert len(maps) == len(scene.truths) == len(pairs)


def test_the_fit_starts_from_the_map(scene):
    """Given maps of perfect labels it finds every target; the configuration's readout does not matter."""
    contender = find_contender("focus")
    corners = contender.maps(scene)[1]
    labels = [
        contender.grid().label(truth.xy - corner, truth.amplitude)
        for truth, corner in zip(scene.truths, corners, strict=True)
    ]
    other = replace(scene, config=replace(scene.config, readout="network"))
    pairs = list(contender.into_fit(other, np.array(labels, np.float32), corners))
    assert all(isinstance(found, Detections) for found, _ in pairs)
    assert score_detections(pairs, "legacy").cso_map.map > 0.95


def test_figures_are_percent_and_a_rate_is_the_best_of_its_runs():
    figures = Figures.of([])
    assert np.isnan(figures.cso_map)
    runs = []

    def work():
        runs.append(sum(range(20_000)))
        return 5

    assert measure_rate(work, 0.01) > 0
    assert len(runs) >= 2


def test_the_bundled_methods_are_small_and_say_how_they_were_trained():
    folders = [engines_folder() / name for name in bundled() if (engines_folder() / name).is_dir()]
    assert len(folders) >= 4
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) < 3.5e6
    for folder in folders:
        record = json.loads((folder / "record.json").read_text())
        assert record["frames"] > 0 < record["minutes"]
        assert record["commit"]
        assert read_engine(folder).manifest.network == folder.name


def test_a_method_that_is_not_here_is_named_with_its_command():
    with pytest.raises(UsageError, match=r"tools/train_methods\.py usrnet trains it"):
        find_contender("usrnet")
