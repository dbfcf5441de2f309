"""Where workers run: processes of this machine, or actors of a Ray cluster. Both keep one contract, Place."""

from __future__ import annotations

from typing import Any, Protocol

from irst_stream.errors import IrstError

__all__ = ["Place", "Worker", "WorkerLostError"]


class WorkerLostError(IrstError):
    """A worker that cannot be reached: it has ended, does not answer in time, or has not come up yet."""


class Worker(Protocol):
    """A worker as its supervisor sees it; thread-safe."""

    name: str

    def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Call a method of its WorkerService; an error of the method is raised here.

        Raise a WorkerLostError if no answer comes within timeout_s.
        """

    def end(self) -> str:
        """Why it has ended, "" while it has not; does not wait."""

    def kill(self) -> None:
        """End it at once, whatever it does; may be called twice."""


class Place(Protocol):
    """Starts workers; used by one thread.

    cores: how many workers suit it; one_disk: whether all workers see the same files, so that a sensor's memory follows it.
    """

    cores: int
    one_disk: bool

    def start(self, name: str) -> Worker:
        """Start a worker; returns at once, before it answers."""

    def close(self) -> None:
        """End all workers at once and let go of the place; may be called twice."""
