"""Trackers that others wrote, behind one seam: step(Detections) -> Tracks. Their settings are the same in every scene.

All count time in frames, confirm a track after HITS detections, and end it after MISSES frames without one. The first two
assume a constant velocity with a white acceleration of ACCELERATION px a frame^2, and errors of SD_PX; norfair keeps its
own filter. None models merged detections.
"""

import datetime
from typing import Any, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment
from tracking_scenes import RATE_HZ, SD_PX

from irst_stream.types import Detections, Floats, Tracks

ACCELERATION = 0.02
SPEED_SD = 0.1  # px a frame, of a new track
GATE = 3.72  # standard deviations: 99.9 % of two-dimensional normal errors
HITS, MISSES = 3, 5
NORFAIR_PX = 0.4  # its distance threshold
TRANSITION = np.array([[1.0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
GAIN = np.array([[0.5, 0], [0, 0.5], [1, 0], [0, 1]])
PROCESS = ACCELERATION**2 * GAIN @ GAIN.T
SIGHT = np.eye(2, 4)
NOISE = SD_PX**2 * np.eye(2)
START = np.diag([SD_PX**2, SD_PX**2, SPEED_SD**2, SPEED_SD**2])


class Steps(Protocol):
    """What is compared: anything that takes the frames of one sensor in order."""

    def step(self, detections: Detections) -> Tracks:
        """The tracks alive after these detections, or those of an earlier frame where they wait for later ones."""

    def finish(self) -> list[Tracks]:
        """Those that still wait when no more frames come."""
        return []


def published(detections: Detections, ids: list[int], states: list[Any], confirmed: list[bool]) -> Tracks:
    """Tracks of states x, y, vx, vy in px and px a frame."""
    n = len(ids)
    state = np.array(states, np.float64).reshape(-1, 4) * (1, 1, RATE_HZ, RATE_HZ)
    unknown = np.full((n, 4, 4), np.nan)
    flags = np.array(confirmed, np.bool_)
    return Tracks(
        detections.stamp, np.array(ids, np.int64), state, unknown, np.full(n, np.nan), np.ones(n), flags, np.full(n, -1)
    )


class FilterPy(Steps):
    """A plain loop: a filterpy KalmanFilter for each track, global nearest neighbour by scipy's assignment."""

    name, package = "filterpy + scipy loop", "filterpy"

    def __init__(self) -> None:
        from filterpy.kalman import KalmanFilter

        self._filter, self._next = KalmanFilter, 0
        self._tracks: list[dict[str, Any]] = []

    def step(self, detections: Detections) -> Tracks:
        for track in self._tracks:
            track["filter"].predict()
        pairs = self._assign(detections.xy)
        for track in self._tracks:
            track["misses"] += 1
        for k, row in pairs:
            track = self._tracks[k]
            track["filter"].update(detections.xy[row])
            track["hits"], track["misses"] = track["hits"] + 1, 0
        limit = {True: MISSES, False: 1}
        self._tracks = [t for t in self._tracks if t["misses"] <= limit[t["hits"] >= HITS]]
        for row in set(range(len(detections))) - {row for _, row in pairs}:
            self._tracks.append(self._new(detections.xy[row]))
        sure = [t for t in self._tracks if t["hits"] >= HITS]
        return published(detections, [t["id"] for t in sure], [t["filter"].x for t in sure], [True] * len(sure))

    def _assign(self, xy: Floats) -> list[tuple[int, int]]:
        if not self._tracks or not len(xy):
            return []
        distance = np.empty((len(self._tracks), len(xy)))
        for k, track in enumerate(self._tracks):
            kalman = track["filter"]
            spread = np.linalg.inv(kalman.P[:2, :2] + NOISE)
            offset = xy - kalman.x[:2]
            distance[k] = np.einsum("ni,ij,nj->n", offset, spread, offset)
        rows, columns = linear_sum_assignment(np.minimum(distance, 10 * GATE**2))
        return [(int(k), int(n)) for k, n in zip(rows, columns, strict=True) if distance[k, n] <= GATE**2]

    def _new(self, xy: Floats) -> dict[str, Any]:
        kalman = self._filter(dim_x=4, dim_z=2)
        kalman.x, kalman.P = np.array([*xy, 0.0, 0.0]), START.copy()
        kalman.F, kalman.H, kalman.Q, kalman.R = TRANSITION, SIGHT, PROCESS, NOISE
        self._next += 1
        return {"id": self._next, "filter": kalman, "hits": 1, "misses": 0}


class StoneSoup(Steps):
    """Stone Soup: GNN by 2-D assignment, candidates from a KD-tree, its multi-measurement initiator and step deleter."""

    name, package = "Stone Soup GNN, KD-tree", "stonesoup"

    def __init__(self) -> None:
        from stonesoup.dataassociator.neighbour import GNNWith2DAssignment
        from stonesoup.dataassociator.tree import DetectionKDTreeMixIn
        from stonesoup.deleter.time import UpdateTimeStepsDeleter
        from stonesoup.hypothesiser.distance import DistanceHypothesiser
        from stonesoup.initiator.simple import MultiMeasurementInitiator
        from stonesoup.measures import Mahalanobis
        from stonesoup.models.measurement.linear import LinearGaussian
        from stonesoup.models.transition.linear import CombinedLinearGaussianTransitionModel, ConstantVelocity
        from stonesoup.predictor.kalman import KalmanPredictor
        from stonesoup.types.detection import Detection
        from stonesoup.types.state import GaussianState
        from stonesoup.updater.kalman import KalmanUpdater

        class Tree(DetectionKDTreeMixIn, GNNWith2DAssignment):
            """Both, as Stone Soup's guide composes them."""

        axis = ConstantVelocity(ACCELERATION**2)
        self._sight = LinearGaussian(ndim_state=4, mapping=(0, 2), noise_covar=NOISE)
        predictor = KalmanPredictor(CombinedLinearGaussianTransitionModel([axis, axis]))
        self._updater = KalmanUpdater(self._sight)
        hypothesiser = DistanceHypothesiser(predictor, self._updater, Mahalanobis(), missed_distance=GATE)
        self._associator = Tree(hypothesiser, predictor, self._updater, max_distance=1.0)
        self._deleter = UpdateTimeStepsDeleter(MISSES + 1)
        self._initiator = MultiMeasurementInitiator(
            prior_state=GaussianState(np.zeros((4, 1)), START[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])]),
            deleter=UpdateTimeStepsDeleter(2),
            data_associator=self._associator,
            updater=self._updater,
            measurement_model=self._sight,
            min_points=HITS,
        )
        self._detection, self._start = Detection, datetime.datetime(2000, 1, 1)
        self._tracks: set[Any] = set()
        self._ids: dict[str, int] = {}

    def step(self, detections: Detections) -> Tracks:
        now = self._start + datetime.timedelta(seconds=detections.stamp.index)  # a frame is its unit of time
        seen = {self._detection(xy[:, None], timestamp=now, measurement_model=self._sight) for xy in detections.xy}
        used = set()
        for track, hypothesis in self._associator.associate(self._tracks, seen, now).items():
            if hypothesis:
                track.append(self._updater.update(hypothesis))
                used.add(hypothesis.measurement)
            else:
                track.append(hypothesis.prediction)
        self._tracks -= self._deleter.delete_tracks(self._tracks)
        self._tracks |= self._initiator.initiate(seen - used, now)
        tracks = list(self._tracks)
        ids = [self._ids.setdefault(track.id, len(self._ids)) for track in tracks]
        states = [np.asarray(track.state_vector, np.float64)[[0, 2, 1, 3], 0] for track in tracks]
        return published(detections, ids, states, [True] * len(tracks))


class Norfair(Steps):
    """norfair with its own Kalman filter and its Euclidean distance; its greedy assignment."""

    name, package = "norfair", "norfair"

    def __init__(self) -> None:
        from norfair import Detection, Tracker

        self._detection = Detection
        self._tracker = Tracker("euclidean", NORFAIR_PX, hit_counter_max=MISSES, initialization_delay=HITS - 1)

    def step(self, detections: Detections) -> Tracks:
        found = self._tracker.update([self._detection(points=xy[None]) for xy in detections.xy])
        states = [[*track.estimate[0], *track.estimate_velocity[0]] for track in found]
        return published(detections, [track.global_id for track in found], states, [True] * len(found))


RIVALS = (StoneSoup, FilterPy, Norfair)
