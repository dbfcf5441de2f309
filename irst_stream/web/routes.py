"""The page's HTTP handlers: its own files, frames and status. Everything is read; nothing can be changed from the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, get_args

import msgspec

from irst_stream.errors import UsageError
from irst_stream.live.http_server import Answer, Handler, Request
from irst_stream.version import __version__
from irst_stream.web.background import LowPriority
from irst_stream.web.views import Feed, Picture, Sensor, encode_view

__all__ = ["PAGE_FILES", "about_answer", "feed_handlers", "file_handlers", "json_answer"]

FOLDER = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
WAIT_S = 5.0  # longest wait for a frame before an empty answer; the page then asks again
BODY = "application/octet-stream"
SINGLES_A_PERIOD = 3  # frames asked for by their position, of all pages together, while one new frame may be encoded


PAGE_FILES = {f"/{path.name}": path for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}
PAGE_FILES["/"] = PAGE_FILES.pop("/index.html")
"""The page's own files by their path. They hold nothing of the pipeline and are served without the token."""


def file_handlers() -> dict[str, Handler]:
    """What serves the page's own files."""
    return {where: _file(path) for where, path in PAGE_FILES.items()}


def about_answer(kind: str, title: str, frames_per_s: float, sensors: Sequence[Sensor]) -> Answer:
    """What the page asks first."""
    facts = {"kind": kind, "title": title, "version": __version__, "frames_per_s": frames_per_s}
    return json_answer(facts | {"sensors": [sensor._asdict() for sensor in sensors]})


def feed_handlers(feed: Feed, frames_per_s: float) -> dict[str, Handler]:
    """What answers the page's requests. frames_per_s: most frames a second encoded of a sensor, for all pages together."""
    frames = _FrameAnswers(feed, 1 / frames_per_s)

    def about(_: Request) -> Answer:
        return about_answer(feed.kind, feed.title, frames_per_s, feed.sensors())

    def status(request: Request) -> Answer:
        query = request.query
        numbers = _whole(query, "series_after", -1), _whole(query, "log_after", 0)
        sensors = [sensor._asdict() for sensor in feed.sensors()]
        return json_answer(feed.status(query.get("sensor", ""), *numbers) | {"sensors": sensors})

    return {
        "/api/about": about,
        "/api/status": status,
        "/api/next": lambda request: frames.next(request.query),
        "/api/frame": lambda request: frames.at(request.query),
    }


def _file(path: Path) -> Handler:
    """What serves a file of the page."""
    answer = Answer(path.read_bytes(), KINDS[path.suffix])
    return lambda _: answer


class _Encoded(NamedTuple):
    """The last body of a sensor: of which position, when it was encoded (steady clock, s), and the body."""

    position: int
    at_s: float
    body: bytes


class _FrameAnswers:
    """Bodies of frames; one that was just encoded serves every page."""

    def __init__(self, feed: Feed, period_s: float) -> None:
        self._feed, self._period_s, self._worker = feed, period_s, LowPriority()
        self._encoded: dict[tuple[str, Picture], _Encoded] = {}
        self._locks: dict[tuple[str, Picture], Lock] = {}
        self._lock, self._single = Lock(), Lock()
        self._single_free_s = 0.0  # steady clock: when the next frame may be encoded by its position

    def next(self, query: dict[str, str]) -> Answer:
        """The newest frame after position `after`, waited for; empty (204) if none comes."""
        sensor, picture, after = self._what(query)
        view = self._feed.newest(sensor, after, WAIT_S)
        if view is None:
            return Answer(b"", BODY, 204)
        with self._lock:
            lock = self._locks.setdefault((sensor, picture), Lock())
        with lock:
            last = self._encoded.get((sensor, picture))
            wait_s = last.at_s + self._period_s - time.monotonic() if last else 0.0
            if last and wait_s > 0 and last.position > after:
                return Answer(last.body, BODY)
            if wait_s > 0:
                time.sleep(wait_s)
                view = self._feed.newest(sensor, after, WAIT_S) or view
            body = encode_view(view, sensor, picture, self._worker)
            with self._lock:
                self._forget_gone_sensors()
                self._encoded[sensor, picture] = _Encoded(view.position, time.monotonic(), body)
        return Answer(body, BODY)

    def _forget_gone_sensors(self) -> None:
        """Drop the bodies of sensors that are not shown any more; the caller holds the lock."""
        known = {sensor.name for sensor in self._feed.sensors()}
        for sensor, picture in [key for key in self._encoded if key[0] not in known]:
            del self._encoded[sensor, picture], self._locks[sensor, picture]

    def at(self, query: dict[str, str]) -> Answer:
        """The frame at `position`, or the nearest; empty (204) if the sensor has none."""
        sensor, picture, _ = self._what(query)
        with self._single:
            time.sleep(max(self._single_free_s - time.monotonic(), 0.0))
            view = self._feed.at(sensor, _whole(query, "position", 0))
            body = encode_view(view, sensor, picture, self._worker) if view else b""
            self._single_free_s = time.monotonic() + self._period_s / SINGLES_A_PERIOD
        return Answer(body, BODY, 200 if view else 204)

    def _what(self, query: dict[str, str]) -> tuple[str, Picture, int]:
        sensor, picture = query.get("sensor", ""), query.get("picture", "full")
        known = {name for name, *_ in self._feed.sensors()}
        if sensor not in known:
            raise UsageError(f"sensor: expected one of {len(known)} that are known, got {sensor!r}")
        if picture not in get_args(Picture):
            raise UsageError(f"picture: expected {' or '.join(get_args(Picture))}, got {picture!r}")
        chosen: Picture = picture  # type: ignore[assignment]
        return sensor, chosen, _whole(query, "after", -1)


def _whole(query: dict[str, str], name: str, default: int) -> int:
    """A whole number of a query."""
    text = query.get(name, str(default))
    try:
        if len(text) <= 18:
            return int(text)
    except ValueError:
        pass
    raise UsageError(f"{name}: expected a whole number, got {text[:40]!r}")


def json_answer(value: Any) -> Answer:
    """A value as JSON."""
    return Answer(msgspec.json.encode(value) + b"\n", "application/json")
