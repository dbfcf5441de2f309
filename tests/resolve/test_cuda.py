"""The search on GPUs: what its compiler says, what the host does with a driver that stands in, its answers on a GPU."""

import gc
import re

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")

from cuda.bindings import nvrtc
from driver_on_cpu import DriverOnCpu
from searched import LOOSE, SHAPE, STRICT, answers_of, later, random_regions, same, settled

import irst_stream.cuda
from irst_stream.cuda import Device
from irst_stream.errors import DeviceError
from irst_stream.resolve import cuda
from irst_stream.resolve.kernel import Kernel
from irst_stream.resolve.search import CpuSearch


@pytest.fixture(scope="module", autouse=True)
def _nvrtc():
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError:
        pytest.skip("needs nvidia-cuda-nvrtc")


@pytest.mark.parametrize(("architecture", "precision"), [("sm_87", "float32"), ("sm_89", "float32"), ("sm_90", "float64")])
def test_it_compiles_for_gpus_without_a_warning(architecture, precision, record_property):
    _, said = cuda.compile_kernel(Kernel(STRICT, SHAPE, precision, cuda.LANES), architecture, "--ptxas-options=-v")
    assert [line for line in said.splitlines() if line and not line.startswith("ptxas")] == []
    registers = int(re.search(r"Used (\d+) registers", said).group(1))
    stack, *spilled = (
        sum(map(int, re.findall(rf"(\d+) bytes {what}", said))) for what in ("stack", "spill st", "spill lo")
    )
    record_property("registers, bytes of stack, spilled and loaded", (registers, stack, *spilled))
    assert registers * cuda.LANES <= 65536 / 2, "two blocks at least have room on a multiprocessor"
    assert sum(spilled) < 2048
    assert stack < 1024


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A driver that stands in for CUDA's."""
    driver = DriverOnCpu()
    for module in (irst_stream.cuda, cuda):
        monkeypatch.setattr(module, "driver", driver)
    monkeypatch.setattr(cuda, "_kept", driver.compile_into(tmp_path))
    return driver


def test_regions_go_to_the_device_and_answers_come_back_in_any_number_and_shape(stand_in):
    search, cpu = cuda.CudaSearch(LOOSE, SHAPE, lanes=1), CpuSearch(LOOSE)
    for count, shape in ((3, SHAPE), (40, SHAPE), (0, SHAPE), (5, (3, 9, 12)), (2, SHAPE)):
        regions = random_regions(LOOSE, count, seed=7, shape=shape)
        got, (wanted, sure) = answers_of(search, regions, LOOSE.most), settled(cpu, regions, LOOSE.most, 1e-3)
        assert same(wanted, got, 1e-3)[sure].all()
    assert [blocks for blocks, *_ in stand_in.launched] == [3, 40, 5, 2]
    del search
    gc.collect()
    assert not stand_in.memory


def test_after_a_reset_by_somebody_else_it_begins_anew(stand_in):
    search, regions = cuda.CudaSearch(STRICT, SHAPE, lanes=1), random_regions(STRICT, 9, seed=7)
    before = answers_of(search, regions, STRICT.most)
    Device().reset()
    after = answers_of(search, regions, STRICT.most)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    del search
    gc.collect()
    assert not stand_in.memory, "what the reset has taken is not given back once more"


@pytest.mark.usefixtures("stand_in")
def test_only_the_regions_that_are_asked_for_are_searched():
    search, regions = cuda.CudaSearch(STRICT, SHAPE, lanes=1), random_regions(STRICT, 9, seed=7)
    every, which = answers_of(search, regions, STRICT.most), np.array([7, 2, 4])
    some = type(every)(*(np.full_like(column, 7) for column in every))
    search(which, regions, some)
    for all_rows, rows in zip(every, some, strict=True):
        np.testing.assert_array_equal(rows[which], all_rows[which])
        assert (np.delete(rows, which, axis=0) == 7).all()


def test_nothing_is_allocated_in_the_steady_state(stand_in):
    search, regions = cuda.CudaSearch(STRICT, SHAPE, lanes=1), random_regions(STRICT, 9, seed=7)
    answers_of(search, regions, STRICT.most)
    stand_in.fails_at = "cuMemAlloc"
    answers_of(search, random_regions(STRICT, 5, seed=8), STRICT.most)


def test_working_memory_beyond_the_devices_shared_memory_lies_outside(stand_in):
    stand_in.shared_bytes = 16384
    search, regions = cuda.CudaSearch(STRICT, lanes=1), random_regions(STRICT, 2, seed=7)
    answers_of(search, regions, STRICT.most)
    assert stand_in.launched == [(2, 1, 0)]


def test_what_fails_is_one_line_with_the_call_and_its_code(stand_in):
    search, regions = cuda.CudaSearch(STRICT, SHAPE, lanes=1), random_regions(STRICT, 2, seed=7)
    stand_in.fails_at = "cuStreamSynchronize"
    with pytest.raises(DeviceError, match=r"^cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED$"):
        answers_of(search, regions, STRICT.most)


def test_a_kernel_is_compiled_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = []
    monkeypatch.setattr(cuda, "compile_kernel", lambda *given: (compiled.append(given), (b"cubin", ""))[1])
    kernel = Kernel(STRICT, SHAPE, "float64", 32)
    assert [cuda._kept(kernel, architecture) for architecture in ("sm_90", "sm_90", "sm_87")] == [b"cubin"] * 3
    assert len(compiled) == 2
    assert sorted(file.name[:10] for file in tmp_path.rglob("*.cubin")) == ["fit-sm_87-", "fit-sm_90-"]


def test_a_kernel_that_does_not_compile_is_one_line():
    with pytest.raises(DeviceError, match=r"^nvrtcCompileProgram: NVRTC_ERROR_INVALID_OPTION"):
        cuda.compile_kernel(Kernel(STRICT, SHAPE, "float64", 32), "sm_1")


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "within", "least"), [("float64", 1e-3, 0.99), ("float32", 0.03, 0.95)])
@pytest.mark.parametrize("known", [STRICT, LOOSE], ids=["strict", "loose"])
@pytest.mark.parametrize("lanes", [32, 128])
def test_a_gpu_answers_as_the_cpu_does(known, precision, within, least, lanes):
    search, cpu = cuda.CudaSearch(known, SHAPE, precision, lanes=lanes), CpuSearch(known)
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
    assert same(wanted, answers_of(cuda.CudaSearch(STRICT, precision="float64"), regions, STRICT.most), 1e-3)[sure].all()
