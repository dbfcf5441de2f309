"""Scenes drawn with optics of every kind: their calibration gives the optics back, and the fit with it finds pairs."""

from dataclasses import replace

import numpy as np
import pytest

from irst_stream.calibrate.calibration import calibrate
from irst_stream.calibrate.frame_rate import FrameRate
from irst_stream.calibrate.psf import places_of
from irst_stream.calibrate.settings_file import Origin, Tables, warnings_of, write_settings
from irst_stream.config import parse_config
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS
from irst_stream.fit.settings import FitSettings
from irst_stream.point_spread import gaussian, tabulated
from irst_stream.psf_field import PsfField, uniform, write_psf
from irst_stream.sim import Background, Groups, Scene, SceneSettings, Sensor
from irst_stream.types import at_rest

LEVEL = 1000.0
SIDE = 15  # px, of the patches that are fitted
CAMERA = Sensor(width=256, height=192, rate_hz=50, read_noise_dn=3, electrons_per_dn=0, dead_fraction=0, hot_fraction=0)
SINGLES = Groups(groups=0, singles=40, snr=(60.0, 120.0), speed_px_s=(10.0, 40.0))
PAIRS = replace(SINGLES, groups=25, singles=0, members=(2, 2), spacing_px=(2.0, 2.4), speed_px_s=(5.0, 10.0))


def airy_like():
    """A core with a wide skirt, which no Gaussian is."""
    nodes = np.arange(-24, 25) / 4
    radius = np.hypot(*np.meshgrid(nodes, 1.15 * nodes))
    return tabulated(np.exp(-0.5 * (radius / 0.8) ** 2) + 0.08 * np.exp(-0.5 * (radius / 1.9) ** 2), 4)


def sharp_in_the_middle():
    """Gaussians that are wider and longer away from the middle."""
    columns, rows = np.array([40.0, 128.0, 216.0]), np.array([30.0, 96.0, 162.0])
    grid = [[(x - 128) / 88 for x in columns], [(y - 96) / 66 for y in rows]]
    psfs = [[gaussian(0.7 + 0.15 * (u * u + v * v), 1 + 0.25 * abs(u), 0.0) for u in grid[0]] for v in grid[1]]
    return PsfField(columns, rows, tuple(map(tuple, psfs)))


KINDS = {"elliptical": {"sigma_px": 0.8, "axis_ratio": 1.5, "axis_angle_deg": 30.0}, "table": {}, "field": {}}


@pytest.fixture(scope="module", params=KINDS)
def trip(request, tmp_path_factory):
    """The sensor of a kind, and its calibration."""
    table = {"table": lambda: uniform(airy_like()), "field": sharp_in_the_middle}.get(request.param)
    path = tmp_path_factory.mktemp("optics") / "true.psf.npz"
    if table:
        write_psf(path, table())
    sensor = replace(CAMERA, **KINDS[request.param], psf_table=str(path) if table else "")
    scene = Scene(SceneSettings(sensor, Background(level_dn=LEVEL), SINGLES), 36, seed=1)
    stack = np.stack([frame.pixels for frame, _, _ in scene])
    return request.param, sensor, calibrate(stack, rate_hz=50.0, full_scale=2.0**14 - 1)


def test_the_optics_are_given_back(trip):
    kind, _, found = trip
    if kind == "elliptical":
        assert found.psf.psf.sigma == pytest.approx(0.8, rel=0.04)
        assert found.psf.psf.sigma_x / found.psf.psf.sigma_y == pytest.approx(1.5, rel=0.06)
        assert np.degrees(found.psf.psf.angle) == pytest.approx(30.0, abs=4.0)
        assert found.psf.field.is_uniform
    if kind == "table":
        assert found.psf.measured
        xy = np.array([6.2, 5.9])
        light, truth = found.psf.field.middle.images(xy, (13, 13)), airy_like().images(xy, (13, 13))
        light *= (light * truth).sum() / (light**2).sum()  # a table of 5 px does not hold the skirt's end
        np.testing.assert_allclose(light, truth, rtol=0, atol=0.02 * truth.max())
    if kind == "field":
        assert not found.psf.field.is_uniform
        for place in ((50.0, 40.0), (128.0, 96.0), (200.0, 150.0)):
            one, truth = found.psf.field.at(np.array(place)), sharp_in_the_middle().at(np.array(place))
            assert one.sigma == pytest.approx(truth.sigma, rel=0.04)
        assert found.psf.field.at(np.array([20.0, 20.0])).sigma > 1.15 * found.psf.field.middle.sigma
        assert found.psf.over_field > 0.15
    else:
        assert np.isnan(found.psf.over_field)


def test_the_settings_say_what_was_measured(trip):
    kind, _, found = trip
    origin = Origin("scene", FrameRate(50.0, 0.1, "stamps"))
    text = write_settings(found, origin, Tables(psf="cam.psf.npz" if found.psf.needs_file else ""), "0")
    config = parse_config(text, "cam.toml")
    assert config.fit.psf_table == ("cam.psf.npz" if kind != "elliptical" else "")
    if kind == "field":
        assert places_of(found.psf) in text
        assert "at each of 3 x 3 places" in text
        assert not any("one PSF serves all" in line for line in warnings_of(found, origin))


def test_pairs_drawn_with_the_same_optics_are_found(trip, tmp_path):
    _, sensor, found = trip
    write_psf(tmp_path / "cam.psf.npz", found.psf.field)
    scene = Scene(SceneSettings(sensor, Background(level_dn=LEVEL), PAIRS), 5, seed=7)
    truth, pixels = scene.truth(2), np.stack([frame.pixels for frame, _, _ in scene]).astype(np.float32) - LEVEL
    corners, pairs = [], []
    for group in set(truth.group.tolist()):
        xy = truth.xy[truth.group == group]
        corner, others = np.rint(xy.mean(axis=0)) - SIDE // 2, truth.xy[truth.group != group]
        alone = np.abs(others - xy.mean(axis=0)).max(axis=1).min(initial=np.inf) > SIDE
        apart = np.ptp(xy, axis=0).max()
        if len(xy) == 2 and apart > 1 and alone and (corner >= 0).all() and (corner + SIDE <= (256, 192)).all():
            corners.append(corner)
            pairs.append(xy)
    count, corner = len(pairs), np.array(corners).astype(int)
    assert count >= 6
    images = np.stack([pixels[:, y : y + SIDE, x : x + SIDE] for x, y in corner])
    known = {"amplitude_dn": 1000.0, "amplitude_sd_dn": 800.0, "speed_px": 0.5, "fixed_dn": 1.5, "most_targets": 3}
    fitter = Fitter(FitSettings(psf_table=str(tmp_path / "cam.psf.npz"), model_error=found.psf.error, **known))
    patches = Patches(images, *at_rest(count, 5), np.full(count, 3.0), np.full(count, np.inf), corner.astype(float))
    targets, _ = fitter.fit_regions(patches, [NO_TARGETS] * count, fitter.cold_start(count))
    right = [k for k in range(count) if len(targets[k].xy) == 2]
    assert len(right) == count
    away = [np.linalg.norm(targets[k].xy[:, None] + corner[k] - pairs[k], axis=-1).min(axis=1).max() for k in right]
    assert max(away) < 0.12
    assert np.median(away) < 0.05
