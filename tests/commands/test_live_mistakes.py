"""What a person gets wrong with live commands, configurations and keys: one line each, and exit code 2."""

import json

import pytest

from irst_stream.cli import main


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """A folder of a few small sequences."""
    folder = tmp_path_factory.mktemp("data")
    assert main(["simulate", "seqcsist", str(folder), "--trajectories", "1", "--split", "test", "--workers", "1"]) == 0
    return folder


REFUSED = {
    "no such configuration": (["run", "nowhere.toml"], "nowhere.toml: no such file"),
    "nothing to receive": (["run", "seqcsist"], "no [[receive]] table"),
    "not a socket": (["feed", "data/test", "--to", "127.0.0.1:5555"], "--to: expected tcp://HOST:PORT"),
    "open to all": (["record", "o.mcap", "--from", "tcp://*:5555", "--bind"], "set --keys and --allow, bind to 127.0.0.1"),
    "half of a key": (["feed", "data/test", "--to", "tcp://127.0.0.1:1", "--keys", "k"], "--server-key: missing; --keys"),
    "one process": (["record", "o.mcap", "--from", "inproc://a"], "--from: inproc://a is not to be reached from another"),
    "no port": (["record", "o.mcap", "--from", "tcp://127.0.0.1:99999"], "--from: expected a port from 1 to 65535, got"),
    "epoch": (["feed", "data/test", "--to", "tcp://127.0.0.1:1", "--epoch", "9" * 19], "--epoch: expected a whole number"),
    "name": (["feed", "data/test", "--to", "tcp://127.0.0.1:1", "--sensor", "a b"], "--sensor: expected 1 to 64 letters"),
    "stall": (["record", "o.mcap", "--from", "tcp://127.0.0.1:1", "--stall", "1e6"], "--stall: expected at most 86,400 s"),
    "no keys": (
        ["feed", "data/test", "--to", "tcp://127.0.0.1:1", "--keys", "k", "--server-key", "s"],
        "not a readable key file",
    ),
    "not a recording": (["replay", "found.mcap", "--config", "seqcsist"], "found.mcap"),
    "no place for figures": (["profile", "camera", "--json", "/proc/p.json"], "/proc/p.json: cannot be written: "),
    "no configuration": (["run", "nonsense"], "general, live-patches, scene, seqcsist, two-sensors"),
    "not a rate": (["profile", "camera", "--rates", "1,x"], "expected numbers from 0.1"),
    "two configurations": (["profile", "camera", "--config", "camera"], "TARGET is a configuration already"),
    "a folder": (["keys", "make", "nowhere/me"], "cannot be written"),
    "speed": (["replay", "data/test", "--speed", "fast"], "expected max, or a factor such as 1x"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_commands_give_one_line_and_exit_code_2(case, refused, sequences, tmp_path):
    (tmp_path / "data").symlink_to(sequences)
    words, expected = REFUSED[case]
    assert expected in refused(*words)


def test_all_mistakes_in_a_configuration_are_reported_at_once(refused, tmp_path):
    (tmp_path / "bad.toml").write_text(
        'polcy = "live"\nwindow = 4\nqueue = 0\n[[receive]]\nendpoint = "tcp://*:1"\nbind = true\nstal_s = 1\n'
        "[[receive]]\nbind = 3\n[propose]\nfalse_alarm = 1\n[fit]\nsigma_px = 'x'\n[[write]]\n"
        "[[record]]\npath = 'a.mcap'\nrotate_s = -1\n"
    )
    said = refused("config", "check", "bad.toml")
    for part in (
        "polcy: no such key; did you mean policy",
        "queue: expected a whole number >= 1",
        "receive[0].stal_s: no such key; did you mean stall_s",
        "receive[1].endpoint: missing",
        "receive[1].bind: expected true or false, got ",
        "propose.false_alarm: no such key; did you mean false_alarms",
        "fit.sigma_px: expected a number, got ",
        "write[0].path: missing",
        "record[0].rotate_s",
    ):
        assert part in said
    (tmp_path / "odd.toml").write_text('window = 4\nreadout = "best"\n[[receive]]\nendpoint = "tcp://*:1"\nbind = true\n')
    said = refused("config", "check", "odd.toml")
    assert "window: expected an odd number of frames, got 4" in said
    assert "engine: missing" in said
    assert "receive[0].endpoint: tcp://*:1 can be reached" in said


def test_the_schema_of_a_configuration_knows_every_key(run):
    code, out, _ = run("config", "schema")
    assert code == 0
    properties = json.loads(out)["$defs"]["Config"]["properties"]
    assert {"policy", "receive", "publish", "write", "record", "metrics", "propose", "fit"} <= set(properties)
    assert run("config", "check", "camera")[0] == 0


def test_a_check_looks_for_the_key_files_too(run, refused, tmp_path):
    said = refused("config", "check", "two-sensors")
    for end in (
        "receive[0].keys: keys/here.key_secret",
        "receive[0].allow: keys/sensors",
        "publish[0].allow: keys/clients",
    ):
        assert end in said
    for folder in ("keys/sensors", "keys/clients"):
        (tmp_path / folder).mkdir(parents=True)
    assert run("keys", "make", "keys/here")[0] == 0
    assert run("config", "check", "two-sensors")[0] == 0


def test_keys_are_shown(run, refused):
    made = run("keys", "make", "me")[1]
    shown = run("keys", "show", "me.key")[1]
    assert shown.strip()
    assert shown.strip() in made
    refused("keys", "make", "me")
