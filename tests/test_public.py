"""The public face: names, docstrings, how light the import is."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import irst_stream
from irst_stream.errors import MissingPackageError

NEED_A_GPU = {
    "irst_stream.unmix.tensorrt",
    "irst_stream.system.cuda",
    "irst_stream.fit.cuda_search",
}  # or packages that only there make sense
PACKAGE, TESTS = Path(irst_stream.__file__).parent, Path(__file__).parent
TOOLS = TESTS.parent / "tools"
MODULES = [m.name for m in pkgutil.walk_packages(irst_stream.__path__, "irst_stream.")]


def test_public_names_are_locked():
    assert sorted(irst_stream.__all__) == [
        "Config",
        "Detections",
        "DeviceError",
        "FitSettings",
        "FormatError",
        "Frame",
        "IrstError",
        "LossError",
        "MissingPackageError",
        "OutputError",
        "Pipeline",
        "Pose",
        "SourceError",
        "Stamp",
        "TrackSettings",
        "Tracker",
        "Tracks",
        "Truth",
        "UsageError",
        "WireError",
        "__version__",
        "csist100k",
        "cso_map",
        "open_pipeline",
        "open_source",
        "read_config",
        "score_detections",
        "score_tracks",
        "seqcsist",
    ]
    assert all(getattr(irst_stream, name) is not None for name in irst_stream.__all__)


def test_every_module_and_public_name_is_documented_and_listed():
    missing = []
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except MissingPackageError:
            assert name in NEED_A_GPU
            continue
        assert module.__doc__, name
        for public in getattr(module, "__all__", ()):
            thing = getattr(module, public)
            if (inspect.isfunction(thing) or inspect.isclass(thing)) and not inspect.getdoc(thing):
                missing.append(f"{name}.{public}")
            if inspect.isclass(thing) and thing.__module__ == name:
                methods = [m for m in vars(thing).values() if inspect.isfunction(m) and not m.__name__.startswith("_")]
                missing += [f"{name}.{public}.{m.__name__}" for m in methods if not inspect.getdoc(m)]
    assert not missing


def test_what_a_module_offers_somebody_takes():
    """Functions and constants; classes are also offered since others are handed what is of them."""
    texts = {path: path.read_text("utf-8") for folder in (PACKAGE, TESTS, TOOLS) for path in folder.rglob("*.py")}
    words = {path: set(re.findall(r"\w+", text)) for path, text in texts.items() if path != Path(__file__)}
    unused = []
    for path in sorted(PACKAGE.rglob("*.py")):
        offered = [name for name in _offered(texts[path]) if name != "set_up" and not name[:2].istitle()]
        elsewhere = set().union(*(known for other, known in words.items() if other != path))
        unused += [f"{path.relative_to(PACKAGE)}: {name}" for name in offered if name not in elsewhere]
    assert not unused


def _offered(text):
    """What stands in __all__."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_errors_are_one_tree():
    names = ["DeviceError", "FormatError", "LossError", "MissingPackageError", "OutputError", "SourceError", "UsageError"]
    assert all(issubclass(getattr(irst_stream, name), irst_stream.IrstError) for name in names)


def test_importing_the_package_loads_nothing_heavy():
    heavy = "numpy cv2 h5py matplotlib rich scipy torch irst_stream.sim irst_stream.score"
    code = f"import irst_stream, sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
