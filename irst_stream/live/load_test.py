"""Open-loop load on a pipeline at a ladder of rates: how long everything takes, and where it falls behind.

A child process sends frames on schedule over ZeroMQ, whether or not they are taken, each stamped with the time when it was
due. So a frame that waits because others are late counts its waiting: nothing is omitted.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from irst_stream.chain.pipeline import Result
from irst_stream.errors import SourceError
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource
from irst_stream.live.runner import Runner, Steps
from irst_stream.live.status import Status
from irst_stream.system.latency import Clocks, Summary
from irst_stream.types import Frame, Policy

__all__ = ["LoadStep", "feed_command", "find_max_rate", "measure_rate"]

LOCAL = "tcp://127.0.0.1:*"
START_S = 30.0  # for the child to start
KEPT_UP = 0.97  # of the frames that can be answered
REFINEMENTS = 2  # rates tried between the last that was kept up with and the first that was not
OUT = "published"
Load = Callable[[str, float, int], list[str]]


@dataclass(frozen=True, slots=True)
class LoadStep:
    """One rate. offered, answerable, answered: frames a second, answerable those with a whole window; unused: frames not
    used, by reason; lag_ms: of the centred window; stages: their latencies; cpu: share of one core; memory_mb: resident;
    overhead: share of the computation that its measurement takes.
    """

    offered: float
    answerable: float
    answered: float
    frames: int
    unused: dict[str, int]
    lag_ms: float
    stages: dict[str, Summary]
    cpu: float
    memory_mb: float
    overhead: float

    @property
    def kept_up(self) -> bool:
        """Whether every frame was used, and in time."""
        return not self.unused and self.answered >= KEPT_UP * self.answerable

    @property
    def end_to_end(self) -> Summary:
        """From the sensor's stamp to the publication."""
        return self.stages.get(f"end to end {OUT}", Summary(0, (0.0,) * 4, 0.0, 0.0))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"stages": {n: s._asdict() for n, s in self.stages.items()}, "kept_up": self.kept_up}


def find_max_rate(rates: Iterator[float], measure: Callable[[float], LoadStep]) -> Iterator[LoadStep]:
    """Goes up until a rate is too much, then looks a few times between that and the last that was not."""
    good, bad = 0.0, 0.0
    for rate in rates:
        rung = measure(rate)
        yield rung
        if not rung.kept_up:
            bad = rate
            break
        good = rate
    for _ in range(REFINEMENTS if good and bad else 0):
        rung = measure(rate := (good * bad) ** 0.5)
        yield rung
        good, bad = (rate, bad) if rung.kept_up else (good, rate)


def measure_rate(
    steps: Steps, load: Load, rate: float, *, seconds: float, warm_up: float, policy: Policy, depth: int, window: int
) -> LoadStep:
    """One rung: warms up, then measures. load: the child's command for an endpoint, a rate, and a number of frames."""
    source, sink = ZmqSource(ReceiveSettings(LOCAL, bind=True), policy), ZmqSink(PublishSettings(LOCAL), "live")
    steps.clocks.clear()
    before, counting = dict(steps.events), _Counting(steps, window)
    runner = Runner(counting, {"load": source}, {OUT: sink}, policy, depth=depth)
    frames = max(round(rate * (warm_up + seconds)), window + 2)
    runner.start()
    with closing(_Child(load(source.endpoint, rate, frames))) as child:
        try:
            child.wait_for(lambda: runner.status().frames >= rate * warm_up)
            began, first, warm = time.monotonic(), runner.status(), counting.answerable
            steps.clocks.clear()
            process = psutil.Process()
            cpu = sum(process.cpu_times()[:2])
            child.wait_for(lambda: child.ended and not runner.wait(0.1) and not runner.status().waiting)
            last, passed = runner.status(), time.monotonic() - began
            cpu, memory = sum(process.cpu_times()[:2]) - cpu, process.memory_info().rss / 2**20
        finally:
            runner.stop()
            runner.wait()
    events = {reason: n - sum(c for (_, r), c in before.items() if r == reason) for reason, n in last.unused.items()}
    taken = last.frames - first.frames
    nominal_s = max(taken / rate, 1e-9)
    busy = last.stages["compute"].total if "compute" in last.stages else 0.0
    counted = sum(s.samples for s in last.stages.values())
    return LoadStep(
        offered=rate,
        answerable=(counting.answerable - warm) / nominal_s if taken else 0.0,
        answered=(_answered(last) - _answered(first)) / nominal_s if taken else 0.0,
        frames=taken,
        unused={reason: n for reason, n in events.items() if n},
        lag_ms=window // 2 / rate * 1e3,
        stages=last.stages,
        cpu=cpu / passed,
        memory_mb=memory,
        overhead=counted * _clock_cost() / busy if busy else 0.0,
    )


def _clock_cost(samples: int = 5000) -> float:
    """What it takes to time one stage once, ms."""
    clocks = Clocks()
    began = time.perf_counter()
    for _ in range(samples):
        with clocks("cost"):
            pass
    return (time.perf_counter() - began) * 1e3 / samples


class _Counting:
    """Counts the frames that come to a pipeline with as many before them as a window has: those that can be answered."""

    def __init__(self, steps: Steps, window: int) -> None:
        self.clocks, self.events, self.answerable = steps.clocks, steps.events, 0
        self._steps, self._window = steps, window

    @property
    def alarm(self) -> str:
        """The pipeline's."""
        return self._steps.alarm

    def step(self, frames: Sequence[Frame]) -> list[Result]:
        """What the pipeline finds."""
        self.answerable += sum(frame.stamp.index >= self._window - 1 for frame in frames)
        return self._steps.step(frames)

    def finish(self) -> list[Result]:
        """What the pipeline held back."""
        return self._steps.finish()

    def forget(self, sensor: str) -> list[Result]:
        """Has the pipeline forget a sensor."""
        return self._steps.forget(sensor)


def _answered(status: Status) -> int:
    return sum(sensor.answered for sensor in status.sensors.values())


class _Child:
    """The sender."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "irst_stream.cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._heard = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether it has sent everything."""
        return self._process.poll() is not None

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits until something is so, as long as the child is alive, or has not been dead for long."""
        gone = 0.0
        while not condition():
            if self._process.poll():
                _, said = self._process.communicate()
                raise SourceError(f"load: the sender failed: {said.decode(errors='replace').strip() or 'no word'}")
            gone += self.ended and 0.02
            if gone > START_S:
                return
            time.sleep(0.02)

    def close(self) -> None:
        """Ends it."""
        if not self.ended:
            self._process.terminate()
        if self._process.stderr and not self._process.stderr.closed:  # it is where what it said has been read
            self._process.communicate()


def feed_command(frames: Path, rounds: int) -> Load:
    """Loads a pipeline by irst-stream feed with the frames of a file."""

    def command(endpoint: str, rate: float, limit: int) -> list[str]:
        return [
            *("feed", str(frames), "--to", endpoint, "--rate", f"{rate:g}"),
            *("--loop", str(rounds), "--limit", str(limit)),
        ]

    return command
