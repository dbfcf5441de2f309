"""The choice between the network's targets and the fit's."""

import numpy as np

from irst_stream.fit.region_targets import NO_TARGETS, RegionTargets
from irst_stream.resolve.choose import choose


def found(targets, probability=0.999, explained=1.0):
    return RegionTargets.alone(
        np.zeros((targets, 2)),
        np.tile(np.eye(2) * 0.01**2, (targets, 1, 1)),
        np.full(targets, 235.0),
        np.full(targets, 8.0),
        np.full(targets, probability),
    )._replace(explained=np.full(targets, explained))


def test_a_fit_that_explains_the_light_is_taken_however_sure_the_network_is():
    network, fit = found(3, 0.999), found(2, 0.3)
    assert choose(network, fit) is fit
    assert choose(NO_TARGETS, fit) is fit


def test_a_fit_without_targets_overrules_the_network():
    assert choose(found(3), NO_TARGETS) is NO_TARGETS


def test_where_the_fit_explains_the_light_badly_the_larger_score_wins():
    network, fit = found(3, 0.9), found(4, 0.2, explained=0.3)
    assert choose(network, fit) is network
    assert choose(found(1, 0.1), fit) is fit
    assert choose(NO_TARGETS, fit) is fit
