"""The trainer of all methods: each recipe runs, goes on where it stopped, and ends in an engine that runs in a pipeline."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import train_methods

from irst_stream import Detections, open_source, read_config
from irst_stream.build import build_pipeline
from irst_stream.cli import main
from irst_stream.errors import FormatError, UsageError
from irst_stream.learn.data import linear_guess
from irst_stream.learn.published import published
from irst_stream.learn.training import batches, finish
from irst_stream.learn.training.adversary import Adversary
from irst_stream.learn.training.run import open_run, optimizer_of, train
from irst_stream.learn.training.settings import MethodTraining, find_training
from irst_stream.optics import FineGrid
from irst_stream.system.shipped import find_config
from irst_stream.unmix.engine import WINDOW, read_engine

CPU = torch.device("cpu")
TINY = {"frames": 96, "batch": 16, "precision": "fp32"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batches, "GUESSED", 400)
    monkeypatch.setattr(finish, "TRAJECTORIES", 1)
    monkeypatch.setattr(finish, "IMAGES", 20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(method="srcnn", **changes):
    return MethodTraining(method, **{**TINY, **changes})


def trained(given, folder, start=None):
    run = open_run(given, folder, start, CPU)
    train(run, folder)
    return run


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.average.parameters()])


def test_a_run_that_was_stopped_ends_as_if_it_had_not(tmp_path, monkeypatch):
    whole = trained(settings(), tmp_path / "whole")
    monkeypatch.setattr("irst_stream.learn.training.run.SAVE_EVERY_S", 0.0)

    class StoppedError(Exception):
        pass

    def stop(run):
        if run.step == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(open_run(settings(), tmp_path / "stopped", None, CPU), tmp_path / "stopped", stop)
    run = open_run(settings(), tmp_path / "stopped", None, CPU)
    assert run.step == 2, "the step in which it was stopped was not kept"
    train(run, tmp_path / "stopped")
    torch.testing.assert_close(weights(run), weights(whole), atol=1e-6, rtol=1e-5)
    assert run.frames == whole.frames == 96
    assert trained(settings(), tmp_path / "whole").step == 6, "what is done is left"
    assert trained(settings(frames=128), tmp_path / "whole").step == 8, "with a larger budget it goes on"


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(tmp_path):
    trained(settings(), tmp_path)
    with pytest.raises(UsageError, match=r"checkpoint\.pt: of a run with other settings"):
        open_run(settings(seed=9), tmp_path, None, CPU)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    for damaged in (whole[:1000], b"", b"not a checkpoint"):
        (tmp_path / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"checkpoint\.pt: not a readable checkpoint: .*; remove it to begin again"):
            open_run(settings(), tmp_path, None, CPU)


def test_training_is_measured_in_frames_or_minutes_whichever_come_first(tmp_path):
    run = open_run(settings(minutes=1e-6), tmp_path, None, CPU)
    train(run, tmp_path)
    assert run.step == 1
    assert run.progress == 1
    assert [point["frames"] for point in run.curves] == [16]


def test_the_same_seed_draws_the_same_batches_and_labels_lie_where_the_targets_are():
    draw = batches.label_batches(settings(still=0.0, noise_dn=(0.0, 0.0)), 1, CPU)
    first, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(first.light, again.light)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.light, other.light)
    phi = torch.tensor(FineGrid(3, (7, 7)).phi(), dtype=torch.float32)
    imaged = first.label.flatten(1) @ phi.T
    apart = (imaged - first.light.flatten(1)).abs().amax() / first.light.amax()
    assert apart < 0.35, "within what rounding to cells moves the light"
    windows = batches.label_batches(settings("tdan"), WINDOW, CPU)(0)
    assert windows.light.shape == (16, 5, 7, 7)
    assert windows.label.shape == (16, 21, 21)


def test_the_linear_guess_recovers_a_linear_map():
    rng = np.random.default_rng(0)
    truth, y = rng.normal(size=(12, 4)), rng.normal(size=(500, 2, 2))
    np.testing.assert_allclose(linear_guess(y, (y.reshape(500, 4) @ truth.T).reshape(500, 3, 4)), truth, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": {"symmetry": 0.1}}, "terms: symmetry: srcnn has only l1"),
        ({"network": {"widht": 3}}, "network: srcnn does not take these options"),
    ],
)
def test_wrong_settings_are_one_line(changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        trained(settings(**changes), tmp_path)
    with pytest.raises(UsageError, match="derefnet: nothing to train here"):
        open_run(settings("derefnet"), tmp_path, None, CPU)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('method = "srcnn"\nbtach = 3', "btach: no such key; did you mean batch"),
        ('method = "srcnn"\nnoise_dn = [3.0, 1.0]', "noise_dn: expected 0 <= lowest <= highest, got 3 and 1"),
        ('method = "srcnn"\npatch = 8', "patch: expected an odd number, got 8"),
        ("batch = 3", "method: missing"),
        ("method = ", "Invalid value"),
    ],
)
def test_wrong_training_files_are_one_line(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        find_training(str(path))
    with pytest.raises(UsageError, match="srnn: no training settings of that name; there are: bsrgan, "):
        find_training("srnn")


def test_weights_decay_but_steps_thresholds_and_slopes_do_not():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.PReLU())
    large, small = optimizer_of(network, 1e-3).param_groups
    assert [p.ndim for p in large["params"]] == [4]
    assert large["weight_decay"] > 0 == small["weight_decay"]
    assert len(small["params"]) == 2


@pytest.mark.parametrize("name", ["srgan", "esrgan", "bsrgan"])
def test_an_adversarial_run_starts_from_its_generator_and_trains_both(name, tmp_path):
    generator = "srresnet" if name == "srgan" else "rrdb"
    small = {"width": 8, "blocks": 1}
    base = trained(settings(generator, frames=32, network=small), tmp_path / generator)
    given = settings(name, frames=32, network=small, start=generator, adversary_width=4)
    with pytest.raises(UsageError, match=f"{name}: starts from {generator}, which is not trained; train it first"):
        open_run(given, tmp_path / name, None, CPU)
    run = open_run(given, tmp_path / name, tmp_path / generator / "checkpoint.pt", CPU)
    torch.testing.assert_close(weights(run), weights(base))
    before = torch.cat([p.detach().flatten() for p in run.adversary.network.parameters()])
    train(run, tmp_path / name)
    after = torch.cat([p.detach().flatten() for p in run.adversary.network.parameters()])
    assert not torch.equal(before, after)
    assert not torch.equal(weights(run), weights(base))
    assert {"map", "verdict", "adversary"} <= run.curves[-1].keys()
    open_run(given, tmp_path / name, None, CPU)


def test_a_discriminator_learns_to_tell_maps_from_labels():
    torch.manual_seed(0)
    adversary = Adversary.of(settings("srgan", adversary_width=8), CPU)
    adversary.optimizer.param_groups[0]["lr"] = 3e-3
    label = torch.zeros(16, 21, 21)
    label[:, 10, 10] = 2.3
    losses = [float(adversary.step(torch.rand(16, 21, 21), label)["adversary"]) for _ in range(40)]
    assert losses[0] == pytest.approx(2 * math.log(2), abs=0.5)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("method", ["focus", "tdan"])
def test_a_trained_method_is_an_engine_that_runs_in_a_pipeline(method, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.toml").write_text(f'method = "{method}"\nframes = 64\nbatch = 16\n')
    words = ["train_methods.py", str(tmp_path / "mine.toml"), "--root", str(tmp_path / "runs"), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", words)
    assert train_methods.main() == 0
    folder = tmp_path / "runs" / method / "engine"
    record = json.loads((folder / "record.json").read_text())
    assert record["frames"] == 64
    assert record["parameters"] > 10_000
    assert record["multiply_adds"] > 1e6
    assert record["validation"].keys() == {"seqcsist", "csist100k"}
    manifest = read_engine(folder).manifest
    assert (manifest.network, manifest.head, manifest.window) == (method, "map", 5 if method == "tdan" else 1)
    assert train_methods.main() == 0
    assert f"{method}: done" in capsys.readouterr().out
    data = tmp_path / "data"
    assert main(["simulate", "seqcsist", str(data), "--trajectories", "1", "--split", "test"]) == 0
    config = replace(read_config(find_config("seqcsist")), engine=str(folder))
    for readout in ("cells", "peaks", "best"):
        found = list(build_pipeline(replace(config, readout=readout)).run(open_source(data / "test")))
        assert len(found) == 16
        assert all(isinstance(one, Detections) for one in found)
    assert main(["engine", "check", str(folder)]) == 0
    assert {"torch", "onnx", "openvino"} <= set(capsys.readouterr().out.split())
    assert main(["engine", "export", str(folder), str(tmp_path / "again")]) == 0
    assert read_engine(tmp_path / "again").graphs("portable").keys() == set(manifest.parts)


def test_every_published_figure_is_of_a_method_and_its_aps_agree_with_its_mean():
    from irst_stream.learn.methods import registered

    assert published().keys() <= registered().keys()
    assert len(published()) == 25
    for name, row in published().items():
        for scores in (row.seqcsist, row.csist100k):
            if scores and name not in ("ista-net+", "usrnet", "liht", "tilista"):  # published so
                assert scores[0] == pytest.approx(np.mean(scores[1:]), abs=0.15), name
