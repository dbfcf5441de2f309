"""The ends of ZeroMQ connections, as a configuration or the command line names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from irst_stream.io.registry import PUBLISHERS, SOURCES
from irst_stream.settings import about
from irst_stream.system.machine import is_loopback

__all__ = ["Link", "PublishSettings", "ReceiveSettings", "is_local", "link_fault"]

HOST = re.compile(r"\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[\w.-]+", re.ASCII)  # an address, a name or an interface
LARGEST_PORT = 65535


@dataclass(frozen=True)
class Link:
    """One end of a connection."""

    endpoint: Annotated[str, about("tcp://HOST:PORT or ipc://PATH.")]
    bind: Annotated[bool, about("Wait here for the other ends, rather than connect to one.")] = False
    keys: Annotated[str, about("This end's secret key file, NAME.key_secret. Empty: the connection is not encrypted.")] = ""
    server_key: Annotated[str, about("Of an end that connects: the public key file of the end that binds.")] = ""
    allow: Annotated[str, about("Of an end that binds: a folder with the public keys of all that may connect.")] = ""
    unencrypted_on_the_network: Annotated[
        bool, about("Bind where other machines can connect, although there are no keys.")
    ] = False
    high_water: Annotated[
        int, about("Messages that wait in the socket. More bridge longer pauses, and take more memory.", ge=1, le=100_000)
    ] = 64


@dataclass(frozen=True)
class ReceiveSettings(Link):
    """Where frames come from."""

    sensors: Annotated[tuple[str, ...], about("Sensors whose frames are taken. Empty: all.")] = ()
    stall_s: Annotated[
        float,
        about("Silence after which a link counts as stalled, s; an end that connects then reconnects.", gt=0, le=86400),
    ] = 3.0
    largest_mb: Annotated[
        float, about("Largest message, MB; the sender of a larger one is disconnected.", gt=0, le=2048)
    ] = 64.0


@dataclass(frozen=True)
class PublishSettings(Link):
    """Where results are sent to."""

    bind: Annotated[bool, about("Wait here for subscribers, rather than connect to one.")] = True


def _endpoint_fault(endpoint: str, bind: bool) -> str:
    """What is wrong with the way an endpoint is written, "" where nothing is; bind: it is to be waited at."""
    scheme, _, place = endpoint.partition("://")
    if scheme == "inproc":
        return f"{endpoint} is not to be reached from another process; expected tcp://HOST:PORT or ipc://PATH"
    if place and scheme not in ("tcp", "ipc") and scheme in {**SOURCES, **PUBLISHERS}:
        return ""  # not ours to judge
    if scheme not in ("tcp", "ipc") or not place:
        return f"expected tcp://HOST:PORT or ipc://PATH, got {endpoint!r}"
    if scheme == "ipc":
        return ""
    host, _, port = place.rpartition(":")
    host = host.rpartition(";")[2]  # who connects may say before it where to start from
    if not (HOST.fullmatch(host) or (bind and host == "*")):
        return f"expected tcp://HOST:PORT{'' if bind else ' with the host to go to'}, got {endpoint!r}"
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 9 else -1
    if not (0 < number <= LARGEST_PORT or (bind and port in ("*", "0"))):
        return f"expected a port from 1 to {LARGEST_PORT}{', or *' if bind else ''}, got {endpoint!r}"
    return ""


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach an endpoint that is bound; of one that makes no sense nobody knows."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:  # such as a bracket that is not closed
        return False
    if parts.scheme != "tcp":
        return parts.scheme == "ipc"
    host = (parts.netloc.rpartition(":")[0] or parts.netloc).strip("[]")
    return is_loopback(host)


def link_fault(link: Link, say: Callable[[str], str] = str) -> tuple[str, str]:
    """The field and what is wrong with it, of the first thing that is; ("", "") where nothing is.

    say: what a field is called where it was given; in a configuration that is its name.
    """
    if fault := _endpoint_fault(link.endpoint, link.bind):
        return "endpoint", fault
    if link.bind and link.server_key:
        return "server_key", f"for an end that connects; one that binds takes {say('allow')}"
    if not link.bind and link.allow:
        return "allow", f"for an end that binds; one that connects takes {say('server_key')}"
    if link.keys and not (link.allow if link.bind else link.server_key):
        return ("allow" if link.bind else "server_key"), f"missing; {say('keys')} alone does not say whom to trust"
    if (link.allow or link.server_key) and not link.keys:
        return "keys", "missing: this end's own secret key file"
    if link.bind and not link.keys and not is_local(link.endpoint) and not link.unencrypted_on_the_network:
        return "endpoint", (
            f"{link.endpoint} can be reached from other machines without keys; set {say('keys')} and {say('allow')}, "
            f"bind to 127.0.0.1, or set {say('unencrypted_on_the_network')}"
        )
    return "", ""
