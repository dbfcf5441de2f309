"""Tracks against truth, over all their frames, in one report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from irst_stream.score.clear import Clear, clear
from irst_stream.score.gospa import Gospa, gospa_parts, mean_gospa
from irst_stream.score.hota import Hota, hota
from irst_stream.score.identity import Identity, identity
from irst_stream.score.ospa import ospa2
from irst_stream.score.paths import RADIUS, Encounters
from irst_stream.types import Floats, Ints, Tracks, Truth

__all__ = ["Follow", "OverTime", "TrackReport", "score_tracks"]

P = 2.0  # of GOSPA, as for detections


@dataclass(frozen=True, slots=True)
class Follow:
    """How targets are followed, over the matches of CLEAR; NaN where there is nothing to measure.

    position_rmse px and velocity_rmse px/s, of the vectors' lengths; the true velocity is the central difference of the
    truth, so it counts only where the target is in both neighbouring frames and time passes, and it holds the platform's
    jitter where the truth does.
    purity: share of each track's matched frames that are with the target it is with most, over all matched frames.
    confirm_frames, confirm_ms: mean time from a target's first frame to the first in which a confirmed track is with it, 0
    for at once, over targets that ever had one; never: targets that had none.
    """

    position_rmse: float
    velocity_rmse: float
    purity: float
    confirm_frames: float
    confirm_ms: float
    never: int


@dataclass(frozen=True, slots=True, eq=False)
class OverTime:
    """Means over sequences, frame number by frame number: index (T,), and of each the GOSPA px, its parts px^2 (T, 3) as
    localisation, missed, false, the position error's rms px, NaN without a match, targets and tracks.
    """

    index: Ints
    gospa: Floats
    parts: Floats
    position_rmse: Floats
    targets: Floats
    tracks: Floats


@dataclass(frozen=True, slots=True, eq=False)
class TrackReport:
    """All scores of one set of confirmed tracks, and how much went into them.

    unanswered: scored frames without a line of tracks, which count as empty; targets, tracks: identities; truths, points:
    what they add up to over the frames; gospa: its cut-off is the radius; ospa2 px.
    """

    frames: int
    unanswered: int
    targets: int
    tracks: int
    truths: int
    points: int
    radius: float
    gospa: Gospa
    ospa2: float
    hota: Hota
    identity: Identity
    clear: Clear
    follow: Follow
    over_time: OverTime

    def as_dict(self) -> dict[str, Any]:
        """The report as plain numbers, for JSON; unknown is None."""
        counts = {key: getattr(self, key) for key in ("frames", "unanswered", "targets", "tracks", "truths", "points")}
        parts = {key: asdict(getattr(self, key)) for key in ("gospa", "hota", "identity", "follow", "over_time")}
        steps = {key: getattr(self.clear, key) for key in Clear.__slots__ if key not in ("truth", "track")}
        return {**counts, "radius": self.radius, "ospa2": _plain(self.ospa2), "clear": _plain(steps), **_plain(parts)}


def score_tracks(frames: list[tuple[Tracks | None, Truth]], radius: float = RADIUS) -> TrackReport:
    """Scores frames, each a truth and its tracks, None where there is no answer for it; only confirmed tracks count.

    radius: px from which a track has nothing to do with a target, in every score.
    """
    met = Encounters.of(frames, radius)
    parts = gospa_parts(met.found.points.count, met.real.points, met.pairs, radius, P)
    steps = clear(met)
    return TrackReport(
        len(frames),
        sum(tracks is None for tracks, _ in frames),
        len(met.real.sequence),
        len(met.found.sequence),
        len(met.real.path),
        len(met.found.path),
        radius,
        mean_gospa(parts, P),
        ospa2(met),
        hota(met),
        identity(met),
        steps,
        _follow(met, steps),
        _over_time(met, steps, parts),
    )


def _follow(met: Encounters, steps: Clear) -> Follow:
    """Errors, purity and delay, over the pairs that CLEAR matched."""
    drift = met.found.velocity[steps.track] - met.real.velocity[steps.truth]
    known = drift[np.isfinite(drift).all(1)]
    frame, target = met.real.points.image[steps.truth], met.real.path[steps.truth]
    born, matched = (_first(of, who, len(met.real.sequence)) for of, who in (_all(met), (frame, target)))
    found = np.flatnonzero(matched >= 0)
    delay = met.step[matched[found]] - met.step[born[found]]
    delay_ns = met.time_ns[matched[found]] - met.time_ns[born[found]]
    return Follow(
        _mean(_squared_error(met, steps)) ** 0.5,
        _mean((known**2).sum(1)) ** 0.5,
        _purity(met.found.path[steps.track], target),
        _mean(delay),
        _mean(delay_ns) * 1e-6,
        len(matched) - len(found),
    )


def _over_time(met: Encounters, steps: Clear, parts: Floats) -> OverTime:
    """What changes over the frames; parts (F, 3) of each frame's GOSPA, px^2."""
    index, place = np.unique(met.index, return_inverse=True)
    frames = np.bincount(place, minlength=len(index))
    columns = (parts.sum(1) ** (1 / P), *parts.T, met.real.points.count, met.found.points.count)
    total, localisation, missed, false, targets, tracks = (
        np.bincount(place, column, minlength=len(index)) / frames for column in columns
    )
    when = place[met.real.points.image[steps.truth]]
    matches = np.bincount(when, minlength=len(index))
    squares = np.bincount(when, _squared_error(met, steps), minlength=len(index))
    rms = np.sqrt(squares / np.where(matches > 0, matches, np.nan))
    return OverTime(index, total, np.column_stack([localisation, missed, false]), rms, targets, tracks)


def _squared_error(met: Encounters, steps: Clear) -> Floats:
    """(matched,) px^2."""
    offset = met.found.points.rows[steps.track] - met.real.points.rows[steps.truth]
    return np.asarray((offset**2).sum(1))


def _all(met: Encounters) -> tuple[Ints, Ints]:
    return met.real.points.image, met.real.path


def _first(frame: Ints, path: Ints, paths: int) -> Ints:
    """(paths,): the first of the frames given with each path, -1 for none."""
    first = np.full(paths, np.iinfo(np.int64).max)
    np.minimum.at(first, path, frame)
    return np.where(first == np.iinfo(np.int64).max, -1, first)


def _purity(track: Ints, target: Ints) -> float:
    """Of matched frames; NaN without any."""
    if not len(track):
        return np.nan
    couple, shared = np.unique(np.column_stack([track, target]), axis=0, return_counts=True)
    most = np.zeros(int(track.max()) + 1, np.int64)
    np.maximum.at(most, couple[:, 0], shared)
    return float(most.sum() / len(track))


def _mean(values: Floats | Ints) -> float:
    return float(values.mean()) if len(values) else np.nan


def _plain(value: Any) -> Any:
    """Plain numbers, None for unknown ones, in whatever they are nested."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(part) for part in value]
    return (float(value) if np.isfinite(value) else None) if isinstance(value, float) else int(value)
