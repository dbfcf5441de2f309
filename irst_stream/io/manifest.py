"""manifest.json: what a generated set is, every parameter of it, and which version made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from irst_stream.errors import FormatError

__all__ = ["Manifest", "manifest_path", "read_manifest", "scene_frame_name", "write_manifest"]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """dataset: seqcsist, csist100k or scene; parameters: all that decides its bytes; frames: how many it has."""

    dataset: str
    irst_stream: str
    frames: int
    parameters: dict[str, Any]


def manifest_path(folder: Path) -> Path:
    """Where a set's manifest stands."""
    return folder / "manifest.json"


def scene_frame_name(index: int) -> str:
    """A generated scene's frame, relative to its folder."""
    return f"frames/frame_{index:06d}.png"


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, None where it has none."""
    path = manifest_path(folder)
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise FormatError(f"{path}: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the folder's manifest; it appears only once it is whole."""
    whole = manifest_path(folder)
    part = whole.with_name(f"{whole.name}.part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    part.replace(whole)
