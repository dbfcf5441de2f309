"""What answers the live page, Prometheus and health checks for all sensors of a fleet, at one address."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
from prometheus_client.core import Metric

from irst_stream.errors import UsageError
from irst_stream.fleet.places import WorkerLostError
from irst_stream.fleet.supervisor import Supervisor
from irst_stream.live.health import health_handlers
from irst_stream.live.http_server import Answer, Handler, Request
from irst_stream.live.log_lines import LogLines
from irst_stream.live.prometheus import counter, gauge, metrics_handler
from irst_stream.web.routes import about_answer, json_answer
from irst_stream.web.status_figures import status_figures
from irst_stream.web.views import Sensor

__all__ = ["fleet_handlers", "observer_handlers"]

ASK_S = 8.0  # more than a worker waits for a frame


def observer_handlers(supervisor: Supervisor) -> dict[str, Handler]:
    """/metrics and /health of a fleet, by path."""

    def more() -> Iterator[Metric]:
        crew = supervisor.crew()
        states = {state: float(sum(one["state"] == state for one in crew)) for state in ("starting", "ready")}
        yield gauge("fleet_workers", "Workers, by state", "state", states)
        loads = {one["name"]: one["load"] for one in crew if not math.isnan(one["load"])}
        yield gauge("fleet_worker_load", "Processor time that a worker takes, in cores", "worker", loads)
        yield counter("fleet_lost_workers", "Workers that ended unasked", "fleet", {"fleet": supervisor.lost_workers})
        yield counter("fleet_sensor_starts", "How often a sensor was given to a worker", "sensor", supervisor.starts())
        placed = {name: float(worker is not None) for name, worker in supervisor.placements().items()}
        yield gauge("fleet_sensor_placed", "1 while a sensor has a worker", "sensor", placed)

    return {"/metrics": metrics_handler(supervisor, more=more), **health_handlers(supervisor)}


def fleet_handlers(supervisor: Supervisor, lines: LogLines, title: str, frames_per_s: float) -> dict[str, Handler]:
    """What answers the page's requests: frames by the worker that has the sensor, all else by the supervisor.

    lines: the supervisor's log; title: what the page calls the fleet.
    """

    def forward(request: Request) -> Answer:
        sensor = request.query.get("sensor", "")
        placements = supervisor.placements()
        if sensor not in placements:
            raise UsageError(f"sensor: expected one of {len(placements)} that are known, got {sensor!r}")
        member = placements[sensor]
        if member is None:
            return Answer(f"sensor {sensor}: waits for a worker\n".encode(), status=503)
        try:
            answer: Answer = member.worker.call("ask", sensor, request, timeout_s=ASK_S)
        except WorkerLostError as error:
            return Answer(f"{error}\n".encode(), status=503)
        return answer

    def status(request: Request) -> Answer:
        own: dict[str, Any] = {"series": [], "run": ""}
        if request.query.get("sensor"):
            answer = forward(Request("/api/status", request.query))
            own = msgspec.json.decode(answer.body) if answer.status == 200 else own
        return json_answer(_status(supervisor, lines, request, own))

    return {
        "/api/about": lambda _: about_answer("live", title, frames_per_s, _shown(supervisor)),
        "/api/status": status,
        "/api/next": forward,
        "/api/frame": forward,
    }


def _shown(supervisor: Supervisor) -> list[Sensor]:
    """All sensors with a frame, by name."""
    return sorted(sensor for report in supervisor.reports().values() for sensor in report.shown)


def _status(supervisor: Supervisor, lines: LogLines, request: Request, own: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows in addition to frames. own: the status of the worker that has the sensor on view."""
    status = supervisor.status()
    after = request.query.get("log_after", "0")
    known = {sensor["name"]: sensor for sensor in own.get("sensors", [])}
    return {
        "run": own["run"],
        **status_figures(status),
        "log": [line._asdict() for line in lines.after(int(after) if after.isdecimal() and len(after) < 19 else 0)],
        "series": own["series"],
        "sensors": [known.get(sensor.name, sensor._asdict()) for sensor in _shown(supervisor)],
        "workers": supervisor.crew(),
    }
