"""fit.cu, compiled for the CPU: it gives the results of the CPU search, and its lanes do not race."""

from functools import cache

import numpy as np
import pytest
from kernel_on_cpu import ProgramSearch
from random_regions import (
    LOOSE,
    SHAPE,
    STRICT,
    WIDE,
    next_window,
    random_regions,
    results_agree,
    results_of,
    stable_results,
)

from irst_stream.fit.cuda_layout import Kernel
from irst_stream.fit.fitter import priors_of, psf_bank, psf_shape
from irst_stream.fit.search import CpuSearch, RegionBatch
from irst_stream.fit.settings import FitSettings
from irst_stream.point_spread import gaussian, tabulated

KNOWN = {"strict": STRICT, "loose": LOOSE}
PSFS = {
    "along an axis": gaussian(0.6, 1.6, 90.0),
    "rotated": gaussian(0.6, 1.5, 30.0),
    "table": tabulated(gaussian(0.55, 1.3, 120.0).table, 8),
}


@cache
def windows(name):
    """Random regions and their next window, each with the CPU's results and whether rounding cannot change these."""
    fit_priors = KNOWN[name]
    cpu, first = CpuSearch(fit_priors), random_regions(fit_priors, 120, seed=1)
    results = stable_results(cpu, first, fit_priors.max_targets, 1e-3)
    second = next_window(first, results[0])
    return (first, *results), (second, *stable_results(cpu, second, fit_priors.max_targets, 1e-3))


@pytest.mark.parametrize(("precision", "within", "least"), [("float64", 1e-3, 0.99), ("float32", 0.03, 0.95)])
@pytest.mark.parametrize("name", KNOWN)
def test_its_results_agree_with_the_cpu_search(name, precision, within, least, tmp_path):
    fit_priors = KNOWN[name]
    program = ProgramSearch(Kernel(fit_priors, SHAPE, precision, lanes=1), tmp_path)
    for regions, expected, stable in windows(name):
        agree = results_agree(expected, results_of(program, regions, fit_priors.max_targets), within)
        lit = np.arange(len(agree)) % (fit_priors.max_targets + 1) > 0
        assert stable[lit].mean() > 0.75
        assert agree[stable & lit].mean() >= least
        assert agree[stable].mean() > 0.95, "regions without light included, whose results depend on more than rounding"


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("kind", PSFS)
def test_it_agrees_with_the_cpu_under_every_kind_of_psf(kind, precision, tmp_path):
    psf, within = PSFS[kind], 1e-3 if precision == "float64" else 0.03
    known = priors_of(FitSettings(**WIDE, starts=1, sigma_doubt=0.0, most_targets=3))
    known = known._replace(sigma=psf.sigma, shape=psf_shape(psf))
    regions = random_regions(known, 48, seed=6, psf=psf)
    expected, stable = stable_results(CpuSearch(known), regions, known.max_targets, 1e-3)
    program = ProgramSearch(Kernel(known, SHAPE, precision, lanes=1), tmp_path)
    agree = results_agree(expected, results_of(program, regions, known.max_targets), within)
    assert stable.mean() > 0.7
    assert agree[stable].mean() >= (0.98 if precision == "float64" else 0.9)


def test_each_region_has_the_psf_of_its_place(tmp_path):
    psfs = [*PSFS.values(), gaussian(0.5)]
    known = priors_of(FitSettings(**WIDE, starts=1, sigma_doubt=0.0, most_targets=3))
    each = [random_regions(known, 24, seed=k, psf=psf) for k, psf in enumerate(psfs)]
    columns = zip(*(regions[:-2] for regions in each), strict=True)
    joined = [column[0] if k == 1 else np.concatenate(column) for k, column in enumerate(columns)]  # times are the same
    regions = RegionBatch(*joined, np.repeat(np.arange(len(psfs)), 24), psf_bank(psfs))
    expected, stable = stable_results(CpuSearch(known), regions, known.max_targets, 1e-3)
    size = regions.psfs.columns.shape[1:3]
    program = ProgramSearch(Kernel(known, SHAPE, "float64", lanes=1, psf_size=size), tmp_path)
    agree = results_agree(expected, results_of(program, regions, known.max_targets), 1e-3)
    assert (expected.number > 0).mean() > 0.6
    assert stable.mean() > 0.7
    assert agree[stable].mean() >= 0.98


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The kernel with three lanes as threads, under the thread sanitizer."""
    return ProgramSearch(
        Kernel(LOOSE, SHAPE, "float64", lanes=3), tmp_path_factory.mktemp("sanitized"), "-fsanitize=thread"
    )


def test_its_lanes_do_not_race_and_wait_at_the_same_barriers(sanitized):
    regions = random_regions(LOOSE, 24, seed=3)
    expected, stable = stable_results(CpuSearch(LOOSE), regions, LOOSE.max_targets, 1e-3)
    assert results_agree(expected, results_of(sanitized, regions, LOOSE.max_targets), 1e-3)[stable].all()


@pytest.mark.parametrize(("fault", "message"), [("race", "data race"), ("barrier", "lanes wait at different barriers")])
def test_a_planted_race_and_a_missed_barrier_are_detected(fault, message, sanitized, monkeypatch):
    monkeypatch.setenv("FAULT", fault)
    with pytest.raises(AssertionError, match=message):
        results_of(sanitized, random_regions(LOOSE, 1, seed=3), LOOSE.max_targets)


@pytest.mark.parametrize(("shape", "most", "starts"), [((1, 9, 12), 8, 4), ((3, 14, 7), 2, 1), ((7, 11, 11), 1, 3)])
def test_any_shape_number_of_targets_and_number_of_starts_works(shape, most, starts, tmp_path):
    fit_priors = STRICT._replace(max_targets=most, start_count=starts)
    regions = random_regions(fit_priors, 40, seed=5, shape=shape)
    expected, stable = stable_results(CpuSearch(fit_priors), regions, most, 1e-3)
    got = results_of(ProgramSearch(Kernel(fit_priors, shape, "float64", lanes=1), tmp_path), regions, most)
    assert results_agree(expected, got, 1e-3)[stable].all()
    assert stable.mean() > 0.5
