"""What is asked of the machine."""

import platform

from irst_stream.system.machine import keep_memory, usable_cores


def test_at_least_one_core_may_be_used():
    assert usable_cores() >= 1


def test_only_glibc_is_asked_to_keep_memory():
    assert keep_memory() is (platform.libc_ver()[0] == "glibc")
    assert keep_memory() is keep_memory(), "asking again changes nothing"
