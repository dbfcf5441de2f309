"""The NumPy network equals the PyTorch network."""

import numpy as np
import pytest
import torch
from random_networks import random_network

from irst_stream.learn.network import decode_claims
from irst_stream.sim import seqcsist
from irst_stream.unmix.engine import LIGHT_UNIT_DN, WINDOW
from irst_stream.unmix.numpy import fuse, gates, head, unfold


@pytest.fixture(scope="module")
def network():
    return random_network(3, torch.float64, head=True)


@pytest.fixture(scope="module")
def weights(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def patches():
    return seqcsist(2, seed=5, noise=(2.0, 2.0)).frames.astype(np.float64)


def test_unfold_equals_the_torch_network(network, weights, patches):
    with torch.no_grad():
        expected, _ = network.unfold(torch.from_numpy(patches[0, :6]))
    got = unfold(patches[0, :6], weights)
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-9 * np.abs(got).max())


def test_whole_windows_equal_the_torch_network(network, weights, patches):
    with torch.no_grad():
        expected = network(torch.from_numpy(patches[:, :WINDOW])).map.numpy()
    maps = unfold(patches[:, :WINDOW].reshape(-1, 11, 11), weights).reshape(2, WINDOW, 33, 33)
    got, _ = fuse(maps * gates(np.arange(WINDOW), WINDOW, weights), weights)
    np.testing.assert_allclose(got, expected, atol=1e-9 * np.abs(expected).max())


def test_clips_equal_the_torch_network(network, weights, patches):
    with torch.no_grad():
        expected = network.forward_clip(torch.from_numpy(patches[0, :8])).map.numpy()
    gated = unfold(patches[0, :8], weights) * gates(np.arange(8), WINDOW, weights)
    got, _ = fuse(np.stack([gated[k : k + WINDOW] for k in range(4)]), weights)
    np.testing.assert_allclose(got, expected, atol=1e-9 * np.abs(expected).max())


def test_the_continuous_head_equals_the_torch_networks(network, weights, patches):
    with torch.no_grad():
        fused = network(torch.from_numpy(patches[:, :WINDOW]))
        expected = decode_claims(fused.raw, fused.scale).numpy()
    scale = np.full((2, 1, 1, 1), LIGHT_UNIT_DN)
    got = head(patches[:, :WINDOW] / LIGHT_UNIT_DN, fused.features.numpy() / LIGHT_UNIT_DN, scale, weights)
    np.testing.assert_allclose(got, expected, atol=1e-9 * np.abs(expected).max())
