"""Clutter as it is measured: how dense false detections are at each place, and the evidence that confirms a track.

Tracks that end without being confirmed were clutter, and so were detections that no track has: each counts where it was.
Per area and frame, blended with the settings' density while little is known, that is the clutter density of a cell. It
fades within the settings' clutter_memory_s.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from irst_stream.track.compiled import CONFIRMED, DETECTION, HITS, ID, MEAN_X, MEAN_Y, Beliefs
from irst_stream.track.settings import TrackSettings
from irst_stream.types import Floats, Ints

__all__ = ["ClutterMap", "confirm_score", "density_at", "false_detections", "learn"]

CELL_PX = 8.0
CELLS = 160  # a side of the map, which repeats itself beyond: it has no border, as the stabilised frame has none
PRIOR_FRAMES = 25.0  # for which the settings' density counts
PRIOR_S = 1.0  # in which clutter is taken to have started one track, before the first has
MEMORY_S = 60.0  # of the rate at which tracks start
MIN_CONFIRM_SCORE = 0.0


class ClutterMap(NamedTuple):
    """What was counted so far, faded: false detections in each cell (CELLS, CELLS), and in how many frames.

    starts: tracks that clutter started, known once they end unconfirmed, and in how many seconds. The counts are empty
    (0, 0) where the settings learn no map.
    """

    counts: Floats
    frames: float
    starts: float
    seconds: float

    @classmethod
    def empty(cls, settings: TrackSettings) -> ClutterMap:
        """Nothing counted yet."""
        side = CELLS if settings.clutter_memory_s > 0 else 0
        return cls(np.zeros((side, side)), 0.0, 0.0, 0.0)


def learn(
    known: ClutterMap, false_xy: Floats, times: Floats, starts: int, step_s: float, settings: TrackSettings
) -> ClutterMap:
    """Count a frame.

    false_xy (N, 2) px: places of false detections, of so many each: times (N,), as found out since the last frame; starts:
    tracks found to be clutter since; step_s: since the last frame, 0 for the first.
    """
    keep = math.exp(-step_s / MEMORY_S)
    starts_now, seconds = keep * known.starts + starts, keep * known.seconds + step_s
    if not len(known.counts):
        return ClutterMap(known.counts, 0.0, starts_now, seconds)
    keep = math.exp(-step_s / settings.clutter_memory_s)
    counts = known.counts * keep
    np.add.at(counts, _cells(false_xy), times)
    return ClutterMap(counts, known.frames * keep + 1, starts_now, seconds)


def false_detections(before: Beliefs, after: Beliefs, xy: Floats) -> tuple[Floats, Floats, int]:
    """What two frames tell of clutter, given the beliefs before and after the later one, and its detections xy (N, 2) px.

    Returns places (N, 2) px and how many false detections were there (N,): those of tracks that ended unconfirmed, and the
    later frame's that no track has; and how many tracks these were. Only each group's likeliest hypothesis counts.
    """
    old = _likeliest_rows(before)
    ended = old[before.ints[old, CONFIRMED] == 0]
    if len(ended):
        ended = ended[~np.isin(before.ints[ended, ID], after.ints[:, ID])]
    alone = np.ones(len(xy), bool)
    taken = after.ints[:, DETECTION]
    alone[taken[taken >= 0]] = False
    places = np.concatenate([before.floats[ended][:, [MEAN_X, MEAN_Y]], xy[alone]])
    times = np.concatenate([before.ints[ended, HITS].astype(np.float64), np.ones(int(alone.sum()))])
    return places, times, len(ended)


def _likeliest_rows(beliefs: Beliefs) -> Ints:
    """The rows of each group's likeliest hypothesis."""
    likeliest = beliefs.first_hypothesis[:-1]
    first, end = beliefs.first_row[likeliest], beliefs.first_row[likeliest + 1]
    counts = end - first
    return np.asarray(np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum()))


def density_at(known: ClutterMap, xy: Floats, settings: TrackSettings) -> Floats:
    """Density (N,) of false detections at places (N, 2) px, px^-2 and frame: the settings' where no map is learnt."""
    if not len(known.counts):
        return np.full(len(xy), settings.clutter_density)
    area = CELL_PX**2
    prior = PRIOR_FRAMES * settings.clutter_density * area
    return np.asarray((known.counts[_cells(xy)] + prior) / ((known.frames + PRIOR_FRAMES) * area))


def confirm_score(known: ClutterMap, settings: TrackSettings) -> float:
    """Log-likelihood ratio that confirms a track.

    Clutter reaches a likelihood ratio of L with a probability of at most 1 / L (Ville's inequality). Of S tracks that
    clutter starts in an hour, at most S / L are confirmed, and that is to be the settings' false_tracks_h.
    """
    starts_h = 3600 * (known.starts + 1) / (known.seconds + PRIOR_S)
    return max(math.log(starts_h / settings.false_tracks_h), MIN_CONFIRM_SCORE)


def _cells(xy: Floats) -> tuple[Ints, Ints]:
    """Row and column of the cell of each place (N, 2) px."""
    cell = np.floor(np.where(np.isfinite(xy), xy, 0.0) / CELL_PX).astype(np.int64) % CELLS
    return cell[:, 1], cell[:, 0]
