"""Which of two answers is taken."""

import numpy as np

from irst_stream.resolve.choose import choose
from irst_stream.resolve.found import NOTHING_FOUND, Found


def found(targets, sd, probability=0.999):
    return Found.alone(
        np.zeros((targets, 2)),
        np.tile(np.eye(2) * sd**2, (targets, 1, 1)),
        np.full(targets, 235.0),
        np.full(targets, 8.0),
        np.full(targets, probability),
    )


def test_the_surer_place_wins():
    network, fit = found(3, 0.03), found(3, 0.01)
    assert choose(network, fit) is fit
    assert choose(fit, network) is fit
    near = found(3, 0.02)
    assert choose(network, near) is network, "the fit must be surer by far"


def test_a_fit_that_has_rivals_loses():
    network = found(3, 0.03)
    assert choose(network, found(3, 0.01, probability=0.5)) is network


def test_different_numbers_are_decided_by_how_likely_each_is():
    network, fit = found(3, 0.01, 0.6), found(2, 0.1)
    assert choose(network, fit) is fit
    assert choose(found(3, 0.1), found(2, 0.01, 0.3)).xy.shape == (3, 2)


def test_nothing_against_something():
    assert choose(NOTHING_FOUND, found(1, 0.1)).xy.shape == (1, 2)
    assert choose(found(1, 0.1), NOTHING_FOUND).xy.shape == (1, 2)
    assert choose(NOTHING_FOUND, NOTHING_FOUND) is NOTHING_FOUND
