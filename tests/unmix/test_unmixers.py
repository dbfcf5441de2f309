"""The contract of an Unmixer, tested for all backends and all kinds of engines."""

from functools import partial

import numpy as np
import pytest
from host_device import host_lanes, on_the_host
from random_networks import ENGINES, random_engine

from irst_stream.cli import main
from irst_stream.learn.backend import TorchUnmixer
from irst_stream.sim import seqcsist
from irst_stream.system.shipped import find_engine
from irst_stream.unmix.backends import CPU_BACKENDS, build_unmixer, choose_backend
from irst_stream.unmix.engine import WINDOW, read_engine
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.onnx import OnnxUnmixer, supported_forms
from irst_stream.unmix.openvino import OpenVinoUnmixer
from irst_stream.unmix.rtx import RtxUnmixer
from irst_stream.unmix.rtx_here import look_for_rtx
from irst_stream.unmix.stream import crop_corner, light_centre
from irst_stream.unmix.tensorrt_here import look_for_tensorrt
from irst_stream.unmix.told import UNKNOWN_SENSOR, with_sensor_planes


def by_tensorrt(engine):
    """A TensorRtUnmixer in single precision, with plans built for this machine's GPU."""
    missing = look_for_tensorrt().missing
    if missing:
        pytest.skip(missing)
    assert main(["engine", "build", str(engine.folder), "--precision", "fp32", "--batch", "1,8"]) == 0
    return build_unmixer(engine, choose_backend(engine, "tensorrt-fp32"))


def by_rtx(engine):
    """TensorRT for RTX in single precision, on this machine's GPU."""
    here = look_for_rtx()
    if here.missing:
        pytest.skip(here.missing)
    return RtxUnmixer(engine, here.platform, "fp32")


ELSEWHERE = ("onnx", "openvino-bf16")  # the first in each form, the second in a test of its own
BACKENDS = {
    "torch": TorchUnmixer,
    **{name: lambda engine, known=known: known.build(engine, 1, "") for name, known in CPU_BACKENDS.items()},
    # DeformConv from ONNX Runtime 1.31 on
    **{f"onnx, {form}": partial(OnnxUnmixer, threads=1, form=form) for form in supported_forms()},
    "tensorrt": by_tensorrt,
    "rtx": by_rtx,
    "rtx on the host": host_lanes,  # what of it needs no GPU
}
BACKENDS = {name: make for name, make in BACKENDS.items() if name not in ELSEWHERE}
ON_A_GPU = ("tensorrt", "rtx")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), **ENGINES[request.param])


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=[pytest.mark.gpu] if n in ON_A_GPU else []) for n in BACKENDS]
)
def unmixer(request, engine, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        if BACKENDS[request.param] is host_lanes:
            on_the_host(patch)
        yield BACKENDS[request.param](engine)


@pytest.fixture(scope="module")
def windows(engine):
    rows, columns = engine.manifest.patch
    patches = seqcsist(2, seed=8, noise=(2.0, 2.0)).frames[:, :WINDOW, :rows, :columns]
    facts = np.array([[2.0, 0.5, 235.0, 8.7], UNKNOWN_SENSOR])
    return np.ascontiguousarray(with_sensor_planes(patches, facts, engine.manifest))


@pytest.fixture(scope="module")
def places(engine):
    return np.array([np.arange(WINDOW), np.arange(WINDOW) + 3 * (engine.manifest.time_code == "clip")])


@pytest.fixture(scope="module")
def expected(engine, windows, places):
    oracle = NumpyUnmixer(engine)
    frames = windows[:, :WINDOW].reshape(-1, *windows.shape[2:])
    maps = oracle.unfold(frames).reshape(2, WINDOW, *engine.manifest.cells)
    return maps, oracle.fuse(maps, windows, places)


def near(got, wanted, least=1e-6):
    np.testing.assert_allclose(got, wanted, atol=1e-4 * max(float(np.ptp(wanted)), least))  # float32 sums in any order


def test_half_precision_finds_the_same_cells():
    engine = read_engine(find_engine("seqcsist"))
    patches = seqcsist(1, seed=8).frames[:, :WINDOW]
    ((x, y),) = crop_corner(light_centre(patches[:, WINDOW // 2]), patches.shape[2:], engine.manifest.patch)
    windows = with_sensor_planes(patches[:, :, y : y + 7, x : x + 7], np.array([UNKNOWN_SENSOR]), engine.manifest)
    places = np.arange(WINDOW)[None]
    found = []
    for precision in ("fp32", "bf16"):
        unmixer = OpenVinoUnmixer(engine, threads=1, precision=precision)
        found.append(unmixer.fuse(unmixer.unfold(windows[0, :WINDOW])[None], windows, places))
    np.testing.assert_allclose(found[1].claims[0, 0], found[0].claims[0, 0], atol=0.1)


def unfolded(unmixer, windows):
    """The maps of windows, frame by frame."""
    return [list(unmixer.unfold(window[:WINDOW])) for window in windows]


def test_maps_equal_the_reference(unmixer, windows, expected):
    for got, wanted in zip(unfolded(unmixer, windows), expected[0], strict=True):
        assert len(got) == len(wanted)
        if isinstance(got[0], np.ndarray):
            assert got[0].dtype == np.float32
            near(np.stack(got), wanted)


def test_a_frames_map_does_not_depend_on_its_batch(unmixer, windows, places, expected):
    alone = [[next(iter(unmixer.unfold(frame[None]))) for frame in window[:WINDOW]] for window in windows]
    near(unmixer.fuse(alone, windows, places).map, expected[1].map)


def test_windows_equal_the_reference(unmixer, engine, windows, places, expected):
    got = unmixer.fuse(unfolded(unmixer, windows), windows, places)
    assert got.map.shape == (2, *engine.manifest.cells)
    assert got.claims.shape == (2, engine.manifest.claim_channels, *engine.manifest.cells)
    near(got.map, expected[1].map)
    for kind in range(engine.manifest.claim_channels):
        near(got.claims[:, kind], expected[1].claims[:, kind], least=1.0 if kind == 0 else 1e-6)


def test_a_window_does_not_depend_on_its_batch(unmixer, windows, places, expected):
    alone = unmixer.fuse(unfolded(unmixer, windows[1:]), windows[1:], places[1:])
    near(alone.map, expected[1].map[1:])
