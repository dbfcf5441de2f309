"""Two groups of three targets that pass each other: from pixels to tracks, no target is lost."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from irst_stream import Detections, Frame, Stamp, Tracks
from irst_stream.build import build_pipeline
from irst_stream.config import read_config
from irst_stream.optics import peak_response, render
from irst_stream.system.shipped import find_config

SHAPE, FRAMES, RATE_HZ = (96, 128), 120, 100.0
NOISE, LEVEL, AMPLITUDE = 5.0, 100.0, (220.0, 250.0)
TRIPLE = np.array([[0.0, 0.8], [-0.7, -0.4], [0.7, -0.4]])  # px from a group's centre
SPEED = 0.4  # px per frame, of one group relative to the other
MATCH_PX = 0.5  # between a target and its detection or track, at most
MAX_LOST_FRAMES = 3  # consecutive


def positions(gap, index):
    """Targets (6, 2) px of both groups, whose centres are closest, `gap` px apart, at half time."""
    along = SPEED / 2 * (index - FRAMES / 2)
    middles = np.array([[along, gap / 2], [-along, -gap / 2]]) + (64.2, 48.4) + 0.03 * index
    return np.concatenate([middles[0] + TRIPLE, middles[1] - TRIPLE])


def unmatched(found, xy):
    """Indices of the targets (N, 2) px that have no detection or track (M, 2) px of their own within MATCH_PX."""
    distance = np.linalg.norm(found[:, None] - xy, axis=-1)
    rows, targets = linear_sum_assignment(np.minimum(distance, 2 * MATCH_PX))
    return np.setdiff1d(np.arange(len(xy)), targets[distance[rows, targets] < MATCH_PX])


@pytest.mark.parametrize("gap", [2, 3, 4, 5, 6, 8])
def test_groups_that_meet_lose_no_target(gap):
    rng = np.random.default_rng(gap)
    amplitude = rng.uniform(*AMPLITUDE, 6)
    assert amplitude.min() * peak_response() / NOISE > 8
    config = read_config(find_config("scene"))
    known = replace(config.fit, amplitude_dn=235.0, amplitude_sd_dn=12.0)
    pipeline = build_pipeline(replace(config, fit=known, threads=1), tracks=True)
    missed, extra, lost, longest = 0, 0, np.zeros(6, int), 0
    for index in range(FRAMES):
        light = LEVEL + render(positions(gap, index), amplitude, SHAPE) + NOISE * rng.standard_normal(SHAPE)
        stamp = Stamp("camera", 0, index, round(index * 1e9 / RATE_HZ))
        for result in pipeline.step([Frame(stamp, np.rint(light).astype(np.uint16))]):
            xy = positions(gap, result.stamp.index)
            if isinstance(result, Detections):
                missed += len(unmatched(result.xy, xy))
                extra += max(len(result.xy) - 6, 0)
            elif isinstance(result, Tracks) and index > 20:
                missing = unmatched(result.state[result.confirmed, :2], xy)
                lost[np.setdiff1d(np.arange(6), missing)] = 0
                lost[missing] += 1
                longest = max(longest, lost.max())
    assert longest <= MAX_LOST_FRAMES
    assert missed <= 0.01 * 6 * FRAMES
    assert extra <= 0.02 * FRAMES, "no target is reported twice"
