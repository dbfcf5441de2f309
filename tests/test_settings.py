import pytest
from random_networks import random_engine
from train_settings import Training

from irst_stream import FormatError, UsageError
from irst_stream.build import build_pipeline
from irst_stream.cli import main
from irst_stream.config import read_config
from irst_stream.fit.fitter import Fitter
from irst_stream.fit.settings import FitSettings
from irst_stream.propose.proposer import Proposer
from irst_stream.propose.settings import ProposeSettings
from irst_stream.settings import read_settings
from irst_stream.sim import Scene, SceneSettings
from irst_stream.system.shipped import configs_folder, engines_folder, find_config
from irst_stream.track import Tracker, TrackSettings


def faults_of(path):
    with pytest.raises(FormatError) as caught:
        read_config(path)
    return str(caught.value).removeprefix(f"{path}: ").split("; ")


def test_missing_keys_keep_their_defaults(tmp_path):
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
    assert "sensor.bits: expected a whole number, got " in text
    assert "grups: no such key; did you mean groups" in text
    assert "\n" not in text


def test_an_invalid_value_does_not_hide_other_faults(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        'policy = "lively"\nbackend = 3\nthreads = -3\nwindow = 4\n[[receive]]\nbind = true\n[[receive]]\n'
        'endpoint = "udp://x"\n[[write]]\n[fit]\nrefit_every = 0\n'
    )
    assert sorted(faults_of(path)) == [
        "backend: expected auto, tensorrt, tensorrt-fp32, tensorrt-int8, rtx, onnx, openvino, openvino-bf16 or numpy,"
        " got 3",
        "fit.refit_every: expected 1 to 1,000,000 windows, got 0",
        "policy: expected live or lossless, got 'lively'",
        "receive[0].endpoint: missing",
        "receive[1].endpoint: expected tcp://HOST:PORT or ipc://PATH, got 'udp://x'",
        "threads: expected a whole number >= 0, got -3",
        "window: expected an odd number of frames, got 4",
        "write[0].path: missing",
    ]


def test_metrics_for_other_machines_are_asked_for_in_so_many_words(tmp_path):
    path = tmp_path / "a.toml"
    for host in ("0.0.0.0", "", "192.168.1.5", "::", "sensor-host"):
        path.write_text(f'[metrics]\nport = 9464\nhost = "{host}"\n')
        assert faults_of(path) == [
            f"metrics.host: {host or 'every address'} can be reached from other machines without encryption",
            "expected 127.0.0.1, or unencrypted_on_the_network = true",
        ]
        path.write_text(f'[metrics]\nport = 9464\nhost = "{host}"\nunencrypted_on_the_network = true\n')
        assert read_config(path).metrics.host == host
    for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1"):
        path.write_text(f'[metrics]\nport = 9464\nhost = "{host}"\n')
        assert read_config(path).metrics.host == host


def test_all_invalid_fit_search_and_tracker_settings_are_named_at_once(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        "[fit]\nrefit_every = 0\nsigma_px = -1.0\nshot_dn = -1.0\n[propose]\naverage = 2\nmost_regions = 0\n"
        "[track]\nmin_existence_probability = 0.5\nfalse_tracks_h = 0.0\nsmoothing_lag = -1\ngate_chi2 = 0.0\n"
    )
    assert faults_of(path) == [
        "fit.sigma_px: expected a number above 0, got -1.0",
        "fit.refit_every: expected 1 to 1,000,000 windows, got 0",
        "fit.shot_dn: expected 0 or more, got -1.0",
        "propose.most_regions: expected 1 to 10,000, got 0",
        "propose.average: expected 1, 3 or 5 frames, got 2",
        "track.gate_chi2: expected a number above 0, got 0.0",
        "track.false_tracks_h: expected a number above 0, got 0.0",
        "track.min_existence_probability: expected more than 0 and less than 0.5, got 0.5",
        "track.smoothing_lag: expected 0 to 1000, got -1",
    ]


def test_constructors_name_all_invalid_settings_too():
    with pytest.raises(UsageError, match=r"^fit.starts: .*, got 0; fit.refit_every: .*, got 0$"):
        Fitter(FitSettings(starts=0, refit_every=0))
    with pytest.raises(UsageError, match=r"^propose.sigma_px: .*, got 0.0; propose.average: .*, got 2$"):
        Proposer(ProposeSettings(sigma_px=0.0, average=2), (64, 64))
    with pytest.raises(UsageError, match=r"^track.gate_chi2: .*, got 0.0; track.smoothing_lag: .*, got -1$"):
        Tracker(TrackSettings(gate_chi2=0.0, smoothing_lag=-1))


def test_files_that_a_configuration_names_must_exist_where_it_runs(tmp_path):
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


@pytest.mark.parametrize(
    ("readout", "window", "faults"),
    [
        (
            "best",
            3,
            [
                "window: ENGINE needs 5 frames, or 1, got 3",
            ],
        ),
        ("network", 5, ["engine: ENGINE has a plain head; readout 'network' needs a continuous one"]),
        ("peaks", 7, ["window: ENGINE needs 5 frames, or 1, got 7"]),
        ("cells", 1, []),
        ("best", 5, []),
        ("fit", 3, []),
    ],
)
def test_an_engine_must_suit_the_window_and_the_readout(tmp_path, capsys, readout, window, faults):
    folder, path = tmp_path / "plain", tmp_path / "a.toml"
    random_engine(folder)
    path.write_text(f'readout = "{readout}"\nwindow = {window}\nengine = "{folder}"\n')
    said = "; ".join(faults).replace("ENGINE", str(folder))
    assert main(["config", "check", str(path)]) == (2 if faults else 0)
    assert capsys.readouterr().err == (f"irst-stream: {path}: {said}\n" if faults else "")
    if faults:
        with pytest.raises(UsageError) as caught:
            build_pipeline(read_config(path))
        assert str(caught.value) == said


def test_broken_toml_names_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[sensor\n")
    with pytest.raises(FormatError, match=r"a\.toml"):
        read_settings(path, SceneSettings)
    path.write_text("[sensor]\nwidth = 9\nwidth = 10\n")
    with pytest.raises(FormatError, match=r"a\.toml: line 3: width is given twice, here and above: width = 10$"):
        read_settings(path, SceneSettings)


@pytest.mark.parametrize("path", sorted(configs_folder().glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid_and_starts_with_a_comment(path):
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


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(UsageError, match="a folder; expected a configuration file"):
        find_config(str(tmp_path))


def test_engines_are_found():
    assert (engines_folder() / "README.md").is_file()
