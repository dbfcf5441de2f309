"""The file of a fleet: what it gives each sensor, and every mistake by name."""

import json
import re

import pytest

from irst_stream import FormatError
from irst_stream.cli import main
from irst_stream.docs import read_topic
from irst_stream.fleet.settings import read_fleet
from irst_stream.settings import parse_settings

BASE = 'readout = "fit"\nmemory = "mine.json"\n[fit]\nsigma_px = 0.5\nstarts = 2\n'
OUTPUTS = '[[write]]\npath = "{sensor}-tracks.jsonl"\n[[record]]\npath = "{sensor}-{start}.mcap"\n[[publish]]\nendpoint = "ipc://{sensor}"\n'
TWO = """
[fleet]
config = "base.toml"
[[sensor]]
name = "north"
receive = { endpoint = "tcp://127.0.0.1:5601", bind = true }
[[sensor]]
name = "south"
receive = { endpoint = "tcp://127.0.0.1:5602", bind = true }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.toml").write_text(BASE + OUTPUTS)
    return tmp_path


def fleet_of(folder, text):
    path = folder / "fleet.toml"
    path.write_text(text)
    return read_fleet(path)


def faults_of(folder, text):
    with pytest.raises(FormatError) as caught:
        fleet_of(folder, text)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder / 'fleet.toml'}: ")


def test_each_sensor_has_its_name_its_own_settings_and_its_own_files(folder):
    fleet = fleet_of(folder, TWO + "set.fit.sigma_px = 0.7\nset.queue = 4\nalone = true\n")
    assert [plan.alone for plan in fleet.sensors.values()] == [False, True]
    north, south = (fleet.sensors[name].config for name in ("north", "south"))
    assert (north.fit.sigma_px, south.fit.sigma_px, south.fit.starts) == (0.5, 0.7, 2)
    assert (north.queue, south.queue) == (16, 4)
    assert north.receive[0].sensors == ("north",)
    assert [w.path for w in (*south.write, *south.record)] == ["south-tracks.jsonl", "south-{start}.mcap"]
    assert south.publish[0].endpoint == "ipc://south"
    assert south.memory == "", "the fleet keeps it"


def test_a_sensors_text_is_its_whole_configuration(folder):
    from irst_stream.config import Config

    plan = fleet_of(folder, TWO + "set.fit.sigma_px = 0.7\n").sensors["south"]
    assert parse_settings(plan.text, "text", Config).fit == plan.config.fit


def test_a_sensor_may_say_where_its_results_go(folder):
    more = 'publish = [{ endpoint = "tcp://127.0.0.1:5701" }]\n'
    assert fleet_of(folder, TWO + more).sensors["south"].config.publish[0].endpoint == "tcp://127.0.0.1:5701"


RECEIVE = 'receive = { endpoint = "tcp://127.0.0.1:5603" }\n'
MISTAKES = {
    "no sensor": ("[fleet]\n", "sensor: missing; expected at least one [[sensor]]"),
    "a sensor without a source": (TWO + '[[sensor]]\nname = "a"\n', "sensor[2].receive: missing"),
    "two of one name": (TWO + f'[[sensor]]\nname = "north"\n{RECEIVE}', "sensor: 2 have the name 'north'"),
    "an odd name": (TWO + f'[[sensor]]\nname = "../x"\n{RECEIVE}', "sensor[2].name: expected 1 to 64 letters"),
    "a mistyped key": (TWO.replace("config =", "confg ="), "fleet.confg: no such key; did you mean config"),
    "no configuration": (TWO.replace('config = "base.toml"', ""), "sensor[0].config: missing"),
    "an unknown configuration": (
        TWO.replace("base.toml", "bse.toml"),
        "sensor north: bse.toml: no such file, and no bundled",
    ),
    "a mistyped setting": (TWO + "set.fit.sigm_px = 1\n", "base.toml: fit.sigm_px: no such key; did you mean sigma_px"),
    "what the fleet says": (TWO + 'set.memory = "m"\n', "sensor[1].set.memory: the fleet says this itself"),
    "one endpoint for two": (TWO.replace("5602", "5601"), "sensor south: tcp://127.0.0.1:5601 is north's, too (bound)"),
    "sensors in receive": (TWO.replace("bind = true", 'sensors = ["a"]'), "sensor[0].receive.sensors: the sensor's name"),
    "an open page": (TWO + '[view]\nport = 1\nhost = "0.0.0.0"\n', "view.token_file: missing"),
    "no TOML": (TWO + "[[sensor]\n", "fleet.toml: "),
    "a wrong endpoint": (TWO.replace("tcp://127.0.0.1:5602", "udp://x"), "receive[0].endpoint: expected tcp://HOST:PORT"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_every_mistake_is_one_line(case, folder, capsys):
    text, expected = MISTAKES[case]
    (folder / "fleet.toml").write_text(text)
    for words in (["config", "check", "fleet.toml"], ["fleet", "fleet.toml"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1
    assert not (folder / "fleet-state").exists(), "nothing is begun"


def test_one_file_for_two_sensors(folder):
    (folder / "base.toml").write_text(BASE + '[[write]]\npath = "all.jsonl"\n')
    assert "all.jsonl is north's, too (written; {sensor} in the path stands for the name)" in faults_of(folder, TWO)


def test_a_lossless_sender_serves_one_sensor(folder):
    (folder / "base.toml").write_text('policy = "lossless"\n' + BASE)
    text = TWO.replace("5602", "5601").replace(", bind = true", "")
    assert "tcp://127.0.0.1:5601 is north's, too (a lossless sender serves one)" in faults_of(folder, text)


def test_damaged_and_truncated_files_are_one_line(folder):
    whole = TWO.encode()
    for data in (whole[:-9], b"\xff\xfe" + whole, b"[fleet]\n" + b"#" * (1 << 20), whole.replace(b"5602", b"56\x0002")):
        (folder / "fleet.toml").write_bytes(data)
        with pytest.raises(FormatError) as caught:
            read_fleet(folder / "fleet.toml")
        assert "\n" not in str(caught.value)


def test_the_example_of_the_documentation_is_valid(folder):
    (example,) = re.findall(r"^```toml\n(.*?)^```", read_topic("many-sensors"), re.MULTILINE | re.DOTALL)
    (folder / "south.toml").write_text(BASE)
    assert fleet_of(folder, example).sensors["south"].config.fit.sigma_px == 0.6


def test_the_schema_of_a_fleets_file(capsys):
    assert main(["config", "schema", "--fleet"]) == 0
    assert set(json.loads(capsys.readouterr().out)["$defs"]) > {"FleetConfig", "FleetSettings", "SensorSettings"}


def test_check_and_a_missing_file(folder, capsys):
    fleet_of(folder, TWO)
    assert main(["config", "check", "fleet.toml"]) == 0
    assert capsys.readouterr().out == "fleet.toml: valid\n"
    assert main(["fleet", "none.toml"]) == 2
    assert capsys.readouterr().err == "irst-stream: none.toml: No such file or directory\n"
    assert main(["fleet", "base.toml"]) == 2
    assert "base.toml: expected [fleet] and [[sensor]]; irst-stream run" in capsys.readouterr().err
    assert main(["run", "fleet.toml"]) == 2
    assert capsys.readouterr().err == "irst-stream: fleet.toml: holds [fleet] or [[sensor]]; irst-stream fleet runs it\n"
