"""Engines as files: imported from the reference toolkit, run by every backend, loaded only if their hashes match."""

import re

import numpy as np
import pytest
import scipy.io
import torch
from random_networks import random_engine
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream import FormatError, SourceError, UsageError
from irst_stream.cli import main
from irst_stream.commands import engine as engine_command
from irst_stream.learn.backend import TorchUnmixer
from irst_stream.learn.deform import deform_conv
from irst_stream.learn.reference import CONVOLUTIONS
from irst_stream.optics import FineGrid
from irst_stream.sim import seqcsist
from irst_stream.unmix import engine as engine_module
from irst_stream.unmix.engine import EngineManifest, read_engine, write_engine
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.onnx import OnnxUnmixer, supported_forms
from irst_stream.unmix.openvino import OpenVinoUnmixer
from irst_stream.unmix.stream import run_sequence

BACKENDS = {"numpy": NumpyUnmixer, "torch": TorchUnmixer, "onnx": OnnxUnmixer, "openvino": OpenVinoUnmixer}
COMPARED = ("torch", *["onnx"] * len(supported_forms()), "openvino", "openvino-bf16")
SHAPES = {"conv1_forward": (32, 1), "conv2_forward": (32, 32), "conv1_backward": (32, 32), "conv2_backward": (1, 32)}


def toolkit_state(seed=0):
    """A state_dict with the toolkit's names and random arrays of a trained network's size."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.07):
        return scale * torch.randn(*shape, generator=generator)

    state = {"TDDA.mlp.weight": draw(1089, 1089, scale=0.01), "TDDA.mlp.bias": draw(1089)}
    for k in range(9):
        state |= {f"fcs.{k}.lambda_step": torch.tensor([0.4]), f"fcs.{k}.soft_thr": torch.tensor([0.02])}
        state |= {f"fcs.{k}.{name}": draw(*shape, 3, 3) for name, shape in SHAPES.items()}
    plain = {
        "feat_extract.0.conv": (32, 1, 3), "feat_aggregate.conv0_s": (16, 32, 1), "feat_aggregate.conv1_s": (16, 32, 1),
        "feat_aggregate.conv_squeeze": (2, 2, 3), "align_1.conv_offset": (18, 32, 3), "align_2.conv_offset": (18, 32, 3),
        "conv": (1, 32, 3), "tail_conv.0.conv": (32, 5, 3),
        **{f"tail_conv.1.{b}.{c}": (32, 32, 3) for b in range(5) for c in ("conv1", "conv2")},
    }  # fmt: skip
    for name, (out, into, size) in plain.items():
        state[f"TDDA.{name}.weight"] = draw(out, into, size, size)
        state[f"TDDA.{name}.bias"] = draw(out)
    for name in ("align_1", "align_2"):
        state[f"TDDA.{name}.weight"] = draw(32, 32, 3, 3)
    state["TDDA.tail_conv.2.weight"] = draw(1, 32, 3, 3)
    return state


def as_the_toolkit_writes_it(s, phi, qinit, clip):
    """The forward pass of a clip (20, 121), frame by frame, with the toolkit's names, products and order of operations."""
    phi, x = torch.tensor(phi), clip @ torch.tensor(qinit).T
    phi_t_phi, phi_t_y = phi.T @ phi, clip @ phi
    for k in range(9):
        p = f"fcs.{k}."
        r = x - s[p + "lambda_step"] * (x @ phi_t_phi) + s[p + "lambda_step"] * phi_t_y
        image = r.view(-1, 1, 33, 33)
        features = F.conv2d(F.relu(F.conv2d(image, s[p + "conv1_forward"], padding=1)), s[p + "conv2_forward"], padding=1)
        shrunk = features.sign() * F.relu(features.abs() - s[p + "soft_thr"])
        back = F.conv2d(F.relu(F.conv2d(shrunk, s[p + "conv1_backward"], padding=1)), s[p + "conv2_backward"], padding=1)
        x = back.view(-1, 1089)
    gated = []
    for t in range(20):
        place = torch.full((1, 1089), t / 20)
        gated.append(x[t : t + 1] * torch.sigmoid(place @ s["TDDA.mlp.weight"].T + s["TDDA.mlp.bias"]))
    maps = torch.cat(gated).view(20, 1, 33, 33)

    def conv(image, name, reach=1):
        return F.conv2d(image, s[f"TDDA.{name}.weight"], s.get(f"TDDA.{name}.bias"), padding=reach)

    def align(centre, neighbour):
        a, b = conv(centre, "feat_aggregate.conv0_s", 0), conv(neighbour, "feat_aggregate.conv1_s", 0)
        both = torch.cat([a, b], 1)
        weight = conv(torch.cat([both.mean(1, True), both.max(1, True)[0]], 1), "feat_aggregate.conv_squeeze").sigmoid()
        steering = torch.cat([a * weight[:, :1], b * weight[:, 1:]], 1)
        once = deform_conv(neighbour, conv(steering, "align_1.conv_offset"), s["TDDA.align_1.weight"])
        twice = deform_conv(once, conv(once, "align_2.conv_offset"), s["TDDA.align_2.weight"])
        return conv(twice, "conv")

    outputs = []
    for centre in range(2, 18):
        f = {t: F.relu(conv(maps[t : t + 1], "feat_extract.0.conv")) for t in range(centre - 2, centre + 3)}
        window = [maps[t : t + 1] if t == centre else align(f[centre], f[t]) for t in f]
        image = F.relu(conv(torch.cat(window, 1), "tail_conv.0.conv"))
        for b in range(5):
            image = image + conv(F.relu(conv(image, f"tail_conv.1.{b}.conv1")), f"tail_conv.1.{b}.conv2")
        outputs.append(conv(image, "tail_conv.2")[0, 0])
    return torch.stack(outputs).numpy()


@pytest.fixture(scope="module")
def matrices():
    phi = FineGrid().phi().astype(np.float32)
    return phi, np.linalg.pinv(phi, rcond=1e-2).astype(np.float32)


@pytest.fixture(scope="module")
def clip():
    return seqcsist(1, seed=4, noise=(2.0, 2.0)).frames[0]


@pytest.fixture
def imported(tmp_path, matrices, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": toolkit_state(), "meta": {"epoch": 3}}, "best.pth")
    scipy.io.savemat("phi.mat", {"phi": matrices[0]})
    scipy.io.savemat("qinit.mat", {"Qinit": matrices[1]})
    assert main(["engine", "import", "best.pth", "ours", "--phi", "phi.mat", "--qinit", "qinit.mat"]) == 0
    assert main(["engine", "export", "ours", "ours"]) == 0
    return tmp_path / "ours"


@pytest.mark.parametrize("name", BACKENDS)
def test_an_imported_checkpoint_gives_the_toolkits_sixteen_outputs(name, imported, matrices, clip):
    with torch.no_grad():
        expected = as_the_toolkit_writes_it(toolkit_state(), *matrices, torch.from_numpy(clip.reshape(20, 121)))
    engine = read_engine(imported)
    got = run_sequence([BACKENDS[name](engine)], engine.manifest, clip).map
    assert got.shape == (16, 33, 33)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.usefixtures("imported")
def test_engine_run_writes_the_maps_of_every_backend(clip, capsys):
    np.save("patches.npy", clip)
    for name in BACKENDS:
        assert main(["engine", "run", "ours", "patches.npy", f"{name}.npy", "--backend", name]) == 0
        assert "16 x 33 x 33, " in capsys.readouterr().out
    assert main(["engine", "run", "ours", "patches.npy", "default.npy", "--threads", "1"]) == 0
    assert capsys.readouterr().out.endswith("by onnx\n")
    expected = np.load("numpy.npy")
    for name in ("torch", "onnx", "openvino", "default"):
        np.testing.assert_allclose(np.load(f"{name}.npy"), expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.usefixtures("imported")
def test_export_and_check_report_their_results(capsys):
    assert main(["engine", "export", "ours", "out"]) == 0
    said = capsys.readouterr().out
    assert "fuse-deform.onnx" in said
    assert "portable     17" in said
    assert main(["engine", "check", "out"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[:2] for line in said.splitlines()[2:]] == [[i, b] for i in ("noise", "images") for b in COMPARED]


@pytest.mark.usefixtures("imported")
def test_check_builds_each_backend_once(monkeypatch):
    build, built = engine_command._unmixer, []

    def counted(engine, backend, form=""):
        built.append(f"{backend} {form}".strip())
        return build(engine, backend, form)

    monkeypatch.setattr(engine_command, "_unmixer", counted)
    assert main(["engine", "check", "ours"]) == 0
    assert len(built) == len(set(built)) > 1


@pytest.mark.usefixtures("imported")
def test_check_fails_where_backends_differ(capsys, monkeypatch):
    unfold = OnnxUnmixer.unfold
    monkeypatch.setattr(OnnxUnmixer, "unfold", lambda self, patches: 1.01 * unfold(self, patches))
    assert main(["engine", "check", "ours"]) == 2
    assert "ours: backends differ too much, in shares of the range: onnx by " in capsys.readouterr().err


def test_checkpoints_may_lack_biases(matrices):
    from irst_stream.learn.reference import translate

    state = {name: tensor.numpy() for name, tensor in toolkit_state().items()}
    del state["TDDA.conv.bias"]
    ours = translate(state, *matrices)
    assert (ours["fuse.conv.bias"] == 0).all()
    assert len(set(CONVOLUTIONS.values())) == len(CONVOLUTIONS)


def test_the_length_of_a_sequence_is_checked_against_window_and_time_code():
    window, by_clip = EngineManifest("", "t"), EngineManifest("", "t", time_code="clip", code_length=20)
    window.check_length(1000)
    by_clip.check_length(20)
    with pytest.raises(UsageError, match="at most 20 frames, got 21"):
        by_clip.check_length(21)
    with pytest.raises(UsageError, match="at least 5 frames"):
        window.check_length(4)


def test_an_engine_reads_back_what_was_written(tmp_path):
    weights = {"b": np.arange(3.0), "a": np.ones((2, 2))}
    manifest = write_engine(tmp_path / "e", weights, made_by="test")
    engine = read_engine(tmp_path / "e")
    assert engine.manifest == manifest
    for name, array in weights.items():
        np.testing.assert_array_equal(engine.weights[name], array.astype(np.float32))


@pytest.mark.parametrize("how", ["changed", "truncated", "swapped"])
def test_weights_whose_hash_differs_are_never_loaded(how, tmp_path, monkeypatch):
    write_engine(tmp_path / "e", {"a": np.ones(50)}, made_by="test")
    path = tmp_path / "e" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    if how == "changed":
        data[-1] ^= 1
    elif how == "truncated":
        del data[-10:]
    else:
        write_engine(tmp_path / "f", {"a": np.zeros(50)}, made_by="test")
        data = (tmp_path / "f" / "weights.safetensors").read_bytes()
    path.write_bytes(data)
    monkeypatch.setattr(engine_module, "load", lambda _: pytest.fail("loaded"))
    with pytest.raises(
        FormatError, match="its hash is not the manifest's: the file was changed, truncated, or belongs to another engine"
    ):
        read_engine(tmp_path / "e")


@pytest.mark.parametrize("how", ["changed", "missing", "elsewhere"])
def test_graphs_whose_hash_differs_are_never_run(how, tmp_path):
    random_engine(tmp_path / "e")
    path = tmp_path / "e" / f"fuse-{supported_forms()[0]}.onnx"
    if how == "changed":
        path.write_bytes(path.read_bytes() + b" ")
    elif how == "missing":
        path.unlink()
    else:
        manifest = tmp_path / "e" / "manifest.toml"
        manifest.write_text(manifest.read_text().replace(path.name, f"../e/{path.name}"))
    wanted = {
        "changed": "its hash is not the manifest's",
        "missing": "No such file",
        "elsewhere": "a file in the same folder",
    }
    with pytest.raises((FormatError, SourceError), match=wanted[how]):
        OnnxUnmixer(read_engine(tmp_path / "e"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('network = "derefnet"', 'network = "Other Net"', "Expected `str` matching regex '^[a-z0-9+-]+$' - at `$.network`"),
        ("division = 3", "divison = 3", "unknown field `divison`"),
        ("code_length = 5", "code_length = 0", "Expected `int` >= 1 - at `$.code_length`"),
        ('sha256 = "', '# "', "missing required field `sha256`"),
        ("patch = ", "patch", "manifest.toml: "),
    ],
)
def test_an_invalid_manifest_is_reported_with_its_field(old, new, message, tmp_path):
    write_engine(tmp_path, {"a": np.ones(3)}, made_by="test")
    path = tmp_path / "manifest.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FormatError, match=re.escape(message)):
        read_engine(tmp_path)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "engine run nowhere patches.npy out.npy",
            "nowhere: no such folder, and no bundled engine of that name; there are:",
        ),
        ("engine run ours none.npy out.npy", "none.npy"),
        ("engine run ours flat.npy out.npy", "flat.npy: expected (frames, h, w) of at least 11 x 11 px, got (20, 121)"),
        ("engine run ours holes.npy out.npy", "holes.npy: expected finite pixels; 1 are NaN or infinite"),
        ("engine run ours short.npy out.npy", "expected at least 5 frames"),
        ("engine run ours patches.npy patches.npy", "would change the input"),
        ("engine import evil.pth out --phi phi.mat --qinit qinit.mat", "evil.pth: cannot be read as a checkpoint"),
        ("engine import other.pth out --phi phi.mat --qinit qinit.mat", "the checkpoint has no array TDDA.mlp.weight"),
        ("engine import best.pth ours --phi phi.mat --qinit qinit.mat", "ours: is not an empty folder"),
        ("engine import best.pth out --phi qinit.mat --qinit phi.mat", "qinit.mat: cannot read matrix 'phi'"),
    ],
)
@pytest.mark.usefixtures("imported")
def test_wrong_inputs_give_one_line_of_error(command, message, clip, capsys):
    holes = clip.copy()
    holes[3, 4, 5] = np.nan
    for name, array in {"patches": clip, "flat": clip.reshape(20, 121), "holes": holes, "short": clip[:3]}.items():
        np.save(f"{name}.npy", array)
    torch.save({"state_dict": {"a": torch.ones(1)}}, "other.pth")
    torch.save(np.random.default_rng, "evil.pth")  # pickled code, which must never be loaded
    capsys.readouterr()
    assert main(command.split()) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_engine_of_other_arrays_is_refused(tmp_path):
    write_engine(tmp_path, {"a": np.ones(3)}, made_by="test")
    engine = read_engine(tmp_path)
    with pytest.raises(FormatError, match="the engine's weights do not fit the network that its manifest describes"):
        TorchUnmixer(engine)
    with pytest.raises(FormatError, match=r"the engine has no array 'code\.slope'"):
        NumpyUnmixer(engine)
    with pytest.raises(FormatError, match="no ONNX graphs; make them with irst-stream engine export"):
        OnnxUnmixer(engine)
    with pytest.raises(FormatError, match="no portable graphs; make them with irst-stream engine export"):
        OpenVinoUnmixer(engine)
    assert main(["engine", "export", str(tmp_path), str(tmp_path / "out")]) == 2


def test_a_missing_engine_names_the_file(tmp_path):
    with pytest.raises(SourceError, match=r"manifest\.toml: not an engine"):
        read_engine(tmp_path)
