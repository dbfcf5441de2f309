"""The calibration of a sensor from images of different scenes, each searched by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from irst_stream.calibrate.calibration import (
    COMPRESSED_NOISE_DN,
    FALSE_ALARMS,
    FIRST_SIGMA_PX,
    MIN_SNR,
    Calibration,
    Found,
    Step,
    filter_psf,
    find_spots,
    inverted,
    threshold_for,
    without_rims,
)
from irst_stream.calibrate.conditioned import AS_RECEIVED, Conditioned
from irst_stream.calibrate.graphics import Graphics
from irst_stream.calibrate.noise import measure_image_noise
from irst_stream.calibrate.psf import measure_psf
from irst_stream.calibrate.scene import UNKNOWN_PLATFORM, companions, search_frames
from irst_stream.calibrate.spots import Spots
from irst_stream.point_spread import PointSpread
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Floats, Pixels

__all__ = ["CONTRAST_ALARMS", "MAX_CONTRAST", "MIN_CONTRAST", "MIN_IMAGES", "TYPICAL_CONTRAST", "calibrate_images"]

MOST_REGIONS = 5000  # of an image: stars may fill it
POINT_SHARE = 0.7  # of what stands out: fewer points mean clutter
MIN_CONTRAST, TYPICAL_CONTRAST, MAX_CONTRAST = 6.0, 7.0, 8.0  # that is asked: dips tell peaks within a factor of two only
CONTRAST_ALARMS = 0.4  # regions that an inverted image may raise; of false ones in images the fit drops some
MIN_IMAGES = 20  # fewer do not show what a folder's clutter raises


def calibrate_images(
    images: Sequence[Pixels],
    *,
    full_scale: float,
    conditioned: Conditioned = AS_RECEIVED,
    step: Step = lambda _: None,
) -> Calibration:
    """Calibrate from images (H, W) of any sizes.

    full_scale: DN at which pixels saturate, infinite if unknown; conditioned: what was done to the images before; step:
    called with the name of each step as it begins.
    """
    step("noise")
    step_dn = conditioned.step_dn
    noise = measure_image_noise(images)
    settings = ProposeSettings(
        sigma_px=FIRST_SIGMA_PX,
        false_alarms=FALSE_ALARMS,
        most_regions=MOST_REGIONS,
        average=1,
        min_snr=MIN_SNR,
        min_noise_dn=COMPRESSED_NOISE_DN if (conditioned.pixel_type or images[0].dtype) == np.uint8 else 0.0,
    )
    step("spots")
    spots = find_spots(_search(images, settings, None, step_dn), noise, full_scale)
    shapes = np.array([image.shape for image in images])
    shape = int(np.median(shapes[:, 0])), int(np.median(shapes[:, 1]))
    psf = measure_psf(spots, shape, one_field=bool((shapes == shapes[0]).all()))
    shaped = None if psf is None else filter_psf(psf, smeared=noise.compressed)
    if shaped is not None:
        settings = replace(settings, sigma_px=round(shaped.sigma, 3), psf_shaped=not noise.compressed)
    step("false alarms")
    strengths, dark_strengths = _strengths(images, settings, shaped, step_dn)
    settings = replace(settings, min_snr=threshold_for(dark_strengths, len(images)))
    if _is_cluttered(spots):
        settings = replace(settings, min_contrast=_contrast_threshold(images, settings, shaped, step_dn))
    step("targets")
    found = [proposals for _, proposals, _ in _search(images, settings, shaped, step_dn)]
    return Calibration(
        shape=shape,
        frames=len(images),
        unrelated=True,
        rate_hz=None,
        full_scale=full_scale,
        graphics=Graphics(np.zeros(images[len(images) // 2].shape, np.bool_), ()),
        noise=noise,
        platform=UNKNOWN_PLATFORM,
        clutter=None,
        psf=psf,
        propose=settings,
        spots=spots,
        counts=np.array([len(p.centres) for p in found], np.float64),
        places=np.concatenate([p.centres for p in found]),
        companions=np.concatenate([companions(p.centres) for p in found]),
        strengths=strengths,
        dark_strengths=dark_strengths,
        speeds=np.zeros(0),
        example=images[len(images) // 2],
        conditioned=conditioned,
    )


def _strengths(
    images: Sequence[Pixels], settings: ProposeSettings, psf: PointSpread | None, step_dn: float | None
) -> tuple[Floats, Floats]:
    """Return the strengths (K,) of all regions of the images, the strongest first, and those of the inverted images."""
    dark = _search([inverted(image) for image in images], settings, psf, step_dn)
    bright = _search(images, settings, psf, step_dn)
    strengths = np.sort(np.concatenate([proposals.strength for _, proposals, _ in bright]))[::-1]
    return settings.min_snr * strengths, settings.min_snr * without_rims(dark, bright)


def _contrast_threshold(
    images: Sequence[Pixels], settings: ProposeSettings, psf: PointSpread | None, step_dn: float | None
) -> float:
    """Return the contrast above which the inverted images have CONTRAST_ALARMS regions each, within what is asked."""
    if len(images) < MIN_IMAGES:
        return TYPICAL_CONTRAST
    settings = replace(settings, min_contrast=MIN_CONTRAST)
    dark = _search([inverted(image) for image in images], settings, psf, step_dn)
    strengths = MIN_CONTRAST * np.sort(np.concatenate([proposals.strength for _, proposals, _ in dark]))[::-1]
    allowed = int(CONTRAST_ALARMS * len(images))
    return round(min(float(strengths[allowed]), MAX_CONTRAST), 2) if len(strengths) > allowed else MIN_CONTRAST


def _is_cluttered(spots: Spots) -> bool:
    """Tell whether much of what stands out alone is no point source."""
    seen = len(spots) + sum(spots.rejected[reason] for reason in ("faint", "extended", "not alone"))
    return len(spots) < POINT_SHARE * seen


def _search(images: Sequence[Pixels], settings: ProposeSettings, psf: PointSpread | None, step_dn: float | None) -> Found:
    """Search each image by itself; psf: of the filters, see Proposer; step_dn: see Frame."""
    found: Found = []
    for number, image in enumerate(images):
        each, _ = search_frames(image[None], settings, None, psf=psf, step_dn=step_dn)
        found += [(number, proposals, light) for _, proposals, light in each]
    return found
