"""The status of a whole fleet, as that of one pipeline, and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from irst_stream.fleet.crew import GRACE_S, Member
from irst_stream.fleet.post import Post
from irst_stream.fleet.station import PAGE
from irst_stream.fleet.tally import Tally
from irst_stream.live.queues import OTHERS
from irst_stream.live.status import Status
from irst_stream.system.latency import Clocks

__all__ = ["faults_of", "summed"]


def summed(posts: Mapping[str, Post], gone: Tally, clocks: Clocks, seconds: float, faults: Iterator[str]) -> Status:
    """The status of all sensors together; fills `clocks`.

    gone: of removed sensors, which count as OTHERS; seconds: since the start.
    """
    tally, waiting, alarms = Tally(), 0, list[str]()
    sinks: dict[str, tuple[int, str]] = {}
    tally.merge(gone)
    for name, post in posts.items():
        tally.merge(post.past)
        if post.report is None:
            continue
        tally.add(post.report)
        if (status := post.report.status) is not None:
            waiting += status.waiting
            alarms += [f"sensor {name}: {status.alarm}"] if status.alarm else []
            for sink, now in status.sinks.items():
                sinks[sink] = sinks.get(sink, (0, ""))[0] + now.waiting, sinks.get(sink, (0, ""))[1] or now.alarm
    sensors = {name: tally.sensor(name, *post.present()) for name, post in posts.items()}
    if others := tally.others(posts):
        sensors[OTHERS] = others
    clocks.stages = tally.stages
    names = sorted({*tally.of("sink written"), *sinks} - {PAGE})
    return Status(
        seconds=seconds,
        sensors=sensors,
        sinks={name: tally.sink(name, *sinks.get(name, (0, ""))) for name in names},
        dropped={reason: count for reason, count in tally.of("dropped").items() if count},
        rejected=tally.of("rejected"),
        links=tally.of("links"),
        stages=clocks.summaries(),
        waiting=waiting,
        alarm="; ".join(alarms),
        faults=tuple(faults),
    )


def faults_of(posts: Mapping[str, Post], members: Sequence[Member], wanted: int) -> Iterator[str]:
    """What is wrong with the fleet itself, one line each. wanted: workers that any sensor may use."""
    for name, post in posts.items():
        if post.fault:
            yield f"sensor {name}: does not run: {post.fault}"
        elif post.member is None:
            yield f"sensor {name}: waits for a worker"
    for member in members:
        silent_s = time.monotonic() - member.received_s
        if member.is_ready and silent_s > GRACE_S + member.lease_s / 2:
            yield f"{member.name}: no answer for {silent_s:.0f} s"
    ready = sum(member.is_ready for member in members if not member.only_for)
    if ready < wanted:
        yield f"fleet: {ready} of {wanted} workers are there"
