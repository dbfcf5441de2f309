"""Compile functions by numba once per machine, in a child process, and cache the result on disk.

Compiled functions that call each other must be in files of one folder. numba's own cache notices changes only in a
function's own file, and would keep using a stale caller after a callee in another file has changed; this cache is
invalidated by any change in the function's folder.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Event
from types import FunctionType
from typing import Any, NamedTuple

from numba.core.caching import FunctionCache, IndexDataCacheFile

from irst_stream.system import call_tree
from irst_stream.system.call_tree import TreeDispatcher

__all__ = ["CompiledPart", "compile_in_children", "compiled", "compiler_command", "is_compiled"]

COMPILING = "IRST_STREAM_COMPILING"  # environment variable, set in the child process that compiles
log = logging.getLogger(__name__)


def compiled(function):  # type: ignore[no-untyped-def]
    """Compile a function on its first call and cache the result on disk, if a cache folder is writable."""
    # Not "contract", with which freshly compiled and cached code would round differently; nor "nnan" and "ninf", since NaN
    # and infinity occur. Division by 0 gives infinity as in NumPy, since checking every division would be slow.
    options = {"fastmath": {"reassoc", "arcp", "nsz"}, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
    function = TreeDispatcher(function, targetoptions={"nopython": True, **options})  # type: ignore[no-untyped-call]
    with suppress(RuntimeError):  # neither the package's nor the user's cache folder is writable
        function._cache = _FolderCache(function.py_func)
    return function


class CompiledPart(NamedTuple):
    """Functions that are compiled together.

    name: of the functions, for the log. warm_up: a module-level function that calls all of them. last: the one that warm_up
    calls last; if it is cached, all are.
    """

    name: str
    last: Any
    warm_up: Callable[[], None]

    @property
    def is_cached(self) -> bool:
        """Whether nothing is to be compiled, or no cache can be written."""
        cache = self.last._cache
        return not isinstance(cache, _FolderCache) or cache.has_entries()


def is_compiled(*parts: CompiledPart) -> bool:
    """Whether compile_in_children has nothing to do."""
    return COMPILING in os.environ or all(part.is_cached for part in parts)


def compiler_command(part: CompiledPart) -> list[str]:
    """The command that compiles a part, in an environment that has COMPILING set."""
    module, name = part.warm_up.__module__, part.warm_up.__name__
    # Without the collector, which a sixth of the time would go to: what a compiler keeps, it keeps until it ends.
    return [sys.executable, "-c", f"import gc; gc.disable(); from {module} import {name}; {name}()"]


def compile_in_children(*parts: CompiledPart, meanwhile: str = "") -> list[str]:
    """Compile the parts that are not cached yet, each in a child process, all at once; return their names.

    meanwhile: what goes on in the meantime, for the log.

    Freshly compiled and cached code differ in the last bits of their results. Compiling in a child makes every process load
    the same cache, so that all processes give the same bytes.
    """
    missing = [] if is_compiled(*parts) else [part for part in parts if not part.is_cached]
    if not missing:
        return []
    names = [part.name for part in missing]
    text = "compiling %s, once on this machine, for about 20 s on two cores (irst-stream warm-up does it ahead)%s"
    log.info(text, ", ".join(names), meanwhile)
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options["start_new_session"] = True  # Ctrl-C is for this process, which may go on
    options["env"] = {**os.environ, COMPILING: "1"}
    children: list[subprocess.Popen[bytes]] = []

    leaving = Event()

    def end() -> None:
        for child in children:
            child.kill()  # no effect on one that has ended
            child.wait()

    def leave() -> None:
        leaving.set()
        end()

    atexit.register(leave)  # where the program ends while another thread is here
    try:
        children.extend(subprocess.Popen(compiler_command(part), **options) for part in missing)
        for child in children:
            child.wait()
    finally:
        end()
        atexit.unregister(leave)
    if leaving.is_set():
        raise SystemExit  # that thread must not begin again with what was not compiled
    return names


class _IndexFile(IndexDataCacheFile):
    """An index of cached code that counts as empty if an older version of this package wrote it.

    numba unpickles an index before it compares stamps, which fails where a type that it names has been renamed.
    """

    def _load_index(self) -> dict[Any, Any]:
        try:
            index: dict[Any, Any] = super()._load_index()  # type: ignore[no-untyped-call]
        except (AttributeError, ImportError, TypeError):
            return {}
        return index


class _FolderCache(FunctionCache):
    """numba's disk cache of one function, valid for one state of all files in the function's folder."""

    def __init__(self, function: FunctionType) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = _folder_stamp(Path(function.__code__.co_filename).parent)
        self._cache_file = _IndexFile(self.cache_path, self._impl.filename_base, stamp)  # type: ignore[no-untyped-call]

    def has_entries(self) -> bool:
        """Return whether the cache holds valid compiled code."""
        return bool(self._cache_file._load_index())  # type: ignore[no-untyped-call]


@cache
def _folder_stamp(folder: Path) -> str:
    """Hash all Python sources in a folder, and the files that say how they are compiled."""
    stamp = sha256()
    for file in (*sorted(folder.glob("*.py")), Path(__file__), Path(call_tree.__file__)):
        stamp.update(file.name.encode() + sha256(file.read_bytes()).digest())
    return stamp.hexdigest()
