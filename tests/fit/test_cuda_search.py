"""The GPU search: its compilation, and where a GPU is present its results."""

import re

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")

from cuda.bindings import driver, nvrtc
from random_regions import LOOSE, SHAPE, STRICT, next_window, random_regions, results_agree, results_of, stable_results

from irst_stream.errors import DeviceError
from irst_stream.fit import cuda_search
from irst_stream.fit.cuda_layout import Kernel
from irst_stream.fit.search import CpuSearch
from irst_stream.system.cuda import Memory, Pinned, call


@pytest.fixture(scope="module", autouse=True)
def _nvrtc():
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError:
        pytest.skip("needs nvidia-cuda-nvrtc")


@pytest.mark.parametrize(("architecture", "precision"), [("sm_87", "float32"), ("sm_89", "float32"), ("sm_90", "float64")])
def test_it_compiles_for_gpus_without_a_warning(architecture, precision, record_property):
    _, log_text = cuda_search.compile_kernel(
        Kernel(STRICT, SHAPE, precision, cuda_search.LANES), architecture, "--ptxas-options=-v"
    )
    assert [line for line in log_text.splitlines() if line and not line.startswith("ptxas")] == []
    registers = int(re.search(r"Used (\d+) registers", log_text).group(1))
    stack, *spilled = (
        sum(map(int, re.findall(rf"(\d+) bytes {what}", log_text))) for what in ("stack", "spill st", "spill lo")
    )
    record_property("registers, bytes of stack, spilled and loaded", (registers, stack, *spilled))
    assert registers * cuda_search.LANES <= 65536 / 2, "at least two blocks fit on a multiprocessor"
    assert sum(spilled) < 2048
    assert stack < 1024


@pytest.mark.gpu
def test_regions_of_any_number_and_shape_are_searched():
    search, cpu = cuda_search.CudaSearch(LOOSE, SHAPE, "float64"), CpuSearch(LOOSE)
    for count, shape in ((3, SHAPE), (40, SHAPE), (0, SHAPE), (5, (3, 9, 12)), (2, SHAPE)):
        regions = random_regions(LOOSE, count, seed=7, shape=shape)
        got, (expected, stable) = (
            results_of(search, regions, LOOSE.max_targets),
            stable_results(cpu, regions, LOOSE.max_targets, 1e-3),
        )
        assert results_agree(expected, got, 1e-3)[stable].all()


@pytest.mark.gpu
def test_only_the_requested_regions_are_searched():
    search, regions = cuda_search.CudaSearch(STRICT, SHAPE), random_regions(STRICT, 9, seed=7)
    every, which = results_of(search, regions, STRICT.max_targets), np.array([7, 2, 4])
    some = type(every)(*(np.full_like(column, 7) for column in every))
    search(which, regions, some)
    for all_rows, rows in zip(every, some, strict=True):
        np.testing.assert_array_equal(rows[which], all_rows[which])
        assert (np.delete(rows, which, axis=0) == 7).all()


@pytest.mark.gpu
def test_nothing_is_allocated_in_the_steady_state(monkeypatch):
    search, regions = cuda_search.CudaSearch(STRICT, SHAPE), random_regions(STRICT, 9, seed=7)
    results_of(search, regions, STRICT.max_targets)
    for kind in (Memory, Pinned):
        monkeypatch.delattr(kind, "__init__")  # a buffer allocated from now on has no address
    results_of(search, random_regions(STRICT, 5, seed=8), STRICT.max_targets)


def test_a_failed_call_raises_one_line_with_the_call_and_its_code():
    def cuStreamSynchronize():  # noqa: N802 - as the driver names it
        return (driver.CUresult.CUDA_ERROR_LAUNCH_FAILED,)

    with pytest.raises(DeviceError, match=r"^cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED$"):
        call(cuStreamSynchronize)


def test_an_unknown_error_code_raises_a_device_error():
    def cuLaunchKernel():  # noqa: N802 - as the driver names it
        return (driver.CUresult(9999),)

    with pytest.raises(DeviceError, match=r"^cuLaunchKernel: 9999 is not a valid CUresult$"):
        call(cuLaunchKernel)


def test_a_kernel_is_compiled_once_and_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = []
    monkeypatch.setattr(cuda_search, "compile_kernel", lambda *given: (compiled.append(given), (b"cubin", ""))[1])
    kernel = Kernel(STRICT, SHAPE, "float64", 32)
    assert [cuda_search._cached_cubin(kernel, architecture) for architecture in ("sm_90", "sm_90", "sm_87")] == [
        b"cubin"
    ] * 3
    assert len(compiled) == 2
    assert sorted(file.name[:10] for file in tmp_path.rglob("*.cubin")) == ["fit-sm_87-", "fit-sm_90-"]


def test_a_cached_kernel_that_does_not_load_is_recompiled(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = iter((b"torn", b"whole"))
    monkeypatch.setattr(cuda_search, "compile_kernel", lambda *_: (next(images), ""))

    def load(function, *given):
        if function is not driver.cuModuleLoadData:
            return call(function, *given)
        if given == (b"torn",):
            raise DeviceError("cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE")
        return given

    monkeypatch.setattr(cuda_search, "call", load)
    kernel = Kernel(STRICT, SHAPE, "float64", 32)
    assert cuda_search._module(kernel, "sm_90") == cuda_search._module(kernel, "sm_90") == (b"whole",)


def test_gpus_newer_than_the_compiler_get_ptx():
    assert cuda_search.architecture_of(90) == "sm_90"
    newest = cuda_search.architecture_of(999)
    assert newest.startswith("compute_")
    code, _ = cuda_search.compile_kernel(Kernel(STRICT, SHAPE, "float32", cuda_search.LANES), newest)
    assert f".target sm_{newest.removeprefix('compute_')}".encode() in code
    with pytest.raises(DeviceError, match=r"^compute capability 3.5: NVRTC expects \d+\.\d or newer$"):
        cuda_search.architecture_of(35)


def test_a_failed_compilation_raises_one_line():
    with pytest.raises(DeviceError, match=r"^nvrtcCompileProgram: NVRTC_ERROR_INVALID_OPTION"):
        cuda_search.compile_kernel(Kernel(STRICT, SHAPE, "float64", 32), "sm_1")


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "within", "least"), [("float64", 1e-3, 0.99), ("float32", 0.03, 0.95)])
@pytest.mark.parametrize("fit_priors", [STRICT, LOOSE], ids=["strict", "loose"])
@pytest.mark.parametrize("lanes", [32, 128])
def test_a_gpu_agrees_with_the_cpu(fit_priors, precision, within, least, lanes):
    search, cpu = cuda_search.CudaSearch(fit_priors, SHAPE, precision, lanes=lanes), CpuSearch(fit_priors)
    first = random_regions(fit_priors, 300, seed=1)
    for regions in (first, next_window(first, results_of(cpu, first, fit_priors.max_targets))):
        expected, stable = stable_results(cpu, regions, fit_priors.max_targets, within)
        agree = results_agree(expected, results_of(search, regions, fit_priors.max_targets), within)
        lit = np.arange(300) % (fit_priors.max_targets + 1) > 0
        assert agree[stable & lit].mean() >= least
        assert agree[stable].mean() > 0.95


@pytest.mark.gpu
def test_a_gpu_searches_regions_too_large_for_its_shared_memory():
    regions = random_regions(STRICT, 12, seed=1, shape=(5, 64, 64))
    expected, stable = stable_results(CpuSearch(STRICT), regions, STRICT.max_targets, 1e-3)
    assert results_agree(
        expected, results_of(cuda_search.CudaSearch(STRICT, precision="float64"), regions, STRICT.max_targets), 1e-3
    )[stable].all()
