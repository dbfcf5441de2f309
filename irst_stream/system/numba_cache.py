"""Functions that numba compiles: once on a machine, in a process of its own, and kept for later runs.

Functions that call each other stand in the files of one folder. numba would know of changes in each one's own file only,
and go on with what it compiled of a caller when a callee in another file is no longer the same; here, what is kept of a
function holds as long as nothing in its folder changes.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["compile_elsewhere", "compiled"]

COMPILING = "IRST_STREAM_COMPILING"  # set in the process that compiles
log = logging.getLogger(__name__)


def compiled(function):  # type: ignore[no-untyped-def]
    """Compiles a function on its first call, and keeps the result for later runs where there is a place to keep it."""
    # No "contract": what is compiled anew would round other than what is loaded. Nor may NaN and infinity be disregarded.
    # Division by 0 gives infinity, as in NumPy: to raise an error each division would be looked at, one by one.
    function = njit(fastmath={"reassoc", "arcp", "nsz"}, error_model="numpy", nogil=True)(function)
    with suppress(RuntimeError):  # neither the package's folder nor the user's can be written
        function._cache = _Kept(function.py_func)
    return function


def compile_elsewhere(what: str, last: Any, warm_up: Callable[[], None]) -> None:
    """Has functions compiled by a process of its own where nothing is kept of them yet.

    what: their name for a reader; last: the compiled function that warm_up, which calls all of them, calls last; warm_up: a
    function that its module's name and its own name lead to. What is compiled rounds the last bits otherwise in the process
    that compiles it than where it is loaded, as every later process does; so that all give the same bytes, all load it.
    """
    kept = last._cache
    if COMPILING in os.environ or not isinstance(kept, _Kept) or kept.is_there():
        return
    log.info("compiling %s, once on this machine; this takes up to a minute", what)
    code = f"from {warm_up.__module__} import {warm_up.__name__}; {warm_up.__name__}()"
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env={**os.environ, COMPILING: "1"})


class _Kept(FunctionCache):
    """What numba keeps of a function on the disk, with the stamp of all files of its folder, not of the function's own."""

    def __init__(self, function: FunctionType) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = _stamp(Path(function.__code__.co_filename).parent)
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamp)  # type: ignore[no-untyped-call]

    def is_there(self) -> bool:
        """Whether anything is kept that still holds."""
        return bool(self._cache_file._load_index())  # type: ignore[no-untyped-call]


@cache
def _stamp(folder: Path) -> str:
    """Of what all sources in a folder say, and of how they are compiled."""
    stamp = sha256()
    for file in (*sorted(folder.glob("*.py")), Path(__file__)):
        stamp.update(file.name.encode() + sha256(file.read_bytes()).digest())
    return stamp.hexdigest()
