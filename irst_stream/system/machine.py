"""What this process may use of the machine."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_memory", "usable_cores"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's numbers of what mallopt sets
KEPT = 256 * 2**20  # bytes
LARGEST_KEPT = 32 * 2**20  # bytes, of one array or message; more than this glibc does not take


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory() -> bool:
    """Has the C library keep what is freed for the next frame; whether it does, which only glibc is asked for.

    As it comes, it hands the memory of frames back to the system, which gives it anew page by page: at 640 x 512 that costs
    more than all else that is done to receive a frame.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, LARGEST_KEPT))
