"""Which class serves an endpoint's scheme, or an output file's suffix: one line each.

A live source, a publisher or a writer of one's own is one module with its class and one line here, "module:Class", which is
loaded when it is first used. tests/io/test_registry.py holds each of them to the contract of its protocol.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from irst_stream.protocols import Sink, Source
from irst_stream.types import Detections, Policy, Tracks

__all__ = ["PUBLISHERS", "SOURCES", "WRITERS", "open_live_source", "open_publisher", "open_writer"]


class HasEndpoint(Protocol):
    """Settings of one end of a connection: SCHEME://PLACE, and more that its class knows."""

    @property
    def endpoint(self) -> str: ...


class HasPath(Protocol):
    """Settings of an output: its path, and more that its class knows, such as lines_sink.WriteSettings."""

    @property
    def path(self) -> str: ...


SOURCES: dict[str, str | type] = {  # by scheme: Class(ReceiveSettings, Policy), a protocols.Source
    "tcp": "irst_stream.io.zeromq.sockets:ZmqSource",
    "ipc": "irst_stream.io.zeromq.sockets:ZmqSource",
}
PUBLISHERS: dict[str, str | type] = {  # by scheme: Class(PublishSettings, Policy), a protocols.Sink
    "tcp": "irst_stream.io.zeromq.sockets:ZmqSink",
    "ipc": "irst_stream.io.zeromq.sockets:ZmqSink",
}
WRITERS: dict[str, str | type] = {  # by suffix, "" for all others: Class(settings, Detections or Tracks), a protocols.Sink
    "": "irst_stream.io.lines_sink:LinesSink",
}


def open_live_source(settings: HasEndpoint, policy: Policy) -> Source:
    """Open the live source of an endpoint."""
    source: Source = _load(SOURCES[settings.endpoint.partition("://")[0]])(settings, policy)
    return source


def open_publisher(settings: HasEndpoint, policy: Policy) -> Sink:
    """Open the sink that publishes at an endpoint."""
    sink: Sink = _load(PUBLISHERS[settings.endpoint.partition("://")[0]])(settings, policy)
    return sink


def open_writer(settings: HasPath, kind: type[Detections | Tracks]) -> Sink:
    """Open the sink that writes one kind of result into a file."""
    sink: Sink = _load(WRITERS.get(Path(settings.path).suffix.lower(), WRITERS[""]))(settings, kind)
    return sink


def _load(name: str | type) -> Any:
    """A class, or the one that "module:Class" names."""
    if not isinstance(name, str):
        return name
    module, _, kind = name.partition(":")
    return getattr(import_module(module), kind)
