"""The configuration that a calibration gives: TOML in which each figure says what it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from irst_stream.calibrate.calibration import MIN_CLUTTER_FRAMES, MIN_SNR, Calibration
from irst_stream.calibrate.frame_rate import FrameRate
from irst_stream.calibrate.images import CONTRAST_ALARMS, MAX_CONTRAST, MIN_IMAGES
from irst_stream.calibrate.psf import ERROR_QUANTILE, places_of
from irst_stream.calibrate.scene import GROUP_PX, PlatformFigures
from irst_stream.point_spread import PointSpread

__all__ = ["Origin", "Tables", "warnings_of", "write_settings"]

COAST_S = 1.0  # of a track: long coasting holds identities in clutter
CLUTTER_MEMORY_S = 60.0
JUMP_PX = 2.0  # of targets that are not points
# of a target in the scene before its track is confirmed: platform at rest; shaking, so that clutter wanders until it is
# learnt; panning, where clutter that nothing is known of keeps coming in, and detections of it jump about
TRAVEL_PX, MOVING_TRAVEL_PX, PANNING_TRAVEL_PX = 1.0, 3.0, 3 * JUMP_PX
PANNING_PX = 10.0  # a platform that gets farther than that pans
JITTER_PX = 0.25  # of compressed frames, whose codec moves spots about
UNKNOWN_SIGMA_PX, UNKNOWN_DOUBT = 0.8, 0.25  # where no spot shows the PSF
TABLE_DOUBT = 0.04  # a table's misfit is counted by model_error
MANY_EXTENDED = 0.05  # of the point-like spots
UNKNOWN_RATE_HZ, UNKNOWN_SPEED_PX = 30.0, 1.0
FIELD_CHANGE = 0.15  # of the PSF's width over the field: more is said
MUCH_CLIPPED, MUCH_MASKED = 0.01, 0.2  # shares that are said
BAD_LISTED = 12
MIN_FALSE = 3  # regions in inverted frames: fewer give a bound, not a rate
MIN_MOST_TARGETS, MAX_MOST_TARGETS = 4, 5
MIN_SPOTS_FOR_GROUPS = 20
MAX_GROUP_ERROR = 0.08  # of the peak: beyond, one target's own light looks like several


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a calibration's frames came from.

    name: the path or the endpoint; rate: of the frames; notes: what was against them, each in a few words; receive: the
    [[receive]] table of the feed, "" for files; policy: "live" or "lossless".
    """

    name: str
    rate: FrameRate
    notes: tuple[str, ...] = ()
    receive: str = ""
    policy: str = "live"


@dataclass(frozen=True, slots=True)
class Tables:
    """Names of the files that a configuration uses, "" for none: tables of PSF and correction, clutter map, mask."""

    psf: str = ""
    clutter: str = ""
    mask: str = ""
    correction: str = ""


def warnings_of(c: Calibration, origin: Origin) -> Iterator[str]:
    """What the frames did not tell, and what the settings assume instead."""
    yield from origin.notes
    if not c.unrelated and c.frames < MIN_CLUTTER_FRAMES:
        need = f"static clutter is learnt from {MIN_CLUTTER_FRAMES} or more, and some 600 tell most"
        yield f"frames: {c.frames} only; {need}"
    if c.psf is None:
        yield (
            f"PSF: point-like spots: {len(c.spots)}, too few; a width of {UNKNOWN_SIGMA_PX} px is assumed. "
            "Frames with single, bright, small targets or stars would tell"
        )
    elif c.psf.used < MIN_SPOTS_FOR_GROUPS:
        yield f"PSF: rests on {c.psf.used} spots only"
    changes = c.psf is not None and math.isfinite(c.psf.over_field) and abs(c.psf.over_field) > FIELD_CHANGE
    if c.psf is not None and changes and c.psf.field.is_uniform:
        yield (
            f"PSF: its width changes by {c.psf.over_field:+.0%} from the frame's middle to its border; one PSF serves all, "
            "since too few spots, or too unevenly spread, tell it from place to place"
        )
    if not c.unrelated and not c.platform.still and not c.conditioned.sent:
        known = "known of the first frame's view, and learnt on the way" if c.clutter else "learnt on the way"
        yield (
            f"platform: moves by {c.platform.farthest:.1f} px; frames are registered by their images, and clutter is "
            f"{known}; poses sent with the frames are better"
        )
    if not c.unrelated and not c.platform.known and c.frames >= MIN_CLUTTER_FRAMES:
        yield "platform: the images show too little to tell whether it moves; it is taken to stand still"
    if not c.unrelated and c.rate_hz is None:
        yield f"frame rate: {origin.rate.origin}; set it with --rate, since tracks need it; {UNKNOWN_RATE_HZ:g} is assumed"
    if c.noise.compressed:
        yield f"noise: {c.noise.frozen:.0%} of pixels repeat their last value: a codec has removed the noise"
    if c.noise.correlated and not c.noise.compressed:
        yield f"noise: neighbouring pixels share {c.noise.alike:.0%} of it: the frames were enlarged or smoothed"
    if c.noise.clipped[1] > MUCH_CLIPPED:
        yield f"range: {c.noise.clipped[1]:.1%} of pixels are at {c.noise.brightest:g} DN, the largest value: clipped"
    if not len(c.speeds) and not c.unrelated:
        yield f"speeds: no target was seen to move; {UNKNOWN_SPEED_PX:g} px a frame is assumed"
    if c.graphics.share > MUCH_MASKED:
        yield f"mask: {c.graphics.share:.0%} of the frame is burnt-in graphics or border; look at the report"


def write_settings(c: Calibration, origin: Origin, tables: Tables, version: str) -> str:
    """The TOML text of a calibration; tables: the files that it names."""
    rate = "unknown" if origin.rate.hz is None else f"{origin.rate.hz:.4g} frames/s by {origin.rate.origin}"
    if math.isfinite(origin.rate.jitter_ms):
        rate += f", intervals within {origin.rate.jitter_ms:.2g} ms"
    use = "run THIS_FILE" if origin.receive else "replay SOURCE --config THIS_FILE"
    lines = [
        f"# Calibrated by irst-stream {version} on {_one_line(origin.name)}:",
        f"# {'1 frame' if c.frames == 1 else f'{c.frames} frames'} of {c.shape[1]} x {c.shape[0]} px.",
        "# Every figure below was measured on these frames unless its line says otherwise; it says what it rests on.",
        f"#   irst-stream {use}",
        *(f"# Warning: {text}." for text in warnings_of(c, origin)),
        "#",
        *([f"# Frame rate: {rate}."] if not c.unrelated else []),
        *(f"# {text}" for text in _sensor_lines(c)),
        "",
        f'policy = "{origin.policy}"',
        f"window = {1 if c.unrelated else 5}",
        'readout = "fit"',
        "",
        *c.conditioned.settings_lines(tables.correction),
        *_register_lines(c),
        "[fit]",
        *_fit_lines(c, tables.psf),
        "",
        "[propose]",
        *_propose_lines(c, tables),
    ]
    if not c.unrelated:
        lines += ["", "[track]", *_track_lines(c)]
    if origin.receive:
        lines += ["", origin.receive, "", "# [[publish]]  # uncomment to send detections and tracks"]
        lines += ['# endpoint = "tcp://127.0.0.1:5556"']
    return "\n".join(lines) + "\n"


def _register_lines(c: Calibration) -> Iterator[str]:
    if not c.platform.still and not c.conditioned.sent and c.conditioned.register.when == "off":
        (x, y), jitter = c.platform.drift, c.platform.jitter
        yield "[register]"
        yield f'when = "auto"  # the platform drifts by {x:.2g}, {y:.2g} px a frame, with a jitter of {jitter:.2g} px'
        yield ""


def _one_line(text: str) -> str:
    """A name as it may stand in a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _sensor_lines(c: Calibration) -> Iterator[str]:
    """What was measured and no setting holds: the platform, the correction, range, noise, bad pixels."""
    if not c.unrelated:
        by = "the poses sent" if c.conditioned.sent else "registering the images"
        yield f"Platform: {_platform_words(c.platform, by)}."
    n = c.noise
    if c.conditioned.corrects:
        yield f"Corrected before all else was measured: {c.conditioned.summary(n.fixed)}."
    yield f"Noise: {_number(n.temporal)} DN {_noise_words(c)}."
    ends = f"{n.clipped[0]:.2%} and {n.clipped[1]:.2%} of pixels are at its ends"
    yield f"Range: {n.pedestal:g} to {n.brightest:g} DN; {ends}."
    if len(n.bad):
        listed = ", ".join(f"({x}, {y})" for x, y in n.bad[:BAD_LISTED].tolist())
        more = " ..." if len(n.bad) > BAD_LISTED else ""
        yield f"Bad pixels: {len(n.bad)}, x y: {listed}{more}; the search learns them by itself."


def _noise_words(c: Calibration) -> str:
    """Say of which kind the noise is, over time or from pixel to pixel, and how strong the pattern is."""
    n = c.noise
    if not n.over_time:
        images = " in single images; they do not" if c.unrelated else "; too few frames in order to"
        return f"from pixel to pixel{images} tell noise over time from pattern"
    lines = f", of whole rows {_number(n.row_changes)} DN, of columns {_number(n.column_changes)} DN"
    pattern = f"{_number(n.fixed)} DN, of its rows {_number(n.rows)} DN, of its columns {_number(n.columns)} DN"
    return f"over time{lines if math.isfinite(n.row_changes) else ''}; pattern that stays: {pattern}"


def _platform_words(p: PlatformFigures, by: str) -> str:
    """How the platform moves, and by what that is known."""
    if not p.known:
        return "unknown, the images show too little"
    moves = "stands still" if p.still else "moves"
    drift = f"drift {p.drift[0]:+.3f}, {p.drift[1]:+.3f} px a frame"
    return f"{moves}; farthest {p.farthest:.2f} px, jitter {p.jitter:.2f} px, {drift}; by {by}"


def _fit_lines(c: Calibration, psf_table: str) -> Iterator[str]:
    if c.psf is None:
        yield f"sigma_px = {UNKNOWN_SIGMA_PX}  # assumed: no point-like spots were found"
        yield f"sigma_doubt = {UNKNOWN_DOUBT}"
        error = 0.1
    else:
        psf, error = c.psf.psf, round(c.psf.error, 3)
        width = f"{psf.sigma_x:.2f} x {psf.sigma_y:.2f} px"
        if psf_table and not c.psf.field.is_uniform:
            yield f'psf_table = "{psf_table}"  # {places_of(c.psf)}'
        elif psf_table:
            misfits = f"{c.psf.misfits[1]:.1%} of the peak against {c.psf.misfits[0]:.1%} of a Gaussian's"
            yield f'psf_table = "{psf_table}"  # {width}, from {c.psf.used} spots; misfit {misfits}, on spots held out'
        sure = f"sure to {max(100 * c.psf.spread / math.sqrt(c.psf.used), 0.1):.1f} %, by their scatter"
        yield f"sigma_px = {psf.sigma:.3f}  # {width}, from {c.psf.used} spots; {sure}"
        if not psf_table and psf.sigma_x / psf.sigma_y > 1.001:
            yield f"axis_ratio = {psf.sigma_x / psf.sigma_y:.3f}"
            yield f"axis_angle_deg = {_angle(psf):.1f}"
        doubt = TABLE_DOUBT if psf_table else min(max(c.psf.spread, 0.02), 0.3)
        yield f"sigma_doubt = {doubt:.3f}  # single spots' widths spread by {c.psf.spread:.1%}"
    rests = "assumed" if c.psf is None else f"{ERROR_QUANTILE:.0%} of {c.psf.used} spots have less"
    yield f"model_error = {error}  # of the peak: what the PSF leaves unexplained; {rests}"
    amplitude, deviation = _amplitudes(c)
    yield f"amplitude_dn = {amplitude:.4g}  # total light of a target; {_amplitude_words(c)}"
    yield f"amplitude_sd_dn = {deviation:.4g}"
    if not c.unrelated:
        speed = _speed(c)
        yield f"speed_px = {speed:.3g}  # px a frame; {_speed_words(c)}"
        yield f"own_speed_px = {max(speed / 20, 0.005):.3g}"
    groups = _tells_groups(c)
    yield f"most_targets = {_most_targets(c)}  # of one group; {_group_words(c, error)}"
    yield "extra_target_odds = 0.1  # most targets fly alone"
    large = c.spots.rejected["extended"]
    odds = 1.0 if not groups else 0.2 if large > MANY_EXTENDED * len(c.spots) else 0.0
    yield f"extended_odds = {odds}  # of one target larger than the PSF, to several: {large} were seen"
    yield "min_snr = 4  # of a detection; assumed"
    if not groups:
        yield "score_radius_px = 1.0  # of targets that are not points"
    least = c.propose.min_noise_dn or 0.3
    yield f"least_noise_dn = {least:g}  # each region measures its own noise; this is the least it may find"
    if c.conditioned.table_error > 0 and not c.propose.clutter_frames:
        yield f"fixed_dn = {c.conditioned.table_error:.2g}  # pattern that noise in the correction's table leaves"
    if math.isfinite(c.noise.gain) and not c.noise.compressed and c.noise.gain > 0:
        levels = f"{len(c.noise.levels)} levels, {c.noise.levels[0]:.0f} to {c.noise.levels[-1]:.0f} DN"
        yield f"shot_dn = {c.noise.gain:.3g}  # slope of the variance over time over the level: {levels}"
    yield f"starts = {4 if c.unrelated and groups else 1}"
    if not c.unrelated:
        yield "refit_every = 8"


def _propose_lines(c: Calibration, tables: Tables) -> Iterator[str]:
    p = c.propose
    if tables.mask:
        yield f'mask = "{tables.mask}"  # black is not searched: {c.graphics.share:.1%} of the frame'
        yield from (f"#   {graphic}" for graphic in c.graphics.found)
    yield f"sigma_px = {p.sigma_px}  # of the matched filter"
    if not p.psf_shaped:
        yield "psf_shaped = false  # a round filter: a codec has drawn the spots out"
    yield f"min_snr = {p.min_snr:g}  # {_threshold_words(c)}"
    if p.unknown_snr > p.min_snr:
        yield f"unknown_snr = {p.unknown_snr:g}  # where the static clutter is not known yet, so that it raises as few"
    yield f"false_alarms = {p.false_alarms:g}"
    if p.min_contrast:
        yield f"min_contrast = {p.min_contrast:g}  # {_contrast_words(c)}"
    if not c.unrelated:
        yield "tracked_share = 0.6"
    if p.min_noise_dn:
        yield f"min_noise_dn = {p.min_noise_dn:g}  # {'compressed frames' if c.noise.compressed else 'frames of 8 bits'}"
    yield f"average = {p.average}"
    median, highest = (np.median(c.counts), np.max(c.counts)) if len(c.counts) else (0, 0)
    most = max(32, 2 * int(highest) if c.unrelated else 0)
    yield f"most_regions = {most}  # {median:g} in a frame, median; {highest:g} at most"
    if p.clutter_frames:
        yield f"clutter_frames = {p.clutter_frames}" + (
            "" if tables.clutter else "  # what stays at its place in the scene"
        )
    if tables.clutter:
        frames = c.clutter.frames if c.clutter else 0
        where = "at its pixel" if c.platform.still else "at its place, as the first frame sees the scene"
        yield f'clutter_map = "{tables.clutter}"  # what stays {where}, from {frames} frames'


def _track_lines(c: Calibration) -> Iterator[str]:
    rate = c.rate_hz or UNKNOWN_RATE_HZ
    yield "false_tracks_h = 1.0  # that clutter may raise in an hour"
    pans = c.platform.farthest > PANNING_PX
    moving = PANNING_TRAVEL_PX if pans else MOVING_TRAVEL_PX
    travel, wanders = (TRAVEL_PX, "") if c.platform.still else (moving, ", and wanders until it is learnt")
    yield f"confirm_travel_px = {travel:g}  # what stays at its place is clutter{wanders}"
    yield f"max_coast_s = {COAST_S}"
    yield "detection_probability = 0.6  # targets fade for some frames, and come back"
    yield f"jitter_px = {JITTER_PX if c.noise.compressed else JITTER_PX / 5}  # assumed" + (
        ": a codec moves spots about" if c.noise.compressed else ""
    )
    yield "gate_chi2 = 25.0"
    if not _tells_groups(c):
        yield "resolution_px = 0.05  # one target is one detection"
        yield "resolution_sd_px = 0.02"
        yield "brightness = false"
        yield f"jump_px = {JUMP_PX}  # of the brightest part of a target that is not a point"
    area = c.shape[0] * c.shape[1]
    density = max(c.propose.false_alarms * 3 / area, 1e-7)
    yield f"clutter_density = {density:.2g}  # false detections a px^2 and frame, at first: three times what is let by"
    yield f"clutter_memory_s = {CLUTTER_MEMORY_S:g}  # over which the density of each place is learnt"
    yield f"birth_density = {density / 10:.2g}"
    speed = _speed(c) * rate
    yield f"speed_px_s = {max(speed, 5.0):.3g}  # {_speed_words(c)}"


def _tells_groups(c: Calibration) -> bool:
    """Whether the PSF is known well enough to tell close targets from one, and nothing has smeared the frames."""
    return c.psf is not None and c.psf.error <= MAX_GROUP_ERROR and not c.noise.compressed and not c.noise.correlated


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


def _amplitude_words(c: Calibration) -> str:
    """What the prior of amplitudes rests on."""
    if not len(c.spots):
        return "assumed from the range, as no spot was found"
    low, high = np.quantile(c.spots.amplitude, (0.1, 0.9))
    return f"{len(c.spots)} spots, 8 in 10 of them {low:.0f} to {high:.0f}; wide on purpose"


def _speed(c: Calibration) -> float:
    """Standard deviation of a target's velocity, px a frame; room for three times what was seen."""
    return float(np.clip(3 * np.quantile(c.speeds, 0.9), 0.3, 3.0)) if len(c.speeds) else UNKNOWN_SPEED_PX


def _speed_words(c: Calibration) -> str:
    """What a speed rests on."""
    if not len(c.speeds):
        return "assumed, as nothing was seen to move"
    high = float(np.quantile(c.speeds, 0.9))
    return f"3 x the 90th percentile of {len(c.speeds)} steps, {high:.2g} px a frame; within 0.3 to 3"


def _most_targets(c: Calibration) -> int:
    """How many targets a group may plausibly have: one more than were seen side by side, at least MIN_MOST_TARGETS."""
    if not _tells_groups(c):
        return 1
    seen = 1 + int(np.quantile(c.companions, 0.99)) if len(c.companions) else 1
    return int(np.clip(seen + 1, MIN_MOST_TARGETS, MAX_MOST_TARGETS))


def _group_words(c: Calibration, error: float) -> str:
    """Why a group may have so many targets."""
    if not _tells_groups(c):
        reason = f"the misfit is {error:.0%}"
        if c.noise.compressed or c.noise.correlated:
            reason = "a codec has smeared the frames" if c.noise.compressed else "neighbouring pixels share their noise"
        return f"close targets cannot be told from one where {reason}"
    if not len(c.companions):
        return "assumed, as no target was seen"
    share = float(np.mean(c.companions > 0))
    return (
        f"{share:.0%} of {len(c.companions)} regions have another within {GROUP_PX:g} px, at most {c.companions.max():.0f}"
    )


def _threshold_words(c: Calibration) -> str:
    """What the threshold rests on."""
    searched = max(len(c.counts), 1)
    regions = f"{len(c.dark_strengths)} region{'' if len(c.dark_strengths) == 1 else 's'} above {MIN_SNR:g}"
    inverted = f"{regions} in {searched} inverted frame{'' if searched == 1 else 's'}, where no target is"
    if len(c.dark_strengths) < MIN_FALSE:
        return f"the least; {inverted}: below {3 / searched:.2g} false ones a frame, as far as they tell"
    return f"leaves {c.propose.false_alarms:g} false regions a frame: {inverted}"


def _contrast_words(c: Calibration) -> str:
    """What the least contrast rests on."""
    why = "much of what stands out is no point, but edges and lines"
    if c.frames < MIN_IMAGES:
        return f"{why}; assumed: fewer than {MIN_IMAGES} images do not tell"
    if c.propose.min_contrast == MAX_CONTRAST:
        return f"{why}; the most that is asked: more than {CONTRAST_ALARMS:g} places of an inverted image exceed it"
    return f"{why}: at most {CONTRAST_ALARMS:g} places of an inverted image exceed it, where no target is"


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "unknown"
