"""Health of a running pipeline, for service managers and load balancers: alive, ready, degraded."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from irst_stream.live.http_server import Answer, Handler, Request
from irst_stream.live.queues import OTHERS
from irst_stream.live.status import Observed, Status

__all__ = ["Health", "alarms", "health_handlers", "health_of"]

SILENT_S = 5.0  # silence of a sensor that counts as a fault


class Health(msgspec.Struct, frozen=True):
    """alive: the pipeline computes; ready: frames come, and results go to every sink; degraded: what is wrong, "" each."""

    alive: bool
    ready: bool
    degraded: tuple[str, ...]


def alarms(status: Status) -> tuple[str, ...]:
    """What is wrong at present, one line each; empty if nothing is."""
    silent = (
        f"sensor {name}: silent for {s.silent_s:.0f} s" for name, s in status.sensors.items() if s.silent_s > SILENT_S
    )
    sinks = (f"{name}: {sink.alarm}" for name, sink in status.sinks.items() if sink.alarm)
    return (*([status.alarm] if status.alarm else []), *status.faults, *sinks, *silent)


def health_of(status: Status, *, is_running: bool) -> Health:
    """Judge a status. is_running: the computing thread has not ended."""
    known = (sensor for name, sensor in status.sensors.items() if name != OTHERS)
    heard = any(sensor.frames and sensor.silent_s <= SILENT_S for sensor in known)
    works = not any(sink.alarm for sink in status.sinks.values())
    return Health(is_running, is_running and heard and works, alarms(status))


def health_handlers(observed: Observed) -> dict[str, Handler]:
    """The health endpoints, by path.

    /health and /health/alive answer 200 unless the pipeline is dead, /health/ready answers 200 if frames come and every
    sink works; else they answer 503. The body of each says everything, as JSON.
    """

    def handler(passes: Callable[[Health], bool]) -> Handler:
        def answer(_: Request) -> Answer:
            health = health_of(observed.status(), is_running=observed.is_running)
            return Answer(msgspec.json.encode(health) + b"\n", "application/json", 200 if passes(health) else 503)

        return answer

    alive, ready = handler(lambda health: health.alive), handler(lambda health: health.ready)
    return {"/health": alive, "/health/alive": alive, "/health/ready": ready}
