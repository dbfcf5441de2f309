"""irst-stream engine: networks as files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.commands.console import print_line
from irst_stream.commands.outputs import check_output, replacing
from irst_stream.commands.sources import load_array
from irst_stream.errors import MissingPackageError, OutputError, SourceError
from irst_stream.unmix import numpy as numpy_backend
from irst_stream.unmix.engine import Engine, read_engine, write_engine

__all__ = ["set_up"]


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description = (
        "Imports networks and runs them. An engine is a folder: weights and a manifest that vouches for them."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    summary = "make an engine of a checkpoint of the reference toolkit"
    imports = actions.add_parser("import", help=summary, description=f"{summary.capitalize()}.")
    imports.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="torch file with a state_dict")
    imports.add_argument("out", metavar="OUT", type=Path, help="folder to make")
    imports.add_argument("--phi", type=Path, required=True, metavar="MAT", help="phi.mat, the imaging model")
    imports.add_argument("--qinit", type=Path, required=True, metavar="MAT", help="qinit.mat, the first guess")
    imports.set_defaults(run=_import)
    summary = "patches in, fine maps out, for whoever wants to look inside"
    runs = actions.add_parser("run", help=summary, description=f"{summary.capitalize()}.")
    runs.add_argument("engine", metavar="ENGINE", type=Path, help="folder of an engine")
    runs.add_argument("patches", metavar="PATCHES.npy", type=Path, help="one sequence, (frames, 11, 11) DN")
    runs.add_argument("out", metavar="OUT.npy", type=Path, help="(frames - 4, 33, 33) DN, of the windows' centre frames")
    runs.add_argument("--backend", choices=("numpy", "torch"), default="numpy", help="what computes (default numpy)")
    runs.set_defaults(run=_run)


def _import(args: argparse.Namespace) -> int:
    try:
        from irst_stream.learn import reference
    except ImportError as error:
        raise MissingPackageError("torch", "train", "reading a checkpoint") from error
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise OutputError(f"{args.out}: is not an empty folder; choose another")
    pixels, cells = 121, 1089
    phi = reference.read_matrix(args.phi, "phi", (pixels, cells))
    qinit = reference.read_matrix(args.qinit, "Qinit", (cells, pixels))
    weights = reference.translate(reference.read_checkpoint(args.checkpoint), phi, qinit)
    facts = {"time_code": "clip", "code_length": reference.CLIP, "made_by": f"import of {args.checkpoint.name}"}
    manifest = write_engine(args.out, weights, **facts)
    count = sum(array.size for name, array in weights.items() if name not in ("unfold.phi", "unfold.qinit"))
    print_line(
        f"{args.out}: {count:,} parameters, time code by clip of {manifest.code_length}, sha256 {manifest.sha256[:12]}"
    )
    return 0


def _run(args: argparse.Namespace) -> int:
    check_output(args.out, args.patches, args.engine)
    engine = read_engine(args.engine)
    patches = _read_patches(args.patches, engine)
    maps = numpy_backend.run(engine, patches) if args.backend == "numpy" else _run_torch(engine, patches)
    with replacing(args.out) as part, part.open("wb") as file:
        np.save(file, maps)
    print_line(f"{args.out}: {' x '.join(map(str, maps.shape))}, {maps.min():.3g} to {maps.max():.3g} DN")
    return 0


def _run_torch(engine: Engine, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        from irst_stream.learn import backend
    except ImportError as error:
        raise MissingPackageError("torch", "train", "the torch backend") from error
    return backend.run(engine, patches)


def _read_patches(path: Path, engine: Engine) -> NDArray[Any]:
    patches, shape = load_array(path), engine.manifest.patch
    if patches.ndim != 3 or patches.shape[1:] != shape:
        raise SourceError(f"{path}: expected (frames, {shape[0]}, {shape[1]}), got {patches.shape}")
    if not np.isfinite(patches).all():
        raise SourceError(f"{path}: expected finite pixels; {int((~np.isfinite(patches)).sum())} are NaN or infinite")
    return patches.astype(np.float32)
