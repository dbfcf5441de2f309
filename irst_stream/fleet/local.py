"""Workers as processes of this machine.

Each call is a connection of its own to the worker's socket, in a folder that only this user can enter. A worker holds the
reading end of a pipe of its supervisor; when that closes, because the supervisor has ended, in whatever way, the worker
stops as if it were told to: it processes what it has received and closes its files. It ignores SIGTERM and SIGINT, so
that a service manager that signals all processes lets the supervisor stop them in order.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from irst_stream.errors import IrstError
from irst_stream.fleet.places import WorkerLostError
from irst_stream.system.machine import usable_cores

__all__ = ["LocalPlace"]

STOP_S = 5.0  # for the frames received before the supervisor ended
KILL_S = 5.0  # until the system has ended a process that was killed


class LocalPlace:
    """A places.Place of worker processes."""

    one_disk = True

    def __init__(self, lease_s: float) -> None:
        self.cores = usable_cores()
        self._lease_s = lease_s
        self._folder = Path(tempfile.mkdtemp(prefix="irst-fleet-"))
        self._workers: list[_LocalWorker] = []

    def start(self, name: str) -> _LocalWorker:
        """Start a worker process."""
        worker = _LocalWorker(name, self._folder / f"{len(self._workers)}", self._lease_s)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Kill the workers that are left."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


class _LocalWorker:
    """A places.Worker in a child process."""

    def __init__(self, name: str, address: Path, lease_s: float) -> None:
        self.name, self._address = name, address
        # In a session of its own: Ctrl-C on a terminal is the supervisor's, which then tells the workers to stop.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "irst_stream.fleet.local", str(address), f"{lease_s:g}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """See places.Worker."""
        try:
            with Client(str(self._address), "AF_UNIX") as connection:
                connection.send((method, arguments))
                if not connection.poll(timeout_s):
                    raise WorkerLostError(f"{self.name}: no answer to {method} within {timeout_s:g} s")
                good, value = connection.recv()
        except (OSError, EOFError) as error:
            raise WorkerLostError(f"{self.name}: {self.end() or 'not reached'}") from error
        if not good:
            raise value
        return value

    def end(self) -> str:
        """See places.Worker."""
        code = self._process.poll()
        if code is None:
            return ""
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        """See places.Worker."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_S)
        if self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(OSError):
            self._address.unlink()


def _serve(address: str, lease_s: float) -> int:
    """Be a worker process: answer calls until told to stop, or until the supervisor has ended."""
    from irst_stream.fleet.worker import WorkerService

    service = WorkerService(lease_s)
    orphaned = threading.Event()
    for ignored in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    listener = Listener(address, "AF_UNIX", backlog=128)

    def accept() -> None:
        while True:
            with suppress(OSError):
                connection = listener.accept()
                threading.Thread(target=_answer, args=(service, connection), daemon=True).start()

    def watch_supervisor() -> None:
        while os.read(0, 1):  # waits until the pipe closes: nothing is ever written to it
            pass
        orphaned.set()

    for work in (accept, watch_supervisor):
        threading.Thread(target=work, daemon=True).start()
    orphaned.wait()
    service.stop(STOP_S, meant=False)
    return 0


def _answer(service: Any, connection: Connection) -> None:
    """Answer the call of one connection."""
    with connection, suppress(OSError, EOFError):
        method, arguments = connection.recv()
        try:
            answer = True, getattr(service, method)(*arguments)
        except IrstError as error:
            answer = False, error
        except Exception as error:
            answer = False, WorkerLostError(f"{method}: {type(error).__name__}: {error}")
        connection.send(answer)


if __name__ == "__main__":
    code = _serve(sys.argv[1], float(sys.argv[2]))
    os._exit(code)  # daemon threads still listen
