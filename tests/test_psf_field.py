"""A PSF that changes over the field: in the files, between the places, and in the fit."""

import math
from contextlib import suppress

import numpy as np
import pytest

from irst_stream import FormatError
from irst_stream.fit.compiled import PARAMETERS
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.patches import Patches
from irst_stream.fit.region_targets import NO_TARGETS
from irst_stream.fit.settings import FitSettings
from irst_stream.point_spread import gaussian, tabulated
from irst_stream.psf_field import STEPS, PsfField, read_psf, uniform, write_psf
from irst_stream.types import at_rest

COLUMNS, ROWS = np.array([40.0, 160.0, 280.0]), np.array([30.0, 120.0, 210.0])
UNKNOWN_LIGHT = {"amplitude_dn": 500.0, "amplitude_sd_dn": 400.0, "noise_dn": 2.0}


def varying(kind):
    """A field that is sharp in the middle and stretched away from it in its corners, of Gaussians or of tables."""
    rows = []
    for y in ROWS:
        row = []
        for x in COLUMNS:
            away = math.hypot((x - 160) / 120, (y - 120) / 90) / math.sqrt(2)
            psf = gaussian(0.7 + 0.3 * away, 1.0 + 0.6 * away, math.degrees(math.atan2(y - 120, x - 160)))
            if kind == "table":  # of one size everywhere, as calibrate makes them
                nodes = np.arange(-20, 21) / 4
                offsets = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
                psf = tabulated(psf.images(9 - offsets, (19, 19))[:, 9, 9].reshape(41, 41), 4)
            row.append(psf)
        rows.append(tuple(row))
    return PsfField(COLUMNS, ROWS, tuple(rows))


FIELDS = {kind: varying(kind) for kind in ("Gaussians", "table")}


@pytest.fixture(params=FIELDS)
def field(request):
    return FIELDS[request.param]


def test_places_of_the_grid_have_their_own_psf_and_beyond_it_stays(field):
    for r, y in enumerate(ROWS):
        for c, x in enumerate(COLUMNS):
            assert field.at(np.array([x, y])) is field.psfs[r][c]
    assert field.at(np.array([-50.0, 1000.0])) is field.psfs[2][0]


def test_between_places_it_is_bilinear(field):
    middle = field.at(np.array([100.0, 75.0]))
    around = [field.psfs[r][c] for r in (0, 1) for c in (0, 1)]
    if middle.measured:
        mean = np.mean([psf.images(np.full(2, 5.0)) for psf in around], axis=0)
        np.testing.assert_allclose(middle.images(np.full(2, 5.0)), mean, rtol=0, atol=0.01 * mean.max())
    else:
        np.testing.assert_allclose(middle.moments, np.mean([psf.moments for psf in around], axis=0), rtol=0.02, atol=0.004)
    near = field.at(np.array([100.0 + 120 / STEPS / 3, 75.0]))
    assert near is middle, "places within a step share a PSF"


def test_places_are_grouped_by_their_psf(field):
    places = np.random.default_rng(0).uniform(0, (320, 240), (50, 2))
    seen = np.zeros(50, int)
    for psf, rows in field.groups(places):
        seen[rows] += 1
        assert all(field.at(place) is psf for place in places[rows])
    assert (seen == 1).all()
    assert list(field.groups(np.zeros((0, 2)))) == []
    one = uniform(gaussian(0.5))
    assert [(psf.sigma, rows.tolist()) for psf, rows in one.groups(places[:2])] == [(0.5, [0, 1])]
    assert list(one.groups(np.zeros((0, 2)))) == []


@pytest.mark.parametrize("kind", ["uniform table", "uniform Gaussian", *FIELDS])
def test_a_field_is_read_as_it_was_written(kind, tmp_path):
    single = {"uniform table": FIELDS["table"].middle, "uniform Gaussian": gaussian(0.8, 1.4, 90.0)}
    field = uniform(single[kind]) if kind in single else FIELDS[kind]
    write_psf(tmp_path / "cam.psf.npz", field)
    again = read_psf(tmp_path / "cam.psf.npz")
    assert again.is_uniform == (kind in single)
    for place in ((40.0, 30.0), (100.0, 100.0), (160.0, 120.0)):
        one, other = field.at(np.array(place)), again.at(np.array(place))
        np.testing.assert_allclose(other.images(np.array([5.2, 4.9])), one.images(np.array([5.2, 4.9])), rtol=0, atol=1e-6)


def contents(**changes):
    good = {"columns": np.zeros(1), "rows": np.zeros(1), "axes": np.ones((1, 1, 3))}
    good |= {"tables": np.ones((1, 1, 5, 5)), "oversampling": 4}
    return good | changes


BAD = {
    "square table with an odd side": {"tables": np.ones((1, 1, 4, 4))},
    "axes: expected": {"axes": np.ones((2, 1, 3))},
    "standard deviations": {"axes": np.zeros((1, 1, 3))},
    "columns: expected 1 to 9 ascending": {"columns": np.array([3.0, 3.0])},
    "rows: expected": {"rows": np.array([math.nan])},
    "finite numbers": {"tables": np.full((1, 1, 5, 5), math.nan)},
    "oversampling": {"oversampling": 0},
    "at each of": {"tables": np.ones((5, 5))},
    "not a PSF": {"tables": np.array([[["a", "b"]]])},
}


@pytest.mark.parametrize("message", BAD)
def test_what_a_file_lacks_is_named(message, tmp_path):
    path = tmp_path / "psf.npz"
    np.savez(path, **contents(**BAD[message]))
    with pytest.raises(FormatError, match=message) as error:
        read_psf(path)
    assert str(error.value).startswith(str(path))


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "psf.npz"
    with pytest.raises(FormatError, match=r"psf\.npz: No such file or directory"):
        read_psf(path)
    write_psf(path, FIELDS["table"])
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for size in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="not a PSF"):
            read_psf(path)
    for _ in range(40):
        spoilt = bytearray(whole)
        for at in rng.integers(0, len(whole), 4):
            spoilt[at] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        with suppress(FormatError):  # whatever is wrong is said as such; some bits change a number only
            read_psf(path)


def pairs_over_the_field(field, count, seed):
    """Regions of 13 x 13 px at random places with a pair of targets each: their corners, images and truth."""
    rng = np.random.default_rng(seed)
    corners = np.round(rng.uniform(0, (300, 220), (count, 2)))
    xy = 6 + rng.uniform(-0.4, 0.4, (count, 1, 2)) + np.array([[-0.8, 0.3], [0.8, -0.3]])
    images = np.empty((count, 5, 13, 13), np.float32)
    for k in range(count):
        light = field.at(corners[k] + 6).render(xy[k], np.array([600.0, 500.0]), (13, 13))
        images[k] = light + rng.normal(0, 2, (5, 13, 13))
    return corners, images, xy


def error_and_right_number(settings, corners, images, xy):
    """Median distance, px, of targets from the truth where the number is right, and the share of such regions."""
    fitter, count = Fitter(settings), len(images)
    times, shifts = at_rest(count, 5)
    patches = Patches(images, times, shifts, np.full(count, 2.0), np.full(count, np.inf), corners)
    found, warm = fitter.fit_regions(patches, [NO_TARGETS] * count, fitter.cold_start(count))
    assert warm.solutions.shape[-1] == PARAMETERS
    right = [k for k in range(count) if len(found[k].xy) == 2]
    away = [np.linalg.norm(found[k].xy[:, None] - xy[k], axis=-1).min(axis=1).mean() for k in right]
    return float(np.median(away)) if away else math.nan, len(right) / count


def test_a_field_that_changes_is_fitted_better_with_the_psf_of_each_place(field, tmp_path):
    write_psf(tmp_path / "field.npz", field)
    write_psf(tmp_path / "one.npz", uniform(field.middle))
    regions = pairs_over_the_field(field, 20, seed=3)
    known = {**UNKNOWN_LIGHT, "sigma_doubt": 0.0}
    error, right = error_and_right_number(FitSettings(psf_table=str(tmp_path / "field.npz"), **known), *regions)
    other_error, other_right = error_and_right_number(FitSettings(psf_table=str(tmp_path / "one.npz"), **known), *regions)
    assert error < 0.03
    assert right > 0.9
    assert right > other_right + 0.2
    assert error < 0.8 * other_error or other_right < 0.2


def test_a_warm_start_goes_on_with_the_psf_of_its_place(tmp_path):
    field = FIELDS["Gaussians"]
    write_psf(tmp_path / "field.npz", field)
    corners, images, _ = pairs_over_the_field(field, 12, seed=4)
    fitter = Fitter(FitSettings(psf_table=str(tmp_path / "field.npz"), refit_every=8, **UNKNOWN_LIGHT))
    warm = fitter.cold_start(12)
    patches = Patches(images, *at_rest(12, 5), np.full(12, 2.0), np.full(12, np.inf), corners)
    for _ in range(2):
        found, warm = fitter.fit_regions(patches, [NO_TARGETS] * 12, warm)
    assert np.isin(warm.width_ratio, 1.0).mean() > 0.7, "most widths are as expected at their place"
    assert np.mean([len(targets.xy) == 2 for targets in found]) > 0.8


def test_a_round_gaussian_among_rotated_ones_keeps_its_light(tmp_path):
    field = FIELDS["Gaussians"]
    write_psf(tmp_path / "field.npz", field)
    corners, images, _ = pairs_over_the_field(field, 2, seed=6)
    corners[0] = COLUMNS[1] - 6, ROWS[1] - 6
    assert [field.at(corner + 6).table.size > 0 for corner in corners] == [False, True]
    xy = np.array([[6.2, 5.9]])
    images[0] = field.at(corners[0] + 6).render(xy, np.array([600.0]), (13, 13)) + np.random.default_rng(6).normal(
        0, 2, (5, 13, 13)
    )
    fitter = Fitter(FitSettings(psf_table=str(tmp_path / "field.npz"), sigma_doubt=0.0, **UNKNOWN_LIGHT))
    for rows in ([0], [0, 1]):
        patches = Patches(
            images[rows], *at_rest(len(rows), 5), np.full(len(rows), 2.0), np.full(len(rows), np.inf), corners[rows]
        )
        [found, *_], _ = fitter.fit_regions(patches, [NO_TARGETS] * len(rows), fitter.cold_start(len(rows)))
        np.testing.assert_allclose(found.xy, xy, atol=0.02)
        np.testing.assert_allclose(found.amplitude, 600.0, rtol=0.03)
