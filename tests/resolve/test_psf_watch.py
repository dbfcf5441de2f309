"""The watch over the PSF: targets of known width, single or in groups, bright or faint, as the fit finds them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from irst_stream.fit.fitter import Fitter
from irst_stream.fit.settings import FitSettings, FormationSettings
from irst_stream.point_spread import gaussian, tabulated
from irst_stream.psf_field import uniform
from irst_stream.resolve.psf_watch import EVERY, MIN_SAMPLES, PsfWatch
from irst_stream.resolve.readouts import FitResolver
from irst_stream.types import Detections, Stamp, Window, at_rest

SIDES = (11, 11)
NOISE = 4.0

SPACING = 0.45, 0.8  # px, of groups, from one group to the next
BLOCK = 25  # samples: then other groups are seen
TRUSTING = FitSettings(amplitude_dn=300.0, amplitude_sd_dn=1000.0, sigma_doubt=0.0, extra_target_odds=0.1, starts=1)
ARMS = np.array([(0.0, -0.307), (0.0, 0.307), (-0.307, 0.0), (0.307, 0.0)])  # px, from their middle


def watched(psf, spread, places=((40.2, 30.3),), amplitude=900.0, windows=EVERY * 2 * MIN_SAMPLES, noise=None):
    """A watch of targets drawn by one PSF and taken for another."""
    rng, watch = np.random.default_rng(5), PsfWatch(uniform(psf))
    for k in range(windows):
        xy = np.array(places) + rng.uniform(-0.5, 0.5, 2)
        corners = np.rint(xy) - 5
        images = amplitude * spread.images(xy - corners, SIDES) + rng.normal(0, NOISE, (len(xy), 3, *SIDES)).swapaxes(0, 1)
        rows = np.arange(len(xy))
        window = Window(
            Stamp("s", 0, k, k), corners, images.swapaxes(0, 1).astype(np.float32), *at_rest(len(xy), 3), rows,
            np.full(len(xy), NOISE) if noise is None else noise, np.full(len(xy), math.inf),
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


def group(rng, number):
    """Places (number, 2) of targets about their middle, px, each with a neighbour at the group's spacing."""
    spacing = rng.uniform(*SPACING)
    xy = np.zeros((1, 2))
    while len(xy) < number:
        angle = rng.uniform(0, 2 * np.pi)
        new = xy[rng.integers(len(xy))] + spacing * np.array([math.cos(angle), math.sin(angle)])
        if np.hypot(*(xy - new).T).min() > 0.99 * spacing:
            xy = np.concatenate([xy, new[None]])
    return xy - xy.mean(axis=0)


def fitted(ratio, numbers, snr, settings=TRUSTING, lights=4, samples=75, draw=group):
    """A watch of groups of these numbers of targets, found by the fit; their PSF is `ratio` times the configured one.

    snr: of the faintest light, the brightest has twice as much; draw: the places of a group's targets.
    """
    rng, spread, rows = np.random.default_rng(3), gaussian(settings.sigma_px * ratio), np.arange(lights)
    sharpness = math.sqrt((gaussian(settings.sigma_px).images(np.array([5.0, 5.0])) ** 2).sum())
    resolver, noise, middles = FitResolver(Fitter(settings)), np.full(lights, NOISE), 40.0 * rows[:, None] + (20.0, 30.0)
    nothing = Detections.bare(Stamp("s", 0, 0, 0), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    for k in range(samples):
        if k % BLOCK == 0:
            groups = [draw(rng, rng.choice(numbers)) for _ in rows]
            light = snr * NOISE / sharpness * rng.uniform(1, 2, lights)
        places = [xy + middle + rng.uniform(-0.5, 0.5, 2) for xy, middle in zip(groups, middles, strict=True)]
        corners = np.array([np.rint(xy.mean(axis=0)) - 5 for xy in places])
        images = [
            spread.render(xy - corner, np.full(len(xy), total / len(xy)), SIDES) + rng.normal(0, NOISE, (5, *SIDES))
            for xy, corner, total in zip(places, corners, light, strict=True)
        ]
        window = Window(Stamp("s", 0, 20 * k, k), corners, np.array(images, np.float32), *at_rest(lights, 5), rows, noise,
                        np.full(lights, math.inf))  # fmt: skip
        for _ in range(EVERY - 1):  # windows of which no sample is due
            resolver.watch.add(window, nothing)
        resolver(window, [])
    return resolver.watch


@pytest.mark.parametrize("ratio", [0.85, 0.9, 1.0, 1.05, 1.1, 1.2])
def test_single_targets_tell_the_width_where_the_fit_splits_them(ratio):
    watch = fitted(ratio, [1], 70.0)
    assert watch.ratio == pytest.approx(ratio, abs=0.02)
    if abs(ratio - 1) > 0.06:
        assert f"{abs(watch.ratio - 1):.0%} {'wider' if ratio > 1 else 'narrower'}" in watch.advice
    elif ratio == 1:
        assert watch.advice == ""


@pytest.mark.parametrize("snr", [15.0, 40.0, 150.0])
@pytest.mark.parametrize("numbers", [[2], [3], [4, 5], [1, 2, 3, 4, 5]])
def test_real_groups_raise_no_advice_where_the_optics_are_right(numbers, snr):
    assert fitted(1.0, numbers, snr).advice == ""


def test_targets_too_faint_to_tell_raise_no_advice():
    for ratio in (0.9, 1.0, 1.1, 1.2):
        assert fitted(ratio, [1], 10.0).advice == ""


def test_a_lone_light_needs_more_than_several_that_agree():
    assert "wider" in fitted(1.1, [1], 150.0, lights=1, samples=100).advice
    assert fitted(1.1, [1], 40.0, lights=1).advice == ""


def test_groups_that_fly_a_known_formation_are_no_single_targets_of_a_wider_psf():
    known = replace(TRUSTING, formation=FormationSettings(tuple(map(tuple, ARMS))), spread_px=(0.2, 0.5))
    assert fitted(1.0, [4], 40.0, known, draw=lambda *_: ARMS).advice == ""


def test_sensors_that_tell_no_noise_are_watched_too():
    quiet = np.full(2, math.nan)
    watch = watched(gaussian(0.5), gaussian(0.55), places=((20.0, 30.0), (80.0, 30.0)), noise=quiet)
    assert "10% wider" in watch.advice
