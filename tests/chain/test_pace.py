"""Keeping pace with live sensors: the time that a frame's fits may take, and a pipeline that has too little of it."""

import math

import numpy as np
import pytest

from irst_stream import Frame, Stamp
from irst_stream.build import build_pipeline
from irst_stream.chain.pace import LEAST_SHARE, SHARE, FramePace
from irst_stream.config import Config
from irst_stream.fit.settings import FitSettings
from irst_stream.sim import Groups, Scene, SceneSettings, Sensor
from irst_stream.types import Detections

BLANK = np.zeros((8, 8), np.uint8)


def fed(*sensors, frames=10, period_ns=10_000_000):
    pace = FramePace()
    for k in range(frames):
        for sensor in sensors:
            pace.arrived(Frame(Stamp(sensor, 0, k, k * period_ns), BLANK))
    return pace


def test_a_frames_fits_may_take_what_is_left_of_its_time():
    pace = fed("a")
    assert pace.allowed_s(1, 0.0) == pytest.approx(SHARE * 0.01)
    assert pace.allowed_s(1, 0.002) == pytest.approx(SHARE * 0.01 - 0.002)
    assert pace.allowed_s(1, 1.0) == pytest.approx(LEAST_SHARE * SHARE * 0.01)
    for _ in range(200):
        pace.tracked(1, 0.0006)
        pace.searched(2, 0.0008)
    assert pace.allowed_s(1, 0.002) == pytest.approx(SHARE * 0.01 - 0.003, rel=1e-3)


def test_what_a_frame_leaves_of_its_time_is_for_what_can_be_done_ahead():
    pace = fed("a")
    assert pace.left_s(1, 0.002) == pytest.approx(SHARE * 0.01 - 0.002)
    assert pace.left_s(2, 0.002) == pytest.approx(SHARE * 0.01 - 0.001)
    assert pace.left_s(1, 1.0) == 0
    assert FramePace().left_s(1, 1.0) == math.inf


def test_sensors_share_the_time_and_one_that_is_gone_leaves_its_own():
    pace = fed("a", "b", "c", "d")
    assert pace.allowed_s(1, 0.0) == pytest.approx(SHARE * 0.0025)
    assert pace.allowed_s(4, 0.004) == pytest.approx(SHARE * 0.0025 - 0.001)
    for sensor in "bcd":
        pace.forget(sensor)
    assert pace.allowed_s(1, 0.0) == pytest.approx(SHARE * 0.01)


def test_stamps_that_no_real_sensor_sends_set_no_pace():
    assert fed("a", frames=3).allowed_s(1, 0.0) == math.inf
    assert fed("a", period_ns=1).allowed_s(1, 0.0) == math.inf
    assert fed("a", period_ns=60_000_000_000).allowed_s(1, 0.0) == math.inf
    assert FramePace().allowed_s(1, 0.0) == math.inf


class Hurried(FramePace):
    def allowed_s(self, windows, elapsed_s):  # no time after the first second
        return 1e-9 * (windows + elapsed_s) if self._last["scene"][1] > 1e9 else math.inf

    def left_s(self, windows, elapsed_s):
        return self.allowed_s(windows, elapsed_s)


def test_a_pipeline_without_time_answers_each_frame_and_counts_what_it_left_out(caplog):
    groups = Groups(groups=0, singles=6, snr=(40, 60), speed_px_s=(0.5, 2.0))
    frames = [frame for frame, _, _ in Scene(SceneSettings(Sensor(160, 128, rate_hz=25.0), groups=groups), 60, 2)]
    config = Config(fit=FitSettings(amplitude_dn=900, amplitude_sd_dn=500, speed_px=0.3, refit_every=8))
    pipeline = build_pipeline(config, pace=Hurried())
    found = [len(r) for frame in frames for r in pipeline.step([frame]) if isinstance(r, Detections)]
    assert len(found) == len(frames) - 4
    assert np.median(found[:20]) >= 5
    assert set(found[30:]) <= {0, 1, 2}
    assert pipeline.events["scene", "unserved"] > 4 * 30
    assert pipeline.events["scene", "postponed"] > 0
    said = [record.getMessage() for record in caplog.records if "could be fitted" in record.getMessage()]
    assert len(said) == 1
