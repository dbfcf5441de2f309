"""The calibration of a sensor: everything measured on its frames, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irst_stream.calibrate.noise import NoiseFigures, measure_noise
from irst_stream.calibrate.psf import PsfFigures, measure_psf
from irst_stream.calibrate.scene import (
    UNKNOWN_PLATFORM,
    PlatformFigures,
    learn_clutter_map,
    measure_platform,
    sampled,
    search_frames,
)
from irst_stream.calibrate.spots import Spots, fit_spots, isolated
from irst_stream.propose.clutter import ClutterMap
from irst_stream.propose.proposer import Proposals
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Floats

__all__ = ["Calibration", "calibrate"]

FIRST_SIGMA_PX = 0.8  # of the matched filter until the PSF is known
MIN_FILTER_PX, MAX_FILTER_PX = 0.5, 1.6  # widths that filters of 7 px can hold
MIN_SNR = 5.0  # real noise has heavier tails than a Gaussian's 4.7 for one false alarm in ten frames
# of a filtered frame whose noise a codec has removed; what it leaves is no noise. Frames of 8 bits of a platform that moves
# do not show whether one has
COMPRESSED_NOISE_DN = 1.0
CLUTTER_FRAMES = 1000
SPOTS_A_FRAME, SPOT_FRAMES = 40, 120
FALSE_ALARMS = 0.1  # a frame
RIM_PX = 9.0  # along each axis: a filter draws a dark rim so far around what is bright
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was measured on frames of shape (H, W).

    frames: how many; unrelated: whether they show different scenes; rate_hz: None if unknown; full_scale: DN, infinite if
    none; psf: None where too few spots were found; propose: settings of the search; spots: those the PSF rests on; counts:
    regions found in each frame; dark_strengths: strengths of the regions in the inverted frames, where no target can be;
    speeds (K,): px a frame, from each region to the nearest one in the next frame; example: one frame, for the report.
    """

    shape: tuple[int, int]
    frames: int
    unrelated: bool
    rate_hz: float | None
    full_scale: float
    noise: NoiseFigures
    platform: PlatformFigures
    clutter: ClutterMap | None
    psf: PsfFigures | None
    propose: ProposeSettings
    spots: Spots
    counts: Floats
    dark_strengths: Floats
    speeds: Floats
    example: NDArray[np.generic]


def calibrate(
    stack: NDArray[np.generic], *, unrelated: bool, rate_hz: float | None, full_scale: float, step: Step = lambda _: None
) -> Calibration:
    """Calibrate from frames (T, H, W), in order; unrelated: of different scenes, each to be searched by itself.

    full_scale: DN at which pixels saturate, infinite if unknown; step: called with the name of each step as it begins.
    """
    shape = (stack.shape[1], stack.shape[2])
    step("noise")
    chosen = sampled(len(stack), stack[0].size)
    noise = measure_noise(_in_order(stack, len(chosen)) if not unrelated else stack[chosen], unrelated=unrelated)
    step("platform")
    single = unrelated or len(stack) < 2
    platform = measure_platform(stack) if not single else UNKNOWN_PLATFORM
    staring = not single and platform.still and len(stack) >= 30
    follows = not single and not platform.still and len(stack) >= 30
    places = platform.places if follows else ()
    settings = ProposeSettings(
        sigma_px=FIRST_SIGMA_PX,
        false_alarms=FALSE_ALARMS,
        most_regions=300 if single else 100,
        average=1 if single else 3,
        min_snr=MIN_SNR,
        min_noise_dn=COMPRESSED_NOISE_DN if noise.compressed or (follows and stack.dtype == np.uint8) else 0.0,
        clutter_frames=CLUTTER_FRAMES if staring or follows else 0,
    )
    step("spots")
    clutter = learn_clutter_map(stack[chosen], settings) if staring else None
    spots = _spots(search_frames(stack, settings, clutter, places), noise, full_scale)
    psf = measure_psf(spots, shape)
    step("false alarms")
    if psf is not None:
        settings = replace(settings, sigma_px=round(float(np.clip(psf.psf.sigma_y, MIN_FILTER_PX, MAX_FILTER_PX)), 3))
    clutter = learn_clutter_map(stack[chosen], settings) if staring else None
    searched = stack[chosen] if single else stack
    bright = search_frames(searched, settings, clutter, places)
    dark = search_frames(_inverted(searched), settings, _inverted_map(clutter), places)
    dark_strengths = settings.min_snr * _not_beside(dark, bright)
    settings = replace(settings, min_snr=_threshold(dark_strengths, len(dark)))
    step("targets")
    found = search_frames(stack, settings, clutter, places)
    counts = np.array([len(p.centres) for _, p, _ in found], np.float64)
    speeds = np.zeros(0) if single else _speeds([p for _, p, _ in found])
    return Calibration(
        shape, len(stack), unrelated, rate_hz, full_scale, noise, platform, clutter, psf, settings, spots, counts,
        dark_strengths, speeds, stack[len(stack) // 2],
    )  # fmt: skip


def _in_order(stack: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    """The middle `count` consecutive frames."""
    first = (len(stack) - count) // 2
    return stack[first : first + count]


def _spots(found: list[tuple[int, Proposals, NDArray[np.float32]]], noise: NoiseFigures, full_scale: float) -> Spots:
    """Point-like spots of some frames, the strongest of each first."""
    candidates = []
    for number, proposals, light in found[:: max(len(found) // SPOT_FRAMES, 1)]:
        alone = np.flatnonzero(isolated(proposals.centres))[:SPOTS_A_FRAME]
        candidates += [(number, proposals.centres[k], light) for k in alone]
    ceiling = min(full_scale, noise.brightest if noise.clipped[1] > 1e-4 else np.inf) - noise.pedestal
    return fit_spots(candidates, 0.95 * ceiling)


def _inverted(stack: NDArray[np.generic]) -> NDArray[np.generic]:
    """The frames with dark and bright exchanged: they have the scene's clutter and noise, and no target."""
    if np.issubdtype(stack.dtype, np.unsignedinteger):
        return np.asarray(np.invert(stack))
    return np.asarray(np.nanmax(stack) - stack.astype(np.float32))


def _inverted_map(clutter: ClutterMap | None) -> ClutterMap | None:
    """The clutter of inverted frames."""
    return None if clutter is None else replace(clutter, mean=-clutter.mean)


def _not_beside(
    dark: list[tuple[int, Proposals, NDArray[np.float32]]], bright: list[tuple[int, Proposals, NDArray[np.float32]]]
) -> Floats:
    """Strengths, falling, of the regions in inverted frames that are not the rim of a brighter one in the frame itself."""
    kept = [np.zeros(0)]
    for (_, one, _), (_, other, _) in zip(dark, bright, strict=True):
        near = np.abs(one.centres[:, None] - other.centres[None]).max(axis=2) < RIM_PX
        rim = (near & (other.strength[None] > one.strength[:, None])).any(axis=1)
        kept.append(one.strength[~rim])
    return np.sort(np.concatenate(kept))[::-1]


def _threshold(strengths: Floats, frames: int) -> float:
    """The strength above which the inverted frames have FALSE_ALARMS regions each, at least MIN_SNR."""
    allowed = int(FALSE_ALARMS * frames)
    return round(max(float(strengths[allowed]) if len(strengths) > allowed else 0.0, MIN_SNR), 2)


def _speeds(found: list[Proposals]) -> Floats:
    """(K,) px a frame: how far the strongest region of each frame is from the nearest region five frames later."""
    reach, speeds = 5, []
    for one, later in zip(found[:-reach], found[reach:], strict=True):
        if len(one.centres) and len(later.centres):
            distance = np.hypot(*(later.centres - one.centres[0]).T).min()
            if distance < 5 * reach:
                speeds.append(float(distance) / reach)
    return np.array(speeds)
