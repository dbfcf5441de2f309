"""Open-loop load test of a pipeline at rising frame rates: latency of each stage, and the rate where it falls behind.

A child process sends frames over ZeroMQ on schedule, whether or not they are received, each stamped with its due time. So
latency includes the time that a frame waits behind late ones (no coordinated omission).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from irst_stream.chain.pipeline import Result
from irst_stream.chain.sensor import SensorMemory
from irst_stream.errors import SourceError
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource
from irst_stream.live.runner import Processor, Runner
from irst_stream.live.status import Status
from irst_stream.resolve.psf_watch import PsfWatch
from irst_stream.system.latency import Clocks, Summary
from irst_stream.types import Frame, Policy

__all__ = ["LoadStep", "feed_command", "find_max_rate", "measure_rate"]

LOCAL = "tcp://127.0.0.1:*"
CHILD_TIMEOUT_S = 30.0  # longest wait for a condition after the child has ended
MIN_ANSWERED = 0.97  # fraction of the answerable frames, for a rate to count as kept up with
REFINEMENTS = 2  # rates tried between the last that was kept up with and the first that was not
SINK_NAME = "published"
Load = Callable[[str, float, int], list[str]]


@dataclass(frozen=True, slots=True)
class LoadStep:
    """Measurements at one frame rate.

    offered, answerable, answered: frames/s; answerable frames have a whole window. frames: received; unused: frames without
    results, by reason; lag_ms: from a window's centre frame to its newest; stages: latencies by stage; cpu: fraction of one
    core; memory_mb: resident; overhead: fraction of the compute time spent on timing it.
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
        """Whether every frame was used, and results kept pace."""
        return not self.unused and self.answered >= MIN_ANSWERED * self.answerable

    @property
    def end_to_end(self) -> Summary:
        """Latency from the sensor's stamp to publication; zero samples if nothing was published."""
        return self.stages.get(f"end to end {SINK_NAME}", Summary(0, (0.0,) * 4, 0.0, 0.0))

    def as_dict(self) -> dict[str, Any]:
        """All fields and kept_up, ready for JSON."""
        return asdict(self) | {"stages": {n: s._asdict() for n, s in self.stages.items()}, "kept_up": self.kept_up}


def find_max_rate(rates: Iterator[float], measure: Callable[[float], LoadStep]) -> Iterator[LoadStep]:
    """Measure rising rates until one is not kept up with, then bisect REFINEMENTS times; yield every step."""
    sustained, failed = 0.0, 0.0
    for rate in rates:
        step = measure(rate)
        yield step
        if not step.kept_up:
            failed = rate
            break
        sustained = rate
    for _ in range(REFINEMENTS if sustained and failed else 0):
        step = measure(rate := (sustained * failed) ** 0.5)
        yield step
        sustained, failed = (rate, failed) if step.kept_up else (sustained, rate)


def measure_rate(
    pipeline: Processor,
    load: Load,
    rate: float,
    *,
    seconds: float,
    warm_up: float,
    policy: Policy,
    depth: int,
    window: int,
    lag: int,
) -> LoadStep:
    """Warm up, then measure one rate. load: gives the child's command for an endpoint, a rate and a number of frames.

    rate: frames/s; seconds, warm_up: s; policy, depth: see queues.Intake; window, lag: frames.
    """
    source, sink = ZmqSource(ReceiveSettings(LOCAL, bind=True), policy), ZmqSink(PublishSettings(LOCAL), "live")
    pipeline.clocks.clear()
    events_before, counter = dict(pipeline.events), _AnswerableCounter(pipeline, window)
    runner = Runner(counter, {"load": source}, {SINK_NAME: sink}, policy, depth=depth)
    frames = max(round(rate * (warm_up + seconds)), window + 2)
    runner.start()
    with closing(_Child(load(source.endpoint, rate, frames))) as child:
        try:
            child.wait_for(lambda: runner.status().frames >= rate * warm_up)
            began, first, warm = time.monotonic(), runner.status(), counter.answerable
            pipeline.clocks.clear()
            process = psutil.Process()
            cpu = sum(process.cpu_times()[:2])
            child.wait_for(lambda: child.ended and not runner.wait(0.1) and not runner.status().waiting)
            last, elapsed_s = runner.status(), time.monotonic() - began
            cpu, memory = sum(process.cpu_times()[:2]) - cpu, process.memory_info().rss / 2**20
        finally:
            runner.stop()
            runner.wait()
    earlier = {reason: sum(c for (_, r), c in events_before.items() if r == reason) for reason in last.unused}
    frames_received = last.frames - first.frames
    nominal_s = max(frames_received / rate, 1e-9)
    compute_ms = last.stages["compute"].total if "compute" in last.stages else 0.0
    samples = sum(s.samples for s in last.stages.values())
    return LoadStep(
        offered=rate,
        answerable=(counter.answerable - warm) / nominal_s if frames_received else 0.0,
        answered=(_answered(last) - _answered(first)) / nominal_s if frames_received else 0.0,
        frames=frames_received,
        unused={reason: n for reason, total in last.unused.items() if (n := total - earlier[reason])},
        lag_ms=lag / rate * 1e3,
        stages=last.stages,
        cpu=cpu / elapsed_s,
        memory_mb=memory,
        overhead=samples * _timing_cost_ms() / compute_ms if compute_ms else 0.0,
    )


def _timing_cost_ms(samples: int = 5000) -> float:
    """The time in ms that timing one stage once takes."""
    clocks = Clocks()
    began = time.perf_counter()
    for _ in range(samples):
        with clocks("cost"):
            pass
    return (time.perf_counter() - began) * 1e3 / samples


class _AnswerableCounter:
    """A pipeline that also counts the frames which complete a window, so that results can follow."""

    def __init__(self, pipeline: Processor, window: int) -> None:
        self.clocks, self.events, self.answerable = pipeline.clocks, pipeline.events, 0
        self._pipeline, self._window = pipeline, window

    @property
    def alarm(self) -> str:
        """The pipeline's alarm."""
        return self._pipeline.alarm

    @property
    def spent_ns(self) -> Mapping[str, int]:
        """The computing time of the last step by sensor."""
        return self._pipeline.spent_ns

    @property
    def psf_watches(self) -> Mapping[str, PsfWatch]:
        """What each sensor's targets say of its PSF."""
        return self._pipeline.psf_watches

    def get_ready(self, seconds: float) -> bool:
        """Wait until the pipeline is, at most `seconds`; return whether it is."""
        return self._pipeline.get_ready(seconds)

    def step(self, frames: Sequence[Frame], more: bool = False) -> list[Result]:
        """Count frames and pass them to the pipeline."""
        self.answerable += sum(frame.stamp.index >= self._window - 1 for frame in frames)
        return self._pipeline.step(frames, more)

    def get_ahead(self) -> None:
        """Let the pipeline do what the next step need not wait for."""
        self._pipeline.get_ahead()

    def finish(self) -> list[Result]:
        """Return the results that the pipeline still held."""
        return self._pipeline.finish()

    def forget(self, sensor: str) -> list[Result]:
        """Let the pipeline forget a sensor."""
        return self._pipeline.forget(sensor)

    def memories(self) -> dict[str, SensorMemory]:
        """What the pipeline would keep."""
        return self._pipeline.memories()


def _answered(status: Status) -> int:
    """Frames with results, of all sensors."""
    return sum(sensor.answered for sensor in status.sensors.values())


class _Child:
    """The child process that sends frames."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "irst_stream.cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, at most CHILD_TIMEOUT_S beyond the child's end; raise SourceError if it fails."""
        ended_s = 0.0
        while not condition():
            if self._process.poll():
                _, stderr = self._process.communicate()
                reason = stderr.decode(errors="replace").strip() or "no error output"
                raise SourceError(f"load: the sender failed: {reason}")
            ended_s += self.ended and 0.02
            if ended_s > CHILD_TIMEOUT_S:
                return
            time.sleep(0.02)

    def close(self) -> None:
        """Terminate the process if it still runs, and release its pipe."""
        if not self.ended:
            self._process.terminate()
        if self._process.stderr and not self._process.stderr.closed:  # wait_for closes it when it reads the error
            self._process.communicate()


def feed_command(frames: Path, rounds: int, *, gray: bool = False, single: bool = False) -> Load:
    """Build the command of irst-stream feed that sends a file's frames `rounds` times; gray, single: see open_source."""
    flags = [flag for flag, given in (("--gray", gray), ("--single", single)) if given]

    def command(endpoint: str, rate: float, limit: int) -> list[str]:
        return [
            *("feed", str(frames), "--to", endpoint, "--rate", f"{rate:g}"),
            *("--loop", str(rounds), "--limit", str(limit), *flags),
        ]

    return command
