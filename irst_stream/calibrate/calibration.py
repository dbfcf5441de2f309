"""The calibration of a sensor: everything measured on its frames, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_stream.calibrate.conditioned import AS_RECEIVED, Conditioned
from irst_stream.calibrate.graphics import Graphics, find_graphics
from irst_stream.calibrate.lines import choose_lines, remove_lines
from irst_stream.calibrate.noise import NoiseFigures, measure_noise
from irst_stream.calibrate.pattern import (
    follow_pattern,
    learn_pattern,
    no_pattern,
    remove_pattern,
    with_bad_pixels,
)
from irst_stream.calibrate.psf import PsfFigures, measure_psf
from irst_stream.calibrate.scene import (
    GROUP_PX,
    MIN_CLUTTER_FRAMES,
    PlatformFigures,
    companions,
    frames_of_first_view,
    learn_clutter_map,
    measure_platform,
    platform_of,
    sampled,
    search_frames,
)
from irst_stream.calibrate.spots import Spots, fit_spots, isolated
from irst_stream.point_spread import PointSpread, gaussian
from irst_stream.propose.clutter import LEARNT_FRAMES, ClutterMap
from irst_stream.propose.mask import Excluded
from irst_stream.propose.proposer import Proposals
from irst_stream.propose.settings import ProposeSettings
from irst_stream.propose.transients import TransientCounts
from irst_stream.types import Floats, Ints, Pose

__all__ = [
    "CLUTTER_FRAMES",
    "COMPRESSED_NOISE_DN",
    "FALSE_ALARMS",
    "FIRST_SIGMA_PX",
    "MIN_CLUTTER_FRAMES",
    "MIN_SNR",
    "Calibration",
    "Found",
    "Step",
    "calibrate",
    "filter_psf",
    "find_spots",
    "inverted",
    "threshold_for",
    "without_rims",
]

FIRST_SIGMA_PX = 0.8  # of the matched filter until the PSF is known
MIN_FILTER_PX, MAX_FILTER_PX = 0.5, 1.6  # widths that filters of 7 px can hold
MIN_SNR = 5.0  # real noise has heavier tails than a Gaussian's 4.7 for one false alarm in ten frames
# of a filtered frame whose noise a codec has removed; what it leaves is no noise. Frames of 8 bits of a platform that moves
# do not show whether one has
COMPRESSED_NOISE_DN = 1.0
CLUTTER_FRAMES = 1000
SPOT_FRAMES, MAX_SPOTS = 120, 600
MOST_REGIONS = 100  # of a frame
FALSE_ALARMS = 0.1  # a frame
MOST_FALSE_ALARMS = 100.0  # a frame: more than dips ever show, so that min_snr alone is the threshold
MIN_UNKNOWN_SHARE = 0.25  # of the clutter: with less unknown, it hardly tells what all of it would ask for
RIM_PX = 9.0  # along each axis: a filter draws a dark rim so far around what is bright
Step = Callable[[str], None]
Found = list[tuple[int, Proposals, NDArray[np.float32]]]  # number of a frame, its regions, its light (H, W) DN


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was measured on frames of shape (H, W).

    frames: how many; unrelated: whether they show different scenes; rate_hz: None if unknown; full_scale: DN, infinite if
    none; graphics: what is drawn into the frames, which all else leaves out; psf: None where too few spots were found;
    propose: settings of the search; spots: those the PSF rests on; counts: regions found in each frame; places (N, 2): x, y
    px of all of them; companions (N,): how many others of its frame are near each; strengths, dark_strengths: falling, of
    regions in the frames, and in inverted frames, where no target can be; speeds (K,): px a frame, from each region to the
    nearest one in the next frame; example: one frame, for the report; conditioned: what was done to the frames before.
    """

    shape: tuple[int, int]
    frames: int
    unrelated: bool
    rate_hz: float | None
    full_scale: float
    graphics: Graphics
    noise: NoiseFigures
    platform: PlatformFigures
    clutter: ClutterMap | None
    psf: PsfFigures | None
    propose: ProposeSettings
    spots: Spots
    counts: Floats
    places: Floats
    companions: Floats
    strengths: Floats
    dark_strengths: Floats
    speeds: Floats
    example: NDArray[np.generic]
    conditioned: Conditioned = AS_RECEIVED


def calibrate(
    stack: NDArray[np.generic],
    *,
    rate_hz: float | None,
    full_scale: float,
    conditioned: Conditioned = AS_RECEIVED,
    step: Step = lambda _: None,
) -> Calibration:
    """Calibrate from frames (T, H, W), in order; see images.py for images of different scenes.

    full_scale: DN, infinite if unknown; conditioned: what was done before; step: called with the name of each that begins.
    """
    shape = (stack.shape[1], stack.shape[2])
    step("graphics")
    graphics = find_graphics(stack)
    excluded = graphics.excluded if graphics.found else None
    step("noise")
    chosen = sampled(len(stack), stack[0].size)
    noise = measure_noise(_in_order(stack, len(chosen)), excluded)
    step("platform")
    platform = platform_of(conditioned.poses) if conditioned.poses else measure_platform(stack, excluded)
    received = stack
    stack, conditioned = _corrected(received, conditioned, platform, noise, full_scale, excluded)
    if stack is not received:
        noise = measure_noise(_in_order(stack, len(chosen)), excluded)
        platform = platform if conditioned.poses else measure_platform(stack, excluded)
    footage = _footage(stack, platform, chosen, excluded, conditioned.step_dn)
    eight_bits = (conditioned.pixel_type or stack.dtype) == np.uint8
    settings = ProposeSettings(
        sigma_px=FIRST_SIGMA_PX,
        false_alarms=FALSE_ALARMS,
        most_regions=MOST_REGIONS,
        average=3,
        min_snr=MIN_SNR,
        min_noise_dn=COMPRESSED_NOISE_DN if noise.compressed or (footage.path and eight_bits) else 0.0,
        clutter_frames=CLUTTER_FRAMES if len(stack) >= MIN_CLUTTER_FRAMES else 0,
    )
    step("spots")
    spots = find_spots(footage.search(settings, footage.learn_clutter(settings))[0], noise, full_scale)
    psf = measure_psf(spots, shape)
    step("false alarms")
    shaped = None if psf is None else filter_psf(psf, smeared=noise.compressed)
    if shaped is not None:
        settings = replace(settings, sigma_px=round(shaped.sigma, 3), psf_shaped=not noise.compressed)
    clutter = footage.learn_clutter(settings, shaped)
    settings = replace(settings, unknown_snr=_unknown_threshold(footage, settings, clutter, shaped))
    bright, _ = footage.search(settings, clutter, shaped)
    dark, _ = footage.inverted().search(settings, _inverted_map(clutter), shaped)
    dark_strengths = settings.min_snr * without_rims(dark, bright)
    settings = replace(settings, min_snr=threshold_for(dark_strengths, len(dark)))
    step("targets")
    found, transients = footage.search(settings, clutter, shaped)
    clutter = None if clutter is None else replace(clutter, transients=transients)
    return Calibration(
        shape, len(stack), False, rate_hz, full_scale, graphics, noise, platform, clutter, psf, settings, spots,
        *_targets_of(found, bright), dark_strengths, _speeds([p for _, p, _ in found]), stack[len(stack) // 2], conditioned,
    )  # fmt: skip


class _Footage(NamedTuple):
    """Frames to search, and what is known of them.

    stack (T, H, W): the frames; seeing (N,): numbers of the frames from which the static clutter is learnt, empty if it is
    not; path: each frame's pose, empty for a platform at rest; excluded (H, W): pixels that are not searched, None for
    none; step_dn: see Frame.
    """

    stack: NDArray[np.generic]
    seeing: Ints
    path: tuple[Pose | None, ...]
    excluded: Excluded | None
    step_dn: float | None

    def learn_clutter(self, settings: ProposeSettings, psf: PointSpread | None = None) -> ClutterMap | None:
        """Return the static clutter of the first frame's view, None where the frames do not tell it."""
        if not len(self.seeing):
            return None
        return learn_clutter_map(self.stack, self.seeing, settings, self.excluded, psf, self.step_dn, self.path)

    def search(
        self,
        settings: ProposeSettings,
        clutter: ClutterMap | None,
        psf: PointSpread | None = None,
        *,
        from_start: bool = False,
    ) -> tuple[Found, TransientCounts | None]:
        """See search_frames."""
        given = self.excluded, self.path, psf, self.step_dn
        return search_frames(self.stack, settings, clutter, *given, from_start=from_start)

    def inverted(self) -> _Footage:
        """The same with dark and bright exchanged."""
        return self._replace(stack=inverted(self.stack))


def _footage(
    stack: NDArray[np.generic], platform: PlatformFigures, chosen: Ints, excluded: Excluded | None, step_dn: float | None
) -> _Footage:
    """Return frames (T, H, W) as they are searched; chosen (N,): numbers of those from which a still platform learns."""
    if len(stack) < MIN_CLUTTER_FRAMES:
        return _Footage(stack, chosen[:0], (), excluded, step_dn)
    if platform.still:
        return _Footage(stack, chosen, (), excluded, step_dn)
    return _Footage(stack, frames_of_first_view(stack, platform.path), platform.path, excluded, step_dn)


def _unknown_threshold(
    footage: _Footage, settings: ProposeSettings, clutter: ClutterMap | None, psf: PointSpread | None
) -> float:
    """Return unknown_snr of the search: what the first frames ask of those who do not know their clutter; 0 for no more.

    Targets are found with the clutter known as well as without; what only the latter find is clutter.
    """
    if clutter is None:
        return 0.0
    begin = footage._replace(stack=footage.stack[:LEARNT_FRAMES], path=footage.path[:LEARNT_FRAMES])
    plain = replace(settings, false_alarms=MOST_FALSE_ALARMS)
    known, unknown = (begin.search(plain, learnt, psf, from_start=True)[0] for learnt in (clutter, None))
    asked = [np.zeros(0)]
    for (number, found, _), (_, true, _) in zip(unknown, known, strict=True):
        share = 1 - number / LEARNT_FRAMES
        if share >= MIN_UNKNOWN_SHARE:
            false = (np.abs(found.centres[:, None] - true.centres).max(axis=2, initial=0) >= GROUP_PX).all(axis=1)
            asked.append(MIN_SNR + MIN_SNR * (found.strength[false] - 1) / share)
    return threshold_for(np.sort(np.concatenate(asked))[::-1], len(asked) - 1)


def _targets_of(found: Found, bright: Found) -> tuple[Floats, Floats, Floats, Floats]:
    """The counts, places, companions and strengths of a Calibration; bright: regions by the lowest threshold."""
    counts = np.array([len(p.centres) for _, p, _ in found], np.float64)
    places = np.concatenate([np.zeros((0, 2)), *(p.centres for _, p, _ in found)])
    neighbours = np.concatenate([np.zeros(0), *(companions(p.centres) for _, p, _ in found)])
    strengths = MIN_SNR * np.sort(np.concatenate([np.zeros(0), *(p.strength for _, p, _ in bright)]))[::-1]
    return counts, places, neighbours, strengths


def _corrected(
    stack: NDArray[np.generic],
    conditioned: Conditioned,
    platform: PlatformFigures,
    noise: NoiseFigures,
    full_scale: float,
    excluded: Excluded | None,
) -> tuple[NDArray[np.generic], Conditioned]:
    """Return frames (T, H, W) without the line noise and the pattern that they tell, and what was done; corrected ones as
    they are.
    """
    if conditioned.corrects or len(stack) < MIN_CLUTTER_FRAMES:
        return stack, conditioned
    settings, received = ProposeSettings(FIRST_SIGMA_PX), stack.dtype
    lines = choose_lines(stack, noise, settings, excluded)
    if lines != "off":
        stack, conditioned = remove_lines(stack, lines, full_scale), conditioned.by_lines(lines, received, noise)
    if platform.still:
        return stack, conditioned
    left_out = np.zeros(stack.shape[1:], np.bool_) if excluded is None else excluded.copy()
    left_out[noise.bad[:, 1], noise.bad[:, 0]] = True
    table = learn_pattern(stack, platform.path, settings, left_out, conditioned.step_dn)
    if table is not None or len(noise.bad):
        table = with_bad_pixels(table or no_pattern(stack), noise.bad)
        conditioned = conditioned.by_pattern(table, received, noise.fixed)
    followed = follow_pattern(stack, platform.path, settings, table, full_scale, left_out, conditioned.step_dn)
    if followed is not None:
        return followed[0], conditioned.by_following(followed[1], received)
    return stack if table is None else remove_pattern(stack, table, full_scale), conditioned


def _in_order(stack: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    """The middle `count` consecutive frames."""
    first = (len(stack) - count) // 2
    return stack[first : first + count]


def filter_psf(psf: PsfFigures, *, smeared: bool) -> PointSpread:
    """Return the PSF of the matched filter: the sensor's, of a width that the filter has room for.

    smeared: by a codec, which draws spots out along their motion, and leaves traces about them: then round, and as wide as
    all of a spot's light is across.
    """
    if smeared:
        return gaussian(round(float(np.clip(psf.psf.whole_sigmas[1], MIN_FILTER_PX, MAX_FILTER_PX)), 3))
    return psf.psf.with_width(float(np.clip(psf.psf.sigma, MIN_FILTER_PX, MAX_FILTER_PX)))


def find_spots(found: Found, noise: NoiseFigures, full_scale: float) -> Spots:
    """Find the point-like spots of some frames, the strongest of each first."""
    candidates, frames = [], found[:: max(len(found) // SPOT_FRAMES, 1)]
    for number, proposals, light in frames:
        alone = np.flatnonzero(isolated(proposals.centres))[: max(2 * MAX_SPOTS // len(frames), 40)]
        candidates += [(number, proposals.centres[k], light) for k in alone]
    ceiling = min(full_scale, noise.brightest if noise.clipped[1] > 1e-4 else np.inf) - noise.pedestal
    return fit_spots(candidates, 0.95 * ceiling, MAX_SPOTS)


def inverted(stack: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the frames with dark and bright exchanged: they have the scene's clutter and noise, and no target."""
    if np.issubdtype(stack.dtype, np.unsignedinteger):
        return np.asarray(np.invert(stack))
    return np.asarray(np.nanmax(stack) - stack.astype(np.float32))


def _inverted_map(clutter: ClutterMap | None) -> ClutterMap | None:
    """The clutter of inverted frames."""
    return None if clutter is None else replace(clutter, mean=-clutter.mean)


def without_rims(dark: Found, bright: Found) -> Floats:
    """Return the strengths, falling, of regions in inverted frames that are no rim of a brighter one in the frame."""
    kept = [np.zeros(0)]
    for (_, one, _), (_, other, _) in zip(dark, bright, strict=True):
        near = np.abs(one.centres[:, None] - other.centres[None]).max(axis=2) < RIM_PX
        rim = (near & (other.strength[None] > one.strength[:, None])).any(axis=1)
        kept.append(one.strength[~rim])
    return np.sort(np.concatenate(kept))[::-1]


def threshold_for(strengths: Floats, frames: int) -> float:
    """Return the strength above which the inverted frames have FALSE_ALARMS regions each, at least MIN_SNR."""
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
