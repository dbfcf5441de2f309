"""Check an engine's graphs for GPUs by the parser and the builder of TensorRT for RTX, which need no GPU.

Each graph is built in a child process (rtx_build.py), so that a crash in the library is one line. Plans cannot be loaded
without a GPU; so what the parsed network takes and returns, and the profiles, are compared with the engine's manifest
before the build.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from irst_stream.errors import FormatError, IrstError, MissingPackageError
from irst_stream.system.gpu_probe import run_child
from irst_stream.system.machine import usable_cores
from irst_stream.unmix import rtx_build
from irst_stream.unmix.engine import WINDOW, EngineManifest
from irst_stream.unmix.rtx_here import PACKAGE
from irst_stream.unmix.tensorrt_build import GraphToBuild, profile_shapes

__all__ = ["CAPABILITIES", "HARMLESS", "Built", "build_by_rtx", "check_tensors", "expected_tensors", "find_libraries"]

LIBRARIES = {"runtime": "libtensorrt_rtx.so.*", "parser": "libtensorrt_onnxparser_rtx.so.*"}
CAPABILITIES = (86, 89, 120)  # GPUs that a plan is built for: RTX 30, RTX 40, RTX 50
TIMEOUT_S = 300.0
FLOAT32, INT32 = 0, 3  # TensorRT's numbers of its data types
# int8 scales are constants, which the graph holds in half precision, rounded before weights were quantised by them: that
# the builder widens them changes no value, and happens once.
HARMLESS = frozenset({"Converting conv activation scales to fp32.", "Converting conv weight scales to fp32."})

Tensor = tuple[str, tuple[int, ...], int]  # name; shape, -1 for a batch; TensorRT's number of its type


class Built(msgspec.Struct, frozen=True):
    """A plan that was built: TensorRT's version, the network's tensors, number of profiles, size, time and warnings."""

    version: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    profiles: int
    plan_bytes: int
    seconds: float
    warnings: dict[str, int]


class Libraries(NamedTuple):
    """Paths of the two libraries."""

    runtime: Path
    parser: Path


def find_libraries() -> Libraries:
    """Find the libraries of TensorRT for RTX without loading them; a MissingPackageError if they are not installed."""
    spec = find_spec(PACKAGE)
    for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
        found = {name: max(folder.glob(pattern), default=None) for name, pattern in LIBRARIES.items()}
        if found["runtime"] and found["parser"]:
            return Libraries(found["runtime"], found["parser"])
    raise MissingPackageError("TensorRT for RTX", "rtx", "building graphs without a GPU")


def build_by_rtx(builds: Sequence[GraphToBuild]) -> Iterator[Built | IrstError]:
    """Build graphs for the GPUs of CAPABILITIES, several at once; yield, in order, the plan or why there is none.

    Raises a MissingPackageError without the libraries.
    """
    libraries = find_libraries()

    def one(build: GraphToBuild) -> Built | IrstError:
        try:
            return _build(libraries, build)
        except IrstError as error:
            return error

    with ThreadPoolExecutor(usable_cores()) as pool:
        yield from pool.map(one, builds)


def _build(libraries: Libraries, build: GraphToBuild) -> Built:
    """Build one graph in a child process; raise an IrstError if it is refused, crashes or does not end."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.onnx")
        path.write_bytes(build.graph)
        profiles = [profile_shapes(_open_inputs(build.graph), batch) for batch in build.batches]
        job = {"runtime": str(libraries.runtime), "parser": str(libraries.parser), "graph": str(path)}
        job_json = json.dumps({**job, "profiles": profiles, "capabilities": CAPABILITIES})
        try:
            child = run_child([sys.executable, "-I", rtx_build.__file__, job_json], TIMEOUT_S)
        except (subprocess.TimeoutExpired, OSError) as error:
            raise IrstError(f"the {build.part} graph: TensorRT for RTX did not answer ({error})") from error
    lines = child.stdout.splitlines()
    try:
        answer = json.loads(lines[-1])
        if "refused" in answer:
            raise FormatError(f"the {build.part} graph: TensorRT for RTX {answer['refused']}")
        return msgspec.convert(answer, Built)
    except (IndexError, ValueError, msgspec.ValidationError, TypeError) as error:
        last = next((line for line in reversed(child.stderr.splitlines()) if line.strip()), "no error message")
        raise IrstError(
            f"the {build.part} graph: the builder of TensorRT for RTX crashed (exit code {child.exit_code}; {last.strip()})"
        ) from error


def _open_inputs(graph: bytes) -> dict[str, tuple[int, ...]]:
    """Return the inputs' shapes of a serialised graph, without their first dimension, by name."""
    import onnx

    inputs = onnx.load_from_string(graph).graph.input
    return {one.name: tuple(side.dim_value for side in one.type.tensor_type.shape.dim[1:]) for one in inputs}


def expected_tensors(manifest: EngineManifest, part: str) -> tuple[set[Tensor], set[Tensor]]:
    """Return what a part's graph for GPUs takes and returns by the manifest: (name, shape, TensorRT's type) each."""
    patch, cells = manifest.patch, manifest.cells
    if part == "unfold":
        return {("patches", (-1, *patch), FLOAT32)}, {("maps", (-1, *cells), FLOAT32)}
    inputs: set[Tensor] = {("store", (-1, *cells), FLOAT32), ("rows", (-1, WINDOW), INT32)}
    outputs: set[Tensor] = {("map", (-1, *cells), FLOAT32)}
    if manifest.head == "continuous" or manifest.scale == "peak":
        inputs.add(("patches", (-1, manifest.input_planes, *patch), FLOAT32))
    if manifest.time_code == "clip":
        inputs.add(("places", (-1, WINDOW), FLOAT32))
    if manifest.head == "continuous":
        outputs.add(("claims", (-1, manifest.claim_channels, *cells), FLOAT32))
    return inputs, outputs


def check_tensors(manifest: EngineManifest, build: GraphToBuild, built: Built) -> None:
    """Raise a FormatError where a parsed network's inputs, outputs or number of profiles are not the manifest's."""
    wanted = (*expected_tensors(manifest, build.part), len(build.batches))
    found = (set(built.inputs), set(built.outputs), built.profiles)
    for what, one, other in zip(("inputs", "outputs", "profiles"), found, wanted, strict=True):
        if one != other:
            words = [str(sorted(x) if isinstance(x, set) else x) for x in (other, one)]
            raise FormatError(f"the {build.part} graph: {what} by the manifest: {words[0]}; in the plan: {words[1]}")
