"""The watch over the PSF: targets of known width, single or not, bright or faint."""

from __future__ import annotations

import math

import numpy as np
import pytest

from irst_stream.point_spread import gaussian, tabulated
from irst_stream.psf_field import uniform
from irst_stream.resolve.psf_watch import EVERY, MIN_SAMPLES, PsfWatch
from irst_stream.types import Detections, Stamp, Window, at_rest

SIDES = (11, 11)
NOISE = 4.0


def watched(psf, spread, places=((40.2, 30.3),), amplitude=900.0, windows=EVERY * 2 * MIN_SAMPLES):
    """A watch of targets drawn by one PSF and taken for another."""
    rng, watch = np.random.default_rng(5), PsfWatch(uniform(psf))
    for k in range(windows):
        xy = np.array(places) + rng.uniform(-0.5, 0.5, 2)
        corners = np.rint(xy) - 5
        images = amplitude * spread.images(xy - corners, SIDES) + rng.normal(0, NOISE, (len(xy), 3, *SIDES)).swapaxes(0, 1)
        rows = np.arange(len(xy))
        window = Window(
            Stamp("s", 0, k, k), corners, images.swapaxes(0, 1).astype(np.float32), *at_rest(len(xy), 3), rows,
            np.full(len(xy), NOISE), np.full(len(xy), math.inf),
        )  # fmt: skip
        found = Detections(window.stamp, xy, np.tile(np.eye(2), (len(xy), 1, 1)), np.full(len(xy), amplitude),
                           np.ones(len(xy)), np.ones(len(xy)), rows)  # fmt: skip
        watch.add(window, found)
    return watch


@pytest.mark.parametrize("ratio", [0.9, 0.95, 1.0, 1.08, 1.15])
def test_it_measures_the_width_of_single_bright_targets(ratio):
    watch = watched(gaussian(0.55), gaussian(0.55 * ratio))
    assert watch.ratio == pytest.approx(ratio, abs=0.015)


def test_it_advises_only_where_the_psf_is_off_and_says_by_how_much():
    assert watched(gaussian(0.5), gaussian(0.5)).advice == ""
    assert watched(gaussian(0.5), gaussian(0.51)).advice == "", "2 % are no matter"
    wider = watched(gaussian(0.5), gaussian(0.55)).advice
    assert "10% wider" in wider
    assert "irst-stream calibrate" in wider
    assert "narrower" in watched(gaussian(0.5), gaussian(0.45)).advice


def test_it_measures_against_a_table_as_well():
    nodes = (np.arange(-40, 41)) / 8
    shape = gaussian(0.8).images(np.array([[50.0, 50.0]]), (101, 101))[0]
    assert shape.sum() == pytest.approx(1, abs=1e-6)
    table = tabulated(np.exp(-0.5 * (nodes[:, None] ** 2 + nodes**2) / (0.8**2 + 1 / 12)), 8)
    assert watched(table, table.scaled(1.1)).ratio == pytest.approx(1.1, abs=0.02)


def test_neighbours_and_faint_targets_are_left_out():
    assert math.isnan(watched(gaussian(0.5), gaussian(0.55), places=((40.0, 30.0), (45.0, 30.0))).ratio)
    assert math.isnan(watched(gaussian(0.5), gaussian(0.55), amplitude=60.0).ratio)
    assert math.isnan(watched(gaussian(0.5), gaussian(0.55), windows=EVERY * (MIN_SAMPLES - 1)).ratio)
    assert PsfWatch(uniform(gaussian(0.5))).advice == ""
