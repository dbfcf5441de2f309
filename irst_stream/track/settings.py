"""What a tracker is told beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from irst_stream.settings import refuse

__all__ = ["Motion", "TrackSettings", "check_tracking"]

Motion = Literal["velocity", "acceleration", "turn", "imm"]


@dataclass(frozen=True)
class TrackSettings:
    """What is known of targets and detector, how tracks start and end, and how hard to think.

    How members of a group move by themselves matters most. The default of own_sway_px_s is for members that swing about
    their places or cross each other; where they are known to fly straight, 0.3 keeps their identity longer, and where they
    manoeuvre hard one by one, 3 to 5 does. What is too small is worse than what is too large: tracks then stay behind, and
    are surer than they should be. tools/bench_tracker.py has them, and motion "imm", which does well in all in twice the
    time.
    """

    motion: Motion = "velocity"  # see track/motion.py; imm: calm, agile and turning either way, whichever fits
    sway_px_s: float = 10.0  # px/s: by how much a group's common velocity wanders in a second, along each axis
    own_sway_px_s: float = 1.5  # px/s: by how much each target's own velocity does beside that
    turn_rad_s: float = 0.5  # of "turn" and "imm"
    speed_px_s: float = 15.0  # standard deviation of a new target's velocity, along each axis
    group_px: float = 3.0  # targets this near to each other are one group: they sway together, and are judged together
    overlap: int = 0  # detections a row that share measurements, so that their errors are alike; a pipeline knows: 0
    deviation_px: float = 0.1  # of detections that come without a covariance
    detected: float = 0.95  # the chance that a target is seen in a frame
    false_alarms: float = 4e-4  # a px^2 and frame, where detections come at all
    mistakes: float = 1e-2  # the same of such as give themselves a score of 0, beside targets; those of 1 make none
    births: float = 2e-5  # new targets a px^2 and frame
    resolution_px: float = 0.5  # targets nearer to each other than this are detected as one
    resolution_sd_px: float = 0.05  # how sharp that is
    brightness: bool = True  # whether it tells targets apart
    brightness_sd: float = 0.03  # of a detection that comes without a deviation, and of what changes in a second; relative
    gate: float = 16.0  # chi^2, two degrees of freedom: what lies beyond belongs to another target
    start: Literal["hits", "score"] = "hits"  # tracks are confirmed by hits of frames, or by their log-likelihood ratio
    hits: int = 2  # 3 of 4 where false alarms are many and nobody is in a hurry
    of: int = 3
    score: float = 12.0  # log-likelihood ratio that confirms
    end_s: float = 0.3  # a confirmed track that has not been seen for so long ends
    least: float = 1e-3  # so does one that is less likely than this to exist
    hypotheses: int = 3  # of each group, in how its detections belong to its targets
    late_s: float = 0.1  # a frame that is so much older than the last is still put in order; a pipeline's come in order
    lag: int = 0  # frames: tracks are published so much later, smoothed, and by what was learnt meanwhile


def check_tracking(settings: TrackSettings) -> None:
    """Raises one UsageError that names all settings that make no tracker."""
    refuse(_faults(settings))


def _faults(settings: TrackSettings) -> Iterator[str]:
    positive = (
        "sway_px_s",
        "own_sway_px_s",
        "turn_rad_s",
        "speed_px_s",
        "group_px",
        "deviation_px",
        "false_alarms",
        "mistakes",
    )
    for name in (*positive, "births", "resolution_px", "resolution_sd_px", "brightness_sd", "gate", "score", "end_s"):
        if not 0 < getattr(settings, name) < 1e9:
            yield f"track.{name}: expected a number above 0, got {getattr(settings, name)}"
    if not 0 < settings.detected < 1:
        yield f"track.detected: expected more than 0 and less than 1, got {settings.detected}"
    if not 0 < settings.least < 0.5:
        yield f"track.least: expected more than 0 and less than 0.5, got {settings.least}"
    if not 1 <= settings.hits <= settings.of <= 32:
        yield f"track.hits, of: expected 1 <= hits <= of <= 32, got {settings.hits}, {settings.of}"
    if not 0 <= settings.late_s <= 10:
        yield f"track.late_s: expected 0 to 10, got {settings.late_s}"
    for name, low, high in (("overlap", 0, 101), ("hypotheses", 1, 200), ("lag", 0, 1000)):
        if not low <= getattr(settings, name) <= high:
            yield f"track.{name}: expected {low} to {high}, got {getattr(settings, name)}"
