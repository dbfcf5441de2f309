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


def test_an_unknown_configuration_lists_the_known_ones():
    with pytest.raises(UsageError, match="scene-cloud"):
        find_config("nonsense")


def test_engines_are_found():
    assert (engines_folder() / "README.md").is_file()
