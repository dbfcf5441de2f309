"""What is prepared for a GPU machine without a package index: dry runs, what it says without a GPU, and how it goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_timing
import numpy as np
import pytest
from gpu_timing import Results, latency
from train_settings import Stage, Training, drawn_ahead, within

from irst_stream.errors import DeviceError
from irst_stream.system.gpu_probe import ask_cuda_driver

SCRIPT = Path(gpu_timing.__file__).with_name("gpu_run.sh")


def gpu_run(out, *arguments, **environment):
    known = {**os.environ, "PYTHON": sys.executable, "OUT": str(out), "EACH": "0.01", **environment}
    done = subprocess.run(["bash", SCRIPT, *arguments], env=known, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_dry_run_writes_the_graphs_that_tensorrt_is_given_and_goes_on(tmp_path):
    code, said, _ = gpu_run(tmp_path, "tensorrt", "--dry-run")
    assert code == 0, said
    found = json.loads((tmp_path / "tensorrt.json").read_text())
    assert found["machine"]["GPU"] == "none: a dry run"
    assert len(found["graphs"]) == 6
    code, said, _ = gpu_run(tmp_path, "tensorrt", "--dry-run")
    assert code == 0
    assert "graphs: measured before" in said
    assert "graphs: measured before" in (tmp_path / "tensorrt.log").read_text()


@pytest.mark.skipif(bool(ask_cuda_driver().gpus), reason="this machine has a GPU")
@pytest.mark.parametrize("part", ["train", "fit", "torch", "tensorrt"])
def test_without_a_gpu_every_part_is_one_true_line(part, tmp_path):
    code, said, fault = gpu_run(tmp_path / "out", part)
    assert (code, said) == (2, "")
    assert fault == "gpu_run: this machine has no NVIDIA GPU that works; --dry-run goes as far as the CPU does\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ((), {}, "expected pack or a part (train fit torch tensorrt), got ''"),
        (("fits",), {}, "got 'fits'"),
        (("fit", "--fast"), {}, "--fast: expected --dry-run"),
        (("train", "--dry-run"), {"CONFIG": "none.toml"}, "CONFIG: none.toml: no such file"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments, environment, words, tmp_path):
    code, said, fault = gpu_run(tmp_path, *arguments, **environment)
    assert code == 2
    assert words in (said + fault)
    assert (said + fault).count("\n") == 1


def test_figures_are_kept_measured_once_and_again_where_they_were_not(tmp_path):
    def refused():
        raise DeviceError("no room")

    machine = {"GPU": "NVIDIA H200"}
    results = Results(tmp_path / "a.json", machine)
    assert results.add("one", lambda: 1.0) == 1.0
    assert results.add("two", refused) == "not measured: no room"
    again = Results(tmp_path / "a.json", machine)
    assert again.add("one", refused) == 1.0
    assert again.add("two", lambda: 2.0) == 2.0
    assert Results(tmp_path / "a.json", {"GPU": "another"}).found == {"machine": {"GPU": "another"}}
    (tmp_path / "a.json").write_text('{"machine": {"GPU"')
    assert Results(tmp_path / "a.json", machine).found == {"machine": machine}


def test_a_latency_is_of_at_least_one_step():
    found = latency(lambda: None, 1e-9, warm_up=0)
    assert found["samples"] >= 1
    assert found["p99_ms"] >= found["p50_ms"] >= 0


def test_stages_share_a_time_as_their_own_limits_do():
    config = Training(head=Stage(windows=5, seconds=300), unfold=Stage(), whole=Stage(windows=5, seconds=100))
    shorter = within(config, 40)
    assert (shorter.head.seconds, shorter.whole.seconds, shorter.unfold) == (30, 10, Stage())
    endless = within(Training(head=Stage(windows=5), whole=Stage(windows=5)), 40)
    assert endless.head.seconds == endless.whole.seconds == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_workers_draw_are_the_same_in_the_same_order(workers):
    with drawn_ahead(lambda number, size, frames: np.random.default_rng(number).random((size, frames)), workers) as batches:
        drawn = batches(range(7, 27), 3, 2)
        first = [next(drawn) for _ in range(5)]
        other = list(batches(range(2), 1, 1))
        rest = list(drawn)
    for number, batch in enumerate([*first, *rest], 7):
        np.testing.assert_array_equal(batch, np.random.default_rng(number).random((3, 2)))
    assert [batch.shape for batch in other] == [(1, 1)] * 2
    assert len(rest) == 15


def test_of_the_packages_that_are_rare_elsewhere_only_msgspec_is_needed():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['isal', 'mcap', 'zmq', 'imagecodecs', 'tomli', 'openvino'])); "
        "import train, bench_gpu, bench_gpu_fit, bench_gpu_torch, bench_gpu_tensorrt, irst_stream.draw"
    )
    path = os.pathsep.join((str(SCRIPT.parent), str(SCRIPT.parent.parent)))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
