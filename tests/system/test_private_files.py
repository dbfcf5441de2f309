"""What is kept for a user, and who may have written it."""

import os
from pathlib import Path

import pytest

from irst_stream.errors import SourceError
from irst_stream.system.private_files import cache_folder, read_private, write_private


@pytest.mark.parametrize(
    ("given", "folder"), [("/else/where", "/else/where"), ("", "/home/me/.cache"), ("not/whole", "/home/me/.cache")]
)
def test_it_is_where_the_user_has_such_things(given, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path(folder, "irst-stream")


def test_what_is_written_is_read_again_by_this_user_alone(tmp_path):
    path = tmp_path / "kernels" / "a.cubin"
    write_private(path, b"code")
    write_private(path, b"more code")
    assert read_private(path) == b"more code"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["a.cubin"]


def test_what_others_may_have_written_is_not_read(tmp_path):
    path = tmp_path / "kernels" / "a.cubin"
    write_private(path, b"code")
    path.parent.chmod(0o777)
    with pytest.raises(SourceError, match="others may write to it"):
        read_private(path)


def test_folders_are_the_users_alone_whatever_the_umask(tmp_path):
    before = os.umask(0o002)
    try:
        write_private(tmp_path / "a" / "b" / "c", b"kept")
        assert read_private(tmp_path / "a" / "b" / "c") == b"kept"
    finally:
        os.umask(before)
