"""The plain head's two readouts: every bright cell, and merged cells at the centroid of their light."""

import numpy as np
import pytest

from irst_stream.optics import FineGrid
from irst_stream.resolve.cells import read_cells, read_peaks

GRID = FineGrid()


def fine_map(*lit):
    """A map with these cells (row, column, value)."""
    made = np.zeros(GRID.shape, np.float32)
    for row, column, value in lit:
        made[row, column] = value
    return made


def test_every_cell_at_the_threshold_is_a_target_at_its_centre():
    found = read_cells(fine_map((10, 13, 70), (10, 14, 69.9), (20, 5, 230)), GRID)
    np.testing.assert_allclose(found.xy, [[4, 3], [4 / 3, 19 / 3]])
    assert found.score.tolist() == [70, 230]
    assert np.isnan(found.cov).all()


def test_light_spread_over_neighbours_is_one_target_at_its_centroid():
    found = read_peaks(fine_map((10, 13, 150), (10, 14, 50), (9, 13, 25)), GRID, 235)
    np.testing.assert_allclose(found.xy, [[4 + 50 / 225 / 3, 3 - 25 / 225 / 3]])
    np.testing.assert_allclose(found.amplitude, [225])
    np.testing.assert_allclose(found.cov, [np.eye(2) / 108])
    assert 0 < found.score[0] < 1


def test_two_targets_in_cells_side_by_side_stay_two():
    found = read_peaks(fine_map((10, 10, 230), (10, 11, 220), (20, 20, 120), (20, 21, 110)), GRID, 235)
    assert sorted(found.amplitude.tolist()) == [220, 230, 230]


def test_diagonal_neighbours_stay_two_and_faint_cells_are_none():
    assert len(read_peaks(fine_map((10, 10, 200), (11, 11, 190)), GRID, 235).xy) == 2
    assert len(read_peaks(fine_map((10, 10, 69), (20, 20, 71)), GRID, 235).xy) == 1


@pytest.mark.parametrize("cell", [(0, 0), (0, 32), (32, 32)])
def test_cells_at_the_border_of_the_map_are_read_too(cell):
    np.testing.assert_allclose(read_peaks(fine_map((*cell, 100)), GRID, 235).xy, [GRID.centres[cell]])


@pytest.mark.parametrize("read", [read_cells, lambda fine_map, grid: read_peaks(fine_map, grid, 235)])
def test_an_empty_map_gives_nothing(read):
    assert read(fine_map(), GRID).xy.shape == (0, 2)
    assert read(fine_map(), GRID).cov.shape == (0, 2, 2)
