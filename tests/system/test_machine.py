"""Usable cores and the memory allocator's settings."""

import platform

from irst_stream.system.machine import keep_freed_memory, usable_cores


def test_at_least_one_core_is_usable():
    assert usable_cores() >= 1


def test_only_glibc_keeps_freed_memory():
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")
    assert keep_freed_memory() is keep_freed_memory(), "a second call has the same result"
