"""The source of the GPU's search, run on the CPU: its answers are those of the CPU's search, its lanes do not race."""

from functools import cache

import numpy as np
import pytest
from kernel_on_cpu import ProgramSearch
from searched import LOOSE, SHAPE, SHOT, STRICT, answers_of, later, random_regions, same, settled

from irst_stream.fit.cuda_layout import Kernel
from irst_stream.fit.search import CpuSearch

KNOWN = {"strict": STRICT, "loose": LOOSE, "shot": SHOT}


@cache
def windows(name):
    """Regions and the same a window later, with what the CPU answers and whether that hangs on nothing but rounding."""
    known = KNOWN[name]
    cpu, first = CpuSearch(known), random_regions(known, 120, seed=1)
    answers = settled(cpu, first, known.most, 1e-3)
    second = later(first, answers[0])
    return (first, *answers), (second, *settled(cpu, second, known.most, 1e-3))


@pytest.mark.parametrize(("precision", "within", "least"), [("float64", 1e-3, 0.99), ("float32", 0.03, 0.95)])
@pytest.mark.parametrize("name", KNOWN)
def test_it_answers_as_the_search_of_the_cpu_does(name, precision, within, least, tmp_path):
    known = KNOWN[name]
    program = ProgramSearch(Kernel(known, SHAPE, precision, lanes=1), tmp_path)
    for regions, wanted, sure in windows(name):
        agree = same(wanted, answers_of(program, regions, known.most), within)
        lit = np.arange(len(agree)) % (known.most + 1) > 0
        assert sure[lit].mean() > 0.75
        assert agree[sure & lit].mean() >= least
        assert agree[sure].mean() > 0.95, "where there is no light, what is found of it hangs on more than rounding"


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The kernel with lanes that race where they are not held back, under the thread sanitizer."""
    return ProgramSearch(Kernel(LOOSE, SHAPE, "float64", lanes=3), tmp_path_factory.mktemp("watched"), "-fsanitize=thread")


def test_its_lanes_do_not_race_and_meet_at_the_same_barriers(watched):
    regions = random_regions(LOOSE, 24, seed=3)
    wanted, sure = settled(CpuSearch(LOOSE), regions, LOOSE.most, 1e-3)
    assert same(wanted, answers_of(watched, regions, LOOSE.most), 1e-3)[sure].all()


@pytest.mark.parametrize(("fault", "said"), [("race", "data race"), ("barrier", "lanes wait at different barriers")])
def test_a_race_and_a_barrier_that_not_all_reach_are_seen(fault, said, watched, monkeypatch):
    monkeypatch.setenv("FAULT", fault)
    with pytest.raises(AssertionError, match=said):
        answers_of(watched, random_regions(LOOSE, 1, seed=3), LOOSE.most)


@pytest.mark.parametrize(("shape", "most", "turns"), [((1, 9, 12), 8, 4), ((3, 14, 7), 2, 1), ((7, 11, 11), 1, 3)])
def test_any_shape_number_of_targets_and_of_starts_will_do(shape, most, turns, tmp_path):
    known = STRICT._replace(most=most, turns=turns)
    regions = random_regions(known, 40, seed=5, shape=shape)
    wanted, sure = settled(CpuSearch(known), regions, most, 1e-3)
    got = answers_of(ProgramSearch(Kernel(known, shape, "float64", lanes=1), tmp_path), regions, most)
    assert same(wanted, got, 1e-3)[sure].all()
    assert sure.mean() > 0.5
