"""What the spots of a sensor tell of its PSF over the field, and where they cannot tell it."""

import math

import numpy as np
import pytest

from irst_stream.calibrate.psf import measure_psf
from irst_stream.calibrate.spots import RADIUS_PX, SIDE, Spots
from irst_stream.point_spread import gaussian

SHAPE = (200, 300)
MIDDLE = (np.array(SHAPE[::-1]) - 1) / 2


def spots_at(place, sigma, scatter=0.04):
    """Noiseless spots at places (K, 2) px, their widths (K,) px measured with a relative scatter."""
    rng = np.random.default_rng(1)
    count = len(place)
    xy = np.full((count, 2), float(RADIUS_PX))
    patches = np.concatenate([gaussian(s).images(p[None], (SIDE, SIDE)) for s, p in zip(sigma, xy, strict=True)])
    measured = (sigma * rng.normal(1, scatter, count)) ** 2
    axes = np.stack([measured, np.zeros(count), measured], axis=1)
    ones = np.ones(count)
    rim = patches.max(axis=(1, 2)) / 20
    return Spots(patches, xy, place, np.arange(count), ones, axes, rim, 0 * ones, {})


def over_field(place, change, **more):
    """What is found of a width that changes linearly with the radius, by this share at the border."""
    radius = np.hypot(*((place - MIDDLE) / MIDDLE).T)
    return measure_psf(spots_at(place, 0.8 * (1 + change * radius), **more), SHAPE).over_field


def everywhere(count=120):
    return np.random.default_rng(0).uniform(8, np.array(SHAPE[::-1]) - 8, (count, 2))


@pytest.mark.parametrize("change", [-0.2, 0.25])
def test_a_width_that_changes_over_the_field_is_found(change):
    at_half = 1 + change * 0.75  # about the median spot's width, to which the change is related
    assert over_field(everywhere(), change) == pytest.approx(change / at_half, rel=0.3)


def test_what_the_spots_cannot_tell_is_not_said():
    assert math.isnan(over_field(everywhere(), 0.0))
    assert math.isnan(over_field(everywhere(24), 0.1, scatter=0.15))
    track = np.linspace((100, 80), (130, 85), 152)
    assert math.isnan(over_field(np.concatenate([track, [[280, 180]]]), 0.3))
    hovering = np.concatenate([track, np.linspace((280, 180), (284, 180), 60)])
    assert math.isnan(over_field(hovering, 0.3))
    outwards = np.linspace(MIDDLE, (290, 105), 150)  # of a target that may as well grow as it comes nearer
    assert math.isnan(over_field(outwards, 0.3))
