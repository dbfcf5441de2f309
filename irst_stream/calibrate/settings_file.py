"""The configuration that a calibration gives: TOML in which each figure says what it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from irst_stream.calibrate.calibration import Calibration
from irst_stream.point_spread import PointSpread

__all__ = ["warnings_of", "write_settings"]

CONFIRM_S, COAST_S = 0.4, 1.0  # of a track: late confirmation and long coasting hold identities in clutter
MAX_CONFIRM_FRAMES = 32
JITTER_PX = 0.25  # of compressed frames, whose codec moves spots about
UNKNOWN_SIGMA_PX, UNKNOWN_DOUBT = 0.8, 0.25  # where no spot shows the PSF
MIN_SPOTS_FOR_GROUPS = 20
MAX_GROUP_ERROR = 0.06  # of the peak: beyond, one target's own light looks like several


def warnings_of(c: Calibration) -> Iterator[str]:
    """What the frames did not tell, and what the settings assume instead."""
    if c.psf is None:
        yield (
            f"PSF: {len(c.spots)} point-like spots, too few; a width of {UNKNOWN_SIGMA_PX} px is assumed. "
            "Frames with single, bright, small targets or stars would tell"
        )
    elif c.psf.used < MIN_SPOTS_FOR_GROUPS:
        yield f"PSF: rests on {c.psf.used} spots only"
    if not c.unrelated and not c.platform.still:
        yield (
            f"platform: moves by {c.platform.farthest:.1f} px; frames are registered by their images, and clutter is "
            "learnt on the way; poses sent with the frames are better"
        )
    if not c.unrelated and c.rate_hz is None:
        yield "frame rate: not stated; set it with --rate, since tracks need it"
    if c.noise.compressed:
        yield f"noise: {c.noise.frozen:.0%} of pixels repeat their last value: a codec has removed the noise"


def write_settings(c: Calibration, source: str, psf_table: str, clutter_map: str, version: str) -> str:
    """The TOML text; psf_table and clutter_map: names of the files beside it, "" for none."""
    lines = [
        f"# Calibrated by irst-stream {version} on {source}: {c.frames} frames of {c.shape[1]} x {c.shape[0]} px.",
        "# Every figure below was measured on these frames; its line says what it rests on.",
        "#   irst-stream replay SOURCE --config THIS_FILE",
        *(f"# Not measured: {text}." for text in warnings_of(c)),
        "",
        'policy = "live"',
        f"window = {1 if c.unrelated else 5}",
        'readout = "fit"',
        "",
        *_register_lines(c),
        "[fit]",
        *_fit_lines(c, psf_table),
        "",
        "[propose]",
        *_propose_lines(c, clutter_map),
    ]
    if not c.unrelated:
        lines += ["", "[track]", *_track_lines(c)]
    return "\n".join(lines) + "\n"


def _register_lines(c: Calibration) -> Iterator[str]:
    if not c.platform.still:
        (x, y), jitter = c.platform.drift, c.platform.jitter
        yield "[register]"
        yield f'when = "auto"  # the platform drifts by {x:.2g}, {y:.2g} px a frame, with a jitter of {jitter:.2g} px'
        yield ""


def _fit_lines(c: Calibration, psf_table: str) -> Iterator[str]:
    if c.psf is None:
        yield f"sigma_px = {UNKNOWN_SIGMA_PX}  # assumed: no point-like spots were found"
        yield f"sigma_doubt = {UNKNOWN_DOUBT}"
        error = 0.1
    else:
        psf, error = c.psf.psf, round(c.psf.error, 3)
        width = f"{psf.sigma_x:.2f} x {psf.sigma_y:.2f} px"
        if psf_table:
            misfits = f"{c.psf.misfits[1]:.1%} of the peak against {c.psf.misfits[0]:.1%} of a Gaussian's"
            yield f'psf_table = "{psf_table}"  # {width}, from {c.psf.used} spots; misfit {misfits}, on spots held out'
        yield f"sigma_px = {psf.sigma:.3f}  # {width}, from {c.psf.used} spots"
        if not psf_table and psf.sigma_x / psf.sigma_y > 1.001:
            yield f"axis_ratio = {psf.sigma_x / psf.sigma_y:.3f}"
            yield f"axis_angle_deg = {_angle(psf):.1f}"
        yield f"sigma_doubt = {min(max(c.psf.spread, 0.02), 0.3):.3f}  # spread of single spots' widths"
    yield f"model_error = {error}  # of the peak: what the PSF leaves unexplained"
    amplitude, deviation = _amplitudes(c)
    yield f"amplitude_dn = {amplitude:.4g}  # total light of a target, from {len(c.spots)} spots; wide on purpose"
    yield f"amplitude_sd_dn = {deviation:.4g}"
    if not c.unrelated:
        speed = _speed(c)
        yield f"speed_px = {speed:.3g}  # px a frame"
        yield f"own_speed_px = {max(speed / 20, 0.005):.3g}"
    groups = _tells_groups(c)
    yield f"most_targets = {4 if groups else 1}  # of one group" + (
        "" if groups else f": with a misfit of {error:.0%}, close targets cannot be told from one"
    )
    yield "extra_target_odds = 0.1  # most targets fly alone"
    yield f"extended_odds = {0.2 if groups else 1.0}  # of one target larger than the PSF, to several"
    yield "min_snr = 4"
    yield "score_radius_px = 1.0"
    least = c.propose.min_noise_dn or 0.3
    temporal, pattern = _number(c.noise.temporal), _number(c.noise.fixed)
    yield f"least_noise_dn = {least:g}  # temporal noise {temporal} DN, pattern {pattern} DN"
    if math.isfinite(c.noise.gain) and not c.noise.compressed and c.noise.gain > 0:
        yield f"shot_dn = {c.noise.gain:.3g}  # slope of the variance over the level"
    yield "starts = 1"
    if not c.unrelated:
        yield "refit_every = 8"


def _propose_lines(c: Calibration, clutter_map: str) -> Iterator[str]:
    p = c.propose
    yield f"sigma_px = {p.sigma_px}  # of the matched filter"
    inverted = f"{len(c.dark_strengths)} regions above 5 in the inverted frames"
    yield f"min_snr = {p.min_snr:g}  # leaves {p.false_alarms:g} false regions a frame: {inverted}, where no target is"
    yield f"false_alarms = {p.false_alarms:g}"
    if not c.unrelated:
        yield "tracked_share = 0.6"
    if p.min_noise_dn:
        yield f"min_noise_dn = {p.min_noise_dn:g}  # {'compressed frames' if c.noise.compressed else 'frames of 8 bits'}"
    yield f"average = {p.average}"
    median = np.median(c.counts) if len(c.counts) else 0
    yield f"most_regions = {300 if c.unrelated else 32}  # {median:g} in a frame, median"
    if p.clutter_frames:
        yield f"clutter_frames = {p.clutter_frames}" + ("" if clutter_map else "  # what stays in its place in the scene")
    if clutter_map:
        frames = c.clutter.frames if c.clutter else 0
        yield f'clutter_map = "{clutter_map}"  # what stays at its pixel, from {frames} frames'


def _track_lines(c: Calibration) -> Iterator[str]:
    rate = c.rate_hz or 30.0
    window = int(np.clip(round(CONFIRM_S * rate * 1.3), 4, MAX_CONFIRM_FRAMES))
    yield f"confirm_hits = {max(round(window / 1.3), 3)}  # of {window} frames: {CONFIRM_S} s at {rate:g} frames/s"
    yield f"confirm_window = {window}"
    if c.propose.clutter_frames:
        yield "confirm_travel_px = 1.0  # what stays at its pixel is clutter"
    yield f"max_coast_s = {COAST_S}"
    yield "detection_probability = 0.6  # targets fade for some frames, and come back"
    yield "min_existence_probability = 1e-9"
    yield f"jitter_px = {JITTER_PX if c.noise.compressed else JITTER_PX / 5}"
    yield "gate_chi2 = 25.0"
    if not _tells_groups(c):
        yield "resolution_px = 0.05  # one target is one detection"
        yield "resolution_sd_px = 0.02"
        yield "brightness = false"
    area = c.shape[0] * c.shape[1]
    density = max(c.propose.false_alarms * 3 / area, 1e-7)
    yield f"clutter_density = {density:.2g}  # false detections a px^2 and frame"
    yield f"birth_density = {density / 10:.2g}"
    speed = _speed(c) * rate
    yield f"speed_px_s = {max(speed, 5.0):.3g}"


def _tells_groups(c: Calibration) -> bool:
    """Whether the PSF is known well enough to tell close targets from one."""
    return c.psf is not None and c.psf.error <= MAX_GROUP_ERROR


def _angle(psf: PointSpread) -> float:
    """Direction of the longer axis, degrees: of a Gaussian along the frame's axes it follows from its widths."""
    return math.degrees(psf.angle) if psf.table.size else (0.0 if psf.sigma_x >= psf.sigma_y else 90.0)


def _amplitudes(c: Calibration) -> tuple[float, float]:
    """Prior mean and standard deviation of amplitudes, DN: wide enough for targets much brighter or fainter."""
    if not len(c.spots):
        scale = min(c.full_scale, max(c.noise.brightest - c.noise.pedestal, 1.0))
        return scale, scale
    typical, highest = np.median(c.spots.amplitude), np.quantile(c.spots.amplitude, 0.9)
    return float(typical), float(max(typical, highest))


def _speed(c: Calibration) -> float:
    """Standard deviation of a target's velocity, px a frame; room for three times what was seen."""
    return float(np.clip(3 * np.quantile(c.speeds, 0.9), 0.3, 3.0)) if len(c.speeds) else 1.0


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "unknown"
