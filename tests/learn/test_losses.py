"""The head's losses against slow, obvious statements of the same, and what they reward."""

import math

import numpy as np
import pytest
import torch

from irst_stream.learn.losses import Targets, by_cell, by_mixture, map_error
from irst_stream.optics import FineGrid

GRID = FineGrid(3, (3, 3))
CENTRES = torch.tensor(GRID.centres, dtype=torch.float64)
SCALE = torch.full((1, 1, 1, 1), 100.0, dtype=torch.float64)


def targets(*rows):
    """One window with these targets (x, y, amplitude), and one empty place."""
    table = torch.tensor([*rows, (0.0, 0.0, 0.0)], dtype=torch.float64)[None]
    exists = torch.tensor([[True] * len(rows) + [False]])
    return Targets(table[..., :2], table[..., 2], exists, torch.zeros(1, 9, 9))


def raw(seed=0):
    return torch.randn(1, 7, 9, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_mixture_is_what_its_docstring_says():
    field, truth = raw(), targets((0.2, 1.1, 230.0), (1.6, 0.4, 90.0))
    p = torch.sigmoid(field[0, 0]).flatten().numpy()
    flat = field[0].flatten(1).numpy()
    centres = GRID.centres.reshape(-1, 2)
    spread = (p * (1 - p)).sum() + 0.01
    expected = (p.sum() - 2) ** 2 / (2 * spread) + 0.5 * math.log(spread)
    for x, y, amplitude in ((0.2, 1.1, 230.0), (1.6, 0.4, 90.0)):
        likelihood = 0.0
        for c in range(81):
            density = p[c] / p.sum()
            means = centres[c, 0] + flat[1, c], centres[c, 1] + flat[2, c], flat[5, c]
            for value, mean, log_sd in zip((x, y, amplitude / 100), means, flat[[3, 4, 6], c], strict=True):
                sd = math.exp(min(max(log_sd, -6), 1))
                density *= math.exp(-0.5 * ((value - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
            likelihood += density
        expected -= math.log(likelihood)
    assert float(by_mixture(field, SCALE, truth, CENTRES)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [by_mixture, by_cell])
def test_the_truth_is_better_than_what_is_beside_it(loss):
    def said(x, presence=4.0, log_sd=-2.0):
        field = torch.zeros(1, 7, 9, 9, dtype=torch.float64)
        field[:, 0], field[:, [3, 4, 6]] = -6, log_sd
        field[0, [0, 1, 5], 4, 4] = torch.tensor([presence, x, 2.3], dtype=torch.float64)
        return float(loss(field, SCALE, targets((1.05, 1.0, 230.0)), CENTRES))

    assert said(0.05) < said(0.15) < said(0.3)
    assert said(0.05) < said(0.05, presence=0.0)
    assert said(0.05, log_sd=-3.0) < said(0.05)
    assert said(0.3, log_sd=-3.0) > said(0.3, log_sd=-1.0), "who errs had better not be sure"


@pytest.mark.parametrize("loss", [by_mixture, by_cell])
def test_losses_are_finite_for_none_many_and_extreme(loss):
    extreme = 50 * raw(1)
    for truth in (targets(), targets(*[(1.0, 1.0, 230.0)] * 5)):
        field = extreme.clone().requires_grad_()
        value = loss(field, SCALE, truth, CENTRES)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(field.grad).all()


def test_the_map_error_is_in_shares_of_the_scale():
    scale = torch.full((1, 1, 1), 100.0)
    assert float(map_error(torch.full((1, 9, 9), 100.0), torch.zeros(1, 9, 9), scale)) == 1.0
    assert np.isclose(float(map_error(torch.full((1, 9, 9), 30.0), torch.full((1, 9, 9), 10.0), scale)), 0.04)
