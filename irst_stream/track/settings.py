"""What a tracker is told beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from irst_stream.settings import about, refuse
from irst_stream.track.motion import MODELS

__all__ = ["TrackSettings", "check_tracking"]


@dataclass(frozen=True)
class TrackSettings:
    """What is known of targets and detector, how tracks start and end, and how many hypotheses are kept.

    Motion is stated in px and seconds and so holds at any frame rate. The accelerations of members within their group
    matter most, own_manoeuvre_px_s2: a value that is too small is worse than one that is too large, since tracks then lag
    behind and claim to be surer than they are.
    """

    motion: Annotated[
        str,
        about(
            'Motion model. "velocity" and "acceleration": nearly constant; "turn": nearly constant turn; "imm": calm, agile'
            " and turning either way, whichever fits, in twice the time."
        ),
    ] = "velocity"
    manoeuvre_px_s2: Annotated[
        float, about("Standard deviation of a group's acceleration along each axis, px/s^2; it changes within manoeuvre_s.")
    ] = 5.0
    own_manoeuvre_px_s2: Annotated[
        float,
        about(
            "Standard deviation of a target's acceleration within its group along each axis, px/s^2. 0.3 keeps identities"
            " longest where members fly straight; 3 to 5 suits members that manoeuvre one by one."
        ),
    ] = 1.5
    manoeuvre_s: Annotated[float, about("Correlation time of accelerations: how long a manoeuvre lasts, s.")] = 0.5
    turn_rad_s: Annotated[float, about('Turn rate of the models "turn" and "imm", rad/s.')] = 0.5
    speed_px_s: Annotated[
        float,
        about("Standard deviation of a new target's velocity along each axis, px/s. Larger: faster targets are caught."),
    ] = 15.0
    group_radius_px: Annotated[
        float, about("Targets closer than this are one group: they sway and are associated together, px.")
    ] = 3.0
    shared_frames: Annotated[
        int,
        about(
            "Consecutive detections that share frames, and so have correlated errors: the window's length."
            " 0: a pipeline sets it; elsewhere, errors are independent."
        ),
    ] = 0
    shared_lag: Annotated[
        int | None,
        about(
            "How many of those frames follow the one that a detection is of. Unset: a pipeline sets it; elsewhere, half."
        ),
    ] = None
    default_sd_px: Annotated[
        float, about("Standard deviation along each axis of detections that come without a covariance, px.")
    ] = 0.1
    jitter_px: Annotated[
        float,
        about(
            "Position noise of each detection along each axis beyond its covariance, px: a codec's, or that of a PSF that"
            " is not quite right. Too small a value loses tracks; too large a one mixes neighbours up."
        ),
    ] = 0.0
    detection_probability: Annotated[float, about("Probability that a target is detected in a frame.")] = 0.95
    clutter_density: Annotated[
        float,
        about(
            "False detections a px^2 and frame, until clutter_memory_s teaches otherwise. Larger values start fewer false"
            " tracks, and true ones later."
        ),
    ] = 4e-4
    clutter_memory_s: Annotated[
        float,
        about(
            "Seconds over which the clutter density of each place is learnt, from detections that come and go there; 0: it"
            " is clutter_density everywhere."
        ),
    ] = 0.0
    low_score_false_alarms: Annotated[
        float, about("Extra clutter density, a px^2 and frame, of detections of score 0; it falls to 0 at score 1.")
    ] = 1e-2
    birth_density: Annotated[
        float, about("New targets a px^2 and frame. Larger values start tracks more readily, false ones too.")
    ] = 2e-5
    resolution_px: Annotated[float, about("Targets closer than this are detected as one, px.")] = 0.5
    resolution_sd_px: Annotated[float, about("How gradually that sets in, px.")] = 0.05
    brightness: Annotated[bool, about("Whether amplitudes help to tell targets apart.")] = True
    brightness_sd: Annotated[
        float,
        about("Relative standard deviation of amplitudes that come without one, and of how far they change in a second."),
    ] = 0.03
    gate_chi2: Annotated[
        float, about("Gate: squared Mahalanobis distance beyond which a detection cannot belong to a track.")
    ] = 16.0
    false_tracks_h: Annotated[
        float,
        about(
            "Tracks of clutter that may be confirmed in an hour. The evidence that confirms a track follows from it and"
            " from how many tracks start, as measured. Smaller values confirm later."
        ),
    ] = 1.0
    confirm_travel_px: Annotated[
        float,
        about(
            "A track is confirmed once it has moved so far from where it began, px; it may hover later. Above 0 where false"
            " detections stay at their place."
        ),
    ] = 0.0
    jump_px: Annotated[
        float,
        about(
            "Standard deviation along each axis of the jumps of a confirmed target's detections, px, as the brightest part"
            " of an extended target makes them now and then; none starts within twice that of a confirmed one. 0: no jumps."
        ),
    ] = 0.0
    max_coast_s: Annotated[float, about("Seconds that a confirmed track coasts without a detection before it ends.")] = 0.3
    min_existence_probability: Annotated[
        float,
        about(
            "A track that is less likely than this to exist ends, and a detection less likely than this to be a new target"
            " starts none. Larger values end tracks sooner."
        ),
    ] = 1e-6
    max_hypotheses: Annotated[
        int, about("Association hypotheses kept for each group. More keep identities longer, and take longer.")
    ] = 3
    max_steps: Annotated[
        int,
        about(
            "Steps of the association that a frame may take, some 20 ns each; groups beyond keep the first association"
            " found, and the frame is counted (exhausted)."
        ),
    ] = 200_000
    max_tracks: Annotated[
        int,
        about("Tracks beyond which no track starts; detections that would start one are counted (refused)."),
    ] = 1500
    late_s: Annotated[
        float, about("A frame up to this much older than the last is still put in order, s; a pipeline's come in order.")
    ] = 0.1
    smoothing_lag: Annotated[
        int, about("Frames by which tracks are published later, smoothed by what was learnt meanwhile.")
    ] = 0


def check_tracking(settings: TrackSettings) -> None:
    """Raise one UsageError that names all settings that make no tracker."""
    refuse(_faults(settings))


def _faults(settings: TrackSettings) -> Iterator[str]:
    if settings.motion not in MODELS:
        yield f"track.motion: expected {', '.join(MODELS)}, got {settings.motion!r}"
    motion = ("manoeuvre_px_s2", "own_manoeuvre_px_s2", "manoeuvre_s", "turn_rad_s", "speed_px_s")
    detector = ("clutter_density", "low_score_false_alarms", "birth_density", "resolution_px", "resolution_sd_px")
    for name in (
        *motion,
        "group_radius_px",
        "default_sd_px",
        *detector,
        "brightness_sd",
        "gate_chi2",
        "false_tracks_h",
        "max_coast_s",
    ):
        if not 0 < getattr(settings, name) < 1e9:
            yield f"track.{name}: expected a number above 0, got {getattr(settings, name)}"
    for name, limit in (("confirm_travel_px", 1e6), ("jitter_px", 1e3), ("jump_px", 1e3), ("clutter_memory_s", 1e6)):
        if not 0 <= getattr(settings, name) < limit:
            yield f"track.{name}: expected 0 or more, got {getattr(settings, name)}"
    for name, highest in (("detection_probability", 1), ("min_existence_probability", 0.5)):
        if not 0 < getattr(settings, name) < highest:
            yield f"track.{name}: expected more than 0 and less than {highest}, got {getattr(settings, name)}"
    if not 0 <= settings.late_s <= 10:
        yield f"track.late_s: expected 0 to 10, got {settings.late_s}"
    if settings.shared_lag is not None and not 0 <= settings.shared_lag <= 100:
        yield f"track.shared_lag: expected 0 to 100, got {settings.shared_lag}"
    for name, low, high in (
        ("shared_frames", 0, 101),
        ("max_hypotheses", 1, 200),
        ("max_steps", 1, 10**9),
        ("max_tracks", 1, 10**6),
        ("smoothing_lag", 0, 1000),
    ):
        if not low <= getattr(settings, name) <= high:
            yield f"track.{name}: expected {low} to {high}, got {getattr(settings, name)}"
