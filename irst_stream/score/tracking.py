"""Score confirmed tracks against truth over all their frames, and report all tracking scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from irst_stream.score.clear import Clear, clear
from irst_stream.score.gospa import Gospa, gospa_parts, mean_gospa
from irst_stream.score.hits import CRITERIA, HIT_RADIUS, Criterion
from irst_stream.score.holding import Holding, holding, is_single_target
from irst_stream.score.hota import Hota, hota
from irst_stream.score.identity import Identity, identity
from irst_stream.score.ospa import ospa2
from irst_stream.score.paths import RADIUS, TruthAndTracks
from irst_stream.score.report import plain_values
from irst_stream.types import Floats, Ints, Tracks, Truth

__all__ = ["OverTime", "TrackQuality", "TrackReport", "score_tracks"]

GOSPA_P = 2.0  # as for detections


@dataclass(frozen=True, slots=True)
class TrackQuality:
    """Errors, purity and confirmation delay of tracks, over the matches of CLEAR; NaN where there is nothing to measure.

    position_rmse px and velocity_rmse px/s: of the error vectors' lengths. The true velocity is the central difference of
    the true positions, so it is known only where the target is in both neighbouring frames and time passes, and it
    includes the platform's jitter if the truth does.
    purity: share of matched points whose target is the one that their track is matched to most often.
    confirm_frames, confirm_ms: mean delay from a target's first frame to its first match with a confirmed track, 0 if
    these are the same frame, over targets that are ever matched; never: number of targets that are never matched.
    """

    position_rmse: float
    velocity_rmse: float
    purity: float
    confirm_frames: float
    confirm_ms: float
    never: int


@dataclass(frozen=True, slots=True, eq=False)
class OverTime:
    """Means over sequences at each of T frame numbers.

    index (T,): the frame numbers; gospa (T,) px; parts (T, 3) px^2: localisation, missed, false; position_rmse (T,) px,
    NaN without a match; targets, tracks (T,): their numbers.
    """

    index: Ints
    gospa: Floats
    parts: Floats
    position_rmse: Floats
    targets: Floats
    tracks: Floats


@dataclass(frozen=True, slots=True, eq=False)
class TrackReport:
    """All scores of one set of confirmed tracks, and the numbers of frames, identities and points scored.

    unanswered: number of scored frames without a line of tracks, which count as empty; targets, tracks: numbers of
    identities; truths, points: numbers of their points over all frames; gospa: its cut-off is the radius; ospa2 px;
    holding: by criterion, where the truth has boxes or one target at most in a frame, else empty.
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
    follow: TrackQuality
    over_time: OverTime
    holding: dict[Criterion, Holding]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain numbers for JSON; NaN and infinity become None."""
        counts = {key: getattr(self, key) for key in ("frames", "unanswered", "targets", "tracks", "truths", "points")}
        parts = {key: asdict(getattr(self, key)) for key in ("gospa", "hota", "identity", "follow", "over_time")}
        clear_metrics = {key: getattr(self.clear, key) for key in Clear.__slots__ if key not in ("truth", "track")}
        held = {key: asdict(value) for key, value in self.holding.items()}
        values = {"ospa2": self.ospa2, "clear": clear_metrics, "holding": held, **parts}
        return {**counts, "radius": self.radius, **plain_values(values)}


def score_tracks(frames: list[tuple[Tracks | None, Truth]], radius: float | None = None) -> TrackReport:
    """Score the confirmed tracks of each frame, None where it has no line of tracks, against its truth.

    radius: largest distance, px, at which a track can match a target, in every score; None for RADIUS, or for HIT_RADIUS
    where the truth has boxes.
    """
    truths = [truth for _, truth in frames]
    boxes = any(truth.has_boxes for truth in truths)
    radius = radius or (HIT_RADIUS if boxes else RADIUS)
    criteria = CRITERIA if boxes else CRITERIA[:1] if is_single_target(truths) else ()
    data = TruthAndTracks.of(frames, radius)
    parts = gospa_parts(data.tracks.points.count, data.truth.points, data.pairs, radius, GOSPA_P)
    matches = clear(data)
    return TrackReport(
        len(frames),
        sum(tracks is None for tracks, _ in frames),
        len(data.truth.sequence),
        len(data.tracks.sequence),
        len(data.truth.path),
        len(data.tracks.path),
        radius,
        mean_gospa(parts, GOSPA_P),
        ospa2(data),
        hota(data),
        identity(data),
        matches,
        _track_quality(data, matches),
        _over_time(data, matches, parts),
        {criterion: holding(data, criterion) for criterion in criteria},
    )


def _track_quality(data: TruthAndTracks, matches: Clear) -> TrackQuality:
    error = data.tracks.velocity[matches.track] - data.truth.velocity[matches.truth]
    known = error[np.isfinite(error).all(1)]
    target, targets = data.truth.path[matches.truth], len(data.truth.sequence)
    first_frame = _first_frame(data.truth.points.image, data.truth.path, targets)
    first_match = _first_frame(data.truth.points.image[matches.truth], target, targets)
    found = np.flatnonzero(first_match >= 0)
    delay = data.step[first_match[found]] - data.step[first_frame[found]]
    delay_ns = data.time_ns[first_match[found]] - data.time_ns[first_frame[found]]
    return TrackQuality(
        _mean(_squared_error(data, matches)) ** 0.5,
        _mean((known**2).sum(1)) ** 0.5,
        _purity(data.tracks.path[matches.track], target),
        _mean(delay),
        _mean(delay_ns) * 1e-6,
        targets - len(found),
    )


def _over_time(data: TruthAndTracks, matches: Clear, parts: Floats) -> OverTime:
    """Average over sequences at each frame number; parts (F, 3): of each frame's GOSPA, px^2."""
    index, place = np.unique(data.index, return_inverse=True)
    frames = np.bincount(place, minlength=len(index))
    columns = (parts.sum(1) ** (1 / GOSPA_P), *parts.T, data.truth.points.count, data.tracks.points.count)
    total, localisation, missed, false, targets, tracks = (
        np.bincount(place, column, minlength=len(index)) / frames for column in columns
    )
    place_of_match = place[data.truth.points.image[matches.truth]]
    matched = np.bincount(place_of_match, minlength=len(index))
    squares = np.bincount(place_of_match, _squared_error(data, matches), minlength=len(index))
    rms = np.sqrt(squares / np.where(matched > 0, matched, np.nan))
    return OverTime(index, total, np.column_stack([localisation, missed, false]), rms, targets, tracks)


def _squared_error(data: TruthAndTracks, matches: Clear) -> Floats:
    """(matched,): squared position errors, px^2."""
    offset = data.tracks.points.rows[matches.track] - data.truth.points.rows[matches.truth]
    return np.asarray((offset**2).sum(1))


def _first_frame(frame: Ints, path: Ints, paths: int) -> Ints:
    """(paths,): the first frame of each path, -1 without any; frame, path (R,): of its points."""
    first = np.full(paths, np.iinfo(np.int64).max)
    np.minimum.at(first, path, frame)
    return np.where(first == np.iinfo(np.int64).max, -1, first)


def _purity(track: Ints, target: Ints) -> float:
    """The share of M matches, track, target (M,), with the target that is most frequent for their track; NaN for none."""
    if not len(track):
        return np.nan
    couple, shared = np.unique(np.column_stack([track, target]), axis=0, return_counts=True)
    most = np.zeros(int(track.max()) + 1, np.int64)
    np.maximum.at(most, couple[:, 0], shared)
    return float(most.sum() / len(track))


def _mean(values: Floats | Ints) -> float:
    return float(values.mean()) if len(values) else np.nan
