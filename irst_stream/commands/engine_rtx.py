"""irst-stream engine check --tensorrt-rtx: build an engine's graphs for GPUs by TensorRT for RTX, without a GPU."""

from __future__ import annotations

from typing import get_args

from irst_stream.commands.console import print_line, print_note, print_table, working
from irst_stream.commands.engine_build import BATCHES, quantisation_ranges
from irst_stream.errors import FormatError, IrstError, UsageError
from irst_stream.unmix.engine import DEREFNET, Engine
from irst_stream.unmix.plans import Precision
from irst_stream.unmix.rtx_check import CAPABILITIES, HARMLESS, Built, build_by_rtx, check_tensors, find_libraries
from irst_stream.unmix.tensorrt_build import STRONGLY_TYPED, GraphToBuild, graphs_to_build, recipe_for

__all__ = ["check", "graphs_of_all_precisions"]

CALIBRATION_WINDOWS = 4  # the graph is checked, not its accuracy


def graphs_of_all_precisions(engine: Engine) -> list[tuple[Precision, GraphToBuild]]:
    """Write the graphs that TensorRT 10.1 and newer are given, both parts in each precision."""
    builds = []
    for precision in get_args(Precision):
        recipe = recipe_for(STRONGLY_TYPED, precision)
        ranges = quantisation_ranges(engine, recipe, CALIBRATION_WINDOWS)
        builds += [(precision, build) for build in graphs_to_build(engine, recipe, BATCHES, ranges)]
    return builds


def check(engine: Engine) -> int:
    """Build every graph, print a table, and raise a FormatError if one is refused or is not what the manifest says."""
    if engine.manifest.network != DEREFNET:
        raise UsageError(f"engine check --tensorrt-rtx: plans are of DeRefNet alone, not of {engine.manifest.network}")
    find_libraries()  # before work that would be for nothing
    with working("engine check") as step:
        step("writing graphs")
        builds = graphs_of_all_precisions(engine)
        rows: list[tuple[str, ...]] = []
        faults: list[str] = []
        version, notes = "", set[str]()
        for (precision, build), built in zip(builds, build_by_rtx([build for _, build in builds]), strict=True):
            step(f"built {len(rows) + 1} of {len(builds)}")
            fault = _fault(engine, build, built)
            if isinstance(built, Built):
                version, size, seconds = built.version, f"{built.plan_bytes / 2**20:.1f}", f"{built.seconds:.1f}"
                notes |= {f"{precision} {build.part}: {words} ({n} x)" for words, n in built.warnings.items()}
            else:
                size = seconds = ""
            rows.append((build.part, precision, size, seconds, "refused" if fault else "built"))
            faults += [f"{precision}: {fault}"] if fault else []
    if version:
        where = ", ".join(f"{one // 10}.{one % 10}" for one in CAPABILITIES)
        print_line(
            f"By TensorRT for RTX {version}, for compute capability {where}, batches of {', '.join(map(str, BATCHES))}:"
        )
    print_table(("graph", "precision", "MiB", "s", ""), rows)
    for note in sorted(note for note in notes if not any(words in note for words in HARMLESS)):
        print_note(f"warning: {note}")
    if faults:
        raise FormatError(f"{engine.folder}: {len(faults)} of {len(rows)} graphs are refused: {'; '.join(faults[:3])}")
    return 0


def _fault(engine: Engine, build: GraphToBuild, built: Built | IrstError) -> str:
    """What is wrong with a build, "" if nothing is."""
    if isinstance(built, IrstError):
        return str(built)
    try:
        check_tensors(engine.manifest, build, built)
    except FormatError as error:
        return str(error)
    return ""
