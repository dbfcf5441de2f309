"""manifest.json: the kind, parameters and length of a generated data set, and the version that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from irst_stream.errors import FormatError
from irst_stream.system.bounded_files import MAX_TEXT_BYTES, read_bounded

__all__ = ["Manifest", "manifest_path", "read_manifest", "scene_frame_name", "write_manifest"]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contents of manifest.json.

    dataset: seqcsist, csist100k or scene; irst_stream: the version that made the set; frames: their number; parameters:
    everything that determines the bytes of the set.
    """

    dataset: str
    irst_stream: str
    frames: int
    parameters: dict[str, Any]


def manifest_path(folder: Path) -> Path:
    """Path of the manifest of a data set's folder."""
    return folder / "manifest.json"


def scene_frame_name(index: int) -> str:
    """Path of a generated scene's frame, relative to the scene's folder."""
    return f"frames/frame_{index:06d}.png"


def read_manifest(folder: Path) -> Manifest | None:
    """Read the folder's manifest; None if it has none. Raise a FormatError if it is invalid."""
    path = manifest_path(folder)
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(read_bounded(path, MAX_TEXT_BYTES), type=Manifest)
    except msgspec.DecodeError as error:
        raise FormatError(f"{path}: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the folder's manifest atomically: a reader never sees a partial file."""
    path = manifest_path(folder)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    part.replace(path)
