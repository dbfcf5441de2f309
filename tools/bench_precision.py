"""What half precision and whole numbers cost of CSO-mAP; run it with .venv/bin/python tools/bench_precision.py.

Takes the very graphs that TensorRT is given in each precision, and runs them by ONNX Runtime on the CPU, on generated
windows that they were not calibrated by. What has no kernel in half precision there is computed in single precision and
rounded after each step: a GPU rounds alike, but sums in another order. Says nothing of speed. Writes
out/bench_precision.json.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

import onnxruntime
from bench_data import describe_machine

from irst_stream.commands.engine_build import quantisation_ranges
from irst_stream.commands.trials import accuracy, evaluation_windows, run_network
from irst_stream.errors import IrstError
from irst_stream.system.shipped import find_engine
from irst_stream.unmix.engine import Engine, read_engine
from irst_stream.unmix.onnx import GpuGraphsOnCpu
from irst_stream.unmix.parity import largest_differences
from irst_stream.unmix.plans import Precision
from irst_stream.unmix.tensorrt_build import graphs_to_build, recipe_for

OUT = Path("out/bench_precision.json")
TENSORRT = (10, 13, 3)  # the version that is given them


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["seqcsist", "general"], help="folders or names (default both)")
    parser.add_argument("--windows", type=int, default=600, help="(default 600)")
    args = parser.parse_args()
    machine = describe_machine() | {"onnxruntime": onnxruntime.__version__}
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    results = {name: measure(read_engine(find_engine(name)), args.windows) for name in args.engines}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "windows": args.windows, "engines": results}, indent=2) + "\n")
    return 0


def measure(engine: Engine, count: int) -> dict[str, dict[str, float]]:
    trial, found, exact = evaluation_windows(engine.manifest, count), {}, None
    for precision in get_args(Precision):
        recipe = recipe_for(TENSORRT, precision)
        builds = graphs_to_build(engine, recipe, (1,), quantisation_ranges(engine, recipe))
        seen = run_network(GpuGraphsOnCpu({build.part: build.graph for build in builds}), trial.windows)
        exact = exact or seen
        row = {
            "CSO-mAP": accuracy(seen, trial.truths, engine.manifest),
            "apart": max(largest_differences(seen, exact).values()),
        }
        found[precision] = row
        print(
            f"{engine.folder.name:<12}{precision:<6}CSO-mAP {row['CSO-mAP']:6.2f}   apart from fp32 {row['apart']:.1e}",
            flush=True,
        )
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except IrstError as error:
        print(f"bench_precision: {error}", file=sys.stderr)
        sys.exit(2)
