"""Training, very briefly: it runs, goes on where it stopped, and ships what it made."""

import json
import sys

import numpy as np
import pytest
import torch
import train

from irst_stream.learn import validation
from irst_stream.learn.data import Clips
from irst_stream.learn.validation import validation_sets
from irst_stream.sim import seqcsist
from irst_stream.unmix.engine import WINDOW, read_engine
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.stream import run_sequence

CONFIG = """
name = "tiny"
patch = 7
validate = 64
[head]
windows = 32
batch = 16
[unfold]
windows = 32
batch = 16
[whole]
windows = 16
batch = 8
"""


def few_validation_sets(data, patch):
    """The validation sets, of the first two clips and four windows each."""
    sets = validation_sets(data, patch)
    return {
        name: Clips(clips.frames[:2, : WINDOW + 3], clips.xy[:2, : WINDOW + 3], clips.amplitude[:2], clips.facts[:2])
        for name, clips in sets.items()
    }


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validation, "TRAJECTORIES", 1)
    monkeypatch.setattr(train, "validation_sets", few_validation_sets)
    monkeypatch.setattr(train, "GUESSED", 500)
    (tmp_path / "tiny.toml").write_text(CONFIG)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return train.main()


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_and_only_by_its_own_configuration(here, monkeypatch, capsys):
    assert run(monkeypatch, "tiny.toml") == 0
    whole = read_engine(here / "out/train/tiny/engine")
    assert {"head", "unfold", "whole"} == {
        point["stage"] for point in json.loads((here / "out/train/tiny/curves.json").read_text())
    }
    assert (here / "out/train/tiny/curves.png").stat().st_size > 1000
    record = json.loads((here / "out/train/tiny/engine/record.json").read_text())
    assert record["config"]["patch"] == 7
    (here / "tiny.toml").write_text(CONFIG.replace('"tiny"', '"stopped"'))
    step, calls = train.whole_loss, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(train, "whole_loss", stop)
    assert run(monkeypatch, "tiny.toml") == 130
    monkeypatch.setattr(train, "whole_loss", step)
    expected = "train: interrupted; the same command goes on from out/train/stopped"
    assert capsys.readouterr().err.splitlines()[-1] == expected
    assert run(monkeypatch, "tiny.toml") == 0
    assert "going on with unfold after step 2" in capsys.readouterr().out
    stopped = read_engine(here / "out/train/stopped/engine")
    for name, array in whole.weights.items():
        np.testing.assert_allclose(stopped.weights[name], array, atol=1e-5, err_msg=name)
    maps = run_sequence([NumpyUnmixer(stopped)], stopped.manifest, seqcsist(1).frames[0, :6])
    assert np.isfinite(maps.claims).all()
    (here / "tiny.toml").write_text(CONFIG.replace("batch = 8", "batch = 16"))
    assert run(monkeypatch, "tiny.toml") == 2
    assert "of a run with another configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("patch = 7", "pach = 7", "pach: no such key; did you mean patch"),
        ('name = "tiny"', 'data = "nowhere"', "data: expected benchmark, anything or a folder, got nowhere"),
    ],
)
def test_wrong_configurations_are_one_line(old, new, message, here, monkeypatch, capsys):
    (here / "tiny.toml").write_text(CONFIG.replace(old, new))
    assert run(monkeypatch, "tiny.toml") == 2
    assert message in capsys.readouterr().err


def test_another_engines_weights_are_taken_over_but_for_the_patchs_size():
    small, large = (train.DeRefNet(train.FineGrid(3, (side, side)), head=True) for side in (7, 11))
    own = large.unfold.qinit.clone()
    train.begin_from(large, {name: tensor.numpy() for name, tensor in small.state_dict().items()})
    assert torch.equal(large.head.tail.weight, small.head.tail.weight)
    assert torch.equal(large.fuse.tail.weight, small.fuse.tail.weight)
    assert torch.equal(large.unfold.qinit, own)
