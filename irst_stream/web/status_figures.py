"""What the live page shows of a status, of one pipeline or of many."""

from __future__ import annotations

import time
from typing import Any

from irst_stream.live.health import alarms
from irst_stream.live.status import Status

__all__ = ["status_figures"]


def status_figures(status: Status) -> dict[str, Any]:
    """Return counts, latencies in ms and alarms, ready for JSON, and the time now: the page's own clock may be wrong."""
    return {
        "now_s": time.time(),
        "seconds": status.seconds,
        "counts": {name: s._asdict() for name, s in status.sensors.items()},
        "sinks": {name: s._asdict() for name, s in status.sinks.items()},
        "unused": status.unused,
        "events": status.events,
        "rejected": status.rejected,
        "links": status.links,
        "stages": {name: [*s.percentiles, s.longest, s.samples] for name, s in status.stages.items()},
        "waiting": status.waiting,
        "alarms": alarms(status),
    }
