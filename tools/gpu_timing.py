"""What the parts of bench_gpu.py share: the file of results, windows of a stream, and times of a step."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream.errors import IrstError
from irst_stream.types import Stamp, Window, at_rest
from irst_stream.unmix.engine import WINDOW

REGIONS = 64
WARM_UP = 50  # runs


class Results:
    """What was found so far, in a file that is written after each figure: a run that is cut short has its first figures.

    A figure that an earlier run of the same file has is kept, not measured again.
    """

    def __init__(self, path: Path, machine: dict[str, str]) -> None:
        self.path, self.found = path, {"machine": machine}
        try:
            earlier = json.loads(path.read_text())
            if earlier["machine"] == machine:
                self.found = earlier
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none, or cut short while it was written

    def add(self, name: str, measured: Callable[[], Any]) -> Any:
        """Measures a figure, if it is not known yet; where that is refused its place is taken by the reason, in words."""
        if name in self.found and not str(self.found[name]).startswith("not measured"):
            print(f"{name}: measured before, see {self.path}")
            return self.found[name]
        try:
            found = measured()
        except (IrstError, RuntimeError) as error:  # PyTorch's are RuntimeErrors
            found = f"not measured: {str(error).strip().partition(chr(10))[0]}"
            print(f"{name}: {found}")
        self.keep(name, found)
        return found

    def keep(self, name: str, found: Any) -> None:
        """Takes in what was found, and writes all that there is so far."""
        self.found[name] = found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=2) + "\n")
        part.replace(self.path)


def window_of(number: int, patches: Any) -> Window:
    """That one of a stream, of regions that stay where they are, (N, 5, h, w) DN."""
    stamp, unknown = Stamp("gpu", 0, number + 2, number * 10_000_000), np.full(len(patches), np.nan)
    corners, still = np.zeros((len(patches), 2)), at_rest(len(patches), WINDOW)
    return Window(stamp, corners, patches[:, :WINDOW], *still, np.arange(len(patches)), unknown, unknown + np.inf)


def latency(step: Callable[[], Any], seconds: float, warm_up: int = WARM_UP) -> dict[str, float]:
    """p50 and p99 of one step, ms."""
    for _ in range(warm_up):
        step()
    taken, began = [], time.perf_counter()
    while not taken or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        step()
        taken.append((time.perf_counter() - start) * 1e3)
    middle, late = np.percentile(taken, (50, 99))
    return {"p50_ms": float(middle), "p99_ms": float(late), "samples": len(taken)}


def told(times: dict[str, float]) -> str:
    """What latency() found, in words."""
    return f"p50 {times['p50_ms']:.3f} ms, p99 {times['p99_ms']:.3f} ms of {times['samples']:.0f}"
