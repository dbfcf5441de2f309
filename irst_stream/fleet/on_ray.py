"""Workers as actors of a Ray cluster, one core each, spread over its nodes.

The nodes need not share a disk. Each has the same version of irst-stream, and a folder of the name of the one that the
supervisor was started in: paths are relative to it. An actor ends with its node, with the supervisor, or by its lease.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from irst_stream.cluster.ray_cluster import cluster_resources, connected
from irst_stream.errors import IrstError, UsageError
from irst_stream.fleet.places import WorkerLostError

__all__ = ["RayPlace"]

CALLS_AT_ONCE = 64  # of one actor: reports, orders, and what pages ask
KILL_S = 1.0  # until an actor that was killed has ended


class RayPlace:
    """A places.Place on the cluster at ray://HOST:PORT."""

    one_disk = False

    def __init__(self, address: str, lease_s: float) -> None:
        self._opened = ExitStack()
        self._ray = self._opened.enter_context(connected(address, "fleet --on"))
        self.cores = max(cluster_resources(self._ray).cpus, 1)
        self._lease_s = lease_s
        options = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": CALLS_AT_ONCE}
        self._actor = self._ray.remote(**options, scheduling_strategy="SPREAD")(_Actor)
        self._workers: list[_RayWorker] = []

    def start(self, name: str) -> _RayWorker:
        """Ask for an actor; it waits where the cluster has no free core."""
        worker = _RayWorker(self._ray, name, self._actor.remote(self._lease_s, str(Path.cwd())))
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Kill the actors that are left, and disconnect."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        self._opened.close()


class _Actor:
    """What runs on a node: a WorkerService, and a call that lasts as long as the actor."""

    def __init__(self, lease_s: float, folder: str) -> None:
        from irst_stream.fleet.worker import WorkerService

        try:
            os.chdir(folder)
        except OSError as error:
            raise UsageError(f"{folder}: expected on every node ({error.strerror or error})") from error
        self._service = WorkerService(lease_s)

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method of the service; return whether it went well, and its value or its error."""
        try:
            return True, getattr(self._service, method)(*arguments)
        except IrstError as error:
            return False, error

    def hold(self) -> None:
        """Never return."""
        threading.Event().wait()


class _RayWorker:
    """A places.Worker on a node."""

    def __init__(self, ray: Any, name: str, actor: Any) -> None:
        self.name = name
        self._ray, self._actor, self._killed = ray, actor, False
        self._holding = actor.hold.remote()

    def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """See places.Worker."""
        if self._killed:
            raise WorkerLostError(f"{self.name}: killed")
        try:
            good, value = self._ray.get(self._actor.call.remote(method, arguments), timeout=timeout_s)
        except self._ray.exceptions.GetTimeoutError as error:
            raise WorkerLostError(f"{self.name}: no answer to {method} within {timeout_s:g} s") from error
        except self._ray.exceptions.RayError as error:
            raise WorkerLostError(f"{self.name}: {_reason(error)}") from error
        if not good:
            raise value
        return value

    def end(self) -> str:
        """See places.Worker."""
        if self._killed:
            return "killed"
        done, _ = self._ray.wait([self._holding], timeout=0)
        if not done:
            return ""
        try:
            self._ray.get(self._holding, timeout=1.0)
        except self._ray.exceptions.RayError as error:
            return _reason(error)
        return "ended"

    def kill(self) -> None:
        """See places.Worker."""
        if not self._killed and self._ray.is_initialized():
            self._ray.kill(self._actor, no_restart=True)
            self._ray.wait([self._holding], timeout=KILL_S)  # of a node that is not reached the lease is the only end
        self._killed = True


def _reason(error: Exception) -> str:
    """One line of what Ray says of an actor's end."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, IrstError):
        return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "Error:" in line), next(iter(lines), type(error).__name__))[:200]
