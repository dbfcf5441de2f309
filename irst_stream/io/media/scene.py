"""Generated scenes: a folder of frames with a manifest that states its name, length, rate and bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from irst_stream.errors import FormatError, SourceError
from irst_stream.io import jsonl
from irst_stream.io.manifest import Manifest, manifest_path, read_manifest, scene_frame_name
from irst_stream.io.media.images import image_clip
from irst_stream.io.media.medium import Choice, Medium, Reader
from irst_stream.io.media.sidecar import Sidecar
from irst_stream.types import Truth

__all__ = ["READER"]

TRUTH = "truth.jsonl"


class _Sensor(msgspec.Struct):
    rate_hz: Annotated[float, msgspec.Meta(gt=0)]
    bits: Annotated[int, msgspec.Meta(ge=1, le=16)]


class _Facts(msgspec.Struct):
    """The parameters in a scene's manifest that are needed to read it."""

    name: str
    sensor: _Sensor


def _manifest(path: Path) -> Manifest | None:
    """Read the manifest of a scene; None if the path is not a scene."""
    manifest = read_manifest(path) if path.is_dir() else None
    return manifest if manifest is not None and manifest.dataset == "scene" else None


def _open(path: Path, _: Sidecar, __: Choice) -> Medium:
    manifest = _manifest(path)
    if manifest is None:
        raise SourceError(f"{path}: expected the manifest of a scene")
    try:
        facts = msgspec.convert(manifest.parameters, _Facts)
    except msgspec.ValidationError as error:
        raise FormatError(f"{manifest_path(path)}: parameters: {error}") from error
    files = [path / scene_frame_name(index) for index in range(manifest.frames)]
    return Medium(
        "generated scene",
        lambda: iter([image_clip(facts.name, files)]),
        manifest.frames,
        facts.sensor.rate_hz,
        2**facts.sensor.bits - 1,
        "scene",
        (lambda: jsonl.read(path / TRUTH, Truth)) if (path / TRUTH).is_file() else None,
    )


READER = Reader("a generated scene", lambda path, _: _manifest(path) is not None, _open, of_folders=True)
