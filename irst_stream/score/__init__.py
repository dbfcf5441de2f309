"""Metrics of detections and tracks against truth: CSO-mAP, errors, hits and ROC, GOSPA, OSPA(2), HOTA, IDF1, CLEAR MOT."""

from irst_stream.score.clear import Clear, clear
from irst_stream.score.cso_map import THRESHOLDS, CsoMap, cso_map, match_nearest
from irst_stream.score.detection_errors import DetectionErrors, detection_errors
from irst_stream.score.fine_maps import psnr, similarity
from irst_stream.score.gospa import Gospa, gospa
from irst_stream.score.hits import HIT_RADIUS, Hits, Roc, hits
from irst_stream.score.holding import Holding, holding
from irst_stream.score.hota import Hota, hota
from irst_stream.score.identity import Identity, identity
from irst_stream.score.ospa import ospa2
from irst_stream.score.paths import RADIUS, TruthAndTracks
from irst_stream.score.report import (
    DetectionReport,
    MismatchError,
    frame_range,
    pair_frames,
    score_detections,
    scored_truths,
)
from irst_stream.score.tracking import OverTime, TrackQuality, TrackReport, score_tracks

__all__ = [
    "HIT_RADIUS",
    "RADIUS",
    "THRESHOLDS",
    "Clear",
    "CsoMap",
    "DetectionErrors",
    "DetectionReport",
    "Gospa",
    "Hits",
    "Holding",
    "Hota",
    "Identity",
    "MismatchError",
    "OverTime",
    "Roc",
    "TrackQuality",
    "TrackReport",
    "TruthAndTracks",
    "clear",
    "cso_map",
    "detection_errors",
    "frame_range",
    "gospa",
    "hits",
    "holding",
    "hota",
    "identity",
    "match_nearest",
    "ospa2",
    "pair_frames",
    "psnr",
    "score_detections",
    "score_tracks",
    "scored_truths",
    "similarity",
]
