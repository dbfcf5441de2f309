"""Files that are read whole have a bound, whatever they are."""

from pathlib import Path

import pytest

from irst_stream import FormatError, SourceError, Truth, UsageError
from irst_stream.cli import main
from irst_stream.errors import OutputError
from irst_stream.io import jsonl
from irst_stream.io.zeromq import curve_keys
from irst_stream.io.zeromq.curve_keys import make_keys, read_keys
from irst_stream.settings import read_settings
from irst_stream.sim import SceneSettings
from irst_stream.system.bounded_files import read_bounded


def test_a_file_is_read_up_to_its_bound_and_not_beyond(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(SourceError, match="a: too large; expected at most 4 bytes"):
        read_bounded(path, 4)
    assert read_bounded(Path("/dev/null"), 4) == b""
    assert len(read_bounded(Path("/proc/self/status"), 1 << 20)) > 100, "a file that says it is empty and is not"
    with pytest.raises(SourceError, match="/dev/zero: too large; expected at most 3,000,000 bytes"):
        read_bounded(Path("/dev/zero"), 3_000_000)


def test_devices_that_never_end_are_refused_as_keys_settings_and_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    zero = Path("/dev/zero")
    with pytest.raises(UsageError, match="/dev/zero: not a readable key file"):
        read_keys(zero)
    with pytest.raises(FormatError, match="/dev/zero: too large"):
        read_settings(zero, SceneSettings)
    with pytest.raises(FormatError, match="/dev/zero:1: expected a line of at most 1,000 bytes"):
        list(jsonl.read(zero, Truth))
    sparse = tmp_path / "sparse.toml"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    assert main(["config", "check", str(sparse)]) == 2


@pytest.mark.parametrize("name", ["", ".", "/", "folder/", ".."])
def test_a_key_pair_needs_a_name(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["keys", "make", name]) == 2
    assert "expected a name for the key pair" in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


def test_a_failed_key_pair_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    real = curve_keys._write

    def full(path, *more):
        if path.suffix == ".key":
            raise OutputError(f"{path}: cannot be written: No space left on device")
        real(path, *more)

    with monkeypatch.context() as patched:
        patched.setattr(curve_keys, "_write", full)
        with pytest.raises(OutputError, match="No space left"):
            make_keys(tmp_path / "me")
    assert list(tmp_path.iterdir()) == []
    made = make_keys(tmp_path / "me")
    assert read_keys(tmp_path / "me.key_secret") == made
    assert read_keys(tmp_path / "me.key") == (made.public, b"")
