"""Pair detections with truth frame by frame, and report all detection scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from irst_stream.errors import FormatError, UsageError
from irst_stream.score.cso_map import CsoMap, MatchingMode, cso_map
from irst_stream.score.detection_errors import DetectionErrors, detection_errors
from irst_stream.score.gospa import Gospa, gospa
from irst_stream.score.hits import CRITERIA, HIT_RADIUS, Criterion, Hits, hits
from irst_stream.types import Detections, Tracks, Truth

__all__ = [
    "DetectionReport",
    "MismatchError",
    "ScoredFrames",
    "frame_range",
    "pair_frames",
    "plain_values",
    "score_detections",
    "scored_truths",
]

ScoredFrames = list[tuple[Detections | None, Truth]]
Result = TypeVar("Result", Detections, Tracks)
FrameKey = tuple[str, int, int]  # sequence, epoch, index


class MismatchError(FormatError):
    """Results and truth that do not fit together.

    in_truth: whether the fault is in the truth; covered: first and last index that the truth has of a sequence whose
    results go beyond it, None for any other fault.
    """

    def __init__(self, message: str, *, in_truth: bool = False, covered: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.in_truth, self.covered = in_truth, covered


@dataclass(frozen=True, slots=True, eq=False)
class DetectionReport:
    """All scores of one set of detections, and the numbers of frames, detections and truths scored.

    unanswered: number of scored frames without a line of detections; they count as empty. boxes: whether the truth has
    boxes, of which CSO-mAP says nothing: as_dict leaves it out. hits: by criterion, at the radius, px; none without one.
    """

    images: int
    unanswered: int
    detections: int
    truths: int
    mode: MatchingMode
    cso_map: CsoMap
    gospa: Gospa
    errors: DetectionErrors
    boxes: bool
    radius: float | None
    hits: dict[Criterion, Hits]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain numbers for JSON; NaN and infinity become None."""
        counts = {key: getattr(self, key) for key in ("images", "unanswered", "detections", "truths")}
        ap = {f"{t:g}": float(a) for t, a in zip(self.cso_map.thresholds, self.cso_map.ap, strict=True)}
        fine = {} if self.boxes else {"cso_map": self.cso_map.map, "ap": ap}
        parts = {"gospa": asdict(self.gospa), "errors": asdict(self.errors)}
        if self.radius is not None:
            parts["hits"] = {"radius": self.radius, **{key: asdict(value) for key, value in self.hits.items()}}
        return {**counts, "mode": self.mode, **plain_values({**fine, **parts})}


def score_detections(frames: ScoredFrames, mode: MatchingMode = "standard", radius: float | None = None) -> DetectionReport:
    """Score the detections of each frame, None where it has no line of detections, against its truth.

    radius: px, how far from a target's centre or box a detection may lie to count as a hit; None for HIT_RADIUS where the
    truth has boxes, and for no hits where it has not.
    """
    found = [_rows(d) for d, _ in frames]
    amplitudes = [np.zeros(0) if d is None else d.amplitude for d, _ in frames]
    truths = [truth for _, truth in frames]
    places = [truth.xy for truth in truths]
    boxes = any(truth.has_boxes for truth in truths)
    radius = HIT_RADIUS if radius is None and boxes else radius
    criteria: tuple[Criterion, ...] = () if radius is None else CRITERIA if boxes else CRITERIA[:1]
    return DetectionReport(
        len(frames),
        sum(d is None for d, _ in frames),
        sum(map(len, found)),
        sum(map(len, truths)),
        mode,
        cso_map(found, places, mode=mode),
        gospa(found, places),
        detection_errors(found, amplitudes, [np.column_stack([t.xy, t.amplitude]) for t in truths]),
        boxes,
        radius,
        {criterion: hits(found, truths, radius or 0.0, criterion) for criterion in criteria},
    )


def frame_range(text: str) -> slice:
    """Parse FIRST:LAST, a Python slice of each sequence's frames, or "all"; 2:-2 leaves out two frames at either end."""
    if text == "all":
        return slice(None)
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return slice(int(first) if first else None, int(last) if last else None)
    except ValueError:
        raise UsageError(f"frames: expected FIRST:LAST, for example 2:-2, or all, got {text!r}") from None


def scored_truths(truths: Iterable[Truth], frames: slice) -> dict[FrameKey, Truth]:
    """Select the truths of the frames to score, keyed by sequence, epoch and index, in input order.

    A sequence's frames run from 0 to the last index in its truth. Two truths of one frame raise a MismatchError.
    """
    by_key: dict[FrameKey, Truth] = {}
    for truth in truths:
        key = _key(truth)
        if key in by_key:
            raise MismatchError(f"two lines for {_describe(key)}", in_truth=True)
        by_key[key] = truth
    scored = {sequence: range(*frames.indices(n)) for sequence, n in _lengths(by_key).items()}
    return {key: truth for key, truth in by_key.items() if key[2] in scored[key[:2]]}


def pair_frames(
    results: Iterable[Result], truths: Iterable[Truth], frames: slice = slice(None)
) -> list[tuple[Result | None, Truth]]:
    """Pair the truth of each scored frame with its detections or tracks, None if it has none, in the order of the truths.

    A result for one of the frames that is not in the truth, or two results for one frame, raise a MismatchError.
    """
    truths = list(truths)
    scored = scored_truths(truths, frames)
    known: set[FrameKey] = {_key(truth) for truth in truths}
    by_key: dict[FrameKey, Result] = {}
    for result in results:
        key = _key(result)
        if key in by_key:
            raise MismatchError(f"two lines for {_describe(key)}")
        by_key[key] = result
    length = _lengths([*known, *by_key])
    sequences = {key[:2] for key in known}
    for key in by_key:
        is_scored = key[:2] not in sequences or key[2] in range(*frames.indices(length[key[:2]]))
        if key not in known and is_scored:
            raise _without_truth(key, known)
    return [(by_key.get(key), truth) for key, truth in scored.items()]


def _lengths(keys: Iterable[FrameKey]) -> dict[tuple[str, int], int]:
    """How many frames each sequence has, by sequence and epoch: from 0 to its last index."""
    length: dict[tuple[str, int], int] = {}
    for sequence, epoch, index in keys:
        length[sequence, epoch] = max(length.get((sequence, epoch), 0), index + 1)
    return length


def _rows(detections: Detections | None) -> Any:
    """(m, 3): x, y, score."""
    return np.zeros((0, 3)) if detections is None else np.column_stack([detections.xy, detections.score])


def _key(record: Detections | Tracks | Truth) -> FrameKey:
    return record.stamp.sensor, record.stamp.epoch, record.stamp.index


def _describe(key: FrameKey) -> str:
    return f"sequence {key[0]!r} index {key[2]}" + (f" epoch {key[1]}" if key[1] else "")


def _without_truth(key: FrameKey, known: set[FrameKey]) -> MismatchError:
    """Return the error of a frame without truth: it says what the truth has of its sequence, or where it starts."""
    own = [index for sequence, epoch, index in known if (sequence, epoch) == key[:2]]
    if own:
        words, covered = f"has index {min(own)} to {max(own)} of that sequence", (min(own), max(own))
    else:
        words, covered = f"starts at {_describe(min(known))}" if known else "is empty", (0, -1)
    beyond = bool(own) and not covered[0] <= key[2] <= covered[1]
    return MismatchError(f"{_describe(key)} is not in the truth, which {words}", covered=covered if beyond else None)


def plain_values(value: Any) -> Any:
    """Convert nested values to plain numbers, words, dicts and lists; NaN and infinity become None."""
    if isinstance(value, dict):
        return {key: plain_values(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | list):
        return [plain_values(part) for part in value]
    return (float(value) if np.isfinite(value) else None) if isinstance(value, float) else int(value)
