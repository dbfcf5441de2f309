"""The search on a device and its fallback to the CPU: a device that fails loses no window."""

import numpy as np
import pytest
from random_regions import LOOSE, random_regions, results_of

from irst_stream import DeviceError
from irst_stream.fit.fitter import Fitter, priors_of
from irst_stream.fit.region_fits import RegionFits
from irst_stream.fit.search import CpuSearch, Fallback, FitResults
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render

TIMES = np.arange(5.0) - 2
FAILED = "the fit failed on its GPU (cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED (719)); from now on it runs on the CPU"


class Failing:
    """A device that fails after `good` windows."""

    def __init__(self, search, good):
        self.search, self.good, self.asked = search, good, 0

    def __call__(self, which, regions, results):
        self.asked += 1
        if self.asked > self.good:
            raise DeviceError("cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED (719)")
        self.search(which, regions, results)


def test_the_cpu_takes_over_with_the_window_on_which_the_device_fails():
    cpu, regions = CpuSearch(LOOSE, threads=2), random_regions(LOOSE, 12, seed=2)
    device = Failing(cpu, good=2)
    search = Fallback(device, cpu)
    expected = results_of(cpu, regions, LOOSE.max_targets)
    for window in range(5):
        assert search.alarm == ("" if window < 3 else FAILED)
        for one, other in zip(results_of(search, regions, LOOSE.max_targets), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert device.asked == 3, "a device that failed is not asked again"


def test_a_fitter_reports_why_its_device_is_no_longer_used():
    settings = FitSettings()
    plain, fitter = Fitter(settings), Fitter(settings, device=Failing(CpuSearch(priors_of(settings)), good=1))
    images = render(np.tile([[5.2, 5.1], [5.9, 5.3]], (5, 1, 1)), np.full((5, 2), 235.0))
    for alarm in ("", FAILED):
        for one, other in zip(fitter(images, TIMES, noise_dn=1.0), plain(images, TIMES, noise_dn=1.0), strict=True):
            np.testing.assert_array_equal(one, other)
        assert fitter.alarm == alarm
        assert RegionFits(fitter).alarm == alarm
    assert plain.alarm == ""


def test_other_errors_of_a_device_are_not_hidden():
    def broken(*_):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        results_of(Fallback(broken, CpuSearch(LOOSE)), random_regions(LOOSE, 2, seed=2), LOOSE.max_targets)


def test_only_the_requested_rows_are_filled():
    regions = random_regions(LOOSE, 6, seed=2)
    every = results_of(CpuSearch(LOOSE), regions, LOOSE.max_targets)
    some = FitResults(*(np.full_like(column, 7) for column in every))
    CpuSearch(LOOSE, threads=2)(np.array([4, 1, 5]), regions, some)
    assert some.number.tolist() == [7, every.number[1], 7, 7, *every.number[4:]]


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_several_threads_give_the_results_of_one(threads: int):
    regions = random_regions(LOOSE, 7, seed=3)
    alone = results_of(CpuSearch(LOOSE), regions, LOOSE.max_targets)
    for one, other in zip(results_of(CpuSearch(LOOSE, threads), regions, LOOSE.max_targets), alone, strict=True):
        np.testing.assert_array_equal(one, other)
