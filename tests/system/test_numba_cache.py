"""The disk cache of compiled functions, and what invalidates it."""

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import irst_stream
from irst_stream.system import numba_cache

PACKAGE = Path(irst_stream.__file__).parent
INNER = """
from irst_stream.system.numba_cache import compiled
@compiled
def inner(x):
    return {}
"""
OUTER = """
import sys
import threading
from irst_stream.system.numba_cache import CompiledPart, compile_in_children, compiled
from part.inner import inner
@compiled
def outer(x):
    return 10 * inner(x)
def warm_up():
    compile_in_children(CompiledPart("a test", outer, warm_up))
    outer(1)
    with open("log.txt", "a") as log:
        print(outer(1), sum(outer.stats.cache_hits.values()), file=log)
"""


@pytest.fixture
def part(tmp_path):
    """A package of two modules; the function in one calls the function in the other."""
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "inner.py").write_text(INNER.format("x + 1"))
    (folder / "outer.py").write_text(OUTER)
    return folder


def outcomes(part):
    """(result, whether it came from the cache) in the child that compiled, if any, then in its parent."""
    log = part.parent / "log.txt"
    log.unlink(missing_ok=True)
    code = "from part.outer import warm_up; warm_up()"
    paths = os.pathsep.join([str(part.parent), str(PACKAGE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=part.parent)
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]


def test_a_change_in_another_file_of_the_folder_recompiles_the_callers(part):
    assert outcomes(part) == [(20, 0), (20, 1)], "compiled in a child, then loaded by its parent"
    assert outcomes(part) == [(20, 1)], "loaded from the cache"
    for file in part.glob("*.py"):
        os.utime(file)
    assert outcomes(part) == [(20, 1)], "touched files have the same content"
    (part / "inner.py").write_text(INNER.format("x + 2"))
    assert outcomes(part) == [(30, 0), (30, 1)]
    assert outcomes(part) == [(30, 1)]


def test_compiled_functions_import_nothing_from_other_folders():
    """The cache would not notice a change there. irst_stream.types is allowed: it is only used in annotations."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        modules = {node.module: node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imports = modules.get("irst_stream.system.numba_cache")
        if imports is None or "compiled" not in [name.name for name in imports.names]:
            continue
        here = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        own = {module for module in modules if module.startswith("irst_stream")}
        own -= {"irst_stream.system.numba_cache", "irst_stream.types"}
        assert all(module.rpartition(".")[0] == here for module in own), path


def test_a_type_that_has_been_renamed_recompiles_its_callers(part):
    """numba's index names the types of arguments; one that is gone must not end the program."""
    named = "from typing import NamedTuple\nclass {0}(NamedTuple):\n    x: int\ndef made():\n    return {0}(1)\n"
    (part / "inner.py").write_text(named.format("Pair"))
    (part / "outer.py").write_text(
        OUTER.replace("import inner", "import made")
        .replace("10 * inner(x)", "20 * x.x")
        .replace("outer(1)", "outer(made())")
    )
    assert outcomes(part) == [(20, 0), (20, 1)]
    (part / "inner.py").write_text(named.format("Twin"))
    assert outcomes(part) == [(20, 0), (20, 1)]


TREE = """
import numpy as np
from irst_stream.system.numba_cache import compiled
@compiled
def leaf(x):
    if x < 0:
        raise ValueError("negative")
    return np.full(3, x).sum()
@compiled
def branch(x):
    return leaf(x) + leaf(2 * x)
@compiled
def root(x):
    return branch(x) + leaf(x)
"""


def in_a_process(part, code):
    """What code prints that imports everything of the module part.tree, whose cache is kept between calls."""
    (part / "tree.py").write_text(TREE)
    paths = os.pathsep.join([str(part.parent), str(PACKAGE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", "from part.tree import *\n" + code]
    return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout.split()


def test_callees_are_compiled_into_their_callers_and_can_be_called_alone_all_the_same(part):
    print_all = "print(root(1.0), leaf(1.0), branch(1.0), root(2.0))"
    for _ in range(2):  # compiled, then loaded from the cache
        assert in_a_process(part, print_all) == ["12.0", "3.0", "9.0", "24.0"]
    assert in_a_process(part, "print(leaf(1.0), branch(1.0), root(1.0))") == ["3.0", "9.0", "12.0"], "in any order"


def test_only_what_python_calls_is_cached(part):
    in_a_process(part, "root(1.0)")
    assert [path.name.split("-")[0] for path in part.rglob("*.nbc")] == ["tree.root"]


def test_a_callee_raises_through_its_callers_from_the_cache_too(part):
    code = "try:\n    root(-1.0)\nexcept ValueError as error:\n    print(error)"
    assert in_a_process(part, code) == in_a_process(part, code) == ["negative"]


FILL = """
import numpy as np
from irst_stream.system.numba_cache import compiled
@compiled
def fill(into, given):
    into[1:3] = given
    into[:1] = 7.0
"""


def test_an_array_of_another_shape_is_refused_in_one_line(part):
    """In words that need no compiled formatting of numbers; slices of the same shape, or given one number, are filled."""
    (part / "fill.py").write_text(FILL)
    fills = "from part.fill import *\nout = np.zeros(4)\nfill(out, np.ones(2))\nprint(*out.astype(int))\n"
    refuses = "try:\n    fill(out, np.ones(3))\nexcept ValueError as error:\n    print(error)"
    for _ in range(2):  # compiled, then loaded from the cache
        words = " ".join(in_a_process(part, fills + refuses))
        assert words == "7 1 1 0 cannot assign an array to a slice of another shape"


def test_a_compiled_function_can_be_sent_to_another_process(part):
    code = "import pickle\nkept = pickle.dumps(root)\nroot._memo.clear()\nprint(pickle.loads(kept)(1.0))"
    assert in_a_process(part, code) == ["12.0"]


def test_a_thread_that_compiles_while_the_program_ends_begins_nothing_again(monkeypatch):
    class Uncached:
        name, is_cached = "a test", False

    at_exit, begun, outcome = [], threading.Event(), []
    monkeypatch.setattr(numba_cache, "is_compiled", lambda *_: False)
    monkeypatch.setattr(numba_cache, "compiler_command", lambda _: [sys.executable, "-c", "import signal; signal.pause()"])
    monkeypatch.setattr(numba_cache.atexit, "register", lambda leave: (at_exit.append(leave), begun.set()))

    def compile_something():
        try:
            outcome.append(numba_cache.compile_in_children(Uncached()))
        except SystemExit:
            outcome.append("left")

    thread = threading.Thread(target=compile_something)
    thread.start()
    assert begun.wait(20)
    while thread.is_alive():
        at_exit[0]()
        thread.join(0.01)
    assert outcome == ["left"]
