"""Who may connect: CURVE key pairs in files, allow-lists of public keys, and what may be opened to the network without.

A key pair NAME is two files, readable by CZMQ and PyZMQ too: NAME.key, the public key, which may be given to anybody, and
NAME.key_secret, both keys, which only its owner may read. The side that binds is the CURVE server and knows its clients by
their public keys, the *.key files of one folder; a client knows the server by its public key.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from irst_stream.errors import OutputError, UsageError
from irst_stream.queues import OTHERS

__all__ = [
    "DOMAIN",
    "Doorkeeper",
    "Keys",
    "allowed_keys",
    "endpoint_fault",
    "is_local",
    "key_files",
    "make_keys",
    "read_keys",
]

DOMAIN = "irst-stream"
PUBLIC, SECRET = ".key", ".key_secret"
HOST = re.compile(r"\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[\w.-]+", re.ASCII)  # an address, a name or an interface
LARGEST_PORT = 65535
MOST_REJECTED = 64  # clients that are told apart; there may be any number of them
log = logging.getLogger(__name__)


class Keys(NamedTuple):
    """A key pair in Z85, 40 letters each; secret is b"" where only the public key is known."""

    public: bytes
    secret: bytes


def key_files(name: Path) -> tuple[Path, Path]:
    """The public and the secret file of a key pair."""
    return name.with_name(name.name + PUBLIC), name.with_name(name.name + SECRET)


def make_keys(name: Path) -> Keys:
    """Makes a key pair; never over another one. The secret file can be read by its owner alone, from its first byte on."""
    keys = Keys(*zmq.curve_keypair())
    public, secret = key_files(name)
    if public.exists() or secret.exists():
        raise OutputError(f"{secret if secret.exists() else public}: exists; choose another name, or remove both files")
    lines = f'metadata\ncurve\n    public-key = "{keys.public.decode()}"\n'
    _write(secret, lines + f'    secret-key = "{keys.secret.decode()}"\n', 0o600)
    _write(public, lines, 0o644)
    return keys


def read_keys(path: Path) -> Keys:
    """A key file of either kind; refuses a secret one that others may read."""
    try:
        public, secret = zmq.auth.load_certificate(path)
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no key file that can be read; make one with irst-stream keys make") from error
    for key in (public, secret or public):
        if len(key) != 40:
            raise UsageError(f"{path}: a key has 40 letters, got {len(key)}")
        if not _is_z85(key):
            raise UsageError(f"{path}: a key is written in Z85, got {key.decode(errors='replace')}")
    if secret and mode & 0o077:
        raise UsageError(f"{path}: others may read this secret key (mode {mode & 0o777:o}); chmod 600 {path}")
    return Keys(public, secret or b"")


def allowed_keys(folder: Path) -> dict[bytes, str]:
    """The public keys in a folder, and the name of each."""
    return {read_keys(path).public: path.stem for path in _public_files(folder)}


def endpoint_fault(endpoint: str, bind: bool) -> str:
    """What is wrong with the way an endpoint is written, "" where nothing is; bind: it is to be waited at."""
    scheme, _, place = endpoint.partition("://")
    if scheme == "inproc":
        return f"{endpoint} is not to be reached from another process; expected tcp://HOST:PORT or ipc://PATH"
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
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Doorkeeper:
    """Lets those clients of a context's bound sockets in whose keys are in the folder, which is read anew for each.

    A file there that is no key lets nobody in, and keeps nobody out. `rejected` counts the others, by public key, those
    beyond MOST_REJECTED as OTHERS.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path) -> None:
        self.rejected: Counter[str] = Counter()
        self._folder = folder
        allowed_keys(folder)
        self._thread = ThreadAuthenticator(context, log=log)
        self._thread.start()
        self._thread.configure_curve_callback(domain=DOMAIN, credentials_provider=self)

    def callback(self, _: str, key: bytes) -> bool:
        """Whether a client may come in; called by the authenticator's own thread."""
        known = self._known()
        if key in known:
            log.info("client %s (%s) let in", known[key], key.decode())
            return True
        name = key.decode(errors="replace")
        self.rejected[name if name in self.rejected or len(self.rejected) < MOST_REJECTED else OTHERS] += 1
        log.warning("client with the unknown key %s turned away", name)
        return False

    def close(self) -> None:
        """Nobody is let in any more; may be called twice."""
        if self._thread.is_alive():
            self._thread.stop()

    def _known(self) -> dict[bytes, str]:
        """The keys in the folder as it is now, and their names."""
        known: dict[bytes, str] = {}
        try:
            files = _public_files(self._folder)
        except UsageError as error:
            log.warning("%s; nobody is let in", error)
            return known
        for path in files:
            try:
                known[read_keys(path).public] = path.stem
            except UsageError as error:
                log.warning("%s; this file lets nobody in", error)
        return known


def _public_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected one with the public keys of all clients, *{PUBLIC}")
    return sorted(folder.glob(f"*{PUBLIC}"))


def _is_z85(key: bytes) -> bool:
    try:
        z85.decode(key)
    except (KeyError, struct.error):  # no letter of it, or five that are more than four bytes hold
        return False
    return True


def _write(path: Path, text: str, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
