import pytest
from train import Training

from irst_stream import FormatError, UsageError
from irst_stream.build import build_pipeline
from irst_stream.config import read_config
from irst_stream.resources import configs_folder, engines_folder, find_config
from irst_stream.settings import read_settings
from irst_stream.sim import Scene, SceneSettings


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[sensor]\nwidth = 320\n[groups]\nsnr = [5.0, 9.0]\nmembers = [2, 3]\n")
    settings = read_settings(path, SceneSettings)
    assert settings.sensor.width == 320
    assert settings.groups.snr == (5.0, 9.0)
    assert settings.groups.members == (2, 3)
    assert settings.platform == SceneSettings().platform


def test_every_mistake_is_named_at_once_with_the_nearest_key(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[sensor]\nwidht = 320\nbits = "many"\n[grups]\ngroups = 3\n')
    with pytest.raises(FormatError) as caught:
        read_settings(path, SceneSettings)
    text = str(caught.value)
    assert "sensor.widht: no such key; did you mean width" in text
    assert "sensor.bits: expected `int`, got `str`" in text
    assert "grups: no such key; did you mean groups" in text
    assert "\n" not in text


def test_what_is_wrong_of_its_kind_does_not_hide_what_is_wrong_beside_it(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        'policy = "lively"\nbackend = 3\nthreads = -3\nwindow = 4\n[[receive]]\nbind = true\n[[receive]]\n'
        'endpoint = "udp://x"\n[[write]]\n[fit]\nanew = 0\n'
    )
    with pytest.raises(FormatError) as caught:
        read_config(path)
    assert sorted(str(caught.value).removeprefix(f"{path}: ").split("; ")) == [
        "backend: expected auto, tensorrt, tensorrt-fp32, tensorrt-int8, onnx, openvino, openvino-bf16 or numpy, got 3",
        "fit.anew: expected 1 to 1,000,000 windows, got 0",
        "policy: expected live or lossless, got 'lively'",
        "receive[0].endpoint: missing",
        "receive[1].endpoint: expected tcp://HOST:PORT or ipc://PATH, got 'udp://x'",
        "threads: expected `int` >= 0",
        "window: expected an odd number of frames, got 4",
        "write[0].path: missing",
    ]


def test_what_a_configuration_names_must_be_there_where_it_runs(tmp_path):
    path = tmp_path / "a.toml"
    ends = 'endpoint = "tcp://127.0.0.1:1"\nbind = true\nkeys = "no.key_secret"\nallow = "nowhere"\n'
    path.write_text(f'readout = "best"\nengine = "nonsense"\n[[receive]]\n{ends}')
    assert read_config(path).engine == "nonsense"
    with pytest.raises(FormatError) as caught:
        read_config(path, here=True)
    for part in (
        "engine: nonsense: no such folder",
        "receive[0].keys: no.key_secret: ",
        "receive[0].allow: nowhere: no such",
    ):
        assert part in str(caught.value)


def test_broken_toml_names_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[sensor\n")
    with pytest.raises(FormatError, match=r"a\.toml"):
        read_settings(path, SceneSettings)


@pytest.mark.parametrize("path", sorted(configs_folder().glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid_and_says_what_it_is_for(path):
    assert path.read_text().startswith("# ")
    if path.stem.startswith("scene-"):
        assert len(Scene(read_settings(find_config(path.stem), SceneSettings), 3)) == 3
    elif path.stem.startswith("train-"):
        assert read_settings(find_config(path.stem), Training).name == path.stem.removeprefix("train-")
    else:
        assert build_pipeline(read_config(find_config(path.stem)))


@pytest.mark.parametrize(("what", "known", "other"), [("run", "camera", "train-"), ("scene", "scene-cloud", "camera")])
def test_an_unknown_configuration_lists_the_known_ones_of_its_kind(what, known, other):
    with pytest.raises(UsageError, match=known) as caught:
        find_config("nonsense", what)
    assert other not in str(caught.value)


def test_engines_are_found():
    assert (engines_folder() / "README.md").is_file()
