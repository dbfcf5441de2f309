"""irst-stream engine: import, run, export, build and check engines (networks as folders)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from irst_stream.commands import engine_build, engine_rtx
from irst_stream.commands.console import positive_int, print_line, print_table
from irst_stream.commands.outputs import atomic_folder, atomic_output, check_outputs
from irst_stream.commands.sources import load_array
from irst_stream.errors import FormatError, MissingPackageError, OutputError, SourceError, UsageError
from irst_stream.protocols import Unmixer
from irst_stream.sim import seqcsist
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import find_engine
from irst_stream.unmix.backends import GPU_BACKENDS, TENSORRT_PRECISIONS, build_unmixer, choose_backend
from irst_stream.unmix.engine import DEREFNET, Engine, read_engine, write_engine, write_graphs
from irst_stream.unmix.onnx import supported_forms
from irst_stream.unmix.parity import largest_differences
from irst_stream.unmix.plans import find_plans
from irst_stream.unmix.rtx_here import look_for_rtx
from irst_stream.unmix.settings import Backend
from irst_stream.unmix.stream import run_sequence
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

__all__ = ["set_up"]

BACKENDS = ("numpy", "torch", "onnx", "openvino", "openvino-bf16", *GPU_BACKENDS)
CHECK_FRAMES = 8
DEFAULT_TOLERANCE = 1e-4  # largest difference from NumPy, as a fraction of the range
# OpenVINO sums in another order; bfloat16 differences are reported but never fail the check.
TOLERANCES = {"openvino": 1e-3, "openvino-bf16": 1.0}


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        "Import, run and check networks. An engine is a folder with weights and a manifest that holds their checksum."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    summary = "convert a checkpoint of the reference toolkit into an engine"
    imports = actions.add_parser("import", help=summary, description=f"{summary.capitalize()}.")
    imports.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="PyTorch file with a state_dict")
    imports.add_argument("out", metavar="OUT", type=Path, help="engine folder to create")
    imports.add_argument("--phi", type=Path, required=True, metavar="MAT", help="phi.mat, the imaging matrix")
    imports.add_argument(
        "--qinit", type=Path, required=True, metavar="MAT", help="qinit.mat, the matrix of the initial estimate"
    )
    imports.set_defaults(run=_import)
    summary = "run an engine on patches and write its fine maps"
    runs = actions.add_parser("run", help=summary, description=f"{summary.capitalize()}.")
    runs.add_argument("engine", metavar="ENGINE", type=Path, help="engine folder, or the name of a bundled engine")
    runs.add_argument("patches", metavar="PATCHES.npy", type=Path, help="input: one sequence, (frames, 11, 11) DN")
    runs.add_argument(
        "out", metavar="OUT.npy", type=Path, help="output: (frames - 4, 33, 33) DN, one map per window's centre frame"
    )
    runs.add_argument(
        "--backend", choices=BACKENDS, help="backend (default onnx if the engine has ONNX graphs, else numpy)"
    )
    runs.add_argument("--threads", type=positive_int, metavar="N", help="parallel threads (default: all cores)")
    runs.set_defaults(run=_run)
    summary = "write an engine's ONNX graphs, for ONNX Runtime and TensorRT"
    exports = actions.add_parser("export", help=summary, description=f"{summary.capitalize()}.")
    exports.add_argument("engine", metavar="WEIGHTS", type=Path, help="engine folder")
    exports.add_argument(
        "out", metavar="OUT", type=Path, help="folder to create, or WEIGHTS itself to add the graphs there"
    )
    exports.set_defaults(run=_export)
    summary = "build TensorRT plans for this machine's GPU"
    builds = actions.add_parser("build", help=summary, description=engine_build.DESCRIPTION)
    engine_build.set_up(builds)
    summary = "compare every backend with NumPy, or build the graphs for GPUs without one"
    checks = actions.add_parser(
        "check",
        help=summary,
        description="Compare every backend with NumPy, on noise and on images; or, with --tensorrt-rtx, build by TensorRT"
        " for RTX, which needs no GPU for that, every graph that TensorRT is given.",
    )
    checks.add_argument("engine", metavar="ENGINE", type=Path, help="engine folder")
    checks.add_argument(
        "--patches", metavar="FILE.npy", type=Path, help="images to use, (frames, h, w) DN (default: a generated sequence)"
    )
    checks.add_argument(
        "--tensorrt-rtx",
        action="store_true",
        help="build the graphs in fp32, fp16 and int8 by TensorRT for RTX, on the CPU, instead (needs the extra rtx)",
    )
    checks.set_defaults(run=_check)


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
    metadata = {"time_code": "clip", "code_length": reference.CLIP, "made_by": f"import of {args.checkpoint.name}"}
    with atomic_folder(args.out) as folder:
        manifest = write_engine(folder, weights, **metadata)
    parameters = sum(array.size for name, array in weights.items() if name not in ("unfold.phi", "unfold.qinit"))
    print_line(
        f"{args.out}: {parameters:,} parameters, time code by clip of {manifest.code_length}, sha256 {manifest.sha256[:12]}"
    )
    return 0


def _run(args: argparse.Namespace) -> int:
    check_outputs(args, out="")
    engine = read_engine(find_engine(str(args.engine)))
    patches = _read_patches(args.patches, engine)
    backend = args.backend or ("onnx" if engine.manifest.graphs else "numpy")
    threads = 1 if backend in GPU_BACKENDS else args.threads or usable_cores()
    unmixers = [_unmixer(engine, backend) for _ in range(threads)]
    found = run_sequence(unmixers, engine.manifest, patches)
    with atomic_output(args.out) as part, part.open("wb") as file:
        np.save(file, found.map)
    shape = " x ".join(map(str, found.map.shape))
    print_line(f"{args.out}: {shape}, {found.map.min():.3g} to {found.map.max():.3g} DN, by {backend}")
    return 0


def _export(args: argparse.Namespace) -> int:
    engine = read_engine(find_engine(str(args.engine)))
    same = args.out.exists() and args.out.samefile(engine.folder)
    if not same and args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise OutputError(f"{args.out}: is not an empty folder; choose another")
    graphs = _graphs(engine)
    with nullcontext(args.out) if same else atomic_folder(args.out) as folder:
        written = write_graphs(folder, engine, graphs)
    rows = [(g.file, g.part, g.form, str(g.opset), f"{len(graphs[g.part, g.form, g.opset]):,}") for g in written.graphs]
    print_table(("file", "part", "operators", "opset", "bytes"), rows)
    return 0


def _graphs(engine: Engine) -> Mapping[tuple[Any, Any, int], bytes]:
    """The engine's ONNX graphs, as write_graphs takes them."""
    if engine.manifest.network == DEREFNET:
        from irst_stream.unmix.graph import build_all

        return build_all(engine.manifest, engine.data)
    try:
        from irst_stream.learn.backend import load
        from irst_stream.learn.export import method_graphs
    except ImportError as error:
        raise MissingPackageError("torch", "train", f"exporting {engine.manifest.network}") from error
    return method_graphs(load(engine), engine.manifest, engine.data)


def _check(args: argparse.Namespace) -> int:
    engine = read_engine(find_engine(str(args.engine)))
    if args.tensorrt_rtx:
        if args.patches:
            raise UsageError("engine check: --tensorrt-rtx builds graphs and runs none; expected no --patches beside it")
        return engine_rtx.check(engine)
    if args.patches:
        real = _read_patches(args.patches, engine)[:CHECK_FRAMES]
    else:
        real = seqcsist(1, noise=(2.0, 2.0), depth=16).frames[0, :CHECK_FRAMES].astype(np.float32)
    noise = np.random.default_rng(0).uniform(0, 250, real.shape).astype(np.float32)
    reference = _unmixer(engine, "numpy")
    others = [(backend, form, _unmixer(engine, backend, form)) for backend, form in _checkable(engine)]
    rows, faults = [], []
    for name, images in (("noise", noise), ("images", real)):
        expected = run_sequence([reference], engine.manifest, images)
        for backend, form, unmixer in others:
            got = run_sequence([unmixer], engine.manifest, images)
            difference = largest_differences(got, expected)
            if not max(difference.values()) <= _tolerance(engine, backend):
                faults.append(f"{backend} by {max(difference.values()):.1e}")
            rows.append((name, f"{backend} {form}".strip(), *(f"{value:.1e}" for value in difference.values())))
    print_line("Largest difference from NumPy, as a fraction of the range:")
    print_table(("input", "backend", "map", "claims"), rows)
    if faults:
        raise FormatError(f"{args.engine}: backends differ too much, in shares of the range: {', '.join(faults)}")
    return 0


def _checkable(engine: Engine) -> list[tuple[str, str]]:
    """List (backend, operator form) that this engine and this machine support, without NumPy."""
    exported = {graph.form for graph in engine.manifest.graphs}
    torch = [("torch", "")] if find_spec("torch") else []
    openvino = [("openvino", ""), ("openvino-bf16", "")] if find_spec("openvino") and "portable" in exported else []
    found = [*torch, *(("onnx", form) for form in supported_forms() if form in exported), *openvino, *_on_gpu(engine)]
    if not found:
        raise UsageError("nothing to compare: PyTorch is not installed, and the engine has no ONNX graphs")
    return found


def _on_gpu(engine: Engine) -> list[tuple[str, str]]:
    """List the TensorRT backends with plans for this GPU, and TensorRT for RTX where it runs; their form is ""."""
    if engine.manifest.network != DEREFNET:
        return []
    rtx = [("rtx", "")] if look_for_rtx().platform else []
    place = look_for_tensorrt().platform
    if place is None:
        return rtx
    return rtx + [
        (name, "") for name, kind in TENSORRT_PRECISIONS.items() if find_plans(engine.manifest.sha256, place, kind)
    ]


def _tolerance(engine: Engine, backend: str) -> float:
    """The largest accepted difference from NumPy, as a fraction of the range."""
    if backend in GPU_BACKENDS:
        return engine.manifest.limits[GPU_BACKENDS[backend]]
    return TOLERANCES.get(backend, DEFAULT_TOLERANCE)


def _unmixer(engine: Engine, backend: str, form: str = "") -> Unmixer:
    """Build a backend that computes in one thread."""
    if backend != "torch":
        return build_unmixer(engine, choose_backend(engine, cast("Backend", backend)), 1, form)
    try:
        from irst_stream.learn.backend import TorchUnmixer
    except ImportError as error:
        raise MissingPackageError("torch", "train", "the torch backend") from error
    return TorchUnmixer(engine)


def _read_patches(path: Path, engine: Engine) -> NDArray[np.float32]:
    """Read (frames, h, w) DN and check that it is finite and no smaller than the engine's patch."""
    patches, (rows, columns) = load_array(path), engine.manifest.patch
    if patches.ndim != 3 or patches.shape[1] < rows or patches.shape[2] < columns:
        raise SourceError(f"{path}: expected (frames, h, w) of at least {rows} x {columns} px, got {patches.shape}")
    if not np.isfinite(patches).all():
        raise SourceError(f"{path}: expected finite pixels; {int((~np.isfinite(patches)).sum())} are NaN or infinite")
    return patches.astype(np.float32)
