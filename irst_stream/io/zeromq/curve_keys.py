"""Who may connect: CURVE key pairs in files, allow-lists of public keys, and what may be opened to the network without.

A key pair NAME is two files, readable by CZMQ and PyZMQ too: NAME.key, the public key, which may be given to anybody, and
NAME.key_secret, both keys, which only its owner may read. The side that binds is the CURVE server and knows its clients by
their public keys, the *.key files of one folder; a client knows the server by its public key.
"""

from __future__ import annotations

import logging
import os
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from irst_stream.errors import OutputError, UsageError

__all__ = [
    "DOMAIN",
    "Doorkeeper",
    "Keys",
    "allowed_keys",
    "key_files",
    "make_keys",
    "read_keys",
]

DOMAIN = "irst-stream"
PUBLIC, SECRET = ".key", ".key_secret"
MOST_REJECTED = 64  # clients that are told apart; there may be any number of them
OTHER_CLIENTS = "(others)"  # what all rejections beyond those are counted as
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


class Doorkeeper:
    """Lets those clients of a context's bound sockets in whose keys are in the folder, which is read anew for each.

    A file there that is no key lets nobody in, and keeps nobody out. `rejected` counts the others, by public key, those
    beyond MOST_REJECTED as OTHER_CLIENTS.
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
        self.rejected[name if name in self.rejected or len(self.rejected) < MOST_REJECTED else OTHER_CLIENTS] += 1
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
