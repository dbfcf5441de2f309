"""Noise that lines share is measured, and removed where it matters and nothing else in the scene is taken for it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from irst_stream.calibrate.calibration import calibrate
from irst_stream.calibrate.frame_rate import FrameRate
from irst_stream.calibrate.lines import choose_lines
from irst_stream.calibrate.noise import measure_noise
from irst_stream.calibrate.settings_file import Origin, Tables, write_settings
from irst_stream.config import parse_config
from irst_stream.propose.settings import ProposeSettings

SHAPE, FRAMES, NOISE = (96, 128), 110, 5.0
SEARCH = ProposeSettings(0.8)


def stack_of(*, rows=0.0, columns=0.0, edge=0.0, shake=0.0, seed=4):
    """Frames (T, H, W) uint16: a sky above woods, edge DN brighter, that shake up and down by a deviation of shake px.

    rows, columns: deviation, DN, of what lines share in each frame alone.
    """
    rng = np.random.default_rng(seed)
    height, width = SHAPE
    woods = 1000 + edge * (1 + 0.2 * gaussian_filter(rng.standard_normal((height + 20, width)), 1.5) / 0.2)
    view = np.where(np.arange(-10, height + 10)[:, None] > 48, woods, 1000.0)
    stack = np.empty((FRAMES, *SHAPE))
    for image in stack:
        at = 10 + int(np.rint(np.clip(shake * rng.standard_normal(), -10, 10)))
        image[:] = view[at : at + height] + NOISE * rng.standard_normal(SHAPE)
        image += rows * rng.standard_normal((height, 1)) + columns * rng.standard_normal((1, width))
    return np.rint(stack).astype(np.uint16)


def chosen(stack):
    return choose_lines(stack, measure_noise(stack[:60]), SEARCH)


@pytest.mark.parametrize(("rows", "columns"), [(0.0, 0.0), (4.0, 0.0), (0.0, 3.0), (4.0, 3.0)])
def test_what_lines_share_is_measured_beside_a_horizon(rows, columns):
    noise = measure_noise(stack_of(rows=rows, columns=columns, edge=400.0))
    assert noise.row_changes == pytest.approx(rows, rel=0.15, abs=0.2)
    assert noise.column_changes == pytest.approx(columns, rel=0.15, abs=0.2)


@pytest.mark.parametrize(
    ("rows", "columns", "choice"), [(4.0, 0.0, "rows"), (0.0, 4.0, "columns"), (4.0, 4.0, "both"), (1.0, 1.0, "off")]
)
def test_noise_of_lines_is_removed_where_it_matters(rows, columns, choice):
    assert chosen(stack_of(rows=rows, columns=columns, edge=400.0)) == choice


@pytest.mark.parametrize("shake", [0.0, 0.5, 2.0])
def test_a_horizon_and_woods_are_no_noise_of_lines(shake):
    assert chosen(stack_of(edge=400.0, shake=shake)) == "off"


def test_few_frames_give_no_choice():
    stack = stack_of(rows=4.0)
    assert choose_lines(stack[:40], measure_noise(stack[:40]), SEARCH) == "off"


def test_a_calibration_removes_the_noise_of_rows_and_writes_it():
    result = calibrate(stack_of(rows=5.0, edge=100.0), rate_hz=30.0, full_scale=np.inf)
    assert result.conditioned.correct.lines == "rows"
    assert result.noise.row_changes < 2.5, "of 5 DN"
    assert result.noise.temporal == pytest.approx(np.hypot(NOISE, 5.0 / 3), rel=0.1), "that of pixels, and what is left"
    text = write_settings(result, Origin("c.npy", FrameRate(30.0, 0.1, "stamps")), Tables(), "1")
    assert parse_config(text, "C.toml").correct.lines == "rows"
    assert result.conditioned.raw_lines == pytest.approx((5.0,), rel=0.1)
    assert f"noise of whole rows removed, {result.conditioned.raw_lines[0]:.3g} DN" in text
