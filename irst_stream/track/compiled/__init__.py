"""The tracker's arithmetic, compiled: joint hypotheses of groups, each with one joint Gaussian over all its targets.

Targets close to each other are one group. A group has a few hypotheses, which differ in their past associations; each has a
weight, and under it the targets' states are jointly Gaussian. Process noise is common to the group, so that a merged
measurement, which shows only the targets' mean, still improves each one's state. A target exists with some probability (a
multi-Bernoulli mixture); a detection that no target explains is a false alarm or a new target.

A frame updates a hypothesis (frame.py) in these steps. Its targets are predicted (moving.py). Each detection in its gate
may be clutter or new, one target, or several merged ones; each option changes the log weight over that of clutter, by
position, brightness and the probabilities of existence, detection and merging (places.py, sight.py). The best events, which
give all detections disjoint sets of targets, over all hypotheses of the group, become its next hypotheses (events.py): a
detected target is updated and certainly exists; a missed one becomes less likely (updating.py); an unexplained detection
starts a new target (lives.py). Equal hypotheses are merged and the unlikely ones pruned (hypotheses.py). Groups that come
close are joined, hypothesis by hypothesis, and split when their targets part (gating.py). Tracks are read out in tracks.py.

The error of the detection that last updated a target can be part of its state, as the last two numbers. This error is
correlated between overlapping windows and decays from frame to frame. The errors of targets whose light overlaps have parts
in common, so that the middle of two targets may be known better than either position.

Beliefs (beliefs.py) are ragged arrays: G groups have H hypotheses, these have R rows, one for each target; M modes of the
motion model, D numbers of a state.

    first_hypothesis (G + 1,)  of each group
    first_row (H + 1,)         of each hypothesis
    first_cov (H + 1,)         first element in `cov` of each hypothesis
    log_weight (H,)            normalised over the group
    mode_probs (H, M)          probability of each mode
    x (R, M, D)                state under each mode
    cov                        (M, n D, n D) of each hypothesis' n rows, flat
    floats (R, 9 and the error parts), ints (R, 9): columns named in beliefs.py
"""

from irst_stream.track.compiled.beliefs import (
    AMPLITUDE,
    BIRTH_PROBABILITY,
    CONFIRMED,
    DETECTION,
    ERROR_PARTS,
    ERROR_VAR,
    FLOAT_COLUMNS,
    HITS,
    ID,
    INT_COLUMNS,
    LOG_RATIO,
    MEAN_X,
    MEAN_Y,
    PARENT_ROW,
    Beliefs,
    FrameDetections,
    Rules,
)
from irst_stream.track.compiled.columns import DetectionColumns, fill_columns
from irst_stream.track.compiled.frame import advance
from irst_stream.track.compiled.moving import predict
from irst_stream.track.compiled.sight import clutter_brightness
from irst_stream.track.compiled.tracks import best_tracks, smooth_back

__all__ = [
    "AMPLITUDE",
    "BIRTH_PROBABILITY",
    "CONFIRMED",
    "DETECTION",
    "ERROR_PARTS",
    "ERROR_VAR",
    "FLOAT_COLUMNS",
    "HITS",
    "ID",
    "INT_COLUMNS",
    "LOG_RATIO",
    "MEAN_X",
    "MEAN_Y",
    "PARENT_ROW",
    "Beliefs",
    "DetectionColumns",
    "FrameDetections",
    "Rules",
    "advance",
    "best_tracks",
    "clutter_brightness",
    "fill_columns",
    "predict",
    "smooth_back",
]
