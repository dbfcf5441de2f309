"""Authentication with CURVE: key pairs in files, and allow-lists of public keys.

A key pair NAME has two files, which CZMQ and PyZMQ can read, too: NAME.key, the public key, which anybody may have, and
NAME.key_secret, both keys, which only its owner may read. The side that binds is the CURVE server; it accepts clients whose
public keys are among the *.key files of a folder. A client knows the server by its public key.
"""

from __future__ import annotations

import logging
import os
import re
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from irst_stream.errors import OutputError, SourceError, UsageError
from irst_stream.system.bounded_files import read_bounded

__all__ = [
    "DOMAIN",
    "ClientAuthenticator",
    "Keys",
    "allowed_keys",
    "key_files",
    "make_keys",
    "read_keys",
    "read_secret_keys",
]

DOMAIN = "irst-stream"
PUBLIC, SECRET = ".key", ".key_secret"
KEY_LINE = re.compile(rb"""^\s*(public|secret)-key\s*=[ \t"']*([^\r\n"' \t]*)""", re.MULTILINE)
MAX_KEY_FILE_BYTES = 1 << 16
MAX_REJECTED_KEYS = 64  # rejected clients are counted by key up to this number of keys, which bounds the memory
OTHER_CLIENTS = "(others)"  # counts the rejections of all further keys
log = logging.getLogger(__name__)


class Keys(NamedTuple):
    """A key pair in Z85, 40 characters each; secret is b"" if only the public key is known."""

    public: bytes
    secret: bytes


def key_files(name: Path) -> tuple[Path, Path]:
    """Paths of the public and the secret file of a key pair."""
    return name.with_name(name.name + PUBLIC), name.with_name(name.name + SECRET)


def make_keys(name: Path) -> Keys:
    """Make a key pair and write its two files; the secret file is created readable by its owner only.

    Raise a UsageError for a path without a name, an OutputError if either file exists or cannot be written; then there is
    neither.
    """
    if not name.name or name.is_dir():
        raise UsageError(f"{name}: expected a name for the key pair, such as {name / 'sensor'}")
    keys = Keys(*zmq.curve_keypair())
    public, secret = key_files(name)
    if public.exists() or secret.exists():
        raise OutputError(f"{secret if secret.exists() else public}: exists; choose another name, or remove both files")
    lines = f'metadata\ncurve\n    public-key = "{keys.public.decode()}"\n'
    _write(secret, lines + f'    secret-key = "{keys.secret.decode()}"\n', 0o600)
    try:
        _write(public, lines, 0o644)
    except OutputError:
        secret.unlink()
        raise
    return keys


def read_keys(path: Path) -> Keys:
    """Read a public or secret key file; raise a UsageError if it is invalid, or secret and readable by others."""
    try:
        text = read_bounded(path, MAX_KEY_FILE_BYTES)
        mode = path.stat().st_mode
    except (OSError, SourceError) as error:
        raise UsageError(f"{path}: not a readable key file; make one with irst-stream keys make") from error
    found = dict(KEY_LINE.findall(text))
    public, secret = found.get(b"public"), found.get(b"secret", b"")
    if public is None:
        raise UsageError(f"{path}: not a readable key file; make one with irst-stream keys make")
    for key in (public, secret or public):
        if len(key) != 40:
            raise UsageError(f"{path}: expected a key of 40 characters, got {len(key)}")
        if not _is_z85(key):
            raise UsageError(f"{path}: expected a key in Z85, got {key.decode(errors='replace')}")
    if secret and mode & 0o077:
        raise UsageError(f"{path}: others may read this secret key (mode {mode & 0o777:o}); run chmod 600 {path}")
    return Keys(public, secret)


def read_secret_keys(path: Path) -> Keys:
    """Read the file of this end's own secret key; raise a UsageError if it is invalid, or holds a public key only."""
    keys = read_keys(path)
    if not keys.secret:
        raise UsageError(f"{path}: is a public key; expected this end's secret key, *.key_secret")
    return keys


def allowed_keys(folder: Path) -> dict[bytes, str]:
    """Read the public keys in a folder; return the name of each key."""
    return {read_keys(path).public: path.stem for path in _public_files(folder)}


class ClientAuthenticator:
    """Accept only clients with a public key in a folder; applies to all bound sockets of a context.

    The folder is read again for every client; an invalid file in it is ignored. `rejected` counts rejected clients by
    public key; beyond MAX_REJECTED_KEYS keys, they count as OTHER_CLIENTS.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path) -> None:
        self.rejected: Counter[str] = Counter()
        self._folder = folder
        allowed_keys(folder)  # raises a UsageError now if a file is invalid
        self._thread = ThreadAuthenticator(context, log=log)
        self._thread.start()
        self._thread.configure_curve_callback(domain=DOMAIN, credentials_provider=self)

    def callback(self, _: str, key: bytes) -> bool:
        """Whether to accept a client; called in the thread of PyZMQ's authenticator."""
        known = self._known_keys()
        if key in known:
            log.info("client %s (%s) accepted", known[key], key.decode())
            return True
        name = key.decode(errors="replace")
        self.rejected[name if name in self.rejected or len(self.rejected) < MAX_REJECTED_KEYS else OTHER_CLIENTS] += 1
        log.warning("client with unknown key %s rejected", name)
        return False

    def close(self) -> None:
        """Stop accepting clients; may be called twice."""
        if self._thread.is_alive():
            self._thread.stop()

    def _known_keys(self) -> dict[bytes, str]:
        """Read the keys in the folder now; return the name of each valid key."""
        known: dict[bytes, str] = {}
        try:
            files = _public_files(self._folder)
        except UsageError as error:
            log.warning("%s; all clients are rejected", error)
            return known
        for path in files:
            try:
                known[read_keys(path).public] = path.stem
            except UsageError as error:
                log.warning("%s; file ignored", error)
        return known


def _public_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected a folder with the public keys of all clients, *{PUBLIC}")
    return sorted(folder.glob(f"*{PUBLIC}"))


def _is_z85(key: bytes) -> bool:
    try:
        z85.decode(key)
    except (KeyError, struct.error):  # not a Z85 character, or five characters that exceed four bytes
        return False
    return True


def _write(path: Path, text: str, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
        except OSError:
            path.unlink()  # a file that is not whole would be in the way of the next try
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
