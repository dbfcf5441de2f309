"""The connection to a Ray cluster: connect, what it has, and one line where Ray or the cluster is missing.

Ray is an optional package (extra "ray"), imported here alone and on use only. The process that connects runs on a machine
of the cluster; every node has the same version of irst-stream installed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from irst_stream.errors import MissingPackageError, UsageError

__all__ = ["ClusterResources", "check_address", "cluster_resources", "connected", "import_ray"]

SCHEME = "ray://"
CONNECT_S = 5.0  # until an address counts as one where nobody listens
ENVIRONMENT = {  # read by Ray when it is imported
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report its use to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of what a later version will do
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # where something else listens at the address: a minute, and not ten
}


class ClusterResources(NamedTuple):
    """What a cluster has: nodes that are alive, and the CPUs and GPUs that they offer to Ray."""

    nodes: int
    cpus: int
    gpus: int


def import_ray(purpose: str) -> Any:
    """Import Ray; raise a MissingPackageError where it is not installed. purpose: what needs it, for example "--on"."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError("ray", "ray", purpose) from error
    return ray


def check_address(address: str) -> str:
    """Return the HOST:PORT of ray://HOST:PORT; raise a UsageError for anything else, and where nobody listens."""
    place = address.removeprefix(SCHEME)
    host, _, port = place.rpartition(":")
    if not address.startswith(SCHEME) or not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"{address}: expected ray://HOST:PORT, the address that ray start --head prints")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise UsageError(f"{address}: no Ray cluster there ({error.strerror or error})") from error
    return place


@contextmanager
def connected(address: str, purpose: str) -> Iterator[Any]:
    """Yield the ray module, connected to the cluster at ray://HOST:PORT, and disconnect in the end.

    purpose: what needs Ray, for the errors: a MissingPackageError without Ray, a UsageError without a cluster.
    """
    ray = import_ray(purpose)
    place = check_address(address)
    try:
        ray.init(place, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{address}: cannot connect; expected a cluster that this machine belongs to ({reason})"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def cluster_resources(ray: Any) -> ClusterResources:
    """Return what the connected cluster has now; nodes that died are not counted."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (int(sum(node.get(name, 0) for node in alive)) for name in ("CPU", "GPU"))
    return ClusterResources(len(alive), cpus, gpus)
