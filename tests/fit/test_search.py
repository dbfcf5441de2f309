"""The seam between the fit and what it runs on: a device that fails loses nothing."""

import numpy as np
import pytest
from searched import LOOSE, answers_of, random_regions

from irst_stream import DeviceError
from irst_stream.fit.fitter import Fitter, priors_of
from irst_stream.fit.region_fits import RegionFits
from irst_stream.fit.search import CpuSearch, Fallback, FitResults
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render

TIMES = np.arange(5.0) - 2
FAILED = "the fit failed on its GPU (cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED (719)); from now on it runs on the CPU"


class Failing:
    """A device that answers some windows, then no more."""

    def __init__(self, search, good):
        self.search, self.good, self.asked = search, good, 0

    def __call__(self, which, regions, answers):
        self.asked += 1
        if self.asked > self.good:
            raise DeviceError("cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED (719)")
        self.search(which, regions, answers)


def test_the_cpu_answers_from_the_window_on_that_a_device_fails_on():
    cpu, regions = CpuSearch(LOOSE, threads=2), random_regions(LOOSE, 12, seed=2)
    device = Failing(cpu, good=2)
    search = Fallback(device, cpu)
    wanted = answers_of(cpu, regions, LOOSE.most)
    for window in range(5):
        assert search.alarm == ("" if window < 3 else FAILED)
        for one, other in zip(answers_of(search, regions, LOOSE.most), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    assert device.asked == 3, "a device that failed is not asked again"


def test_a_fit_tells_why_its_device_is_lost():
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
        answers_of(Fallback(broken, CpuSearch(LOOSE)), random_regions(LOOSE, 2, seed=2), LOOSE.most)


def test_only_the_rows_that_are_asked_for_are_filled():
    regions = random_regions(LOOSE, 6, seed=2)
    every = answers_of(CpuSearch(LOOSE), regions, LOOSE.most)
    some = FitResults(*(np.full_like(column, 7) for column in every))
    CpuSearch(LOOSE, threads=2)(np.array([4, 1, 5]), regions, some)
    assert some.number.tolist() == [7, every.number[1], 7, 7, *every.number[4:]]


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_share_the_rows_and_answer_as_one_does(threads: int):
    regions = random_regions(LOOSE, 7, seed=3)
    alone = answers_of(CpuSearch(LOOSE), regions, LOOSE.most)
    for one, other in zip(answers_of(CpuSearch(LOOSE, threads), regions, LOOSE.most), alone, strict=True):
        np.testing.assert_array_equal(one, other)
