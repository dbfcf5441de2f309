"""Settings of the region search in full frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from irst_stream.optics import SIGMA
from irst_stream.settings import about, refuse

__all__ = ["Polygon", "ProposeSettings", "check_search"]

Polygon: TypeAlias = tuple[tuple[float, float], ...]  # corners x, y px


@dataclass(frozen=True)
class ProposeSettings:
    """How full frames are searched for groups."""

    sigma_px: Annotated[
        float,
        about("Width of the matched filter: standard deviation of the PSF, px. Its shape is that of the PSF in [fit]."),
    ] = SIGMA
    psf_shaped: Annotated[
        bool,
        about("Filters have the shape of the PSF in [fit]; false: they are round, for frames that a codec has smeared."),
    ] = True
    false_alarms: Annotated[
        float, about("False regions per frame that noise alone may raise. Smaller values miss fainter targets.")
    ] = 0.5
    most_regions: Annotated[
        int,
        about(
            "Largest number of regions per frame: those of confirmed tracks first, then the strongest. Those left out are"
            ' counted as event "regions". More take more time.'
        ),
    ] = 32
    most_peaks: Annotated[
        int,
        about(
            "Largest number of peaks of a filter's response that are examined per frame, bright and dark ones together:"
            ' those near confirmed tracks first, then the largest. Those left out are counted as event "peaks". 0: four'
            " times most_regions, at least 300."
        ),
    ] = 0
    average: Annotated[
        int,
        about(
            "Frames averaged around the one searched: 1, 3 or 5. More frames find fainter targets, which must move by less"
            " than 2 px within them."
        ),
    ] = 3
    min_snr: Annotated[
        float,
        about("Least strength of a peak over its local noise; 0: as false_alarms asks. Real noise has heavier tails."),
    ] = 0.0
    unknown_snr: Annotated[
        float,
        about(
            "Least strength of a peak at a place whose static clutter is not known yet, as at the border that a pan"
            " uncovers; it falls to min_snr while the clutter is learnt. 0: min_snr. Needs clutter_frames."
        ),
    ] = 0.0
    min_contrast: Annotated[
        float,
        about(
            "Search by local contrast in place of the matched filter, for single images full of clutter: least excess of a"
            " place's brightest pixels over those of all places about it, in standard deviations of the pixels about it,"
            " weighed with that over the whole image. irst-stream calibrate measures what a folder's clutter asks, 6 to 8."
            " 0: the matched filter."
        ),
    ] = 0.0
    tracked_share: Annotated[
        float,
        about("Threshold near confirmed tracks, as a share of the threshold elsewhere. Smaller values hold faint targets."),
    ] = 1.0
    min_noise_dn: Annotated[
        float, about("Least noise of a filtered frame, DN. Above 0 where compression or rounding hides the noise.")
    ] = 0.0
    clutter_frames: Annotated[
        int,
        about(
            "Frames over which static clutter is learnt, pixel by pixel, and subtracted; 0 switches this off. For a sensor"
            " that stares: targets that rest for longer fade, unless a track holds them."
        ),
    ] = 0
    clutter_map: Annotated[
        str,
        about(
            "Static clutter that irst-stream calibrate learnt, a .npz file, to begin with; relative to the configuration's"
            " folder. Needs clutter_frames."
        ),
    ] = ""
    mask: Annotated[
        str,
        about(
            "A gray PNG of the frames' size, black where they are not searched; relative to the configuration's folder."
            " irst-stream calibrate writes one of burnt-in text and borders. What is not searched counts as missing pixels."
        ),
    ] = ""
    include: Annotated[
        tuple[Polygon, ...],
        about(
            "Polygons, each a list of corners [x, y] px: only what lies within any of them is searched. Empty: everything."
        ),
    ] = ()
    exclude: Annotated[
        tuple[Polygon, ...], about("Polygons, each a list of corners [x, y] px: what lies within is not searched.")
    ] = ()


def check_search(settings: ProposeSettings) -> None:
    """Raise one UsageError that names every setting out of range."""
    refuse(_faults(settings))


def _faults(settings: ProposeSettings) -> Iterator[str]:
    if not 0.2 <= settings.sigma_px <= 2:
        yield f"propose.sigma_px: expected 0.2 to 2 px, got {settings.sigma_px}"
    if not 1e-6 <= settings.false_alarms <= 100:
        yield f"propose.false_alarms: expected 0.000001 to 100 per frame, got {settings.false_alarms}"
    if not 1 <= settings.most_regions <= 10_000:
        yield f"propose.most_regions: expected 1 to 10,000, got {settings.most_regions}"
    if not 0 <= settings.most_peaks <= 1_000_000:
        yield f"propose.most_peaks: expected 0 to 1,000,000, got {settings.most_peaks}"
    if not 0 <= settings.clutter_frames <= 1_000_000:
        yield f"propose.clutter_frames: expected 0 to 1,000,000, got {settings.clutter_frames}"
    if not 0.1 <= settings.tracked_share <= 1:
        yield f"propose.tracked_share: expected 0.1 to 1, got {settings.tracked_share}"
    if settings.min_contrast and settings.average != 1:
        yield f"propose.average: expected 1 with min_contrast, got {settings.average}"
    for name in ("min_snr", "unknown_snr", "min_contrast", "min_noise_dn"):
        if not 0 <= getattr(settings, name) < 1e6:
            yield f"propose.{name}: expected 0 or more, got {getattr(settings, name)}"
    if settings.clutter_map and not settings.clutter_frames:
        yield "propose.clutter_map: needs clutter_frames above 0"
    if settings.unknown_snr and not settings.clutter_frames:
        yield "propose.unknown_snr: needs clutter_frames above 0"
    for name in ("include", "exclude"):
        for k, polygon in enumerate(getattr(settings, name)):
            if len(polygon) < 3:
                yield f"propose.{name}[{k}]: expected 3 corners [x, y] or more, got {len(polygon)}"
            elif not all(-1e6 < value < 1e6 for corner in polygon for value in corner):
                yield f"propose.{name}[{k}]: expected corners of finite numbers, px"
    if settings.average not in (1, 3, 5):
        yield f"propose.average: expected 1, 3 or 5 frames, got {settings.average}"
