"""The line that a user reads where Ray, or the cluster, is missing; a cluster itself is tested with what runs on it."""

import socket
import sys

import pytest

from irst_stream.cluster.ray_cluster import check_address, import_ray
from irst_stream.errors import MissingPackageError, UsageError


@pytest.mark.parametrize(
    "address", ["", "tcp://a:1", "ray://", "ray://host", "ray://host:0", "ray://host:x", "ray://:6379"]
)
def test_an_address_is_ray_host_and_port(address):
    with pytest.raises(UsageError, match="expected ray://HOST:PORT"):
        check_address(address)


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connecting is refused
        with pytest.raises(UsageError, match="no Ray cluster there"):
            check_address(f"ray://127.0.0.1:{taken.getsockname()[1]}")


def test_without_ray_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"--on needs ray: pip install 'irst-stream\[ray\]'"):
        import_ray("--on")
