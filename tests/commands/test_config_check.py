"""config check finds what run would refuse."""

import shutil

import pytest

from irst_stream.cli import main
from irst_stream.io.zeromq.curve_keys import make_keys
from irst_stream.system.shipped import find_engine

BASE = 'readout = "fit"\n'
RECEIVE = '[[receive]]\nendpoint = "tcp://127.0.0.1:5555"\nbind = true\n'
NETWORK = 'readout = "best"\nengine = "engine"\n'

FAULTS = {
    "a public key as one's own": (
        BASE + RECEIVE + 'keys = "me.key"\nallow = "keys"\n',
        "receive[0].keys: me.key: is a public key; expected this end's secret key",
    ),
    "a tampered graph": (NETWORK, "its hash is not the manifest's"),
    "a missing graph": (NETWORK, "not an engine: No such file or directory"),
    "no folder": (BASE + '[[write]]\npath = "nowhere/a.jsonl"\n', "write[0].path: no folder "),
    "a folder": (BASE + '[[record]]\npath = "keys"\n', "record[0].path: keys is a folder"),
    "not writable": (BASE + '[[write]]\npath = "/proc/a.jsonl"\n', "write[0].path: /proc/a.jsonl cannot be written"),
    "a template": (BASE + '[[write]]\npath = "{begin}.jsonl"\n', "write[0].path: expected {start}, or {start:FORMAT}"),
    "both ways": (
        BASE + RECEIVE + '[[publish]]\nendpoint = "tcp://127.0.0.1:5555"\n',
        "publish[0].endpoint: tcp://127.0.0.1:5555 is received from, too",
    ),
    "a window without end": ("window = 1_000_001\n", "window: expected a whole number <= 255, got 1000001"),
    "a word for a number": ('window = "five"\n', "window: expected a whole number, got 'five'"),
    "a number below the least": ("threads = -1\n", "threads: expected a whole number >= 0, got -1"),
    "one polygon for several": (
        "[propose]\nexclude = [[100,140],[150,140],[150,180]]\n",
        "propose.exclude: expected polygons, each a list of corners [x, y] px, got 100 in place of a list at [0][0]",
    ),
    "a corner of three": (
        "[propose]\ninclude = [[[1, 2], [3, 4, 5]]]\n",
        "polygons, each a list of corners [x, y] px, got [3, 4, 5] in place of a list of length 2 at [0][1]",
    ),
    "a key twice": ("window = 5\nwindow = 7\n", "c.toml: line 2: window is given twice, here and above: window = 7"),
    "a table twice": ("[fit]\n[track]\n[fit]\n", "c.toml: line 3: fit is given twice, here and above: [fit]"),
    "no text": (b"\x93NUMPY", "c.toml: not text in UTF-8; expected settings in TOML"),
    "a sensor of no such name": (BASE + RECEIVE + 'sensors = ["a b"]\n', "receive[0].sensors: expected 1 to 64 letters"),
    "one file for two": (
        BASE + '[[write]]\npath = "a"\n[[record]]\npath = "./a"\n',
        "record[0].path: ./a is named twice, also in write[0].path",
    ),
    "a key as an output": (
        BASE + RECEIVE + 'keys = "me.key_secret"\nallow = "keys"\n[[write]]\npath = "me.key_secret"\n',
        "write[0].path: me.key_secret is a key",
    ),
    "the page's token as an output": (
        BASE + '[view]\ntoken_file = "token"\n[[write]]\npath = "./token"\n',
        "write[0].path: ./token is the page's token",
    ),
    "a memory in no folder": (BASE + 'memory = "nowhere/s"\n', "memory: no folder "),
    "no table of the PSF": (BASE + '[fit]\npsf_table = "none.npz"\n', "fit.psf_table: "),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return shutil.copytree(find_engine("seqcsist"), tmp_path_factory.mktemp("engines") / "engine")


@pytest.mark.parametrize("case", FAULTS)
def test_what_run_would_refuse_is_found(case, engine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text, expected = FAULTS[case]
    make_keys(tmp_path / "me")
    (tmp_path / "keys").mkdir()
    shutil.copytree(engine, tmp_path / "engine")
    graph = next((tmp_path / "engine").glob("*.onnx"))
    if case == "a tampered graph":
        graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    elif case == "a missing graph":
        graph.unlink()
    (tmp_path / "c.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["config", "check", "c.toml"]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1


def test_a_file_that_exists_is_no_fault_and_nothing_is_left_by_a_check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mcap").write_bytes(b"of last night")
    (tmp_path / "c.toml").write_text(
        f'{BASE}memory = "s"\n[[record]]\npath = "a.mcap"\n[[write]]\npath = "{{start}}.jsonl"\n'
    )
    assert main(["config", "check", "c.toml"]) == 0
    assert capsys.readouterr().out == "c.toml: valid\n"
    assert {p.name for p in tmp_path.iterdir()} == {"a.mcap", "c.toml"}
