"""Prometheus endpoint of a running pipeline, with the same figures as the console view."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from irst_stream.live.http_server import Answer, Request
from irst_stream.live.status import Observed, Status
from irst_stream.system.latency import GROWTH, SHORTEST_NS, Histogram

__all__ = ["counter", "gauge", "metrics_handler"]

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def metrics_handler(
    observed: Observed, outputs: Sequence[str] = (), more: Callable[[], Iterable[Metric]] = tuple
) -> Callable[[Request], Answer]:
    """Return the handler of /metrics: the status at each request, in Prometheus's text format.

    outputs: files that are written, whose disks' free space is told; more: further metrics.
    """
    folders = sorted({str(Path(path).absolute().parent) for path in outputs})

    def families() -> Iterator[Metric]:
        yield from _families(observed.status(), observed.clocks.stages)
        yield from more()
        yield gauge("disk_free_bytes", "Free space where files are written", "folder", _free_bytes(folders))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))
    return lambda _: Answer(generate_latest(registry), TEXT_FORMAT)


def _free_bytes(folders: Sequence[str]) -> dict[str, float]:
    """Free bytes on the disk of each folder that is there."""
    free: dict[str, float] = {}
    for folder in folders:
        with suppress(OSError):
            free[folder] = float(shutil.disk_usage(folder).free)
    return free


class _Collector(Collector):
    """Computes the metrics at each request."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        """Return all metrics; the registry calls this at each request."""
        return self._collect()


def _families(status: Status, stages: dict[str, Histogram]) -> Iterator[Metric]:
    """Yield all metrics: counters since the start, current gauges, latency histograms by stage in s."""
    sensors, sinks = status.sensors, status.sinks
    yield counter("frames", "Frames received", "sensor", {n: s.frames for n, s in sensors.items()})
    yield counter(
        "answered_frames", "Frames whose detections were published", "sensor", {n: s.answered for n, s in sensors.items()}
    )
    yield counter("detections", "Targets found", "sensor", {n: s.detections for n, s in sensors.items()})
    yield gauge("tracks", "Confirmed tracks at the last frame", "sensor", {n: float(s.tracks) for n, s in sensors.items()})
    yield counter("events", "Frame events, including dropped frames, by reason", "reason", status.dropped)
    yield counter("rejected_messages", "Invalid messages and refused clients", "reason", status.rejected)
    yield counter("link_events", "Connections made, lost, refused, stalled", "event", status.links)
    yield gauge(
        "sensor_silent_seconds", "Time since the sensor's last frame", "sensor", {n: s.silent_s for n, s in sensors.items()}
    )
    ratios = {n: s.psf_ratio for n, s in sensors.items() if not math.isnan(s.psf_ratio)}
    yield gauge("psf_width_ratio", "Width of the sensor's targets over the configured PSF's", "sensor", ratios)
    yield counter("written_records", "Records written", "sink", {n: s.written for n, s in sinks.items()})
    yield counter("lost_records", "Records that were not written", "sink", {n: s.lost for n, s in sinks.items()})
    text = "Times that a subscriber's queue was full; each time it missed one result or more"
    yield counter("subscriber_overflows", text, "sink", {n: s.overflows for n, s in sinks.items()})
    yield gauge("sink_in_order", "1 while the sink works", "sink", {n: float(not s.alarm) for n, s in sinks.items()})
    text = "1 while the network runs on its first backend, 0 after a failure"
    network = GaugeMetricFamily("irst_stream_network_in_order", text, labels=[])
    network.add_metric([], float(not status.alarm))
    yield network
    waiting = {"intake": float(status.waiting)} | {n: float(s.waiting) for n, s in sinks.items()}
    yield gauge("waiting", "Frames or records waiting in a queue", "queue", waiting)
    family = HistogramMetricFamily("irst_stream_latency_seconds", "Latency of a stage", labels=["stage"])
    for stage, histogram in list(stages.items()):
        family.add_metric([stage], _buckets(histogram), histogram.total_ns / 1e9)
    yield family


def counter(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    """A counter of this package with one label; values by the label's value."""
    family = CounterMetricFamily(f"irst_stream_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def gauge(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    """A gauge of this package with one label; values by the label's value."""
    family = GaugeMetricFamily(f"irst_stream_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts at BOUNDS_S, whose edges our finer buckets meet within 2 %."""
    cumulative = np.cumsum(histogram.buckets)
    indices = (np.log(np.array(BOUNDS_S) * 1e9 / SHORTEST_NS) / GROWTH).astype(int)
    rows = [(str(bound), float(cumulative[index])) for bound, index in zip(BOUNDS_S, indices, strict=True)]
    return [*rows, ("+Inf", float(cumulative[-1]))]
