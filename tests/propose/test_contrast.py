"""The search by local contrast: points among edges, lines and bright ground, in single images."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream.errors import UsageError
from irst_stream.point_spread import gaussian
from irst_stream.propose.contrast import contrast_map
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings, check_search

SETTINGS = ProposeSettings(sigma_px=0.8, average=1, min_contrast=7.0)
SHAPE = (120, 160)
LEAST_DN = 0.3
PLACES = ((20, 20), (15, 33), (25, 14))


def contrast_of(image):
    return contrast_map(image.astype(np.float32), LEAST_DN)


def by_hand(image, y, x):
    """The definition at one pixel away from the border: over the ring's deviation, and over the root of the brightness."""
    dark, bright = np.percentile(image, (1, 99.9))
    level, over_ring, over_light = np.maximum(image - dark, 0) + 0.02 * (bright - dark), 0.0, 0.0
    away = np.maximum(*np.abs(np.indices(image.shape) - np.array([y, x])[:, None, None]))
    for side, few, many in ((3, 2, 4), (5, 5, 9), (7, 9, 16)):

        def brightest(r, c, count, half=side // 2):
            return np.sort(level[r - half : r + half + 1, c - half : c + half + 1].ravel())[::-1][:count].mean()

        about = max(brightest(y + dr, x + dc, many) for dr in (-side, 0, side) for dc in (-side, 0, side) if dr or dc)
        excess = max(brightest(y, x, few) - about, 0)
        ring = level[(away > side // 2 + 1) & (away <= side + 1)]
        over_ring, over_light = max(over_ring, excess / (ring.std() + LEAST_DN)), max(over_light, excess / about**0.5)
    return over_ring, over_light


def test_contrast_is_what_it_is_said_to_be():
    image = np.random.default_rng(1).uniform(10, 50, (40, 50))
    for y, x in PLACES:
        image[y, x] = 75
    hands = np.array([[by_hand(image, y, x) for x in range(12, 38)] for y in range(12, 28)])
    found = contrast_of(image)[12:28, 12:38]
    expected = hands[..., 0] ** 2 * hands[..., 1]
    share = found**3 / np.where(expected > 0, expected, 1)
    assert ((found > 0) == (expected > 0)).all()
    assert share[expected > 0] == pytest.approx(share.max(), rel=1e-3), "all over one deviation, that of the whole image"


def test_a_target_in_quiet_sky_hardly_fades_where_the_ground_is_louder():
    rng, side = np.random.default_rng(2), 200
    noise, ground = rng.normal(0, 1, (side, side)), np.arange(side) >= side // 2
    target = gaussian(1.0).render(np.array([[50.0, 100.0]]), np.full(1, 150.0), (side, side))
    quiet, loud = (contrast_of(100 + target + noise * np.where(ground, by, 1.5))[100, 50] for by in (10.0, 20.0))
    assert loud > 0.7 * quiet, "only a third of the weight is that of the whole image"


def landscape(seed, amplitude=120.0):
    """Bright ground with bars and an edge below a dark sky, and one target in the sky: image, x, y."""
    rng = np.random.default_rng(seed)
    image = np.full(SHAPE, 30.0)
    image[70:] = 150
    for _ in range(15):
        y, x = rng.integers(74, 115), rng.integers(5, 130)
        image[y : y + 2, x : x + rng.integers(12, 25)] += rng.uniform(20, 60)
    at = rng.uniform((20, 15), (140, 55))
    image += gaussian(0.9).render(at[None], np.full(1, amplitude * 6), SHAPE)
    return np.clip(np.rint(image + rng.normal(0, 2, SHAPE)), 0, 255).astype(np.uint8), at


def test_a_target_in_the_sky_is_found_and_the_ground_is_not():
    found, false = 0, 0
    for seed in range(10):
        image, at = landscape(seed)
        proposer = Proposer(SETTINGS, SHAPE)
        places = proposer.propose(proposer.prepare(image)).centres
        near = np.hypot(*(places - at).T) < 1.0
        found, false = found + near.any(), false + (~near).sum()
    assert found == 10
    assert false <= 2


def test_a_straight_edge_has_no_contrast():
    image = np.full((40, 40), 20.0)
    image[:, 20:] = 90
    assert contrast_of(image).max() == 0


@pytest.mark.parametrize("value", [0, 7, 255, np.nan])
def test_a_blank_image_gives_nothing(value):
    proposer = Proposer(SETTINGS, SHAPE)
    blank = np.full(SHAPE, value, np.float32 if np.isnan(value) else np.uint8)
    assert len(proposer.propose(proposer.prepare(blank)).centres) == 0


def test_bad_pixels_and_excluded_ones_are_no_targets():
    image, at = landscape(3)
    x, y = np.rint(at).astype(int)
    dead = image.astype(np.float32)
    dead[10, 100] = np.nan
    corners = ((x - 9, y - 9), (x + 9, y - 9), (x + 9, y + 9), (x - 9, y + 9))
    for settings, expected in ((SETTINGS, True), (replace(SETTINGS, exclude=(corners,)), False)):
        proposer = Proposer(settings, SHAPE)
        places = proposer.propose(proposer.prepare(dead)).centres
        assert bool((np.hypot(*(places - at).T) < 1).any()) is expected
        assert not (np.hypot(*(places - (100, 10)).T) < 3).any()


def test_it_searches_single_frames_alone():
    with pytest.raises(UsageError, match=r"propose.average: expected 1 with min_contrast, got 3"):
        check_search(replace(SETTINGS, average=3))
