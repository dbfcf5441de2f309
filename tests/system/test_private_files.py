"""Private files in the user's cache: where they are, and who may write them."""

import os
from pathlib import Path

import pytest

from irst_stream.errors import SourceError
from irst_stream.system.private_files import cache_folder, read_private, write_private


@pytest.mark.parametrize(
    ("given", "folder"), [("/else/where", "/else/where"), ("", "/home/me/.cache"), ("not/whole", "/home/me/.cache")]
)
def test_the_cache_folder_follows_xdg_cache_home(given, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path(folder, "irst-stream")


def test_written_files_can_be_read_back_and_are_private(tmp_path):
    path = tmp_path / "kernels" / "a.cubin"
    write_private(path, b"code")
    write_private(path, b"more code")
    assert read_private(path) == b"more code"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["a.cubin"]


def test_a_file_in_a_folder_that_others_can_write_to_is_not_read(tmp_path):
    path = tmp_path / "kernels" / "a.cubin"
    write_private(path, b"code")
    path.parent.chmod(0o777)
    with pytest.raises(SourceError, match="other users can write to it"):
        read_private(path)


def test_folders_are_private_under_any_umask(tmp_path):
    before = os.umask(0o002)
    try:
        write_private(tmp_path / "a" / "b" / "c", b"kept")
        assert read_private(tmp_path / "a" / "b" / "c") == b"kept"
    finally:
        os.umask(before)
