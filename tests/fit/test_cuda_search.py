"""The search on GPUs: what its compiler says of it, and its answers, where there is one."""

import re

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")

from cuda.bindings import driver, nvrtc
from searched import LOOSE, SHAPE, STRICT, answers_of, later, random_regions, same, settled

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
    _, said = cuda_search.compile_kernel(
        Kernel(STRICT, SHAPE, precision, cuda_search.LANES), architecture, "--ptxas-options=-v"
    )
    assert [line for line in said.splitlines() if line and not line.startswith("ptxas")] == []
    registers = int(re.search(r"Used (\d+) registers", said).group(1))
    stack, *spilled = (
        sum(map(int, re.findall(rf"(\d+) bytes {what}", said))) for what in ("stack", "spill st", "spill lo")
    )
    record_property("registers, bytes of stack, spilled and loaded", (registers, stack, *spilled))
    assert registers * cuda_search.LANES <= 65536 / 2, "two blocks at least have room on a multiprocessor"
    assert sum(spilled) < 2048
    assert stack < 1024


@pytest.mark.gpu
def test_regions_go_to_the_device_and_answers_come_back_in_any_number_and_shape():
    search, cpu = cuda_search.CudaSearch(LOOSE, SHAPE, "float64"), CpuSearch(LOOSE)
    for count, shape in ((3, SHAPE), (40, SHAPE), (0, SHAPE), (5, (3, 9, 12)), (2, SHAPE)):
        regions = random_regions(LOOSE, count, seed=7, shape=shape)
        got, (wanted, sure) = answers_of(search, regions, LOOSE.most), settled(cpu, regions, LOOSE.most, 1e-3)
        assert same(wanted, got, 1e-3)[sure].all()


@pytest.mark.gpu
def test_only_the_regions_that_are_asked_for_are_searched():
    search, regions = cuda_search.CudaSearch(STRICT, SHAPE), random_regions(STRICT, 9, seed=7)
    every, which = answers_of(search, regions, STRICT.most), np.array([7, 2, 4])
    some = type(every)(*(np.full_like(column, 7) for column in every))
    search(which, regions, some)
    for all_rows, rows in zip(every, some, strict=True):
        np.testing.assert_array_equal(rows[which], all_rows[which])
        assert (np.delete(rows, which, axis=0) == 7).all()


@pytest.mark.gpu
def test_nothing_is_allocated_in_the_steady_state(monkeypatch):
    search, regions = cuda_search.CudaSearch(STRICT, SHAPE), random_regions(STRICT, 9, seed=7)
    answers_of(search, regions, STRICT.most)
    for kind in (Memory, Pinned):
        monkeypatch.delattr(kind, "__init__")  # one that is made now lacks an address
    answers_of(search, random_regions(STRICT, 5, seed=8), STRICT.most)


def test_what_fails_is_one_line_with_the_call_and_its_code():
    def cuStreamSynchronize():  # noqa: N802 - as the driver names it
        return (driver.CUresult.CUDA_ERROR_LAUNCH_FAILED,)

    with pytest.raises(DeviceError, match=r"^cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED$"):
        call(cuStreamSynchronize)


def test_a_code_that_nobody_knows_is_a_fault_of_the_device_too():
    def cuLaunchKernel():  # noqa: N802 - as the driver names it
        return (driver.CUresult(9999),)

    with pytest.raises(DeviceError, match=r"^cuLaunchKernel: 9999 is not a valid CUresult$"):
        call(cuLaunchKernel)


def test_a_kernel_is_compiled_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = []
    monkeypatch.setattr(cuda_search, "compile_kernel", lambda *given: (compiled.append(given), (b"cubin", ""))[1])
    kernel = Kernel(STRICT, SHAPE, "float64", 32)
    assert [cuda_search._kept(kernel, architecture) for architecture in ("sm_90", "sm_90", "sm_87")] == [b"cubin"] * 3
    assert len(compiled) == 2
    assert sorted(file.name[:10] for file in tmp_path.rglob("*.cubin")) == ["fit-sm_87-", "fit-sm_90-"]


def test_a_kept_kernel_that_does_not_load_is_compiled_anew(monkeypatch, tmp_path):
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


def test_gpus_that_are_newer_than_the_compiler_are_given_what_their_driver_compiles():
    assert cuda_search.architecture_of(90) == "sm_90"
    newest = cuda_search.architecture_of(999)
    assert newest.startswith("compute_")
    code, _ = cuda_search.compile_kernel(Kernel(STRICT, SHAPE, "float32", cuda_search.LANES), newest)
    assert f".target sm_{newest.removeprefix('compute_')}".encode() in code
    with pytest.raises(DeviceError, match=r"^compute capability 3.5: NVRTC expects \d+\.\d or newer$"):
        cuda_search.architecture_of(35)


def test_a_kernel_that_does_not_compile_is_one_line():
    with pytest.raises(DeviceError, match=r"^nvrtcCompileProgram: NVRTC_ERROR_INVALID_OPTION"):
        cuda_search.compile_kernel(Kernel(STRICT, SHAPE, "float64", 32), "sm_1")


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "within", "least"), [("float64", 1e-3, 0.99), ("float32", 0.03, 0.95)])
@pytest.mark.parametrize("known", [STRICT, LOOSE], ids=["strict", "loose"])
@pytest.mark.parametrize("lanes", [32, 128])
def test_a_gpu_answers_as_the_cpu_does(known, precision, within, least, lanes):
    search, cpu = cuda_search.CudaSearch(known, SHAPE, precision, lanes=lanes), CpuSearch(known)
    first = random_regions(known, 300, seed=1)
    for regions in (first, later(first, answers_of(cpu, first, known.most))):
        wanted, sure = settled(cpu, regions, known.most, within)
        agree = same(wanted, answers_of(search, regions, known.most), within)
        lit = np.arange(300) % (known.most + 1) > 0
        assert agree[sure & lit].mean() >= least
        assert agree[sure].mean() > 0.95


@pytest.mark.gpu
def test_a_gpu_searches_regions_that_its_shared_memory_has_no_room_for():
    regions = random_regions(STRICT, 12, seed=1, shape=(5, 64, 64))
    wanted, sure = settled(CpuSearch(STRICT), regions, STRICT.most, 1e-3)
    assert same(wanted, answers_of(cuda_search.CudaSearch(STRICT, precision="float64"), regions, STRICT.most), 1e-3)[
        sure
    ].all()
