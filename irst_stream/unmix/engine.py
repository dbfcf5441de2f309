"""Engines as files: a folder with weights.safetensors, a manifest.toml and, once exported, ONNX graphs.

The manifest holds the hashes of all other files; a file is used only after its hash has been verified.
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
from irst_stream.system.bounded_files import MAX_DATA_BYTES, MAX_TEXT_BYTES, read_bounded
from irst_stream.unmix.plans import Precision
from irst_stream.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "CLAIM_CHANNELS",
    "DEREFNET",
    "LIGHT_UNIT_DN",
    "LOG_SD",
    "MIN_PEAK_DN",
    "SENSOR_PLANES",
    "WEIGHTS",
    "WINDOW",
    "Engine",
    "EngineManifest",
    "GraphFile",
    "read_engine",
    "refers_to",
    "write_engine",
    "write_graphs",
]

WINDOW = 5  # frames
DEREFNET = "derefnet"  # the network that all backends know; others run by their graphs alone
LIGHT_UNIT_DN = 100.0  # about the peak of a benchmark target; the continuous head measures light in this unit
MIN_PEAK_DN = 1.0  # lower bound of the brightest pixel where light is scaled by it
LOG_SD = (-6.0, 1.0)  # bounds of the continuous head's log standard deviations
SENSOR_PLANES = 7  # input planes that describe the sensor: see unmix.told
CLAIM_CHANNELS = 7  # numbers that describe the target in a fine cell: see types.Unmixed
MANIFEST, WEIGHTS = "manifest.toml", "weights.safetensors"
DEFAULT_LIMITS: dict[Precision, float] = {"fp32": 1e-3, "fp16": 0.02, "int8": 1.0}  # int8 is judged by CSO-mAP instead
Array = NDArray[Any]


class GraphFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Manifest entry of an ONNX graph: file name, SHA-256, part of the network, operators' form, opset, precision."""

    file: str
    sha256: str
    part: Literal["unfold", "fuse"]
    form: Literal["deform", "portable"]
    opset: int
    precision: Literal["fp32"] = "fp32"


class EngineManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of manifest.toml.

    sha256:      of the weights file
    made_by:     how the engine was made, for a reader
    network:     "derefnet", or the name of another method of learn.methods, which runs by its graphs alone
    options:     of that method: widths, numbers of blocks
    time_code:   "window" (time indices 0 to 4) or "clip" (the frame's index in a clip of code_length frames)
    scale:       "none" (light in DN) or "peak" (light as a fraction of the brightest pixel)
    told:        whether the network takes the sensor planes of unmix.told after the patches
    window:      frames that the network sees at once: 5, or 1 for single frames
    division:    fine cells per pixel, along each axis
    patch:       rows, columns
    irst_stream: the version that wrote the manifest
    limits:      by precision, the largest allowed difference from ONNX Runtime on the CPU, as a fraction of the range
    graphs:      the ONNX graphs, none before export
    """

    sha256: str
    made_by: str
    network: Annotated[str, msgspec.Meta(pattern="^[a-z0-9+-]+$")] = DEREFNET
    options: dict[str, int] = msgspec.field(default_factory=dict)
    head: Literal["map", "continuous"] = "map"
    time_code: Literal["window", "clip"] = "window"
    code_length: Annotated[int, msgspec.Meta(ge=1, le=1000)] = WINDOW
    scale: Literal["none", "peak"] = "none"
    told: bool = False
    window: Literal[1, 5] = 5
    division: Annotated[int, msgspec.Meta(ge=1, le=31)] = 3
    patch: tuple[int, int] = (11, 11)
    irst_stream: str = __version__
    limits: dict[Precision, float] = msgspec.field(default_factory=DEFAULT_LIMITS.copy)
    graphs: tuple[GraphFile, ...] = ()

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the fine grid."""
        return self.patch[0] * self.division, self.patch[1] * self.division

    @property
    def windows(self) -> tuple[int, ...]:
        """The lengths of windows that it can be run on, in frames; a single frame counts as a scene at rest."""
        return 1, WINDOW

    @property
    def parts(self) -> tuple[str, ...]:
        """The network's graphs; for single frames it has no "fuse": a window's map is the middle frame's."""
        return ("unfold",) if self.window == 1 else ("unfold", "fuse")

    @property
    def claim_channels(self) -> int:
        """Numbers in each fine cell's claim; 0 without a continuous head."""
        return CLAIM_CHANNELS if self.head == "continuous" else 0

    @property
    def input_planes(self) -> int:
        """Input planes of a window: its patches, then the sensor planes, if any."""
        return WINDOW + (SENSOR_PLANES if self.told else 0)

    def check_length(self, frames: int) -> None:
        """Raise a UsageError for a sequence shorter than one window or longer than the time code."""
        if frames < WINDOW:
            raise UsageError(f"expected at least {WINDOW} frames, one whole window, got {frames}")
        if self.time_code == "clip" and frames > self.code_length:
            raise UsageError(f"this engine's time code covers clips of at most {self.code_length} frames, got {frames}")


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A loaded engine: its manifest, the verified bytes of the weights file, and the weights by name, float32."""

    folder: Path
    manifest: EngineManifest
    data: bytes
    weights: dict[str, Array]

    def graphs(self, form: str) -> dict[str, bytes]:
        """Return the serialised graphs of a form, by part; empty if the engine was not exported in that form.

        Raises a FormatError where a file's hash differs from the manifest's.
        """
        return {g.part: _read_verified(self.folder / g.file, g.sha256) for g in self.manifest.graphs if g.form == form}


def refers_to(graph: bytes, name: str) -> bool:
    """Return whether a serialised ONNX graph has an initialiser of this name, of up to 127 characters."""
    text = name.encode()
    return b"B" + bytes([len(text)]) + text in graph  # TensorProto's field 8, as protobuf writes a string


def read_engine(folder: Path) -> Engine:
    """Load an engine after verifying its weights.

    Raises a SourceError for missing files, a FormatError for an invalid manifest or weights that do not match it.
    """
    try:
        manifest = msgspec.convert(tomllib.loads(read_bounded(folder / MANIFEST, MAX_TEXT_BYTES).decode()), EngineManifest)
    except OSError as error:
        raise SourceError(f"{error.filename or folder}: not an engine: {error.strerror or error}") from error
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{folder / MANIFEST}: {error}") from error
    for graph in manifest.graphs:
        if graph.file != Path(graph.file).name:
            raise FormatError(f"{folder / MANIFEST}: {graph.file}: expected a file in the same folder")
    data = _read_verified(folder / WEIGHTS, manifest.sha256)
    try:
        return Engine(folder, manifest, data, load(data))
    except SafetensorError as error:
        raise FormatError(f"{folder / WEIGHTS}: not safetensors ({error})") from error


def write_engine(folder: Path, weights: dict[str, Array], **facts: Any) -> EngineManifest:
    """Write an engine into a folder, created if missing; facts: the manifest's fields except the hash."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: np.asarray(weights[name], np.float32, order="C") for name in sorted(weights)})
    manifest = EngineManifest(sha256=hashlib.sha256(data).hexdigest(), **facts)
    (folder / WEIGHTS).write_bytes(data)
    _write_manifest(folder, manifest)
    return manifest


def write_graphs(folder: Path, engine: Engine, graphs: Mapping[tuple[Any, Any, int], bytes]) -> EngineManifest:
    """Write an engine together with its graphs, keyed by (part, form, opset), into a folder, created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for (part, form, opset), data in graphs.items():
        file = f"{part}-{form}.onnx"
        (folder / file).write_bytes(data)
        rows.append(GraphFile(file, hashlib.sha256(data).hexdigest(), part, form, opset))
    manifest = msgspec.structs.replace(engine.manifest, graphs=tuple(rows))
    (folder / WEIGHTS).write_bytes(engine.data)
    _write_manifest(folder, manifest)
    return manifest


def _read_verified(path: Path, sha256: str) -> bytes:
    """Read a file and check its hash."""
    try:
        data = read_bounded(path, MAX_DATA_BYTES)
    except OSError as error:
        raise SourceError(f"{path}: not an engine: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FormatError(
            f"{path}: its hash is not the manifest's: the file was changed, truncated, or belongs to another engine"
        )
    return data


def _write_manifest(folder: Path, manifest: EngineManifest) -> None:
    (folder / MANIFEST).write_text(to_toml(msgspec.to_builtins(manifest)), "utf-8")
