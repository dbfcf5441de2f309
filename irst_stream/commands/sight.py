"""What full frames show of their sensor at a glance: noise, pattern, bad pixels, graphics, spots and the PSF's width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irst_stream.calibrate.calibration import (
    CLUTTER_FRAMES,
    COMPRESSED_NOISE_DN,
    FIRST_SIGMA_PX,
    MIN_CLUTTER_FRAMES,
    MIN_SNR,
    find_spots,
)
from irst_stream.calibrate.graphics import Graphics, find_graphics
from irst_stream.calibrate.noise import NoiseFigures, measure_image_noise, measure_noise
from irst_stream.calibrate.panels import Panel, encode, sheet, text_panel
from irst_stream.calibrate.psf import PsfFigures, measure_psf
from irst_stream.calibrate.report import frame_panel, html_page, noise_panels, spot_panels
from irst_stream.calibrate.scene import learn_clutter_map, measure_platform, search_frames
from irst_stream.calibrate.spots import Spots
from irst_stream.commands.console import pluralise
from irst_stream.commands.footage import MIN_SIDE, stack_of
from irst_stream.propose.settings import ProposeSettings
from irst_stream.types import Frame

__all__ = ["Sight", "is_sampled", "look"]

MOST_FRAMES, MOST_BYTES = 200, 200_000_000  # looked at
SEARCHED = 40  # of them, for spots
MIN_CLIPPED = 1e-4  # share of pixels at an end of the range; fewer are the mere extremes of noise


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What some frames show; psf: None where there are too few spots. regions (K,): found in each frame searched."""

    frames: int
    example: NDArray[np.generic]
    noise: NoiseFigures
    graphics: Graphics
    spots: Spots
    regions: Sequence[int]
    psf: PsfFigures | None

    def lines(self) -> Iterator[str]:
        """Yield the findings, one a line."""
        n = self.noise
        if math.isfinite(n.fixed):
            gain = f", gain {n.gain:.3g} DN^2 a DN" if math.isfinite(n.gain) else ""
            yield f"noise       {n.temporal:.3g} DN over time, {n.fixed:.3g} DN of pattern that stays{gain}"
            yield f"pattern     rows {n.rows:.3g} DN, columns {n.columns:.3g} DN; {pluralise(len(n.bad), 'bad pixel')}"
        else:
            yield f"noise       {n.temporal:.3g} DN from pixel to pixel; too few frames in order for noise over time"
        if n.compressed:
            yield f"codec       {n.frozen:.0%} of pixels repeat their last value: a codec has removed the noise"
        if n.pedestal == n.brightest:
            yield f"clipped     all pixels hold {n.pedestal:g} DN"
        else:
            ends = zip(n.clipped, (n.pedestal, n.brightest), strict=True)
            if clipped := [f"{share:.2%} of pixels at {value:g} DN" for share, value in ends if share > MIN_CLIPPED]:
                yield f"clipped     {', '.join(clipped)}"
        refused = ", ".join(f"{count} {reason}" for reason, count in self.spots.rejected.items() if count) or "none"
        found = f"{np.median(self.regions):g} in a frame" if self.regions else "none searched"
        searched = pluralise(len(self.regions), "frame")
        yield f"spots       {found}; {len(self.spots)} isolated and point-like, in {searched}; refused: {refused}"
        if self.psf is not None:
            psf = self.psf.psf
            misfit = f"misfit {self.psf.misfits[0]:.1%} of the peak (Gaussian)"
            yield f"PSF         {psf.sigma_x:.2f} x {psf.sigma_y:.2f} px, from {self.psf.used} spots; {misfit}"
        else:
            yield "PSF         unknown, too few point-like spots"
        yield from (f"burnt in    {graphic}" for graphic in self.graphics.found)

    def report(self, path: Path, title: str, lines: Sequence[str]) -> bytes:
        """Draw the findings, as HTML or PNG by the path's suffix."""
        graphics = [str(graphic) for graphic in self.graphics.found]
        panels: list[Panel] = [
            frame_panel(self.example, self.graphics.excluded, self.noise, self.spots, graphics),
            *spot_panels(self.spots, self.psf),
            *noise_panels(self.noise),
        ]
        if path.suffix.lower() == ".html":
            return html_page(title, lines, panels)
        return encode(sheet([text_panel(title, lines), *panels]))


def is_sampled(frame: Frame, sampled: Sequence[Frame]) -> bool:
    """Whether a frame belongs to those looked at: full, of the first one's size and type, few enough to hold."""
    pixels = frame.pixels
    if min(pixels.shape) < MIN_SIDE or len(sampled) >= MOST_FRAMES or len(sampled) * pixels.nbytes >= MOST_BYTES:
        return False
    if pixels.dtype.kind == "f" and np.isfinite(pixels).mean() < 0.6:
        return False
    return not sampled or (pixels.shape, pixels.dtype) == (sampled[0].pixels.shape, sampled[0].pixels.dtype)


def look(frames: Sequence[Frame], *, single: bool = False) -> Sight:
    """Look at frames of one size; single, or from several sequences: they are unrelated images."""
    stack = stack_of(frames)
    unrelated = single or len({(frame.stamp.sensor, frame.stamp.epoch) for frame in frames}) > 1 or len(frames) == 1
    graphics = find_graphics(stack[:0] if unrelated else stack)
    excluded = graphics.excluded if graphics.found else None
    noise = measure_image_noise(list(stack)) if unrelated else measure_noise(stack, excluded)
    floor = COMPRESSED_NOISE_DN if noise.compressed else 0.0
    settings = ProposeSettings(FIRST_SIGMA_PX, most_regions=300, average=1, min_snr=MIN_SNR, min_noise_dn=floor)
    chosen = np.unique(np.linspace(0, len(stack) - 1, min(SEARCHED, len(stack))).astype(int))
    stares = not unrelated and len(stack) >= MIN_CLUTTER_FRAMES and measure_platform(stack, excluded).still
    settings = replace(settings, clutter_frames=CLUTTER_FRAMES if stares else 0)
    clutter = learn_clutter_map(stack, chosen, settings, excluded) if stares else None
    found, _ = search_frames(stack[chosen], settings, clutter, excluded)
    spots = find_spots(found, noise, frames[0].full_scale)
    shape = (stack.shape[1], stack.shape[2])
    regions = [len(proposals.centres) for _, proposals, _ in found]
    return Sight(len(stack), stack[len(stack) // 2], noise, graphics, spots, regions, measure_psf(spots, shape))
