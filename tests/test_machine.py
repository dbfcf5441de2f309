"""What is asked of the machine."""

import platform
from pathlib import Path

import pytest

from irst_stream.machine import cache_folder, keep_memory, usable_cores


def test_at_least_one_core_may_be_used():
    assert usable_cores() >= 1


def test_only_glibc_is_asked_to_keep_memory():
    assert keep_memory() is (platform.libc_ver()[0] == "glibc")
    assert keep_memory() is keep_memory(), "asking again changes nothing"


@pytest.mark.parametrize(
    ("given", "folder"), [("/else/where", "/else/where"), ("", "/home/me/.cache"), ("not/whole", "/home/me/.cache")]
)
def test_what_can_be_made_anew_is_kept_where_the_user_has_it(given, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path(folder, "irst-stream")
