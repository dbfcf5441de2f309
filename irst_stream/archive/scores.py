"""Scores of a recording's results, where its truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irst_stream.errors import IrstError
from irst_stream.io import jsonl
from irst_stream.io.files import FileSource
from irst_stream.io.recording.recorder import Recording
from irst_stream.io.truth import open_truth
from irst_stream.io.truth.pairing import align_truth
from irst_stream.io.truth.truth_set import TruthSet
from irst_stream.score import frame_range, pair_frames, score_detections, score_tracks
from irst_stream.types import Detections, Tracks

__all__ = ["score_results"]

TRUTH_SUFFIX = ".truth.jsonl"


def score_results(source: FileSource | Recording, folder: Path, *, tracks: bool) -> tuple[dict[str, Any], str]:
    """Return the scores by "detections" and "tracks", and a note; none where there is no truth, or it does not fit.

    Truth is the source's own, or NAME.truth.jsonl in the folder of NAME.mcap.
    """
    separate = source.path.with_suffix(TRUTH_SUFFIX)
    path = source.path if source.has_truth else separate if separate.is_file() else None
    if path is None:
        return {}, ""
    try:
        truth = open_truth(path)
        scores = {"detections": score_detections(_pairs(folder / "detections.jsonl", Detections, truth)).as_dict()}
        if tracks:
            scores["tracks"] = score_tracks(_pairs(folder / "tracks.jsonl", Tracks, truth)).as_dict()
    except IrstError as error:
        return {}, f"{source.path}: not scored: {error}"
    return scores, ""


def _pairs(path: Path, kind: Any, truth: TruthSet) -> Any:
    found = list(jsonl.read(path, kind))
    truths, _ = align_truth([record.stamp for record in found], truth)
    return pair_frames(found, truths, frame_range(truth.frames))
