"""DeRefNet part by part against slow, plain implementations."""

import numpy as np
import pytest
import torch
from random_networks import random_network
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.deform import deform_conv
from irst_stream.learn.network import DeRefNet, Fuse, Unfold, decode_claims
from irst_stream.optics import FineGrid
from irst_stream.sim import seqcsist
from irst_stream.unmix.engine import WINDOW


def slow_deform(features, offset, weight):
    """Deformable convolution, one output pixel, tap and interpolation corner at a time."""
    _, channels, height, width = features.shape
    out = np.zeros((weight.shape[0], height, width))
    for row in range(height):
        for column in range(width):
            for tap in range(9):
                i, j = divmod(tap, 3)
                y = row + i - 1 + offset[0, 2 * tap, row, column]
                x = column + j - 1 + offset[0, 2 * tap + 1, row, column]
                sample = np.zeros(channels)
                for r in (int(np.floor(y)), int(np.floor(y)) + 1):
                    for c in (int(np.floor(x)), int(np.floor(x)) + 1):
                        if 0 <= r < height and 0 <= c < width:
                            sample += features[0, :, r, c] * (1 - abs(y - r)) * (1 - abs(x - c))
                out[:, row, column] += weight[:, :, i, j] @ sample
    return out


@pytest.mark.parametrize("reach", [0.0, 0.4, 3.0])
def test_deformable_convolution_equals_the_slow_implementation(reach):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 3, 6, 7, generator=generator, dtype=torch.float64)
    offset = reach * torch.randn(1, 18, 6, 7, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
    got = deform_conv(features, offset, weight)[0].numpy()
    np.testing.assert_allclose(got, slow_deform(*(t.numpy() for t in (features, offset, weight))), atol=1e-12)


def test_without_offsets_it_is_an_ordinary_convolution():
    features, weight = torch.randn(4, 5, 9, 8), torch.randn(6, 5, 3, 3)
    got = deform_conv(features, torch.zeros(4, 18, 9, 8), weight)
    torch.testing.assert_close(got, F.conv2d(features, weight, padding=1), atol=1e-4, rtol=1e-4)


def test_deformable_convolution_has_correct_gradients():
    inputs = [
        t.double().requires_grad_()
        for t in (torch.randn(1, 2, 4, 4), 0.3 * torch.randn(1, 18, 4, 4), torch.randn(2, 2, 3, 3))
    ]
    assert torch.autograd.gradcheck(deform_conv, inputs, eps=1e-7, atol=1e-4)


@pytest.fixture(scope="module")
def network():
    return random_network(0, head=True)


@pytest.fixture(scope="module")
def patches():
    return torch.from_numpy(seqcsist(2, seed=2).frames)


def test_the_gradient_step_follows_the_imaging_model():
    """A stage's gradient step is x - lambda (x PhiT Phi) + lambda y Phi, as the paper writes it."""
    unfold, grid = Unfold(), FineGrid()
    phi = torch.tensor(grid.phi(), dtype=torch.float32)
    x, y = torch.randn(3, 1089), torch.randn(3, 121)
    expected = x - 0.5 * x @ phi.T @ phi + 0.5 * y @ phi
    torch.testing.assert_close(x + 0.5 * (y - x @ phi.T) @ phi, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(unfold.phi, phi)


def test_shapes_and_the_symmetry_error(network, patches):
    with torch.no_grad():
        fused = network(patches[:, :5])
        maps, errors = network.unfold(patches[0])
    assert fused.map.shape == (2, 33, 33)
    assert fused.aligned.shape == (2, 4, 33, 33)
    assert fused.features.shape == (2, 32, 33, 33)
    assert maps.shape == (20, 33, 33)
    assert errors.shape == (20, 9, 33, 33)
    assert (errors == 0).all(), "computed in training only"
    network.train()
    assert (network.unfold(patches[0, :2])[1] != 0).any()
    network.eval()


def test_windows_from_shared_maps_equal_whole_windows(network, patches):
    with torch.no_grad():
        maps, _ = network.unfold(patches[0])
        for first in range(16):
            window = patches[:1, first : first + WINDOW]
            streamed = network.merge(maps[None, first : first + WINDOW], torch.arange(WINDOW), window)
            whole = network(window)
            torch.testing.assert_close(streamed.map, whole.map, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(streamed.raw, whole.raw, atol=1e-4, rtol=1e-4)


def test_a_clip_gives_sixteen_windows_gated_by_place_in_the_clip(network, patches):
    with torch.no_grad():
        clip = network.forward_clip(patches[0])
        maps, _ = network.unfold(patches[0])
        assert clip.map.shape == (16, 33, 33)
        for first in (0, 7, 15):
            places = torch.arange(first, first + WINDOW)
            alone = network.merge(maps[None, first : first + WINDOW], places, patches[:1, first : first + WINDOW])
            torch.testing.assert_close(clip.map[first], alone.map[0], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(clip.map[3], network(patches[:1, 3:8]).map[0], atol=1e-3), "the gates differ"


def test_the_output_depends_on_every_frame_and_on_their_order(network, patches):
    with torch.no_grad():
        base = network(patches[:1, :5]).map
        for t in range(WINDOW):
            changed = patches[:1, :5].clone()
            changed[0, t] *= 0.5
            assert (network(changed).map - base).abs().max() > 1e-3
        assert (network(patches[:1, :5].flip(1)).map - base).abs().max() > 1e-3


def test_every_parameter_has_a_gradient(patches):
    torch.manual_seed(0)
    network = DeRefNet(head=True)
    torch.nn.init.normal_(network.head.features.weight, 0, 0.01)
    for align in (network.fuse.align_1, network.fuse.align_2):
        torch.nn.init.normal_(align.conv_offset.weight, 0, 0.01)  # at 0 the layers behind the offsets have no gradient
    label = torch.from_numpy(
        FineGrid().label(np.nan_to_num(seqcsist(2, seed=2).xy[:, 2]), seqcsist(2, seed=2).amplitude)
    ).float()
    fused = network(patches[:, :5])
    _, errors = network.unfold(patches[:, 2])
    loss = (
        F.mse_loss(fused.map, label)
        + 0.1 * errors.square().mean()
        + 0.1 * fused.aligned.abs().mean()
        + fused.raw.square().mean()
    )
    loss.backward()
    without_gradient = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without_gradient


def test_fuse_takes_maps_of_any_size():
    assert Fuse()(torch.randn(2, WINDOW, 20, 24)).map.shape == (2, 20, 24)


def test_with_by_peak_the_output_is_proportional_to_brightness():
    network = random_network(1, head=True, by_peak=True)
    window = torch.from_numpy(seqcsist(1, seed=2).frames[:, :5])
    with torch.no_grad():
        dim, bright = network(window), network(50 * window)
    torch.testing.assert_close(50 * dim.map, bright.map, rtol=1e-3, atol=0.5)
    torch.testing.assert_close(dim.raw, bright.raw, rtol=1e-3, atol=1e-3)
    dim_claims, bright_claims = decode_claims(dim.raw, dim.scale), decode_claims(bright.raw, bright.scale)
    torch.testing.assert_close(dim_claims[:, :5], bright_claims[:, :5], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(50 * dim_claims[:, 5:], bright_claims[:, 5:], rtol=1e-3, atol=1.0)


def test_one_gate_for_all_cells_makes_the_network_translation_equivariant():
    """For whole pixels, away from the borders, and without the initial guess, which depends on the borders."""
    patch = torch.from_numpy(seqcsist(1, seed=2).frames[0, :5])
    window = F.pad(patch, (6, 6, 6, 6))  # a group far from all borders
    network = random_network(2, head=True, side=23)
    network.unfold.qinit.zero_()
    with torch.no_grad():
        here, there = network(window[None]), network(window.roll((1, 2), (1, 2))[None])
    inner = slice(27, 42)
    torch.testing.assert_close(
        here.map.roll((3, 6), (1, 2))[:, inner, inner], there.map[:, inner, inner], atol=1e-2, rtol=0
    )
