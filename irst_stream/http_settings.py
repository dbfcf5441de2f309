"""Where the live page and the metrics are served by HTTP, and who could reach them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from irst_stream.settings import about
from irst_stream.system.machine import is_loopback

__all__ = ["MetricsSettings", "ViewSettings", "address_faults"]


@dataclass(frozen=True)
class MetricsSettings:
    """Where Prometheus fetches metrics."""

    port: Annotated[int, about("TCP port; 0 switches metrics off.", ge=0, le=65535)] = 0
    host: Annotated[str, about("Address to listen on.")] = "127.0.0.1"
    unencrypted_on_the_network: Annotated[
        bool, about("Listen where other machines can connect, although nothing is encrypted.")
    ] = False


@dataclass(frozen=True)
class ViewSettings:
    """The live page, which shows frames, detections and tracks in a browser; it serves /metrics and /health too."""

    port: Annotated[int, about("TCP port; 0 switches the page off.", ge=0, le=65535)] = 0
    host: Annotated[str, about("Address to listen on. Another one than loopback needs token_file.")] = "127.0.0.1"
    token_file: Annotated[
        str, about("File with the token that a browser has to give; it is made if it is missing. Empty: no token.")
    ] = ""
    unencrypted_on_the_network: Annotated[
        bool, about("Listen where other machines can connect, although what is sent, the token too, is not encrypted.")
    ] = False
    frames_per_s: Annotated[
        float, about("Most frames a second that are shown of a sensor. More take more of the processor.", ge=0.1, le=60)
    ] = 10.0
    history_mb: Annotated[
        float, about("Last frames kept to look back at, MB. More reach farther back, and take more memory.", ge=1, le=1e5)
    ] = 128.0


def address_faults(view: ViewSettings, metrics: MetricsSettings) -> Iterator[str]:
    """Why the page or the metrics would be open to whom they are not meant for, or in each other's way."""
    if metrics.port and not is_loopback(metrics.host) and not metrics.unencrypted_on_the_network:
        yield (
            f"metrics.host: {metrics.host or 'every address'} can be reached from other machines without encryption; "
            "expected 127.0.0.1, or unencrypted_on_the_network = true"
        )
    if not is_loopback(view.host) and not view.token_file:
        yield f"view.token_file: missing; {view.host} can be reached from other machines"
    if not is_loopback(view.host) and not view.unencrypted_on_the_network:
        yield (
            f"view.host: {view.host} can be reached from other machines without encryption; listen on 127.0.0.1 and come "
            "through a tunnel (ssh -L), or set unencrypted_on_the_network"
        )
    if view.port and view.port == metrics.port:
        yield f"metrics.port: {metrics.port} is the page's (view.port), which serves /metrics too"
