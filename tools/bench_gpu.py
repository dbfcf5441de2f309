"""How fast engines and the fit run on this machine's GPU, and how well; run it with .venv/bin/python tools/bench_gpu.py.

Three parts, each of which can be asked for by itself: `fit` compares the fit's kernel with the CPU's fit, then times it;
`torch` times the network by PyTorch, with CUDA graphs and with torch.compile, under those names; `tensorrt` builds a plan
of one layer, then plans of an engine in each precision (irst-stream engine build: parity and CSO-mAP are checked on the
way), and times them: as many windows as possible, one region host to host, 64 regions host to host with everything that is
read from them. Writes out/bench_gpu.json after each figure; another run on the same machine measures what is missing.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from bench_data import describe_machine
from gpu_timing import Results

from irst_stream.errors import IrstError
from irst_stream.system.gpu_probe import ask_cuda_driver
from irst_stream.system.shipped import find_engine
from irst_stream.unmix.engine import read_engine
from irst_stream.unmix.tensorrt_here import look_for_tensorrt

PARTS = ("fit", "torch", "tensorrt")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--engine", default="seqcsist", help="folder or name of an engine (default seqcsist)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each timing (default 5)")
    parser.add_argument("--out", type=Path, default=Path("out/bench_gpu.json"), help="(default out/bench_gpu.json)")
    parser.add_argument("--dry-run", action="store_true", help="go as far as the CPU goes; no figure is a GPU's")
    args = parser.parse_args()
    if wrong := [part for part in args.parts if part not in PARTS]:
        parser.error(f"{wrong[0]}: expected {', '.join(PARTS)}")
    cuda = ask_cuda_driver()
    if not (cuda.gpus or args.dry_run):
        print(f"bench_gpu: {cuda.reason}; expected an NVIDIA GPU", file=sys.stderr)
        return 2
    engine, machine = read_engine(find_engine(args.engine)), describe_machine()
    if args.dry_run:
        machine["GPU"] = "none: a dry run"
    else:
        here = look_for_tensorrt()
        machine |= {"GPU": cuda.gpus[0].name, "driver": cuda.version, "CUDA": cuda.cuda}
        machine["TensorRT"] = here.platform.tensorrt if here.platform else f"none: {here.missing}"
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    results, faults = Results(args.out, machine), 0
    for part in args.parts or PARTS:
        try:
            import_module(f"bench_gpu_{part}").measure(results, engine, args.seconds, args.dry_run)
        except (IrstError, ImportError) as error:
            print(f"bench_gpu: {part}: {error}", file=sys.stderr)
            faults += 1
    print(f"\n{args.out}")
    return 2 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except IrstError as error:
        print(f"bench_gpu: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("bench_gpu: interrupted; the same command measures what is missing", file=sys.stderr)
        sys.exit(130)
