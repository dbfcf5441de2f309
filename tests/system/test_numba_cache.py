"""What is kept of compiled functions, and when it is not used any more."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import irst_stream

PACKAGE = Path(irst_stream.__file__).parent
INNER = """
from irst_stream.system.numba_cache import compiled
@compiled
def inner(x):
    return {}
"""
OUTER = """
import sys
from irst_stream.system.numba_cache import compile_elsewhere, compiled
from part.inner import inner
@compiled
def outer(x):
    return 10 * inner(x)
def warm_up():
    compile_elsewhere("a test", outer, warm_up)
    outer(1)
    with open("log.txt", "a") as log:
        print(outer(1), sum(outer.stats.cache_hits.values()), file=log)
"""


@pytest.fixture
def part(tmp_path):
    """A folder of two files, the function of one of which calls that of the other."""
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "inner.py").write_text(INNER.format("x + 1"))
    (folder / "outer.py").write_text(OUTER)
    return folder


def outcomes(part):
    """(result, whether it was loaded) in a new process, and before it in the one that this had compile, if any."""
    log = part.parent / "log.txt"
    log.unlink(missing_ok=True)
    code = "from part.outer import warm_up; warm_up()"
    paths = os.pathsep.join([str(part.parent), str(PACKAGE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=part.parent)
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]


def test_a_change_in_another_file_of_the_folder_reaches_the_callers(part):
    assert outcomes(part) == [(20, 0), (20, 1)], "compiled by one process, loaded by the other"
    assert outcomes(part) == [(20, 1)], "only loaded"
    for file in part.glob("*.py"):
        os.utime(file)
    assert outcomes(part) == [(20, 1)], "only touched"
    (part / "inner.py").write_text(INNER.format("x + 2"))
    assert outcomes(part) == [(30, 0), (30, 1)]
    assert outcomes(part) == [(30, 1)]


def test_what_is_compiled_takes_nothing_from_elsewhere():
    """A change there would go unnoticed. Types are but annotations."""
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
