"""The source of the GPU's search, run on the CPU: its answers are those of the CPU's search, its lanes do not race."""

import numpy as np
import pytest
from kernel_on_cpu import ProgramSearch
from searched import LOOSE, SHAPE, STRICT, answers_of, later, random_regions, same, settled

from irst_stream.resolve.kernel import Kernel
from irst_stream.resolve.search import CpuSearch


@pytest.mark.parametrize(("precision", "within", "least"), [("float64", 1e-3, 1.0), ("float32", 0.03, 0.98)])
@pytest.mark.parametrize("known", [STRICT, LOOSE], ids=["strict", "loose"])
def test_it_answers_as_the_search_of_the_cpu_does(known, precision, within, least, tmp_path):
    cpu, program = CpuSearch(known), ProgramSearch(Kernel(known, SHAPE, precision, lanes=1), tmp_path)
    first = random_regions(known, 150, seed=1)
    for regions in (first, later(first, answers_of(cpu, first, known.most))):
        wanted, sure = settled(cpu, regions, known.most, within)
        agree, lit = same(wanted, answers_of(program, regions, known.most), within), np.arange(150) % (known.most + 1) > 0
        assert sure[lit].mean() > 0.8
        assert agree[sure & lit].mean() >= least
        assert agree[sure].mean() > 0.95, "where there is no light, what is found of it hangs on more than rounding"


@pytest.mark.parametrize("lanes", [3, 4])
def test_its_lanes_do_not_race_and_meet_at_the_same_barriers(lanes, tmp_path):
    kernel = Kernel(LOOSE, SHAPE, "float64", lanes)
    raced = ProgramSearch(kernel, tmp_path, "-fsanitize=thread")
    first = random_regions(LOOSE, 12, seed=3)
    wanted, sure = settled(CpuSearch(LOOSE), first, LOOSE.most, 1e-3)
    assert same(wanted, answers_of(raced, first, LOOSE.most), 1e-3)[sure].all()


def test_a_race_or_a_barrier_that_not_all_reach_would_be_seen(tmp_path):
    regions, kernel = random_regions(LOOSE, 1, seed=3), Kernel(LOOSE, SHAPE, "float64", lanes=2)
    for faulty in ("work->partial[0] = R(0.0)", "barrier(LANE)"):
        search = ProgramSearch(kernel, tmp_path, "-fsanitize=thread", f"-DFAULT={faulty}")
        with pytest.raises(AssertionError, match=r"data race|different barriers"):
            answers_of(search, regions, LOOSE.most)


@pytest.mark.parametrize(("shape", "most", "turns"), [((1, 9, 12), 8, 4), ((3, 14, 7), 2, 1), ((7, 11, 11), 1, 3)])
def test_any_shape_number_of_targets_and_of_starts_will_do(shape, most, turns, tmp_path):
    known = STRICT._replace(most=most, turns=turns)
    regions = random_regions(known, 40, seed=5, shape=shape)
    wanted, sure = settled(CpuSearch(known), regions, most, 1e-3)
    got = answers_of(ProgramSearch(Kernel(known, shape, "float64", lanes=1), tmp_path), regions, most)
    assert same(wanted, got, 1e-3)[sure].all()
    assert sure.mean() > 0.5
