"""Claims of fine cells become detections: their number, places and scores."""

import numpy as np
import pytest

from irst_stream import Stamp
from irst_stream.optics import FineGrid
from irst_stream.resolve.claims import read_claims
from irst_stream.resolve.settings import ClaimSettings

STAMP, GRID = Stamp("s", 0, 3, 0), FineGrid(3, (7, 7))


def claims(*given):
    """A claims array (7, 21, 21) with these claims: row, column, presence, x, y, sd, amplitude."""
    field = np.zeros((7, 21, 21), np.float32)
    field[0], field[3:5], field[6] = 1e-4, 0.1, 9.0
    for row, column, presence, x, y, sd, amplitude in given:
        field[:, row, column] = presence, x, y, sd, sd, amplitude, 5.0
    return field


def test_a_claim_is_a_detection_at_its_place():
    found = read_claims(claims((10, 13, 0.99, 0.05, -0.02, 0.03, 230)), GRID)
    assert found.detections(STAMP).stamp == STAMP
    np.testing.assert_allclose(found.xy, [[4 + 0.05, 3 - 0.02]], atol=1e-6)
    np.testing.assert_allclose(found.cov, [np.diag([0.03**2] * 2)], atol=1e-8)
    np.testing.assert_allclose(found.amplitude, [230])
    np.testing.assert_allclose(found.amplitude_sd, [5], atol=1e-3)
    assert 0.98 < found.score[0] < 0.99


def test_claims_of_neighbouring_cells_on_one_target_are_one_detection():
    split = claims((10, 10, 0.6, 0.16, 0.0, 0.02, 230), (10, 11, 0.39, -0.17, 0.01, 0.04, 240))
    found = read_claims(split, GRID)
    assert len(found.xy) == 1
    np.testing.assert_allclose(found.xy[0], [3.16, 0.39 / 0.99 * 0.01 + 3 - 0], atol=0.01)
    assert found.cov[0, 0, 0] > 0.02**2


def test_two_targets_in_neighbouring_cells_stay_two():
    close = claims((10, 10, 0.98, 0.0, 0.0, 0.02, 230), (10, 11, 0.97, 0.05, 0.0, 0.02, 230))
    assert len(read_claims(close, GRID).xy) == 2
    even_closer = claims((10, 10, 0.98, 0.1, 0.0, 0.02, 230), (10, 11, 0.97, -0.1, 0.0, 0.02, 230))
    assert len(read_claims(even_closer, GRID).xy) == 2, "together they hold two targets"


def test_the_surest_come_first_and_the_unlikely_not_at_all():
    found = read_claims(
        claims((5, 5, 0.7, 0, 0, 0.1, 200), (15, 15, 0.95, 0, 0, 0.1, 200), (3, 15, 0.3, 0, 0, 0.1, 9)), GRID
    )
    assert len(found.xy) == 2
    assert (np.diff(found.detections(STAMP).score) <= 0).all()
    assert len(read_claims(claims((3, 15, 0.3, 0, 0, 0.1, 9)), GRID, ClaimSettings(presence=0.2)).xy) == 1


def test_an_unsure_place_lowers_the_score():
    found = read_claims(claims((5, 5, 0.9, 0, 0, 0.3, 200), (15, 15, 0.9, 0, 0, 0.05, 200)), GRID)
    assert found.detections(STAMP).xy[0] == pytest.approx(GRID.centres[15, 15])


def test_an_empty_field_gives_nothing():
    assert len(read_claims(claims(), GRID).xy) == 0
    assert len(read_claims(np.zeros((7, 21, 21), np.float32), GRID).xy) == 0
