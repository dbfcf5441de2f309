"""TensorRT plans on this machine's GPU: built, verified and run; skipped where TensorRT does not work."""

import gc

import numpy as np
import pytest
from random_networks import BySensor
from rounded_networks import bounds, rounded

from irst_stream.cli import main
from irst_stream.commands.trials import accuracy, calibration_windows, evaluation_windows, noise_windows, run_network
from irst_stream.system.shipped import find_engine
from irst_stream.types import Stamp, Window, at_rest
from irst_stream.unmix.backends import TENSORRT_PRECISIONS, build_unmixer, choose_backend, fallback_unmixers
from irst_stream.unmix.engine import WINDOW, read_engine
from irst_stream.unmix.parity import largest_differences
from irst_stream.unmix.plans import find_plans, read_plans
from irst_stream.unmix.tensorrt_build import check_precisions
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

pytestmark = pytest.mark.gpu
BACKENDS = {precision: backend for backend, precision in TENSORRT_PRECISIONS.items()}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    missing = look_for_tensorrt().missing
    if missing:
        pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def engine():
    return read_engine(find_engine("seqcsist"))


@pytest.fixture(scope="module", params=BACKENDS)
def precision(request, engine):
    assert main(["engine", "build", str(engine.folder), "--precision", request.param, "--batch", "1,8"]) == 0
    return request.param


@pytest.fixture(scope="module")
def unmixer(engine, precision):
    return build_unmixer(engine, choose_backend(engine, BACKENDS[precision]))


@pytest.fixture(scope="module")
def oracle(engine):
    return build_unmixer(engine, choose_backend(engine, "onnx"))


@pytest.fixture(scope="module")
def half(engine, oracle):
    """The largest difference between half and single precision, as a fraction of the range."""
    windows = calibration_windows(engine.manifest, 8)
    return max(largest_differences(run_network(rounded(engine, "fp16"), windows), run_network(oracle, windows)).values())


def test_plans_run_in_the_requested_precision(engine, precision):
    manifest = read_plans(find_plans(engine.manifest.sha256, look_for_tensorrt().platform, precision)).manifest
    assert manifest.layers.keys() == {"unfold", "fuse"}
    check_precisions(manifest.layers, precision)
    assert manifest.apart <= manifest.limit == engine.manifest.limits[precision]


def test_the_rounding_of_plans_shows_their_real_precision(engine, precision, unmixer, oracle, half):
    windows = calibration_windows(engine.manifest, 8)
    differences = max(largest_differences(run_network(unmixer, windows), run_network(oracle, windows)).values())
    least, most = bounds(half)[precision]
    assert least <= differences < most


def test_any_number_of_windows_gives_the_output_of_onnx_runtime(engine, precision, unmixer, oracle):
    for count in (1, 7, 8, 9, 40):
        windows = noise_windows(engine.manifest, count)
        differences = largest_differences(run_network(unmixer, windows, count), run_network(oracle, windows))
        assert max(differences.values()) <= engine.manifest.limits[precision]


def test_half_precision_costs_a_tenth_of_csomap_at_most_and_int8_half(engine, precision, unmixer, oracle):
    trial = evaluation_windows(engine.manifest, 1000)
    score = [accuracy(run_network(one, trial.windows), trial.truths, engine.manifest) for one in (unmixer, oracle)]
    assert abs(score[0] - score[1]) < {"fp32": 0.1, "fp16": 0.1, "int8": 0.5}[precision]


def test_the_store_grows_and_keeps_what_it_holds(engine, precision, unmixer, oracle):
    windows = calibration_windows(engine.manifest, 8)
    held = [list(unmixer.unfold(np.ascontiguousarray(window))) for window in windows]
    many = np.ascontiguousarray(np.tile(windows[0], (1000, 1, 1)))
    more = unmixer.unfold(many)  # more than the store's initial capacity
    assert len({one.slot for one in more} | {one.slot for window in held for one in window}) == len(many) + 40
    places = np.tile(np.arange(WINDOW), (8, 1))
    got = unmixer.fuse(held, windows, places)
    differences = largest_differences(got, run_network(oracle, windows))
    assert max(differences.values()) <= engine.manifest.limits[precision]


def stream(engine, unmix, steps, regions=5):
    windows = calibration_windows(engine.manifest, regions)
    unknown, no_ceiling = np.full(regions, np.nan), np.full(regions, np.inf)
    for k in range(steps):
        stamp = Stamp("a", 0, k + 2, k * 10_000_000)
        shown = np.roll(windows, -k, axis=1)
        yield unmix(
            [Window(stamp, np.zeros((regions, 2)), shown, *at_rest(regions, 5), np.arange(regions), unknown, no_ceiling)]
        )


def test_a_stream_holds_no_more_after_a_thousand_windows(engine, unmixer):
    unmix = BySensor(unmixer, engine.manifest)
    free = []
    for k, _ in enumerate(stream(engine, unmix, 1000)):
        if k in (20, 999):
            gc.collect()
            free.append(unmixer._slots.available)
    assert free[0] == free[1]


def test_an_engine_can_be_rebuilt_on_the_same_gpu(engine, precision, oracle):
    choice = choose_backend(engine, BACKENDS[precision])
    fallbacks = dict(fallback_unmixers(engine, choice, 1, with_map=True))
    fresh = fallbacks["rebuilt on the same GPU"]()
    windows = calibration_windows(engine.manifest, 8)
    assert (
        max(largest_differences(run_network(fresh, windows), run_network(oracle, windows)).values())
        <= engine.manifest.limits[precision]
    )
