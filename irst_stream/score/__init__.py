"""How good detections and tracks are: CSO-mAP and what cannot be gamed; GOSPA, OSPA(2), HOTA, IDF1, CLEAR MOT."""

from irst_stream.score.clear import Clear, clear
from irst_stream.score.cso_map import THRESHOLDS, CsoMap, cso_map, match_nearest
from irst_stream.score.errors import Errors, errors
from irst_stream.score.fine_maps import psnr, similarity
from irst_stream.score.gospa import Gospa, gospa
from irst_stream.score.hota import Hota, hota
from irst_stream.score.identity import Identity, identity
from irst_stream.score.ospa import ospa2
from irst_stream.score.paths import RADIUS, Encounters
from irst_stream.score.report import MismatchError, Report, frame_range, pair_frames, score_detections, scored_truths
from irst_stream.score.tracking import Follow, OverTime, TrackReport, score_tracks

__all__ = [
    "RADIUS",
    "THRESHOLDS",
    "Clear",
    "CsoMap",
    "Encounters",
    "Errors",
    "Follow",
    "Gospa",
    "Hota",
    "Identity",
    "MismatchError",
    "OverTime",
    "Report",
    "TrackReport",
    "clear",
    "cso_map",
    "errors",
    "frame_range",
    "gospa",
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
