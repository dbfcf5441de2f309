"""Detections against truth, frame by frame, in one report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from irst_stream.errors import FormatError, UsageError
from irst_stream.score.cso_map import CsoMap, Mode, cso_map
from irst_stream.score.errors import Errors, errors
from irst_stream.score.gospa import Gospa, gospa
from irst_stream.types import Detections, Tracks, Truth

__all__ = ["MismatchError", "Report", "frame_range", "pair_frames", "score_detections", "scored_truths"]

Pairs = list[tuple[Detections | None, Truth]]
Answer = TypeVar("Answer", Detections, Tracks)
Key = tuple[str, int, int]


class MismatchError(FormatError):
    """Detections and truth that do not belong together; in_truth says which of the two is to blame."""

    def __init__(self, message: str, *, in_truth: bool = False) -> None:
        super().__init__(message)
        self.in_truth = in_truth


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All scores of one set of detections, and how much went into them.

    unanswered: scored frames for which there was no line of detections; they count as empty.
    """

    images: int
    unanswered: int
    detections: int
    truths: int
    mode: Mode
    cso_map: CsoMap
    gospa: Gospa
    errors: Errors

    def as_dict(self) -> dict[str, Any]:
        """The report as plain numbers, for JSON; unknown is None."""
        ap = {f"{t:g}": _plain(a) for t, a in zip(self.cso_map.thresholds, self.cso_map.ap, strict=True)}
        return {
            "images": self.images,
            "unanswered": self.unanswered,
            "detections": self.detections,
            "truths": self.truths,
            "mode": self.mode,
            "cso_map": _plain(self.cso_map.map),
            "ap": ap,
            "gospa": {key: _plain(value) for key, value in asdict(self.gospa).items()},
            "errors": {key: _plain(value) for key, value in asdict(self.errors).items()},
        }


def score_detections(pairs: Pairs, mode: Mode = "standard") -> Report:
    """Scores frames, each a truth and its detections, None where there is no answer for it."""
    found = [_rows(d) for d, _ in pairs]
    amplitudes = [np.zeros(0) if d is None else d.amplitude for d, _ in pairs]
    real = [np.column_stack([t.xy, t.amplitude]) for _, t in pairs]
    return Report(
        len(pairs),
        sum(d is None for d, _ in pairs),
        sum(map(len, found)),
        sum(map(len, real)),
        mode,
        cso_map(found, real, mode=mode),
        gospa(found, real),
        errors(found, amplitudes, real),
    )


def frame_range(text: str) -> slice:
    """FIRST:LAST as Python's slices of each sequence, so 2:-2 leaves out two frames at either end; "all" is all."""
    if text == "all":
        return slice(None)
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return slice(int(first) if first else None, int(last) if last else None)
    except ValueError:
        raise UsageError(f"frames: expected FIRST:LAST such as 2:-2, or all, got {text!r}") from None


def scored_truths(truths: Iterable[Truth], frames: slice) -> dict[Key, Truth]:
    """The truths of the frames to score, by sequence, epoch and index; a sequence's frames count from 0 to its last."""
    by_key: dict[Key, Truth] = {}
    for truth in truths:
        key = _key(truth)
        if key in by_key:
            raise MismatchError(f"two lines for {_words(key)}", in_truth=True)
        by_key[key] = truth
    length: dict[tuple[str, int], int] = {}
    for sequence, epoch, index in by_key:
        length[sequence, epoch] = max(length.get((sequence, epoch), 0), index + 1)
    scored = {clip: range(*frames.indices(n)) for clip, n in length.items()}
    return {key: truth for key, truth in by_key.items() if key[2] in scored[key[:2]]}


def pair_frames(
    found: Iterable[Answer], truths: Iterable[Truth], frames: slice = slice(None)
) -> list[tuple[Answer | None, Truth]]:
    """Each scored frame's truth with its detections or tracks, in the order of the truths.

    Answers of a sequence that the truth does not know, or two answers for one frame, raise a MismatchError.
    """
    truths = list(truths)
    scored = scored_truths(truths, frames)
    known = {_key(truth) for truth in truths}
    answers: dict[Key, Answer] = {}
    for answer in found:
        key = _key(answer)
        if key in answers:
            raise MismatchError(f"two lines for {_words(key)}")
        if key not in known:
            raise MismatchError(f"{_words(key)} is not in the truth, whose first is {_first(known)}")
        answers[key] = answer
    return [(answers.get(key), truth) for key, truth in scored.items()]


def _rows(detections: Detections | None) -> Any:
    """(m, 3): x, y, score."""
    return np.zeros((0, 3)) if detections is None else np.column_stack([detections.xy, detections.score])


def _key(record: Detections | Tracks | Truth) -> Key:
    return record.stamp.sensor, record.stamp.epoch, record.stamp.index


def _words(key: Key) -> str:
    return f"sequence {key[0]!r} index {key[2]}" + (f" epoch {key[1]}" if key[1] else "")


def _first(known: set[Key]) -> str:
    return _words(min(known)) if known else "nothing: the truth is empty"


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
