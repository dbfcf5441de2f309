"""What the command line does with what it does not foresee: faults of its own, hostile names, mistyped options."""

import re
from pathlib import Path

import numpy as np
import pytest

from irst_stream import cli
from irst_stream.cli import main
from irst_stream.commands import keys
from irst_stream.errors import LossError
from irst_stream.system.printable import printable


def stopped(*words):
    """The exit code of a command."""
    try:
        return main([*map(str, words)])
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """What `keys show` raises is set by the test; temporary files are in tmp_path."""
    monkeypatch.setattr(cli.tempfile, "tempdir", str(tmp_path))

    def fail_with(error):
        def fail(_):
            raise error

        monkeypatch.setattr(keys, "read_keys", fail)

    return fail_with


def test_a_fault_of_the_program_is_one_line_and_its_traceback_a_file(failing, capsys):
    failing(KeyError("a\nb\x1b[31m"))
    assert main(["keys", "show", "a.key"]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
    path = Path(re.fullmatch(r"irst-stream: a fault of this program, .*; please send (\S+) to the maintainers\n", said)[1])
    text = path.read_text()
    assert "Traceback (most recent call last)" in text
    assert "['keys', 'show', 'a.key']" in text
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_fault_is_told_even_where_no_file_can_be_written(failing, capsys, monkeypatch):
    monkeypatch.setattr(cli.tempfile, "tempdir", "/nowhere")
    failing(RecursionError("too deep"))
    assert main(["keys", "show", "a.key"]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "RecursionError: too deep" in said
    assert "line " in said


def test_what_is_lost_has_an_exit_code_of_its_own(failing, capsys):
    failing(LossError("out.jsonl: 3 of 5 records lost"))
    assert main(["keys", "show", "a.key"]) == 3
    assert capsys.readouterr().err == "irst-stream: out.jsonl: 3 of 5 records lost\n"
    assert "3 output that was promised is lost" in cli.EPILOG


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--verison"], "irst-stream: no option --verison; did you mean --version. Try: irst-stream --help\n"),
        (["replay", "x", "--detectoins", "y"], "irst-stream replay: no option --detectoins; did you mean --detections. "),
        (["keys", "make", "x", "y"], "irst-stream keys make: one argument too many: y. Try: irst-stream keys make --help"),
        (["keys", "make", "x", "--forse=1"], "irst-stream keys make: no option --forse. Try: irst-stream keys make --help"),
        (["in\x1bspect"], "invalid choice: 'in\\x1bspect'"),
        (["inspect", "a\nb\x1b[2J"], "a\\nb\\x1b[2J: no such file or folder"),
        (["config", "check", "\udcff.toml"], "\\udcff.toml: no such file"),
    ],
)
def test_what_is_typed_comes_back_as_one_plain_line(words, expected, capsys):
    assert stopped(*words) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (
            "\u03c3 = 0.5 px\u00b2, 3 \u00b5s, caf\u00e9 \u65e5\u672c",
            "\u03c3 = 0.5 px\u00b2, 3 \u00b5s, caf\u00e9 \u65e5\u672c",
        ),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b]0;title\x07\x9b31m\x7f", "\\x1b]0;title\\x07\\x9b31m\\x7f"),
        ("abc\u202etxt.exe\u2028\u2066", "abc\\u202etxt.exe\\u2028\\u2066"),
        ("\udcff\U000e0001", "\\udcff\\U000e0001"),
    ],
)
def test_text_from_outside_is_escaped_and_plain_text_is_not(text, expected):
    assert printable(text) == expected
    assert printable(expected) == expected


HOSTILE = "x\x1b[31m\ny"


def _toml(folder):
    (folder / "a.toml").write_text(f'"{HOSTILE.encode("unicode_escape").decode()}" = 1\n'.replace("\\x1b", "\\u001b"))
    return ["config", "check", folder / "a.toml"]


def _json_lines(folder):
    (folder / "a.jsonl").write_text(
        '{"sequence": "s", "index": 0, "time_ns": 0, "source": "", "detections": "\\u001b[31m\\n"}\n'
    )
    (folder / "t.jsonl").write_text("")
    return ["score", folder / "a.jsonl", folder / "t.jsonl"]


def _members(folder):
    np.savez(folder / "a.npz", **{HOSTILE: np.zeros((2, 9, 9)), "b": np.zeros((2, 9, 9))})
    return ["inspect", folder / "a.npz"]


def _sidecar(folder):
    np.save(folder / "a.npy", np.zeros((2, 9, 9), np.uint16))
    (folder / "a.npy.json").write_text('{"\\u001b[31m\\n": 1}')
    (folder / "a.json").write_text('{"\\u001b[31m\\n": 1}')
    return ["inspect", folder / "a.npy"]


def _path(folder):
    (folder / HOSTILE).mkdir()
    return ["inspect", folder / HOSTILE]


@pytest.mark.parametrize("make", [_toml, _json_lines, _members, _sidecar, _path])
def test_no_name_from_outside_reaches_the_terminal_raw(make, tmp_path, capsys):
    code = stopped(*make(tmp_path))
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    if code:
        assert code == 2
        assert said.count("\n") == 1
