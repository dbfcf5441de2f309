"""The cores, the memory allocator and the addresses of this machine."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import sys

__all__ = ["is_loopback", "keep_freed_memory", "usable_cores"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
KEPT_BYTES = 256 * 2**20
MAX_KEPT_BLOCK_BYTES = 32 * 2**20  # of one array or message; the largest threshold that glibc accepts


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host that is listened on, given as an address or a name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the next frame; return whether it does. Only glibc is supported.

    By default glibc returns the memory of frames to the system, which then maps it again page by page: at 640 x 512 that
    costs more than everything else that receiving a frame takes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return (
        mallopt is not None
        and bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES))
        and bool(mallopt(MMAP_THRESHOLD, MAX_KEPT_BLOCK_BYTES))
    )
