"""The choice of a backend, its description, and the fallbacks when a GPU fails."""

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from random_networks import BySensor, random_engine

from irst_stream.errors import DeviceError, FormatError, UsageError
from irst_stream.sim import seqcsist
from irst_stream.system.gpu_probe import CudaReport, Gpu
from irst_stream.types import Stamp, Window, at_rest
from irst_stream.unmix import backends, tensorrt_here
from irst_stream.unmix.backends import TENSORRT_PRECISIONS, build_unmixer, choose_backend, fallback_unmixers
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.onnx import OnnxUnmixer
from irst_stream.unmix.plans import GpuPlatform, Precision
from irst_stream.unmix.settings import Backend
from irst_stream.unmix.tensorrt_here import TensorRtReport, look_for_tensorrt

HERE = TensorRtReport(GpuPlatform("10.13.3.9", "NVIDIA H200", "9.0", "580.65.06, CUDA 13.0"), "")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), head=True)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("bare"), exported=False)


def with_tensorrt(monkeypatch, report, plans=None):
    monkeypatch.setattr(backends, "look_for_tensorrt", lambda: report)
    monkeypatch.setattr(backends, "find_plans", lambda *_: plans)


@pytest.mark.parametrize("missing", ["no NVIDIA driver is installed", "tensorrt is not installed: pip install it"])
def test_without_tensorrt_auto_chooses_onnx_runtime_and_says_why(engine, monkeypatch, missing):
    with_tensorrt(monkeypatch, TensorRtReport(None, missing))
    choice = choose_backend(engine, "auto")
    assert (choice.backend, choice.description) == ("onnx", f"ONNX Runtime on the CPU, since {missing}")
    assert isinstance(build_unmixer(engine, choice, 1), OnnxUnmixer)


def test_without_graphs_auto_chooses_numpy(bare, monkeypatch):
    with_tensorrt(monkeypatch, TensorRtReport(None, "no NVIDIA driver is installed"))
    choice = choose_backend(bare, "auto")
    assert choice.backend == "numpy"
    assert "no ONNX graphs; irst-stream engine export makes them" in choice.description
    assert isinstance(build_unmixer(bare, choice), NumpyUnmixer)


def test_without_plans_auto_says_how_to_make_them(engine, monkeypatch):
    with_tensorrt(monkeypatch, HERE)
    choice = choose_backend(engine, "auto")
    assert choice.backend == "onnx"
    assert choice.description.endswith(
        f"no plans for this GPU; irst-stream engine build {engine.folder} --precision fp16 makes them"
    )


def test_with_plans_auto_chooses_tensorrt(engine, monkeypatch, tmp_path):
    with_tensorrt(monkeypatch, HERE, tmp_path)
    assert choose_backend(engine, "auto") == ("tensorrt", "TensorRT 10.13.3.9 in fp16 on NVIDIA H200", tmp_path)
    assert choose_backend(engine, "tensorrt-int8").description == "TensorRT 10.13.3.9 in int8 on NVIDIA H200"


def test_each_precision_of_plans_has_a_backend():
    assert list(TENSORRT_PRECISIONS) == [name for name in get_args(Backend) if name.startswith("tensorrt")]
    assert sorted(TENSORRT_PRECISIONS.values()) == sorted(get_args(Precision))


@pytest.mark.parametrize(("backend", "precision"), [*TENSORRT_PRECISIONS.items(), ("auto", "fp16")])
def test_a_backend_chooses_plans_of_its_own_precision(engine, monkeypatch, tmp_path, backend, precision):
    with_tensorrt(monkeypatch, HERE)
    monkeypatch.setattr(backends, "find_plans", lambda _, __, wanted: tmp_path / wanted)
    choice = choose_backend(engine, backend)
    assert choice.plans == tmp_path / precision
    assert choice.description == f"TensorRT 10.13.3.9 in {precision} on NVIDIA H200"


def test_tensorrt_by_name_never_falls_back(engine, monkeypatch):
    with_tensorrt(monkeypatch, TensorRtReport(None, "the NVIDIA driver sees no GPU"))
    with pytest.raises(UsageError, match=r"backend 'tensorrt-fp32': the NVIDIA driver sees no GPU"):
        choose_backend(engine, "tensorrt-fp32")
    with_tensorrt(monkeypatch, HERE)
    with pytest.raises(UsageError, match=r"no plans for this GPU; irst-stream engine build .* --precision int8 makes them"):
        choose_backend(engine, "tensorrt-int8")


@pytest.fixture
def asked(monkeypatch):
    """look_for_tensorrt() on a machine with a given driver report, TensorRT probe and installed packages."""

    def answer(cuda, code=None, installed=True):
        look_for_tensorrt.cache_clear()
        monkeypatch.setattr(tensorrt_here, "ask_cuda_driver", lambda: cuda)
        monkeypatch.setattr(tensorrt_here, "_is_installed", lambda _: installed)
        if code is not None:
            monkeypatch.setattr(tensorrt_here, "PROBE", code)
        return look_for_tensorrt()

    yield answer
    look_for_tensorrt.cache_clear()


GPU = CudaReport((Gpu("NVIDIA H200", 150 * 2**30, "9.0"),), "13.0", "", "580.65.06")


def test_the_driver_is_asked_before_tensorrt(asked):
    assert asked(CudaReport((), "", "no NVIDIA driver is installed"), "raise SystemExit(9)") == (
        None,
        "no NVIDIA driver is installed",
    )


def test_a_driver_without_tensorrt(asked):
    assert asked(GPU, installed=False).missing == "tensorrt is not installed: pip install 'irst-stream[tensorrt]'"
    assert asked(replace(GPU, cuda="12.8"), installed=False).missing.endswith("pip install 'irst-stream[tensorrt12]'")


def test_a_working_driver_and_tensorrt_give_the_platform(asked):
    assert asked(GPU, "print('10.13.3.9')").platform == GpuPlatform(
        "10.13.3.9", "NVIDIA H200", "9.0", "580.65.06, CUDA 13.0"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "TensorRT does not start (no error message; exit code -11)",
        ),
        ("raise TypeError('no builder')", "TensorRT does not start (TypeError: no builder; exit code 1)"),
    ],
)
def test_a_tensorrt_that_crashes_is_reported_and_harms_nothing_else(asked, code, words):
    assert asked(GPU, code).missing == words


def test_a_tensorrt_that_hangs_times_out(asked, monkeypatch):
    monkeypatch.setattr(tensorrt_here, "TIMEOUT_S", 0.2)
    assert "TensorRT did not answer" in asked(GPU, "while True: pass").missing


def test_importing_the_builder_imports_no_cuda_tensorrt_or_onnx():
    heavy = ("cuda", "tensorrt", "onnx")
    code = f"import sys, irst_stream.build; print([m for m in sys.modules if m.partition('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Failing:
    """An unmixer whose GPU fails after a number of calls; its maps are of no use to another unmixer."""

    def __init__(self, unmixer, calls):
        self.unmixer, self.calls = unmixer, calls

    def unfold(self, patches):
        self.calls -= 1
        if self.calls < 0:
            raise DeviceError("cuGraphLaunch: CUDA_ERROR_ILLEGAL_ADDRESS")
        return [(self, map_) for map_ in self.unmixer.unfold(patches)]

    def fuse(self, maps, patches, places):
        assert all(owner is self for window in maps for owner, _ in window)
        return self.unmixer.fuse([[map_ for _, map_ in window] for window in maps], patches, places)


def windows(count):
    clips = seqcsist(3, seed=4).frames.astype(np.float32)
    for k in range(count):
        stamp = Stamp("a", 0, k + 2, k * 10_000_000)
        nothing = np.full(3, np.nan)
        yield Window(stamp, np.zeros((3, 2)), clips[:, k : k + 5], *at_rest(3, 5), np.arange(3), nothing, nothing + np.inf)


def test_a_gpu_that_fails_is_replaced_and_no_window_is_lost(engine, caplog):
    cpu = build_unmixer(engine, choose_backend(engine, "onnx"), 1)
    fallbacks = [("rebuilt on the same GPU", lambda: Failing(cpu, 3)), ("replaced by the CPU", lambda: cpu)]
    guarded, plain = BySensor(Failing(cpu, 2), engine.manifest, fallbacks), BySensor(cpu, engine.manifest)
    alarms = []
    for window in windows(8):
        got, wanted = guarded([window])[0], plain([window])[0]
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one.unmixed.claims, other.unmixed.claims, rtol=1e-4, atol=1e-4)
        alarms.append(guarded.alarm)
    failed = "the network failed (cuGraphLaunch: CUDA_ERROR_ILLEGAL_ADDRESS); "
    rebuilt, replaced = failed + "rebuilt on the same GPU", failed + "replaced by the CPU"
    assert alarms == [""] * 2 + [rebuilt] * 3 + [replaced] * 3
    assert [record.message for record in caplog.records] == [rebuilt, replaced]


@pytest.mark.parametrize(
    "fault", [DeviceError("cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"), FormatError("fuse.plan: its hash is not the manifest's")]
)
def test_a_fallback_that_cannot_be_built_is_skipped(engine, fault):
    def broken():
        raise fault

    cpu = build_unmixer(engine, choose_backend(engine, "onnx"), 1)
    guarded = BySensor(Failing(cpu, 0), engine.manifest, [("rebuilt", broken), ("replaced by the CPU", lambda: cpu)])
    assert len(guarded(list(windows(1)))[0]) == 3
    assert guarded.alarm == f"the network failed ({fault}); replaced by the CPU"


def test_without_a_fallback_the_failure_is_raised(engine):
    cpu = build_unmixer(engine, choose_backend(engine, "onnx"), 1)
    with pytest.raises(DeviceError, match="ILLEGAL_ADDRESS"):
        BySensor(Failing(cpu, 0), engine.manifest)(list(windows(1)))


def test_the_fallbacks_of_tensorrt_are_itself_once_and_then_the_cpu(engine, tmp_path):
    choice = backends.BackendChoice("tensorrt", "TensorRT", tmp_path)
    descriptions, builders = zip(*fallback_unmixers(engine, choice, 1, with_map=False), strict=True)
    assert descriptions == ("rebuilt on the same GPU", "replaced by ONNX Runtime on the CPU")
    assert isinstance(builders[1](), OnnxUnmixer)
    assert not list(fallback_unmixers(engine, choose_backend(engine, "onnx"), 1, with_map=False))
