"""A thread of low priority, for work that must not take time from a running pipeline."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

__all__ = ["LowPriority"]

NICENESS = 10  # of 19, on top of the process's own
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LowPriority:
    """Runs functions one after another in a thread that other threads go before, where the system (Linux) can do that.

    Meant for functions that give up Python's lock, as compression does: a thread that holds the lock and may not run would
    hold others up.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "encode", initializer=_lower_priority)

    def __call__(self, function: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs) -> Result:
        """Run a function there and return its result, or raise its exception."""
        return self._pool.submit(function, *args, **options).result()


def _lower_priority() -> None:
    """Lower the calling thread's priority; on Linux, and only there, a thread has one of its own."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + NICENESS, 19))
