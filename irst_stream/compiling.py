"""Functions that numba compiles: once on a machine, in a process of its own, and kept for later runs.

numba's record of a compiled function knows of changes in that function's own file only, so all functions that call each
other stand in one file.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["compile_elsewhere", "compiled"]

COMPILING = "IRST_STREAM_COMPILING"  # set in the process that compiles
log = logging.getLogger(__name__)


def compiled(function):  # type: ignore[no-untyped-def]
    """Compiles a function on its first call, and keeps the result for later runs where there is a place to keep it."""
    # No "contract": what is compiled anew would round other than what is loaded. Nor may NaN and infinity be disregarded.
    freedom = {"reassoc", "arcp", "nsz"}
    try:
        return njit(cache=True, fastmath=freedom, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return njit(fastmath=freedom, nogil=True)(function)


def compile_elsewhere(what: str, last: Any, warm_up: Callable[[], None]) -> None:
    """Has functions compiled by a process of its own where nothing is kept of them yet.

    what: their name for a reader; last: the compiled function that warm_up, which calls all of them, calls last; warm_up: a
    function that its module's name and its own name lead to. What is compiled rounds the last bits otherwise in the process
    that compiles it than where it is loaded, as every later process does; so that all give the same bytes, all load it.
    """
    kept, source = last.stats.cache_path, Path(last.py_func.__code__.co_filename)
    if COMPILING in os.environ or kept is None or _is_kept(Path(kept), last.py_func.__name__, source):
        return
    log.info("compiling %s, once on this machine; this takes up to a minute", what)
    code = f"from {warm_up.__module__} import {warm_up.__name__}; {warm_up.__name__}()"
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env={**os.environ, COMPILING: "1"})


def _is_kept(folder: Path, name: str, source: Path) -> bool:
    index = folder.glob(f"{source.stem}.{name}-*.nbi")
    return any(file.stat().st_mtime > source.stat().st_mtime for file in index)
