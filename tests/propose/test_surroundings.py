"""Peaks that stand out from all their surroundings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from irst_stream.optics import render
from irst_stream.propose.compiled import heights_above_surroundings
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings

SHAPE = (64, 80)
HERE = np.array([32 * SHAPE[1] + 40])


def height(light: np.ndarray, sign: float = 1.0) -> float:
    """How far the peak in the middle of light stands out."""
    return float(heights_above_surroundings(light.astype(np.float32), HERE, sign)[0])


def test_a_point_stands_out_and_an_edge_or_a_line_does_not():
    row, column = np.indices(SHAPE)
    assert height(render(np.array([[40.0, 32.0]]), np.array([500.0]), SHAPE)) > 0.95
    assert height(np.where(column >= 40, 100.0, 0.0)) < 0.05, "a vertical edge"
    assert height(np.where(row + column == 72, 100.0, 0.0)) < 0.05, "a slanting line"
    assert height(-np.where(column == 40, 100.0, 0.0), -1.0) < 0.05, "a dark line"
    assert height(np.zeros(SHAPE)) == 0.0


def test_a_neighbour_and_the_frame_border_do_not_hide_a_point():
    pair = render(np.array([[40.0, 32.0], [44.0, 32.0]]), np.array([500.0, 500.0]), SHAPE)
    assert height(pair) > 0.6
    corner = render(np.array([[0.0, 0.0]]), np.array([500.0]), SHAPE).astype(np.float32)
    assert heights_above_surroundings(corner, np.array([0]), 1.0)[0] > 0.9


def test_a_line_raises_no_region_and_a_point_beside_it_does():
    rng = np.random.default_rng(3)
    light = render(np.array([[20.0, 20.0]]), np.array([900.0]), SHAPE)
    light[50] += 200.0
    frame = np.clip(np.rint(1000 + light + rng.normal(0, 5, SHAPE)), 0, 65535).astype(np.uint16)
    found = []
    for least in (0.0, 0.6):
        proposer = Proposer(replace(ProposeSettings(false_alarms=0.02, min_snr=5.0), min_height=least), SHAPE)
        found.append(proposer.propose(proposer.prepare(frame)).centres)
    assert len(found[0]) > 3, "a bright line raises regions"
    np.testing.assert_allclose(found[1], [[20, 20]], atol=1)
