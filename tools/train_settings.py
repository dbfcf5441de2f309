"""The settings of tools/train.py, and the batches that its worker processes draw ahead."""

import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Literal

from irst_stream.learn.data import Clips

STAGES = ("head", "unfold", "whole")
AHEAD = 3  # batches that each worker draws before they are asked for


@dataclass(frozen=True)
class Stage:
    """windows it is shown (frames, for unfold); of how many a step learns; the highest learning rate; seconds at most."""

    windows: int = 0
    batch: int = 128
    rate: float = 1e-3
    seconds: float = 1e9
    precision: Literal["bf16", "fp32"] = "bf16"


@dataclass(frozen=True)
class Loss:
    """How the head is judged, and the weights of all parts beside it."""

    head: Literal["cells", "mixture"] = "cells"
    map: float = 1.0
    symmetry: float = 0.1
    alignment: float = 0.1


@dataclass(frozen=True)
class Training:
    name: str = "trained"
    data: str = "benchmark"  # or "anything", or a folder of the published layout
    seed: int = 0
    noise_dn: tuple[float, float] = (0.0, 5.0)
    still: float = 0.15  # of the benchmark's images are CSIST-100K's
    by_peak: bool = False  # light in shares of the brightest pixel
    patch: int = 11  # px a side of what the network sees, cut out around the light
    start: str = ""  # an engine to begin from, a folder or a name
    frames: int = 8  # of a clip, whose windows share their frames' maps
    validate: int = 200_000  # windows between two validations
    compile: bool = False  # by torch.compile
    loss: Loss = field(default_factory=Loss)
    unfold: Stage = field(default_factory=Stage)
    head: Stage = field(default_factory=Stage)
    whole: Stage = field(default_factory=Stage)


def within(config: Training, seconds: float) -> Training:
    """The same training in so many seconds, all stages together; they share them as their own limits say, or equally."""
    learning = [name for name in STAGES if getattr(config, name).windows]
    limits = {name: min(getattr(config, name).seconds, 1e6) for name in learning}
    total = sum(limits.values())
    stages = {name: replace(getattr(config, name), seconds=seconds * limits[name] / total) for name in learning}
    return replace(config, **stages)


Draw = Callable[[int, int, int], Clips]  # the batch of a number, clips, frames
_drawn_by: list[Draw] = []  # of a worker process, which inherits it


@contextmanager
def drawn_ahead(draw: Draw, workers: int) -> Iterator[Callable[[range, int, int], Iterator[Clips]]]:
    """Yields a function that draws the batches of a range of numbers, in order; workers: processes, 0 for this one.

    A batch depends on its number alone, so the workers change nothing but the time.
    """
    if not workers:
        yield lambda numbers, *shape: (draw(number, *shape) for number in numbers)
        return
    _drawn_by[:] = [draw]
    with ProcessPoolExecutor(workers, get_context("fork"), _ignore_interrupts) as pool:
        pool.submit(int).result()  # forks all of them now, before the caller starts CUDA

        def ahead(numbers: range, *shape: int) -> Iterator[Clips]:
            waiting: deque[Future[Clips]] = deque()
            for number in numbers:
                waiting.append(pool.submit(_draw, number, *shape))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        yield ahead
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers


def _draw(number: int, size: int, frames: int) -> Clips:
    return _drawn_by[0](number, size, frames)
