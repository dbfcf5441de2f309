"""TensorRT for RTX by ONNX Runtime's plug-in, as far as that needs no GPU; test_unmixers.py runs it where there is one."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from host_device import host_lanes, on_the_host
from random_networks import random_engine

from irst_stream import build as build_module
from irst_stream.commands.trials import noise_windows, run_network
from irst_stream.errors import DeviceError, FormatError, OutputError, SourceError, UsageError
from irst_stream.system import private_files
from irst_stream.system.gpu_probe import CudaReport, Gpu
from irst_stream.system.private_files import private_folder
from irst_stream.types import Unmixed
from irst_stream.unmix import backends, gpu_lanes, rtx_here
from irst_stream.unmix.backends import build_unmixer, choose_backend, fallback_unmixers
from irst_stream.unmix.onnx import OnnxUnmixer
from irst_stream.unmix.parity import difference_on_noise, largest_differences
from irst_stream.unmix.plans import GpuPlatform
from irst_stream.unmix.rtx import call_plugin, plugin_options
from irst_stream.unmix.rtx_here import RtxPlatform, RtxReport, look_for_rtx, runs_on
from irst_stream.unmix.tensorrt_build import STRONGLY_TYPED, graphs_to_build, recipe_for
from irst_stream.unmix.tensorrt_here import TensorRtReport

RTX = CudaReport((Gpu("NVIDIA RTX 4090", 24 * 2**30, "8.9"),), "13.0", "", "580.65.06")
H200 = CudaReport((Gpu("NVIDIA H200", 150 * 2**30, "9.0"),), "13.0", "", "580.65.06")
HERE = RtxReport(RtxPlatform("0.5.0", "NVIDIA RTX 4090", "8.9", "580.65.06, CUDA 13.0"), "", suited=True)
MISSING = "ONNX Runtime's plug-in for RTX is not installed: pip install 'irst-stream[rtx]'"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), head=True, side=7)


@pytest.fixture
def lanes(engine, monkeypatch):
    on_the_host(monkeypatch)
    return lambda *given, **named: host_lanes(engine, *given, **named)


@pytest.mark.parametrize(("streams", "captured"), [(1, False), (2, True)])
def test_any_number_of_windows_gives_the_reference_by_any_number_of_lanes(engine, lanes, streams, captured):
    unmixer, oracle = lanes(streams, captured=captured), OnnxUnmixer(engine, 1)
    for count in (1, 3, 11):
        windows = noise_windows(engine.manifest, count)
        got, expected = run_network(unmixer, windows, count), run_network(oracle, windows)
        assert max(largest_differences(got, expected).values()) < 1e-4


def test_the_store_grows_and_keeps_what_it_holds(engine, lanes, monkeypatch):
    monkeypatch.setattr(gpu_lanes, "INITIAL_STORE_MAPS", 16)
    unmixer, windows = lanes(2), noise_windows(engine.manifest, 2)
    held = [list(unmixer.unfold(window)) for window in windows]
    unmixer.unfold(np.tile(windows[0], (8, 1, 1)))
    got = unmixer.fuse(held, windows, np.tile(np.arange(5), (2, 1)))
    assert max(largest_differences(got, run_network(OnnxUnmixer(engine, 1), windows)).values()) < 1e-4
    monkeypatch.setattr(gpu_lanes, "MAX_STORE_MAPS", 64)
    with pytest.raises(DeviceError, match="the store on the GPU holds at most 64 maps; 65 more do not fit"):
        unmixer.unfold(np.tile(windows[0], (13, 1, 1)))


def test_a_map_that_nobody_reads_is_not_downloaded(engine, lanes):
    output = run_network(lanes(with_map=False), noise_windows(engine.manifest, 2))
    assert np.isnan(output.map).all()
    assert np.isfinite(output.claims).all()


def test_agreement_with_the_cpu_is_measured(engine, lanes):
    oracle = OnnxUnmixer(engine, 1)
    assert difference_on_noise(lanes(), oracle, engine.manifest) < 1e-4
    assert difference_on_noise(lanes(with_map=False), oracle, engine.manifest) < 1e-4

    class Wrong(OnnxUnmixer):
        def fuse(self, *given):
            output = super().fuse(*given)
            return Unmixed(output.map * self.factor, output.claims)

    wrong = Wrong(engine, 1)
    wrong.factor = 0.9
    assert difference_on_noise(wrong, oracle, engine.manifest) > 0.01
    wrong.factor = np.nan
    assert difference_on_noise(wrong, oracle, engine.manifest) < 1e-6  # a map that is withheld


def test_a_profile_is_the_batch_and_a_store_of_any_capacity():
    options = plugin_options({"store": (33, 33), "rows": (5,)}, 8, 1234, Path("/cache"))
    assert options["nv_profile_min_shapes"] == "store:1x33x33,rows:8x5"
    assert options["nv_profile_opt_shapes"] == "store:4096x33x33,rows:8x5"
    assert options["nv_profile_max_shapes"] == "store:65536x33x33,rows:8x5"
    assert (options["has_user_compute_stream"], options["user_compute_stream"]) == ("1", "1234")
    assert options["enable_cuda_graph"] == options["nv_persistent_context_memory"] == "1"
    assert options["nv_runtime_cache_path"] == "/cache"


def test_the_plugin_knows_these_options():
    spec = rtx_here.find_spec(rtx_here.PACKAGE)
    if spec is None:
        pytest.skip(MISSING)
    header = Path(spec.origin).with_name("tensorrt_rtx_provider_options.h").read_text()
    for name in plugin_options({"patches": (7, 7)}, 1, 0, Path()):
        assert f'"{name}"' in header


@pytest.mark.parametrize("fault", [RuntimeError("libcuda.so.1: cannot open\nand more"), ValueError("unknown option")])
def test_a_plugin_that_refuses_a_graph_is_a_device_error_of_one_line(lanes, fault, monkeypatch):
    def refuse(*_):
        raise fault

    monkeypatch.setattr("host_device.cpu_session", refuse)
    with pytest.raises(DeviceError) as raised:
        lanes()
    assert str(raised.value) == f"ONNX Runtime's plug-in: {str(fault).splitlines()[0]}"


def test_a_failure_while_it_runs_is_a_device_error(engine, lanes, monkeypatch):
    unmixer = lanes()

    def fail(*_):
        raise RuntimeError("CUDA error 700")

    for lane in unmixer._parts["fuse"]._lanes[1]:
        monkeypatch.setattr(lane, "_run", partial(call_plugin, fail))
    with pytest.raises(DeviceError, match=r"ONNX Runtime's plug-in: CUDA error 700"):
        run_network(unmixer, noise_windows(engine.manifest, 1))


@pytest.mark.parametrize("capability", ["8.6", "8.9", "12.0", "12.1", "13.0"])
def test_it_runs_on_rtx_gpus(capability):
    assert runs_on(capability)


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.7", "9.0", "10.0", "11.0", ""])
def test_it_does_not_run_on_others(capability):
    assert not runs_on(capability)


@pytest.fixture
def asked(monkeypatch):
    """look_for_rtx() on a machine with a given driver report, plug-in that answers, and versions of packages."""

    def answer(cuda, code="print()", packages=True, version="1.32.0"):
        look_for_rtx.cache_clear()
        monkeypatch.setattr(rtx_here, "ask_cuda_driver", lambda: cuda)
        monkeypatch.setattr(rtx_here, "find_spec", lambda _: packages or None)
        versions = {"onnxruntime": version, "onnxruntime-ep-nv-tensorrt-rtx-cu13": "0.5.0"}
        monkeypatch.setattr(rtx_here, "_version", lambda name: versions.get(name, ""))
        monkeypatch.setattr(rtx_here, "PROBE", code)
        return look_for_rtx()

    yield answer
    look_for_rtx.cache_clear()


def test_a_machine_says_what_it_lacks(asked, monkeypatch):
    crash = "raise SystemExit('no plug-in may be asked')"
    assert asked(CudaReport((), "", "no NVIDIA driver is installed"), crash) == (
        None,
        "no NVIDIA driver is installed",
        False,
    )
    h200 = asked(H200, crash)
    assert h200.missing == ("NVIDIA H200 has compute capability 9.0; TensorRT for RTX needs 8.6, 8.9, or 12.0 and newer")
    assert not h200.suited
    assert asked(RTX, crash, packages=False) == (None, MISSING, True)
    assert asked(replace(RTX, cuda="12.8"), crash, packages=False).missing.endswith("pip install 'irst-stream[rtx12]'")
    assert asked(RTX, crash, version="1.23.2").missing == (
        "ONNX Runtime 1.23.2 takes no plug-ins; expected 1.24 or newer, on Python 3.11 or newer"
    )
    assert asked(RTX) == HERE
    monkeypatch.setattr(rtx_here.platform, "machine", lambda: "aarch64")
    words = "ONNX Runtime's plug-in for RTX is made for x86_64 alone; this machine is aarch64"
    assert asked(RTX, crash, packages=False) == (None, words, True)


def test_a_plugin_that_crashes_or_hangs_is_reported(asked, monkeypatch):
    name = "ONNX Runtime's plug-in for RTX"
    fatal = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert asked(RTX, fatal).missing == f"{name} does not start (no error message; exit code -11)"
    monkeypatch.setattr(rtx_here, "TIMEOUT_S", 0.2)
    assert f"{name} did not answer" in asked(RTX, "while True: pass").missing


def with_gpus(monkeypatch, rtx, tensorrt="tensorrt is not installed", plans=None):
    here = TensorRtReport(None, tensorrt) if isinstance(tensorrt, str) else TensorRtReport(tensorrt, "")
    monkeypatch.setattr(backends, "look_for_tensorrt", lambda: here)
    monkeypatch.setattr(backends, "look_for_rtx", lambda: rtx)
    monkeypatch.setattr(backends, "find_plans", lambda *_: plans)


def test_auto_takes_plans_first_then_rtx_then_the_cpu(engine, monkeypatch, tmp_path):
    place = GpuPlatform("10.13.3.9", "NVIDIA RTX 4090", "8.9", "580.65.06, CUDA 13.0")
    with_gpus(monkeypatch, HERE, place, tmp_path)
    assert choose_backend(engine, "auto").backend == "tensorrt"
    words = "TensorRT for RTX in fp16 on NVIDIA RTX 4090, by ONNX Runtime's plug-in 0.5.0"
    for tensorrt in (place, "tensorrt is not installed"):
        with_gpus(monkeypatch, HERE, tensorrt)
        assert choose_backend(engine, "auto") == choose_backend(engine, "rtx") == ("rtx", words, None)
    with_gpus(monkeypatch, RtxReport(None, MISSING, suited=True))
    assert choose_backend(engine, "auto") == ("onnx", f"ONNX Runtime on the CPU, since {MISSING}", None)
    with_gpus(monkeypatch, RtxReport(None, "compute capability 9.0", suited=False))
    assert choose_backend(engine, "auto").description.endswith("on the CPU, since tensorrt is not installed")


def test_by_name_it_never_falls_back(engine, monkeypatch):
    with_gpus(monkeypatch, RtxReport(None, MISSING, suited=True))
    with pytest.raises(UsageError) as raised:
        choose_backend(engine, "rtx")
    assert str(raised.value) == f"backend 'rtx': {MISSING}"


def test_its_fallbacks_are_itself_once_and_then_the_cpu(engine, monkeypatch):
    with_gpus(monkeypatch, HERE)
    descriptions, builders = zip(*fallback_unmixers(engine, choose_backend(engine, "rtx"), 1, with_map=False), strict=True)
    assert descriptions == ("rebuilt on the same GPU", "replaced by ONNX Runtime on the CPU")
    assert isinstance(builders[1](), OnnxUnmixer)


def test_what_agrees_with_the_cpu_is_taken_and_what_does_not_is_refused(engine, lanes, monkeypatch):
    monkeypatch.setattr("irst_stream.unmix.rtx.RtxUnmixer", lambda _, __, ___, with_map: lanes(with_map=with_map))
    with_gpus(monkeypatch, HERE)
    choice = choose_backend(engine, "auto")
    assert choice.backend == "rtx"
    assert build_unmixer(engine, choice, with_map=False)
    monkeypatch.setattr(backends, "difference_on_noise", lambda *_: float("nan"))
    with pytest.raises(
        DeviceError, match=r"TensorRT for RTX differs from the CPU by nan of the range, expected at most 0.02"
    ):
        build_unmixer(engine, choice)


def test_a_backend_that_auto_took_and_that_does_not_start_is_replaced(engine, monkeypatch, caplog):
    from irst_stream import read_config
    from irst_stream.system.shipped import find_config

    def fail(*_, **__):
        raise DeviceError("ONNX Runtime's plug-in: CUDA error 700")

    with_gpus(monkeypatch, HERE)
    monkeypatch.setattr(backends, "_build_rtx", fail)
    config = replace(read_config(find_config("seqcsist")), threads=1)
    with caplog.at_level(logging.ERROR):
        network = build_module._network(config, engine)
    assert isinstance(network._unmixer, OnnxUnmixer)
    assert "does not start (ONNX Runtime's plug-in: CUDA error 700); replaced by ONNX Runtime on the CPU" in caplog.text
    with pytest.raises(DeviceError, match="CUDA error 700"):
        build_module._network(replace(config, backend="rtx"), engine)


def test_a_cache_of_compiled_kernels_is_private(tmp_path):
    folder = private_folder(tmp_path / "a" / "b")
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder.parent)] == ["0o700", "0o700"]
    (folder / "kernel").write_bytes(b"code")
    assert private_folder(folder) == folder
    (folder / "kernel").chmod(0o666)
    with pytest.raises(SourceError, match=r"kernel: other users can write to it"):
        private_folder(folder)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        private_folder(tmp_path / "file" / "b")
    assert private_files.private_folder is private_folder


def test_an_engine_of_another_network_is_refused():
    from irst_stream.system.shipped import find_engine
    from irst_stream.unmix.engine import read_engine

    with pytest.raises(UsageError, match="backend 'rtx': runs DeRefNet alone; focus runs by onnx or openvino"):
        choose_backend(read_engine(find_engine("focus")), "rtx")
    with pytest.raises(FormatError):
        graphs_to_build(read_engine(find_engine("focus")), recipe_for(STRONGLY_TYPED, "fp16"), (1,))
