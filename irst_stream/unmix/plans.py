"""Store TensorRT plans in the user's cache, and load only plans that can be trusted.

A plan is executable code. It is loaded only if a manifest written by irst-stream holds its hash, from a folder that only
the user or root can write to. A plan is valid for one engine, GPU, driver and version of TensorRT; each combination has its
own folder in the user's cache:

    irst-stream/plans/KEY/   manifest.json  unfold.plan  fuse.plan
    irst-stream/timing/KEY   TensorRT's timing cache, which shortens the next build
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
    "GpuPlatform",
    "PlanManifest",
    "Plans",
    "Precision",
    "find_plans",
    "plans_folder",
    "read_plans",
    "write_plans",
]

Precision = Literal["fp32", "fp16", "int8"]
LAYOUT = 1  # version of the graphs' inputs and outputs: see graph.build_for_gpu
MANIFEST = "manifest.json"
PARTS = ("unfold", "fuse")


class GpuPlatform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The platform of a plan: TensorRT's version, GPU name, compute capability, driver and its CUDA version."""

    tensorrt: str
    gpu: str
    capability: str
    driver: str


class PlanManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of manifest.json.

    engine:        hash of the engine's weights file
    place:         the platform that the plans were built on
    batches:       the batch sizes of the plans
    graphs, plans: hashes of the ONNX graphs and of the plan files, by part
    layers:        per part, the number of convolutions by the precision that they actually run in
    apart:         largest difference from ONNX Runtime on the CPU, as a fraction of the range
    limit:         the largest value of `apart` that is accepted
    lost:          loss of CSO-mAP against single precision, None if not measured
    layout:        see LAYOUT
    irst_stream:   the version that wrote the manifest
    """

    engine: str
    place: GpuPlatform
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
    """A manifest and the plans, whose hashes match it."""

    manifest: PlanManifest
    unfold: bytes
    fuse: bytes


def plans_folder(
    engine: str, platform: GpuPlatform, precision: Precision, batches: tuple[int, ...], graphs: Mapping[str, str]
) -> Path:
    """Return the folder for plans of these properties, whether it exists or not; engine, graphs: hashes."""
    facts = [engine, msgspec.to_builtins(platform), precision, list(batches), dict(sorted(graphs.items())), LAYOUT]
    return cache_folder() / "plans" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def write_plans(plans: Plans) -> Path:
    """Write plans into their folder, replacing older ones, and return the folder."""
    m = plans.manifest
    folder = plans_folder(m.engine, m.place, m.precision, m.batches, m.graphs)
    (folder / MANIFEST).unlink(missing_ok=True)  # half-written plans have no manifest, so nobody loads them
    for part in PARTS:
        write_private(folder / f"{part}.plan", getattr(plans, part))
    write_private(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(m), indent=1))
    return folder


def find_plans(engine: str, platform: GpuPlatform, precision: Precision) -> Path | None:
    """Return the folder of the newest plans for an engine (its hash) on a platform, None if there are none."""
    wanted = (engine, platform, precision, LAYOUT)
    found = [path for path, m in _valid_manifests() if (m.engine, m.place, m.precision, m.layout) == wanted]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def read_plans(folder: Path) -> Plans:
    """Load plans after checking who can write to them and their hashes.

    Raises a SourceError for missing or untrusted files, a FormatError for plans that do not match the manifest.
    """
    manifest = _read_manifest(folder / MANIFEST)
    data = {part: read_private(folder / f"{part}.plan") for part in PARTS}
    for part, plan in data.items():
        if hashlib.sha256(plan).hexdigest() != manifest.plans.get(part):
            raise FormatError(
                f"{folder / part}.plan: its hash is not the manifest's: the file was changed, truncated, or"
                " belongs to another build"
            )
    return Plans(manifest, **data)


def _valid_manifests() -> Iterator[tuple[Path, PlanManifest]]:
    """Yield all manifests in the cache that are valid and trusted, with their paths."""
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
