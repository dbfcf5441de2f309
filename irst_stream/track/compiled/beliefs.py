"""The hypotheses of all groups as arrays, and a workspace for those of one group. Compiled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = [
    "AGE",
    "AMPLITUDE",
    "AMPLITUDE_VAR",
    "BIRTH_PROBABILITY",
    "CONFIRMED",
    "DETECTABILITY",
    "DETECTION",
    "ERROR_PARTS",
    "ERROR_SOURCE",
    "ERROR_VAR",
    "EVIDENCE_AGE",
    "EXISTENCE",
    "FLOAT_COLUMNS",
    "HITS",
    "ID",
    "INT_COLUMNS",
    "LAST_ERROR_PARTS",
    "LAST_ERROR_VAR",
    "LAST_SEEN_S",
    "LOG_RATIO",
    "MAX_GROUP_TARGETS",
    "MAX_LOG_WEIGHT_DROP",
    "MEAN_X",
    "MEAN_Y",
    "MISSES",
    "PARENT_ROW",
    "SCORE",
    "TINY",
    "Beliefs",
    "FrameDetections",
    "Rules",
    "append_group",
    "copy_hypothesis",
    "copy_row",
    "detections_of",
    "empty_workspace",
    "error_covariance",
    "keep_rows",
    "load_group",
]

# Columns of `floats`. SCORE: log-likelihood ratio of target to clutter; MEAN_X, MEAN_Y: of the places where the target was
# detected; DETECTABILITY: its own detection probability. The error parts take all columns from LAST_ERROR_PARTS on.
(
    AMPLITUDE,
    AMPLITUDE_VAR,
    EXISTENCE,
    SCORE,
    LAST_SEEN_S,
    MEAN_X,
    MEAN_Y,
    DETECTABILITY,
    LAST_ERROR_VAR,
    LAST_ERROR_PARTS,
) = range(10)
# Columns of `ints`. AGE: frames since the first detection, that one included; MISSES: since the last one; EVIDENCE_AGE: at
# the last detection that counted in SCORE.
ID, HITS, MISSES, AGE, CONFIRMED, DETECTION, PARENT_ROW, ERROR_SOURCE, EVIDENCE_AGE = range(9)
FLOAT_COLUMNS, INT_COLUMNS = LAST_ERROR_PARTS, 9  # numbers of columns, without the error parts
# Columns of `measurements`, see frame.advance; the error parts take all columns from ERROR_PARTS on.
BIRTH_PROBABILITY, LOG_RATIO, ERROR_VAR, ERROR_PARTS = range(5, 9)
MAX_GROUP_TARGETS = 10  # further targets nearby form a group of their own
TINY = 1e-300
MAX_LOG_WEIGHT_DROP = 12.0  # hypotheses whose log weight is further below the best one's are dropped


class Beliefs(NamedTuple):
    """Hypotheses of all groups, as ragged arrays: shapes in the docstring of track/compiled."""

    first_hypothesis: Any
    first_row: Any
    first_cov: Any
    log_weight: Any
    mode_probs: Any
    x: Any
    cov: Any
    floats: Any
    ints: Any


class FrameDetections(NamedTuple):
    """Detections of one frame, of all of it or of one group.

    measurements (N, 8 + 2 R), in columns: x, y px; the covariance that gating and update use (xx, xy, yy), px^2;
    BIRTH_PROBABILITY: that an unexplained detection is a new target; LOG_RATIO: log of the detection probability over the
    density of clutter and new targets, px^2; ERROR_VAR: variance of the error, both axes added up, px^2; from ERROR_PARTS
    on: the parts of that error (2, R), R = 0 where errors are not part of the state.

    error_sources (N,): equal for detections whose errors share their parts; amplitudes (N, 2): DN and variance, NaN where
    unknown; log_clutter (N,): see clutter_brightness; rows (N,): of the frame; first_id: id of the track that the frame's
    first detection may start, the others' follow; now_s: time of the frame.
    """

    measurements: Any
    error_sources: Any
    amplitudes: Any
    log_clutter: Any
    rows: Any
    first_id: Any
    now_s: Any


class Rules(NamedTuple):
    """The TrackSettings that the compiled code uses, under their names, and what follows from them."""

    detection_probability: float
    resolution_px: float
    resolution_sd_px: float
    gate_chi2: float
    group_radius_px: float
    errors_in_state: bool  # a detection's error is part of the state: its last two numbers
    brightness: bool
    amplitude_drift: float  # variance that an amplitude gains in a frame, relative to its square
    repeats: int  # consecutive frames in which one false alarm may be detected
    confirm_score: float  # log-likelihood ratio that confirms a track: see track.clutter
    confirm_travel_px: float
    jump_px: float
    max_coast_s: float
    min_existence_probability: float
    survival_probability: float  # from frame to frame
    speed_var: float  # px^2/s^2, of a new target along each axis
    acceleration_var: float  # px^2/s^4, likewise
    max_hypotheses: int
    max_steps: int  # in a frame
    max_tracks: int  # beyond which no track starts


class Workspace(NamedTuple):
    """Space for K hypotheses of one group; the arrays as in Beliefs."""

    target_count: Any  # (K,)
    log_weight: Any  # (K,)
    mode_probs: Any  # (K, M)
    x: Any  # (K, MAX_GROUP_TARGETS, M, D)
    cov: Any  # (K, M, MAX_GROUP_TARGETS * D, MAX_GROUP_TARGETS * D)
    floats: Any  # (K, MAX_GROUP_TARGETS, FLOAT_COLUMNS and the error parts)
    ints: Any  # (K, MAX_GROUP_TARGETS, INT_COLUMNS)


@compiled
def empty_workspace(hypotheses, beliefs):  # type: ignore[no-untyped-def]
    """A workspace for this number of hypotheses, with the columns of these beliefs."""
    modes, size = beliefs.x.shape[1:]
    n = MAX_GROUP_TARGETS
    return Workspace(
        np.zeros(hypotheses, np.int64),
        np.zeros(hypotheses),
        np.zeros((hypotheses, modes)),
        np.zeros((hypotheses, n, modes, size)),
        np.zeros((hypotheses, modes, n * size, n * size)),
        np.zeros((hypotheses, n, beliefs.floats.shape[1])),
        np.zeros((hypotheses, n, INT_COLUMNS), np.int64),
    )


@compiled
def load_group(beliefs, g, workspace):  # type: ignore[no-untyped-def]
    """Copy group g's hypotheses into a workspace; return their number."""
    modes, size = beliefs.x.shape[1:]
    begin, end = beliefs.first_hypothesis[g], beliefs.first_hypothesis[g + 1]
    for k in range(end - begin):
        h = begin + k
        first, n, at = beliefs.first_row[h], beliefs.first_row[h + 1] - beliefs.first_row[h], beliefs.first_cov[h]
        workspace.target_count[k], workspace.log_weight[k] = n, beliefs.log_weight[h]
        for m in range(modes):
            workspace.mode_probs[k, m] = beliefs.mode_probs[h, m]
            for p in range(n * size):
                for q in range(n * size):
                    workspace.cov[k, m, p, q] = beliefs.cov[at + q]
                at += n * size
        for i in range(n):
            x, floats, ints = workspace.x[k], workspace.floats[k], workspace.ints[k]
            copy_row(beliefs.x, beliefs.floats, beliefs.ints, first + i, x, floats, ints, i)
            workspace.ints[k, i, PARENT_ROW] = first + i
    return end - begin


@compiled
def append_group(workspace, kept, out, used):  # type: ignore[no-untyped-def]
    """Append the kept hypotheses to `out` as one group, their weights normalised; False if `out` is full.

    kept: indices of hypotheses, the likeliest first; used (4,): groups, hypotheses, rows, and targets of the
    likeliest hypotheses in `out`, counted up.
    """
    modes, size = out.x.shape[1:]
    total = 0.0
    for k in kept:
        total += math.exp(workspace.log_weight[k] - workspace.log_weight[kept[0]])
    total = workspace.log_weight[kept[0]] + math.log(total)
    for k in kept:
        n, h, row, at = workspace.target_count[k], used[1], used[2], out.first_cov[used[1]]
        width = n * size
        if h + 1 >= len(out.first_row) or row + n > len(out.x) or at + modes * width * width > len(out.cov):
            return False
        out.log_weight[h] = workspace.log_weight[k] - total
        for m in range(modes):
            out.mode_probs[h, m] = workspace.mode_probs[k, m]
            for p in range(width):
                for q in range(width):
                    out.cov[at + q] = workspace.cov[k, m, p, q]
                at += width
        for i in range(n):
            copy_row(workspace.x[k], workspace.floats[k], workspace.ints[k], i, out.x, out.floats, out.ints, row + i)
        out.first_cov[h + 1], out.first_row[h + 1] = at, row + n
        used[1], used[2] = h + 1, row + n
    if used[0] + 1 >= len(out.first_hypothesis):
        return False
    out.first_hypothesis[used[0] + 1] = used[1]
    used[0] += 1
    used[3] += workspace.target_count[kept[0]]
    return True


@compiled
def copy_hypothesis(workspace, k, into, c):  # type: ignore[no-untyped-def]
    """Copy hypothesis k of a workspace to hypothesis c of another."""
    n, modes, size = workspace.target_count[k], workspace.x.shape[2], workspace.x.shape[3]
    into.target_count[c], into.log_weight[c] = n, workspace.log_weight[k]
    for i in range(n):
        copy_row(workspace.x[k], workspace.floats[k], workspace.ints[k], i, into.x[c], into.floats[c], into.ints[c], i)
    for m in range(modes):
        into.mode_probs[c, m] = workspace.mode_probs[k, m]
        for p in range(n * size):
            for q in range(n * size):
                into.cov[c, m, p, q] = workspace.cov[k, m, p, q]


@compiled
def copy_row(x, floats, ints, i, into_x, into_floats, into_ints, k):  # type: ignore[no-untyped-def]
    """Copy row i of three arrays to row k of three others."""
    for m in range(x.shape[1]):
        for a in range(x.shape[2]):
            into_x[k, m, a] = x[i, m, a]
    for a in range(floats.shape[1]):
        into_floats[k, a] = floats[i, a]
    for a in range(INT_COLUMNS):
        into_ints[k, a] = ints[i, a]


@compiled
def error_covariance(one, other, a, b):  # type: ignore[no-untyped-def]
    """Covariance, px^2, of one error along axis a with another along axis b, from their parts, each (2, R) flattened."""
    half, value = len(one) // 2, 0.0
    for r in range(half):
        value += one[a * half + r] * other[b * half + r]
    return value


@compiled
def keep_rows(workspace, c, kept):  # type: ignore[no-untyped-def]
    """Keep only the targets in a bit mask of hypothesis c, in their order."""
    n, size = workspace.target_count[c], workspace.x.shape[3]
    count = 0
    for i in range(n):
        if kept >> i & 1:
            if count != i:
                x, floats, ints = workspace.x[c], workspace.floats[c], workspace.ints[c]
                copy_row(x, floats, ints, i, x, floats, ints, count)
                a, b = count * size, i * size
                for cov in workspace.cov[c]:
                    for p in range(size):
                        for q in range(n * size):
                            cov[a + p, q] = cov[b + p, q]
                    for p in range(size):
                        for q in range(n * size):
                            cov[q, a + p] = cov[q, b + p]
            count += 1
    workspace.target_count[c] = count


@compiled
def detections_of(detections, rows):  # type: ignore[no-untyped-def]
    """Select these rows of a frame's detections."""
    return FrameDetections(
        detections.measurements[rows],
        detections.error_sources[rows],
        detections.amplitudes[rows],
        detections.log_clutter[rows],
        rows,
        detections.first_id,
        detections.now_s,
    )
