"""What an engine is: a folder with weights.safetensors and a manifest.toml that vouches for them.

Nothing of the weights is read before their hash agrees with the manifest's.
"""

from __future__ import annotations

import hashlib
import sys
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
from irst_stream.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["WINDOW", "Engine", "EngineManifest", "read_engine", "window_places", "write_engine"]

WINDOW = 5  # frames
MANIFEST, WEIGHTS = "manifest.toml", "weights.safetensors"
Array = NDArray[Any]


class EngineManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sha256 of the weights' file; network and head; time_code "window" (places 0 to 4) or "clip" (the frame's index in a
    clip of code_length frames); division of the fine grid, patch (rows, columns); what made it, in words.
    """

    sha256: str
    made_by: str
    network: Literal["derefnet"] = "derefnet"
    head: Literal["map"] = "map"
    time_code: Literal["window", "clip"] = "window"
    code_length: Annotated[int, msgspec.Meta(ge=1, le=1000)] = WINDOW
    division: Annotated[int, msgspec.Meta(ge=1, le=31)] = 3
    patch: tuple[int, int] = (11, 11)
    irst_stream: str = __version__


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A manifest and the network's arrays by name, float32."""

    manifest: EngineManifest
    weights: dict[str, Array]


def read_engine(folder: Path) -> Engine:
    """An engine whose weights are what its manifest says; anything else is one clear line, and is not loaded."""
    try:
        text = (folder / MANIFEST).read_text("utf-8")
        manifest = msgspec.convert(tomllib.loads(text), EngineManifest)
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise SourceError(f"{error.filename or folder}: not an engine: {error.strerror or error}") from error
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{folder / MANIFEST}: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sha256:
        raise FormatError(f"{folder / WEIGHTS}: its hash is not the manifest's: changed, truncated, or of another engine")
    try:
        return Engine(manifest, load(data))
    except SafetensorError as error:
        raise FormatError(f"{folder / WEIGHTS}: not safetensors ({error})") from error


def write_engine(folder: Path, weights: dict[str, Array], **facts: Any) -> EngineManifest:
    """Writes an engine into a folder, made if need be; facts are the manifest's fields but the hash."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: np.ascontiguousarray(weights[name], np.float32) for name in sorted(weights)})
    manifest = EngineManifest(sha256=hashlib.sha256(data).hexdigest(), **facts)
    (folder / WEIGHTS).write_bytes(data)
    (folder / MANIFEST).write_text(to_toml(msgspec.to_builtins(manifest)), "utf-8")
    return manifest


def window_places(manifest: EngineManifest, frames: int) -> NDArray[np.int64]:
    """(frames - 4, 5): the place, by the engine's time code, of every frame of every whole window of a sequence."""
    if frames < WINDOW:
        raise UsageError(f"expected at least {WINDOW} frames, a whole window, got {frames}")
    if manifest.time_code == "window":
        return np.tile(np.arange(WINDOW), (frames - WINDOW + 1, 1))
    if frames > manifest.code_length:
        raise UsageError(f"this engine knows clips of at most {manifest.code_length} frames, got {frames}")
    return np.lib.stride_tricks.sliding_window_view(np.arange(frames), WINDOW)
