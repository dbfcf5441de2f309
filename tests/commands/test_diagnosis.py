"""What the doctor reports on machines with and without a GPU."""

import subprocess
import sys

import pytest

from irst_stream.commands import diagnosis
from irst_stream.system import gpu_probe
from irst_stream.system.gpu_probe import CudaReport, Gpu, ask_cuda_driver, nvrtc_mismatch, pip_extra, run_child
from irst_stream.unmix import backends
from irst_stream.unmix.rtx_here import RtxReport
from irst_stream.unmix.tensorrt_here import TensorRtReport, look_for_tensorrt

ON_12 = CudaReport((Gpu("NVIDIA L40S", 48 * 2**30, "8.9"),), "12.8", "")


@pytest.fixture(autouse=True)
def fresh_driver_cache():
    """Clear the cached driver report before and after each test."""
    ask_cuda_driver.cache_clear()
    yield
    ask_cuda_driver.cache_clear()


def answer_with(monkeypatch, code):
    real = gpu_probe.run_child
    monkeypatch.setattr(gpu_probe, "run_child", lambda _, timeout_s: real([sys.executable, "-c", code], timeout_s))


def test_a_driver_that_crashes_takes_only_its_own_process_down(monkeypatch):
    answer_with(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert ask_cuda_driver().reason == "the GPU probe crashed in the driver (exit code -11)"


def test_a_driver_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(gpu_probe, "TIMEOUT_S", 0.2)
    answer_with(monkeypatch, "while True: pass")
    assert "did not answer" in ask_cuda_driver().reason


def test_a_child_that_does_not_end_when_it_is_killed_is_not_waited_for(monkeypatch):
    kill, children = subprocess.Popen.kill, []

    def hang(child):
        children.append(child)

    monkeypatch.setattr(subprocess.Popen, "kill", hang)
    monkeypatch.setattr(gpu_probe, "KILL_TIMEOUT_S", 0.1)
    with pytest.raises(subprocess.TimeoutExpired):
        run_child([sys.executable, "-c", "import time; time.sleep(20)"], 0.1)
    kill(children[0])
    assert children[0].wait() < 0


def test_the_real_driver_or_its_absence_is_reported():
    report = ask_cuda_driver()
    assert bool(report.gpus) == (not report.reason)


def test_one_child_process_asks_the_driver_for_all_callers(monkeypatch):
    real, children = gpu_probe.run_child, []

    def ask(command, timeout_s):
        children.append(command)
        return real(command, timeout_s)

    for module in (gpu_probe, diagnosis):
        monkeypatch.setattr(module, "run_child", ask)
    look_for_tensorrt.cache_clear()
    diagnosis.diagnose()
    assert sum(gpu_probe.__file__ in command for command in children) == 1


class Driver:
    """Stands for libcuda: one GPU, or an error code from cuInit."""

    def __init__(self, code=0, devices=1):
        self.code, self.devices = code, devices

    def cuInit(self, _):  # noqa: N802 - the driver's own names
        return self.code

    def cuDriverGetVersion(self, out):  # noqa: N802
        out._obj.value = 12080

    def cuDeviceGetCount(self, out):  # noqa: N802
        out._obj.value = self.devices

    def cuDeviceGet(self, out, ordinal):  # noqa: N802
        out._obj.value = ordinal

    def cuDeviceGetName(self, buffer, _, __):  # noqa: N802
        buffer.value = b"NVIDIA H200"

    def cuDeviceTotalMem_v2(self, out, _):  # noqa: N802
        out._obj.value = 150 * 2**30

    def cuDeviceGetAttribute(self, out, attribute, _):  # noqa: N802
        out._obj.value = {75: 9, 76: 0}[attribute]


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (None, "no NVIDIA driver is installed"),
        (Driver(code=100), "the NVIDIA driver does not start (cuInit returned 100)"),
        (Driver(devices=0), "the NVIDIA driver sees no GPU"),
        (Driver(), ""),
    ],
)
def test_the_drivers_answer_is_reported(driver, reason, monkeypatch):
    monkeypatch.setattr(gpu_probe, "_load_driver", lambda: driver)
    answer = gpu_probe._probe()
    assert answer["reason"] == reason
    if not reason:
        assert answer["gpus"] == [{"name": "NVIDIA H200", "memory": 150 * 2**30, "capability": "9.0"}]
        assert answer["cuda"] == "12.8"


def test_each_ability_names_what_it_lacks(monkeypatch):
    monkeypatch.setattr(diagnosis, "_version", lambda _: "")
    monkeypatch.setattr(diagnosis, "ask_cuda_driver", lambda: CudaReport((), "", "no NVIDIA driver is installed"))
    monkeypatch.setattr(diagnosis, "look_for_tensorrt", lambda: TensorRtReport(None, "no NVIDIA driver is installed"))
    missing = {ability.name: ability.missing for ability in diagnosis.diagnose().abilities}
    assert missing["draw pictures"] == "matplotlib: pip install 'irst-stream[plot]'"
    assert missing["fit many regions on an NVIDIA GPU"] == "a GPU: no NVIDIA driver is installed"
    needed = missing["build and run TensorRT plans"]
    assert needed == "a GPU that TensorRT works on: no NVIDIA driver is installed"
    assert missing["generate, read, record and score data; find targets by network and fit, live too"] == ""


def test_the_reported_backend_is_the_one_auto_chooses(monkeypatch):
    monkeypatch.setattr(backends, "look_for_tensorrt", lambda: TensorRtReport(None, "tensorrt is not installed"))
    told = dict(diagnosis.diagnose().facts)["networks run by"]
    assert "general, seqcsist: ONNX Runtime on the CPU, since tensorrt is not installed" in told.split("; ")


def test_a_driver_of_cuda_12_is_given_its_own_packages():
    assert [pip_extra(cuda, "tensorrt") for cuda in ("12.2", "13.0", "")] == ["tensorrt12", "tensorrt", "tensorrt"]
    assert nvrtc_mismatch((13, 0), "13.0") == nvrtc_mismatch((12, 9), "12.2") == nvrtc_mismatch((12, 9), "13.0") == ""
    assert nvrtc_mismatch((12, 9), "11.8") == "the driver supports CUDA 11.8; expected 12 or newer"
    assert nvrtc_mismatch((13, 5), "12.8") == (
        "NVRTC 13.5 compiles for drivers of CUDA 13, but this driver supports CUDA 12.8: "
        "pip uninstall nvidia-cuda-nvrtc, then pip install 'irst-stream[cuda12]'"
    )


@pytest.mark.parametrize(
    ("cuda", "output", "missing"),
    [
        (CudaReport((), "", "no NVIDIA driver is installed"), ([], ""), "a GPU: no NVIDIA driver is installed"),
        (ON_12, ([], "exit code 1"), "cuda-bindings and NVRTC: pip install 'irst-stream[cuda12]'"),
        (ON_12, (["13", "5"], ""), "a matching NVIDIA driver and NVRTC: " + nvrtc_mismatch((13, 5), "12.8")),
        (ON_12, (["12", "9"], ""), ""),
    ],
)
def test_what_the_fit_lacks_on_a_gpu_is_reported(monkeypatch, cuda, output, missing):
    monkeypatch.setattr(diagnosis, "ask_cuda_driver", lambda: cuda)
    monkeypatch.setattr(diagnosis, "_run_python", lambda _: output)
    assert diagnosis._fit_on_gpu() == missing


def test_a_gpu_is_described(monkeypatch):
    monkeypatch.setattr(
        diagnosis, "ask_cuda_driver", lambda: CudaReport((Gpu("NVIDIA H200", 150 * 2**30, "9.0"),), "12.8", "")
    )
    facts = dict(diagnosis.diagnose().facts)
    assert facts["GPU"] == "NVIDIA H200, 150 GiB, compute 9.0; CUDA 12.8"


@pytest.mark.parametrize(
    ("report", "needed"),
    [
        (RtxReport(None, "NVIDIA H200 has compute capability 9.0", suited=False), "an RTX GPU: NVIDIA H200 has compute"),
        (RtxReport(None, "its plug-in is not installed", suited=True), "TensorRT for RTX: its plug-in is not installed"),
        (RtxReport(None, "", suited=True), ""),
    ],
)
def test_it_says_whether_the_gpu_or_a_package_is_what_tensorrt_for_rtx_lacks(monkeypatch, report, needed):
    monkeypatch.setattr(diagnosis, "look_for_rtx", lambda: report)
    assert diagnosis._rtx().startswith(needed)
    assert bool(diagnosis._rtx()) == bool(needed)
