"""Images of targets on a straight course, and their fit."""

import numpy as np

from irst_stream import Stamp
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.settings import FitSettings
from irst_stream.optics import render
from irst_stream.resolve.readouts import FitResolver
from irst_stream.types import Window, at_rest

TIMES = np.arange(5.0) - 2
STAMP = Stamp("a", 0, 2, 0)
UNKNOWN_BRIGHTNESS = {
    "amplitude_dn": 150.0,
    "amplitude_sd_dn": 100.0,
    "speed_px": 0.3,
    "own_speed_px": 0.005,
    "starts": 1,
    "extra_target_odds": 0.1,
}


def fit(**settings):
    """A fit of whole windows, without a network."""
    resolve = FitResolver(Fitter(FitSettings(**settings)))
    return lambda window: resolve(window, [])


def window(patches, corner=(0.0, 0.0), full_scale=65535.0):
    return regions(np.asarray(patches, np.float32)[None], [corner], full_scale)


def regions(patches, corners, full_scale=65535.0):
    n, frames = patches.shape[:2]
    region, unknown = np.arange(n), np.full(n, np.nan)
    corners = np.array(corners, float).reshape(n, 2)
    return Window(STAMP, corners, patches, *at_rest(n, frames), region, unknown, np.full(n, full_scale))


def images(xy, velocity, amplitude, noise=0.0, seed=0, depth=True):
    """Five frames of targets (K, 2) that share a velocity; depth: as from a 16-bit sensor without pedestal."""
    moving = np.asarray(xy)[None] + TIMES[:, None, None] * np.asarray(velocity)
    clean = render(moving, np.tile(amplitude, (5, 1)))
    noisy = clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)
    return np.rint(np.clip(noisy, 0, 65535)) if depth else noisy


def match(found, xy):
    """Indices of the found targets in the order of the true ones."""
    order = np.linalg.norm(found.xy[None] - np.asarray(xy)[:, None], axis=-1).argmin(1)
    assert sorted(order) == list(range(len(xy)))
    return order
