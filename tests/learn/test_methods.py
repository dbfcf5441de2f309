"""The contract of a method, tested for all of them, and what some of them promise beyond it."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from irst_stream.errors import UsageError
from irst_stream.learn.export import method_graphs
from irst_stream.learn.methods import find_method, registered
from irst_stream.learn.methods.classical import CLASSICAL, Bid, Ista
from irst_stream.learn.methods.generative import DISCRIMINATORS
from irst_stream.learn.methods.learned_iterations import Liht
from irst_stream.learn.methods.plug_and_play import UsrNet
from irst_stream.learn.methods.shared import Imaging, LinearGuess, soft_threshold
from irst_stream.learn.methods.super_resolution import GMFN
from irst_stream.learn.network import DeRefNet
from irst_stream.learn.training.finish import cost
from irst_stream.learn.training.settings import MethodTraining
from irst_stream.optics import FineGrid
from irst_stream.sim import csist100k, seqcsist
from irst_stream.unmix.engine import LIGHT_UNIT_DN, WINDOW, read_engine, write_engine, write_graphs
from irst_stream.unmix.onnx import OnnxUnmixer

GRID = FineGrid(3, (7, 7))
SMALL = {  # of those whose full size takes seconds
    "edsr": {"width": 16, "blocks": 2},
    "rdn": {"width": 16, "blocks": 2, "layers": 2},
    "dbpn": {"rounds": 1},
    "gmfn": {"blocks": 2, "layers": 2},
    "ista-net++": {"stages": 2},
    "srgan": {"width": 16, "blocks": 2},
    "srresnet": {"width": 16, "blocks": 2},
    "esrgan": {"width": 16, "blocks": 1},
    "bsrgan": {"width": 16, "blocks": 1},
    "rrdb": {"width": 16, "blocks": 1},
    "usrnet": {"iterations": 1},
    "rpcanet": {"stages": 2, "layers": 1, "width": 8},
    "dista-net": {"stages": 2, "width": 16},
    "ista-net": {"stages": 2},
    "ista-net+": {"stages": 2},
    "fista-net": {"iterations": 3},
    "lista": {"layers": 2},
    "liht": {"layers": 2},
    "lamp": {"layers": 3},
    "tilista": {"layers": 2},
    "tdan": {"blocks": 1, "feature_blocks": 1},
}
PARAMETERS = {  # of the published networks at 11 x 11 px; where ours leaves dead parts out, without those
    "srcnn": 15_841,
    "espcn": 22_729,
    "edsr": 389_025,
    "rdn": 22_305_729,
    "dbpn": 1_963_594,
    "gmfn": 2_786_212,
    "srgan": 1_552_193,
    "esrgan": 16_658_753,
    "tdan": 584_833,
    "lista": 21_100_464,
    "liht": 21_100_464,
    "lamp": 2_125_728,
    "tilista": 2_125_744,
    "ista-net": 171_090,
    "ista-net+": 336_978,
    "fista-net": 74_599 - 36_992,  # four convolutions that are never called
    "ista-net++": 760_220 - 2_440 + 40,  # a network fed with a constant: 40 numbers
    "usrnet": 1_063_344 + 16,  # the same, 16 numbers
    "rpcanet": 679_896 - 5 * 28_609,  # five reconstructions that nothing reads
    "dista-net": 2_179_104,
    "focus": 46_037,
}
MULTIPLY_ADDS = {  # millions, published and counted at 11 x 11 px; the imaging model's are fewer here
    "srcnn": 17.3, "espcn": 2.7, "edsr": 47.2, "focus": 25.5, "dbpn": 237.5, "gmfn": 337.1, "srgan": 223.7,
    "ista-net": 187, "ista-net+": 378, "fista-net": 294, "ista-net++": 827, "dista-net": 546, "tdan": 196.0, "lista": 21.2,
}  # fmt: skip
NETWORKS = [name for name in registered() if name not in CLASSICAL and name != "derefnet"]


def build(name, grid=GRID, **options):
    torch.manual_seed(0)
    network = find_method(name).build(grid, **(options or SMALL.get(name, {})))
    with torch.no_grad():
        for part, parameter in network.named_parameters():
            if part.endswith("offset.weight"):
                parameter.normal_(0, 0.05)  # at 0 what steers the alignment has no gradient
    return network


def given(name, count=4, seed=3):
    """Patches of SeqCSIST in DN, windows for those that take them, and their labels."""
    drawn = seqcsist(count, seed=seed, noise=(1.0, 1.0))
    frames = drawn.frames[:, :WINDOW, 2:9, 2:9]
    windows = find_method(name).recipe == "window"
    patches = frames if windows else frames[:, 2]
    label = GRID.label(drawn.xy[:, 2] - 2, drawn.amplitude)
    return torch.from_numpy(np.ascontiguousarray(patches)), torch.from_numpy(label).float()


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


def test_there_are_25_and_the_generators_without_their_adversaries():
    methods = registered()
    assert len(methods) == 25 + 2
    assert {method.recipe for method in methods.values()} == {"map", "window", "adversarial", "none"}
    assert set(DISCRIMINATORS) == {name for name, method in methods.items() if method.recipe == "adversarial"}
    with pytest.raises(UsageError, match="nothing: no such method; there are: bid, bsrgan, "):
        find_method("nothing")


def test_maps_are_finite_single_precision_and_the_same_in_any_batch(name):
    network, (patches, _) = build(name).eval(), given(name)
    with torch.no_grad():
        maps = network(patches)
        again = network(patches.flip(0)).flip(0)
        alone = torch.cat([network(one[None]) for one in patches])
    assert maps.shape == (len(patches), *GRID.shape)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    limit = 1e-4 * float(maps.abs().max())
    torch.testing.assert_close(again, maps, atol=limit, rtol=0)
    torch.testing.assert_close(alone, maps, atol=limit, rtol=0)


def test_the_gradient_reaches_every_parameter_and_no_two_share_storage(name):
    network, (patches, label) = build(name).train(), given(name)
    solved = network.solve(patches / LIGHT_UNIT_DN)
    loss = sum((fine - label / LIGHT_UNIT_DN).square().mean() for fine in (*solved.passes, solved.map))
    (loss + 0.01 * sum(solved.terms.values())).backward()
    dead = [part for part, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not dead
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    storages = [p.untyped_storage().data_ptr() for p in network.parameters()]
    assert len(set(storages)) == len(storages)


def test_the_same_seed_gives_the_same_network_and_maps(name):
    first, second, (patches, _) = build(name).eval(), build(name).eval(), given(name)
    with torch.no_grad():
        assert torch.equal(first(patches), second(patches))


def test_it_keeps_to_its_device(name):
    """Everything that the network holds moves with it; the meta device has shapes alone."""
    network, (patches, _) = build(name).eval().to("meta"), given(name)
    assert network(patches.to("meta")).shape == (len(patches), *GRID.shape)


def test_a_few_steps_lower_the_loss(name):
    network, (patches, label) = build(name).train(), given(name, 8)
    label = label / LIGHT_UNIT_DN
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = (network.solve(patches / LIGHT_UNIT_DN).map - label).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_its_onnx_graphs_give_the_same_maps(name, tmp_path):
    if name in ("srgan", "esrgan", "bsrgan"):
        pytest.skip("the same network as without an adversary")
    network, (patches, _) = build(name).eval(), given(name)
    windows = find_method(name).recipe == "window"
    weights = {key: tensor.float().numpy() for key, tensor in network.state_dict().items()}
    facts = {"network": name, "options": SMALL.get(name, {}), "window": WINDOW if windows else 1}
    write_engine(tmp_path, weights, made_by="test", patch=GRID.patch, **facts)
    engine = read_engine(tmp_path)
    write_graphs(tmp_path, engine, method_graphs(network, engine.manifest, engine.data))
    unmixer = OnnxUnmixer(read_engine(tmp_path), threads=1)
    with torch.no_grad():
        expected = network(patches).numpy()
    if windows:
        maps = [unmixer.unfold(window) for window in patches.numpy()]
        got = unmixer.fuse(maps, patches.numpy(), np.tile(np.arange(WINDOW), (len(maps), 1))).map
    else:
        got = unmixer.unfold(patches.numpy())
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_the_parameters_of_the_published_one(name):
    assert sum(p.numel() for p in find_method(name).build(FineGrid()).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_it_costs_what_the_published_one_does(name):
    """Within 4 %: the published count of the imaging model's products is of dense ones."""
    settings = MethodTraining(name, patch=11)
    counted = cost(find_method(name).build(FineGrid()), settings, windows=name == "tdan")
    assert counted["multiply_adds"] == pytest.approx(1e6 * MULTIPLY_ADDS[name], rel=0.04)


def test_every_option_in_a_training_file_is_one_of_the_network():
    from irst_stream.learn.training.settings import find_training, trainings

    assert set(trainings()) == set(NETWORKS)
    for name in trainings():
        settings = find_training(name)
        assert settings.method == name
        assert settings.network.keys() <= inspect.signature(find_method(name).build).parameters.keys()


def test_a_patch_moved_by_a_pixel_moves_the_map_by_three_cells():
    """Away from borders, of the methods without matrices or a guess fitted to whole patches."""
    grid = FineGrid(3, (15, 15))
    patch = torch.zeros(1, 15, 15)
    patch[0, 6:9, 6:9] = torch.from_numpy(seqcsist(1, seed=5).frames[0, 0, 4:7, 4:7])
    for name in ("espcn", "focus", "srresnet"):
        network = build(name, grid).eval()
        with torch.no_grad():
            here, there = network(patch)[0], network(patch.roll(1, 2))[0]
        inner = slice(18, 27)
        torch.testing.assert_close(here.roll(3, 1)[inner, inner], there[inner, inner], atol=5e-2, rtol=1e-3, msg=name)


def test_the_separable_imaging_model_equals_phi_and_its_adjoint():
    imaging, phi = Imaging(GRID), torch.tensor(GRID.phi(), dtype=torch.float32)
    x, y = torch.randn(2, 21, 21), torch.randn(2, 7, 7)
    torch.testing.assert_close(imaging(x).flatten(1), x.flatten(1) @ phi.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(imaging.adjoint(y).flatten(1), y.flatten(1) @ phi, atol=1e-4, rtol=1e-4)
    assert imaging.norm_squared == pytest.approx(float(torch.linalg.matrix_norm(phi, 2) ** 2), rel=1e-4)


def test_usrnets_data_step_minimises_what_it_says():
    network, y, x = UsrNet(GRID).eval(), torch.rand(1, 7, 7), torch.rand(1, 21, 21)
    alpha, phi = torch.tensor(0.3), torch.tensor(GRID.phi(), dtype=torch.float32)
    got = x + network._data_step(y - network.imaging(x), alpha)
    normal = phi.T @ phi + alpha * torch.eye(441)
    expected = torch.linalg.solve(normal, phi.T @ y.flatten() + alpha * x.flatten())
    torch.testing.assert_close(got.flatten(), expected, atol=1e-3, rtol=1e-3)


def test_feedback_gives_a_map_of_every_pass_and_trains_what_mixes_them():
    torch.manual_seed(0)
    network = GMFN(GRID, blocks=2, layers=2, passes=3).train()
    patches, label = given("gmfn")
    solved = network.solve(patches / LIGHT_UNIT_DN)
    assert len(solved.passes) == 2
    (solved.map - label).square().mean().backward()
    assert all(p.grad.abs().max() > 0 for part in (network.remember, network.mix) for p in part.parameters())
    assert sum(p.numel() for p in GMFN(FineGrid(), passes=4).parameters()) == 2_796_518


def test_a_hard_threshold_has_a_gradient_and_answers_as_one():
    network = Liht(GRID, layers=1)
    x, threshold = torch.tensor([[0.1, 0.5, -0.9]]), torch.tensor([0.3])
    assert torch.equal(network.eval().shrink(x, threshold), torch.tensor([[0.0, 0.5, -0.9]]))
    torch.testing.assert_close(network.train().shrink(x, threshold), torch.tensor([[0.0, 0.5, -0.9]]))


def test_a_soft_threshold_is_one():
    got = soft_threshold(torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0]), torch.tensor(1.0))
    assert got.tolist() == [-2.0, 0.0, 0.0, 0.0, 2.0]


def test_a_methods_guess_is_the_one_it_is_given():
    qinit = torch.randn(441, 49)
    for name in ("srcnn", "lista"):
        network = build(name)
        network.begin(qinit)
        guesses = [part.qinit for part in network.modules() if isinstance(part, LinearGuess)]
        assert all(torch.equal(guess, qinit) for guess in guesses)
    assert all(torch.equal(matrix, qinit) for matrix in network.to_cells)


def test_a_windows_map_depends_on_each_of_its_frames():
    network, (patches, _) = build("tdan").eval(), given("tdan")
    with torch.no_grad():
        base = network(patches)
        for t in range(WINDOW):
            changed = patches.clone()
            changed[:, t] *= 0.5
            assert (network(changed) - base).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("method", "within"),
    [
        (Ista(GRID, iterations=400), 0.3),
        (Bid(GRID, iterations=400), 0.3),
        (Bid(GRID, 50, published=True), 0.75),  # which hardly deblurs: the brightest pixel
    ],
)
def test_classical_methods_put_the_light_where_the_target_is(method, within):
    drawn = csist100k(400, seed=4)
    alone = drawn.count == 1
    maps = method(drawn.frames[alone, 0, 2:9, 2:9])
    brightest = maps.reshape(len(maps), -1).argmax(1)
    where = GRID.centres.reshape(-1, 2)[brightest] + 2
    assert np.hypot(*(where - drawn.xy[alone, 0, 0]).T).max() < within
    assert maps.dtype == np.float32
    assert method(np.zeros((0, 7, 7))).shape == (0, 21, 21)
    np.testing.assert_allclose(method(drawn.frames[alone, 0, 2:9, 2:9][:1]), maps[:1], atol=1e-3)


def test_ista_lowers_its_objective():
    patches = seqcsist(2, seed=4).frames[:, 0, 2:9, 2:9]
    phi = GRID.phi()

    def objective(iterations):
        fine = Ista(GRID, penalty=10.0, iterations=iterations)(patches).astype(np.float64).reshape(2, -1)
        misfit = patches.reshape(2, -1) - fine @ phi.T
        return 0.5 * (misfit**2).sum() + 10.0 * np.abs(fine).sum()

    assert objective(800) < objective(100) < objective(10)


def test_derefnet_is_the_one_that_is_shipped():
    assert isinstance(find_method("derefnet").build(GRID), DeRefNet)


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("side", [7, 11])
def test_a_discriminator_takes_maps_of_the_grid(name, side):
    grid = FineGrid(3, (side, side))
    network = DISCRIMINATORS[name](grid, 8)
    logits = network(torch.randn(3, *grid.shape))
    assert logits.shape == ((3, 1, *grid.shape) if name == "bsrgan" else (3, 1))


def test_srgans_discriminator_has_the_published_size():
    with torch.device("meta"):
        network = DISCRIMINATORS["srgan"](FineGrid())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(13.73e6, rel=0.01)
