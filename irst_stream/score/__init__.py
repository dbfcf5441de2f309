"""How good detections are: CSO-mAP, and beside it what cannot be gamed."""

from irst_stream.score.cso_map import THRESHOLDS, CsoMap, cso_map, match_nearest, precision_recall
from irst_stream.score.errors import Errors, errors
from irst_stream.score.fine_maps import psnr, similarity
from irst_stream.score.gospa import Gospa, gospa
from irst_stream.score.report import MismatchError, Report, frame_range, pair_frames, score_detections, scored_truths

__all__ = [
    "THRESHOLDS",
    "CsoMap",
    "Errors",
    "Gospa",
    "MismatchError",
    "Report",
    "cso_map",
    "errors",
    "frame_range",
    "gospa",
    "match_nearest",
    "pair_frames",
    "precision_recall",
    "psnr",
    "score_detections",
    "scored_truths",
    "similarity",
]
