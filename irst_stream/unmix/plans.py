"""TensorRT plans on disk: what they are good for, where they are kept, and why they may be loaded.

A plan is executable code. It is loaded only where a manifest that irst-stream wrote names its hash, in a folder that nobody
but the user, or root, can write to. It is good for one engine, GPU, driver and version of TensorRT; each of these has a
folder of its own below the user's cache:

    irst-stream/plans/KEY/   manifest.json  unfold.plan  fuse.plan
    irst-stream/timing/KEY   what TensorRT has measured before, which makes the next build shorter
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from irst_stream.errors import FormatError, SourceError
from irst_stream.system.private_files import cache_folder, read_private, write_private
from irst_stream.version import __version__

__all__ = [
    "MANIFEST",
    "Place",
    "PlanManifest",
    "Plans",
    "Precision",
    "find_plans",
    "folder_of",
    "read_plans",
    "write_plans",
]

Precision = Literal["fp32", "fp16", "int8"]
LAYOUT = 1  # of what goes in and comes out: see graph.build_for_gpu
MANIFEST = "manifest.json"
PARTS = ("unfold", "fuse")


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a plan runs: TensorRT's version, the GPU's name and compute capability, the CUDA version of its driver."""

    tensorrt: str
    gpu: str
    capability: str
    driver: str


class PlanManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """engine: the hash of its weights' file; graphs and plans: of both parts, by part; batches: the sizes that it has plans
    for; layers: convolutions by the precision that they really run in, by part; apart: the largest difference from ONNX
    Runtime on the CPU in shares of the range, and limit, what it must not exceed; lost: CSO-mAP below that of single
    precision, where that was measured.
    """

    engine: str
    place: Place
    precision: Precision
    batches: tuple[int, ...]
    graphs: dict[str, str]
    plans: dict[str, str]
    layers: dict[str, dict[str, int]]
    apart: float
    limit: float
    lost: float | None = None
    layout: int = LAYOUT
    irst_stream: str = __version__


class Plans(NamedTuple):
    """A manifest, and the plans themselves, whose hashes agree with it."""

    manifest: PlanManifest
    unfold: bytes
    fuse: bytes


def folder_of(engine: str, place: Place, precision: Precision, batches: tuple[int, ...], graphs: Mapping[str, str]) -> Path:
    """Where plans of all this are kept, or would be."""
    facts = [engine, msgspec.to_builtins(place), precision, list(batches), dict(sorted(graphs.items())), LAYOUT]
    return cache_folder() / "plans" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def write_plans(plans: Plans) -> Path:
    """Keeps plans; the folder they are in. What is there already is replaced."""
    m = plans.manifest
    folder = folder_of(m.engine, m.place, m.precision, m.batches, m.graphs)
    (folder / MANIFEST).unlink(missing_ok=True)  # while the plans are being written there are none
    for part in PARTS:
        write_private(folder / f"{part}.plan", getattr(plans, part))
    write_private(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(m), indent=1))
    return folder


def find_plans(engine: str, place: Place, precision: Precision) -> Path | None:
    """The folder of the newest plans for this engine at this place, None where there are none."""
    found = [
        path for path, m in _manifests() if (m.engine, m.place, m.precision, m.layout) == (engine, place, precision, LAYOUT)
    ]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def read_plans(folder: Path) -> Plans:
    """Plans that may be loaded; anything else is one clear line."""
    manifest = _read_manifest(folder / MANIFEST)
    data = {part: read_private(folder / f"{part}.plan") for part in PARTS}
    for part, plan in data.items():
        if hashlib.sha256(plan).hexdigest() != manifest.plans.get(part):
            raise FormatError(
                f"{folder / part}.plan: its hash is not the manifest's: changed, truncated, or of another build"
            )
    return Plans(manifest, **data)


def _manifests() -> Iterator[tuple[Path, PlanManifest]]:
    """All that are in order."""
    for path in (cache_folder() / "plans").glob(f"*/{MANIFEST}"):
        try:
            yield path, _read_manifest(path)
        except (SourceError, FormatError):
            continue


def _read_manifest(path: Path) -> PlanManifest:
    data = read_private(path)
    try:
        return msgspec.json.decode(data, type=PlanManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: {error}") from error
