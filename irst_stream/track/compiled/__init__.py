"""The tracker's arithmetic, compiled: joint hypotheses of groups, each with one joint Gaussian over all its targets.

Targets that are near to each other are one group. What is believed of a group is a few hypotheses, which differ in what
was taken to come from what; each has a weight, and under it the targets' states are jointly Gaussian: they sway together,
so that a merged measurement, which shows only their mean, still tells where each is. A target exists with some
probability (a multi-Bernoulli mixture); what no target explains is a false alarm or a new one.

What a frame does to a hypothesis (frame.py): its targets move on (moving.py). Each detection near its group may be clutter
or new, one target, or several that are merged; each of these options gains or loses log weight over clutter, from place,
brightness and the chances to be there, to be seen and to be merged (places.py, sight.py). The best ways to give all
detections disjoint sets of targets, over all hypotheses of the group, become its next hypotheses (events.py): who was
given a detection is updated with it and certainly exists; who was not is the less likely to (updating.py); what nobody was
given starts a new target (lives.py). Then those that say the same become one, with their weights' sum, and but a few of
the heaviest stay (hypotheses.py). Groups that come near are joined, hypothesis by hypothesis, and fall apart when their
targets do (groups.py). What is published of all that is in tracks.py.

The error of the detection that a target was last seen by can be part of its state, whose last two numbers it then is: what
windows that overlap say errs alike, which fades from frame to frame, and the errors of targets that share light have parts
in common, so that two may be known to be where only their middle is certain.

Beliefs (beliefs.py) are ragged arrays: groups have hypotheses, hypotheses have rows, one for each target.

    group (G + 1,)  first hypothesis of each      hypothesis (H + 1,)  first row of each    block (H + 1,)  first of `cov`
    log_weight (H,)                               chance (H, M)        of each motion model
    x (R, M, D)     state under each model        cov                  (M, n D, n D) of each hypothesis' n rows, flat
    real (R, 6 and a factor), whole (R, 7)        see the names of their columns in beliefs.py
"""

from irst_stream.track.compiled.beliefs import (
    CONFIRMED,
    DETECTION,
    ERROR_VAR,
    ID,
    NEW,
    PARENT,
    PARTS,
    REALS,
    WHOLES,
    WORTH,
    Beliefs,
    Rules,
)
from irst_stream.track.compiled.frame import advance
from irst_stream.track.compiled.moving import predict
from irst_stream.track.compiled.sight import unusual
from irst_stream.track.compiled.tracks import published, smoothed

__all__ = [
    "CONFIRMED",
    "DETECTION",
    "ERROR_VAR",
    "ID",
    "NEW",
    "PARENT",
    "PARTS",
    "REALS",
    "WHOLES",
    "WORTH",
    "Beliefs",
    "Rules",
    "advance",
    "predict",
    "published",
    "smoothed",
    "unusual",
]
