"""What an engine is: a folder with weights.safetensors, ONNX graphs where it was exported, and a manifest.toml.

The manifest vouches for all other files; nothing of them is used before their hashes agree with it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from irst_stream.errors import FormatError, SourceError, UsageError
from irst_stream.settings import to_toml
from irst_stream.unmix.plans import Precision
from irst_stream.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "CLAIMS",
    "FAINTEST",
    "LOG_SD",
    "PLANES",
    "UNIT",
    "WEIGHTS",
    "WINDOW",
    "Engine",
    "EngineManifest",
    "Graph",
    "read_engine",
    "write_engine",
    "write_graphs",
]

WINDOW = 5  # frames
UNIT = 100.0  # DN: about the peak of a benchmark's target; the continuous head counts light in it
FAINTEST = 1.0  # DN: what the brightest pixel is taken for at least, where light is counted by it
LOG_SD = (-6.0, 1.0)  # the bounds of the continuous head's log deviations
PLANES = 7  # input planes that describe the sensor: see unmix.told
CLAIMS = 7  # numbers of each fine cell's claim: see types.Unmixed
MANIFEST, WEIGHTS = "manifest.toml", "weights.safetensors"
LIMITS: dict[Precision, float] = {"fp32": 1e-3, "fp16": 0.02, "int8": 1.0}  # int8 by accuracy
Array = NDArray[Any]


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ONNX graph: its file and that file's hash; "unfold" or "fuse"; its operators' form, opset and precision."""

    file: str
    sha256: str
    part: Literal["unfold", "fuse"]
    form: Literal["deform", "portable"]
    opset: int
    precision: Literal["fp32"] = "fp32"


class EngineManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine is.

    sha256: of the weights' file; made_by: in words; time_code: "window" (places 0 to 4) or "clip" (the frame's index in a
    clip of code_length frames); scale: "none" (light counts in DN) or "peak" (in shares of the brightest pixel); told:
    takes the planes of unmix.told after the patches; window: frames; division: of the fine grid; patch: rows, columns;
    limits: by how much of the range its output in each precision may differ from ONNX Runtime on the CPU; graphs: where
    exported.
    """

    sha256: str
    made_by: str
    network: Literal["derefnet"] = "derefnet"
    head: Literal["map", "continuous"] = "map"
    time_code: Literal["window", "clip"] = "window"
    code_length: Annotated[int, msgspec.Meta(ge=1, le=1000)] = WINDOW
    scale: Literal["none", "peak"] = "none"
    told: bool = False
    window: Literal[5] = 5
    division: Annotated[int, msgspec.Meta(ge=1, le=31)] = 3
    patch: tuple[int, int] = (11, 11)
    irst_stream: str = __version__
    limits: dict[Precision, float] = msgspec.field(default_factory=LIMITS.copy)
    graphs: tuple[Graph, ...] = ()

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the fine grid."""
        return self.patch[0] * self.division, self.patch[1] * self.division

    @property
    def claims(self) -> int:
        """How many numbers each fine cell's claim has; none of a plain head."""
        return CLAIMS if self.head == "continuous" else 0

    @property
    def planes(self) -> int:
        """Input planes of a window: its patches, then those that describe the sensor."""
        return WINDOW + (PLANES if self.told else 0)

    def check_length(self, frames: int) -> None:
        """Raises a UsageError for a sequence of frames that has no whole window, or is longer than the time code."""
        if frames < WINDOW:
            raise UsageError(f"expected at least {WINDOW} frames, a whole window, got {frames}")
        if self.time_code == "clip" and frames > self.code_length:
            raise UsageError(f"this engine knows clips of at most {self.code_length} frames, got {frames}")


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A manifest, the bytes of the weights' file, whose hash agrees, and the network's arrays in it by name, float32."""

    folder: Path
    manifest: EngineManifest
    data: bytes
    weights: dict[str, Array]

    def graphs(self, form: str) -> dict[str, bytes]:
        """The serialised graphs of a form, by part, if their hashes agree; none where the engine was not exported."""
        return {g.part: _vouched(self.folder / g.file, g.sha256) for g in self.manifest.graphs if g.form == form}


def read_engine(folder: Path) -> Engine:
    """An engine whose weights are what its manifest says; anything else is one clear line, and is not loaded."""
    try:
        manifest = msgspec.convert(tomllib.loads((folder / MANIFEST).read_text("utf-8")), EngineManifest)
    except OSError as error:
        raise SourceError(f"{error.filename or folder}: not an engine: {error.strerror or error}") from error
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{folder / MANIFEST}: {error}") from error
    for graph in manifest.graphs:
        if graph.file != Path(graph.file).name:
            raise FormatError(f"{folder / MANIFEST}: {graph.file}: expected a file of the same folder")
    data = _vouched(folder / WEIGHTS, manifest.sha256)
    try:
        return Engine(folder, manifest, data, load(data))
    except SafetensorError as error:
        raise FormatError(f"{folder / WEIGHTS}: not safetensors ({error})") from error


def write_engine(folder: Path, weights: dict[str, Array], **facts: Any) -> EngineManifest:
    """Writes an engine into a folder, made if need be; facts are the manifest's fields but the hash."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: np.asarray(weights[name], np.float32, order="C") for name in sorted(weights)})
    manifest = EngineManifest(sha256=hashlib.sha256(data).hexdigest(), **facts)
    (folder / WEIGHTS).write_bytes(data)
    _write_manifest(folder, manifest)
    return manifest


def write_graphs(folder: Path, engine: Engine, graphs: Mapping[tuple[Any, Any, int], bytes]) -> EngineManifest:
    """Writes an engine and graphs of it, by (part, form, opset), into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for (part, form, opset), data in graphs.items():
        file = f"{part}-{form}.onnx"
        (folder / file).write_bytes(data)
        rows.append(Graph(file, hashlib.sha256(data).hexdigest(), part, form, opset))
    manifest = msgspec.structs.replace(engine.manifest, graphs=tuple(rows))
    (folder / WEIGHTS).write_bytes(engine.data)
    _write_manifest(folder, manifest)
    return manifest


def _vouched(path: Path, sha256: str) -> bytes:
    """The content of a file of that hash."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: not an engine: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FormatError(f"{path}: its hash is not the manifest's: changed, truncated, or of another engine")
    return data


def _write_manifest(folder: Path, manifest: EngineManifest) -> None:
    (folder / MANIFEST).write_text(to_toml(msgspec.to_builtins(manifest)), "utf-8")
