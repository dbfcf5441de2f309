"""The head's losses against a slow, plain implementation, and that they prefer better claims."""

import math

import numpy as np
import pytest
import torch

from irst_stream.learn.losses import Targets, cell_loss, map_loss, mixture_loss
from irst_stream.optics import FineGrid

GRID = FineGrid(3, (3, 3))
CENTRES = torch.tensor(GRID.centres, dtype=torch.float64)
SCALE = torch.full((1, 1, 1, 1), 100.0, dtype=torch.float64)


def targets(*rows):
    """One window with these targets (x, y, amplitude), and one absent target."""
    table = torch.tensor([*rows, (0.0, 0.0, 0.0)], dtype=torch.float64)[None]
    exists = torch.tensor([[True] * len(rows) + [False]])
    return Targets(table[..., :2], table[..., 2], exists, torch.zeros(1, 9, 9))


def raw(seed=0):
    return torch.randn(1, 7, 9, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mixture_loss_equals_a_slow_implementation():
    field, truth = raw(), targets((0.2, 1.1, 230.0), (1.6, 0.4, 90.0))
    p = torch.sigmoid(field[0, 0]).flatten().numpy()
    flat = field[0].flatten(1).numpy()
    centres = GRID.centres.reshape(-1, 2)
    variance = (p * (1 - p)).sum() + 0.01
    expected = (p.sum() - 2) ** 2 / (2 * variance) + 0.5 * math.log(variance)
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
    assert float(mixture_loss(field, SCALE, truth, CENTRES)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [mixture_loss, cell_loss])
def test_claims_nearer_the_truth_cost_less(loss):
    def loss_of(x, presence=4.0, log_sd=-2.0):
        field = torch.zeros(1, 7, 9, 9, dtype=torch.float64)
        field[:, 0], field[:, [3, 4, 6]] = -6, log_sd
        field[0, [0, 1, 5], 4, 4] = torch.tensor([presence, x, 2.3], dtype=torch.float64)
        return float(loss(field, SCALE, targets((1.05, 1.0, 230.0)), CENTRES))

    assert loss_of(0.05) < loss_of(0.15) < loss_of(0.3)
    assert loss_of(0.05) < loss_of(0.05, presence=0.0)
    assert loss_of(0.05, log_sd=-3.0) < loss_of(0.05)
    assert loss_of(0.3, log_sd=-3.0) > loss_of(0.3, log_sd=-1.0), "a large error must cost more if stated as certain"


@pytest.mark.parametrize("loss", [mixture_loss, cell_loss])
def test_losses_are_finite_without_targets_with_many_and_for_extreme_claims(loss):
    extreme = 50 * raw(1)
    for truth in (targets(), targets(*[(1.0, 1.0, 230.0)] * 5)):
        field = extreme.clone().requires_grad_()
        value = loss(field, SCALE, truth, CENTRES)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(field.grad).all()


def test_map_loss_is_relative_to_the_scale():
    scale = torch.full((1, 1, 1), 100.0)
    assert float(map_loss(torch.full((1, 9, 9), 100.0), torch.zeros(1, 9, 9), scale)) == 1.0
    assert np.isclose(float(map_loss(torch.full((1, 9, 9), 30.0), torch.full((1, 9, 9), 10.0), scale)), 0.04)
