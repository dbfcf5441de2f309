"""What a pipeline does once a frame's results are out: the results are as if it were left to the next frame, but sooner."""

from itertools import product

import numpy as np
import pytest

from irst_stream.build import build_pipeline
from irst_stream.config import Config
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.settings import FitSettings
from irst_stream.fit.warm_start import AT_ONCE
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.resolve import psf_watch
from irst_stream.sim import Groups, Scene, SceneSettings, Sensor
from irst_stream.types import Detections

FIT = FitSettings(amplitude_dn=900, amplitude_sd_dn=500, speed_px=0.3, own_speed_px=0.005, starts=1, refit_every=8)


@pytest.fixture(scope="module")
def frames():
    groups = Groups(groups=2, singles=2, snr=(20, 60), speed_px_s=(1.0, 8.0))
    sensor = Sensor(160, 128, rate_hz=25.0, dead_fraction=1e-3, hot_fraction=1e-3)
    return [frame for frame, _, _ in Scene(SceneSettings(sensor, groups=groups), 50, 3)]


def run(frames, ahead, threads=1, more=False, **search):
    pipeline = build_pipeline(Config(fit=FIT, threads=threads, propose=ProposeSettings(**search)), tracks=True)
    results = []
    for frame in frames:
        results += pipeline.step([frame], more)
        if ahead:
            pipeline.get_ahead()
    return results


@pytest.mark.parametrize("search", [{}, {"clutter_frames": 10}, {"average": 5}])
def test_the_results_do_not_depend_on_when_it_is_done(frames, search):
    left, done = (run(frames, ahead, **search) for ahead in (False, True))
    meanwhile, hurried = (run(frames, ahead=False, threads=2, more=more, **search) for more in (False, True))
    assert sum(len(result) for result in left if isinstance(result, Detections)) > 2 * len(frames)
    for one, *others in zip(left, done, meanwhile, hurried, strict=True):
        names = ("xy", "cov", "score") if isinstance(one, Detections) else ("state", "cov", "id")
        for other, name in product(others, names):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_result_waits_for_no_search_no_fit_from_scratch_of_a_known_group_and_no_width(frames, monkeypatch):
    searched, fitted, measured, waiting = [], [], [], False
    propose, fit_regions, measure = Proposer.propose, Fitter.fit_regions, psf_watch.measure_width

    def counted_search(self, prepared, neighbours=()):
        searched.append(waiting)
        return propose(self, prepared, neighbours)

    def counted_fit(self, patches, hints, warm_start):
        fitted.extend((waiting, best > 0) for best in warm_start.best[warm_start.owed >= AT_ONCE])
        return fit_regions(self, patches, hints, warm_start)

    def counted_measurement(*seen):
        measured.append(waiting)
        return measure(*seen)

    monkeypatch.setattr(psf_watch, "measure_width", counted_measurement)
    monkeypatch.setattr(Proposer, "propose", counted_search)
    monkeypatch.setattr(Fitter, "fit_regions", counted_fit)
    pipeline = build_pipeline(Config(fit=FIT))
    for frame in frames:
        waiting = True
        pipeline.step([frame])
        waiting = False
        pipeline.get_ahead()
    assert searched.count(True) == 1, "the first window's"
    assert searched.count(False) == len(frames) - 4
    assert measured == [False, False], "one light of every 20th window"
    assert (True, True) not in fitted
    assert fitted.count((False, True)) > 3 * len(frames) // 8
