"""Who takes the steps: this process, processes of this machine, or the nodes of a Ray cluster. All give the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, cast

import cv2

from irst_stream.archive.job import Job, Outcome, Step
from irst_stream.archive.worker import Worker
from irst_stream.cluster.ray_cluster import cluster_resources, connected
from irst_stream.errors import LossError, UsageError
from irst_stream.version import __version__

__all__ = ["LocalWorkers", "OneWorker", "RayWorkers", "Workers", "ray_workers"]

GROW_S = 2.0  # between two looks at whether a cluster has room for more workers
NO_WORKER_S = 60.0  # without any worker, until the run ends
TICK_S = 0.5


class Workers(Protocol):
    """Workers that take steps, each one at a time.

    `free`: how many could take a step now; `count`: how many there are. A worker that ends costs the step that it had.
    """

    @property
    def free(self) -> int: ...

    @property
    def count(self) -> int: ...

    def submit(self, step: Step) -> None:
        """Give a step to a free worker."""

    def outcomes(self) -> list[Outcome]:
        """Return what has come to an end, after at most half a second; raise a LossError where no worker is left."""

    def close(self) -> None:
        """End all workers, whatever they are doing; may be called twice."""


class OneWorker:
    """A worker in the driver's own process."""

    count = 1

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)
        self._done: deque[Outcome] = deque()

    @property
    def free(self) -> int:
        """1, until an outcome waits."""
        return int(not self._done)

    def submit(self, step: Step) -> None:
        """Take a step."""
        self._done.append(self._worker(step))

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of the last step."""
        return [self._done.popleft()] if self._done else []

    def close(self) -> None:
        """Close what the worker has open."""
        self._worker.close()


class LocalWorkers:
    """Processes of this machine. One that ends, killed or by a fault in a library, is replaced."""

    def __init__(self, job: Job, count: int) -> None:
        self._job, self.count = job, count
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[_Process] = []
        self._busy: dict[Connection, tuple[_Process, Step]] = {}
        for _ in range(count):
            self._idle.append(self._start())

    @property
    def free(self) -> int:
        """How many have no step."""
        return len(self._idle)

    def submit(self, step: Step) -> None:
        """Give a step to an idle process."""
        process = self._idle.pop()
        self._busy[process.pipe] = process, step
        with suppress(OSError):  # it has ended: outcomes() finds out
            process.pipe.send(step)

    def outcomes(self) -> list[Outcome]:
        """Return what has come to an end."""
        found: list[Outcome] = []
        for pipe in wait(list(self._busy), TICK_S):
            process, step = self._busy.pop(cast("Connection", pipe))
            try:
                found.append(process.pipe.recv())
                self._idle.append(process)
            except (EOFError, OSError):
                process.end()
                self._idle.append(self._start())
                code = process.process.exitcode
                found.append(Outcome(step, fault=f"a worker ended (exit code {code})", lost=True))
        return found

    def close(self) -> None:
        """End all processes."""
        everyone = [*self._idle, *(process for process, _ in self._busy.values())]
        self._idle, self._busy = [], {}
        for process in everyone:
            process.end()

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._job), daemon=True)
        process.start()
        theirs.close()
        return _Process(process, ours)


class _Process:
    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe

    def end(self) -> None:
        """End the process and wait for that."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, job: Job) -> None:
    """Take steps from a pipe until it closes; Ctrl-C is the parent's, and the parent's end is this process's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    cv2.setNumThreads(1)  # a core for each worker
    worker = Worker(job)
    while True:
        try:
            step = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(worker(step))


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


class RayWorkers:
    """Actors on the nodes of a Ray cluster, one for each CPU, or as many as asked for; more as nodes join.

    An actor that dies with its node costs the step that it had, which is lost to nobody: the driver gives it to another.
    """

    def __init__(self, ray: Any, job: Job, most: int | None) -> None:
        self._ray, self._most = ray, most
        self._job = ray.put(job)
        self._actor = ray.remote(_RayWorker)
        self._starting: dict[Any, Any] = {}  # by the answer to their greeting
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Step]] = {}
        self._grown_s, self._last_alive_s = 0.0, time.monotonic()
        self._grow()

    @property
    def free(self) -> int:
        """How many have no step."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many have a step."""
        return len(self._busy)

    @property
    def count(self) -> int:
        """How many have a place in the cluster."""
        return self.free + self.busy

    def submit(self, step: Step) -> None:
        """Give a step to an idle actor."""
        actor = self._idle.pop()
        self._busy[actor.take.remote(step)] = actor, step

    def outcomes(self) -> list[Outcome]:
        """Return what has come to an end."""
        self._grow()
        waiting = [*self._starting, *self._busy]
        done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0.0) if waiting else ([], [])
        if waiting and not done:
            done, _ = self._ray.wait(waiting, num_returns=1, timeout=TICK_S)
        elif not waiting:
            time.sleep(TICK_S)
        return [outcome for answer in done if (outcome := self._answered(answer))]

    def close(self) -> None:
        """End all actors."""
        everyone = [*self._starting.values(), *self._idle, *(actor for actor, _ in self._busy.values())]
        self._starting, self._idle, self._busy = {}, [], {}
        for actor in everyone:
            self._ray.kill(actor)

    def _answered(self, answer: Any) -> Outcome | None:
        """The outcome that an actor answered with; None for its greeting."""
        try:
            value = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return self._lost(answer, error)
        if answer in self._starting:
            actor = self._starting.pop(answer)
            if value != __version__:
                raise UsageError(f"a node has irst-stream {value}; expected {__version__} on all nodes")
            self._idle.append(actor)
            return None
        actor, _ = self._busy.pop(answer)
        self._idle.append(actor)
        outcome: Outcome = value
        return outcome

    def _lost(self, answer: Any, error: Exception) -> Outcome | None:
        """The outcome of a step whose actor is gone; None if it had none."""
        self._grown_s = 0.0
        if answer in self._starting:
            self._ray.kill(self._starting.pop(answer))
            if isinstance(error, self._ray.exceptions.RayTaskError):
                reason = str(error).strip().rpartition("\n")[2]
                raise UsageError(f"a node cannot run irst-stream: {reason}; it must be installed on all nodes") from error
            return None
        actor, step = self._busy.pop(answer)
        self._ray.kill(actor)
        return Outcome(step, fault=f"a node was lost ({type(error).__name__})", lost=True)

    def _grow(self) -> None:
        """Start actors where the cluster has room for more; raise a LossError where there has been none for long."""
        now = time.monotonic()
        if now - self._grown_s < GROW_S:
            return
        self._grown_s = now
        there = cluster_resources(self._ray)
        wanted = there.cpus if self._most is None else min(self._most, there.cpus)
        share = 1 / max(1, -(-wanted // there.gpus)) if there.gpus else 0.0  # every worker sees a GPU where there is any
        for _ in range(wanted - self.count - len(self._starting)):
            actor = self._actor.options(num_cpus=1, num_gpus=share, max_restarts=0).remote(self._job)
            self._starting[actor.greet.remote()] = actor
        if self.count or self._starting:
            self._last_alive_s = now
        elif now - self._last_alive_s > NO_WORKER_S:
            raise LossError("the cluster has had no CPU for a minute; the next run goes on from here")


class _RayWorker:
    """The worker in an actor."""

    def __init__(self, job: Job) -> None:
        cv2.setNumThreads(1)  # a CPU of the cluster for each worker
        self._worker = Worker(job)

    def greet(self) -> str:
        """Return the node's version."""
        return __version__

    def take(self, step: Step) -> Outcome:
        """Take a step."""
        return self._worker(step)


@contextmanager
def ray_workers(address: str, job: Job, most: int | None) -> Iterator[RayWorkers]:
    """Yield at most this many workers of a cluster, and end them."""
    with connected(address, "--on") as ray:
        workers = RayWorkers(ray, job, most)
        try:
            yield workers
        finally:
            workers.close()
