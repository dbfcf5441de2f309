"""A small HTTP server next to a pipeline, which no client can make grow: time-outs, a cap on connections, bounded headers.

A connection carries GET and HEAD requests, one after another. A whole request must arrive within REQUEST_S of its first
byte and the whole answer must be taken within ANSWER_S, however slowly a client trickles. Above MAX_CONNECTIONS, the
connection that has waited longest without a complete request makes room for the new one, so that half-sent requests and
idle clients do not keep others out.

Answers are guarded against other sites' pages in the same browser: Host and Origin are checked, and a content-security
policy lets our own pages ask nobody but this server.
"""

from __future__ import annotations

import hmac
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from irst_stream.errors import IrstError, UsageError
from irst_stream.system.machine import is_loopback

__all__ = ["MAX_CONNECTIONS", "Answer", "Handler", "HttpServer", "Request"]

MAX_CONNECTIONS = 32
MAX_REQUEST_BYTES = 16 << 10  # request line and headers
REQUEST_S = 5.0  # for the whole request
IDLE_S = 20.0  # between two requests of a connection
ANSWER_S = 10.0  # for the whole answer
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
END_OF_HEADERS = (b"\r\n\r\n", b"\n\n")
log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What a handler is asked: the parameters of the query, the last value of each name."""

    path: str
    query: dict[str, str]


class Answer(NamedTuple):
    """What a handler answers."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Handler = Callable[[Request], Answer]


class HttpServer:
    """Answers requests from its own threads until closed; a context manager.

    name: what errors and the log call it. handlers: by path, for example "/metrics"; they run on the connection's thread,
    several at once, and may raise: the client gets 500 and the log one line, or 400 and the message of an IrstError. Port 0
    picks a free port; `port` is the one in use, `url` where it answers. token: what a client has to send as
    "Authorization: Bearer TOKEN", "" for none; open_paths: served without it. Raise a UsageError if the address cannot be
    bound.
    """

    def __init__(
        self,
        name: str,
        handlers: Mapping[str, Handler],
        host: str,
        port: int,
        *,
        token: str = "",
        open_paths: Collection[str] = (),
    ) -> None:
        try:
            self._server = _Server(name, dict(handlers), host, port, token, frozenset(open_paths))
        except OSError as error:
            raise UsageError(_unbound(name, host, port, error)) from error
        self.port = int(self._server.server_address[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name=name, daemon=True)
        self._thread.start()

    @staticmethod
    def check(name: str, host: str, port: int) -> None:
        """Raise a UsageError if the address cannot be bound, so that this shows before any file is opened."""
        try:
            _Server(name, {}, host, port, "", frozenset()).server_close()
        except OSError as error:
            raise UsageError(_unbound(name, host, port, error)) from error

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._server.open)

    def close(self) -> None:
        """Stop listening and cut all connections; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Server(ThreadingMixIn, TCPServer):
    """Accepts connections, one thread each, up to MAX_CONNECTIONS."""

    daemon_threads, block_on_close, allow_reuse_address, request_queue_size = True, False, True, 1024

    def __init__(
        self, name: str, handlers: dict[str, Handler], host: str, port: int, token: str, open_paths: frozenset[str]
    ) -> None:
        self.name, self.handlers, self.local = name, handlers, is_loopback(host)
        self.token, self.open_paths = token, open_paths
        self.open: dict[socket.socket, bool] = {}  # in order of arrival; whether its request is complete
        self.lock, self._failed = threading.Lock(), set[str]()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - see socketserver
        """Admit a connection, if need be in the place of the one that has waited longest for its request."""
        with self.lock:
            if len(self.open) >= MAX_CONNECTIONS:
                waiting = next((known for known, complete in self.open.items() if not complete), None)
                if waiting is None:
                    return False
                del self.open[waiting]
                _cut(waiting)  # its thread wakes up and ends
            self.open[request] = False
        return True

    def close_request(self, request: Any) -> None:
        """Close a connection; socketserver calls this at its end, and for those not admitted."""
        with self.lock:
            self.open.pop(request, None)
        request.close()

    def server_close(self) -> None:
        """Stop listening and cut all connections."""
        super().server_close()
        with self.lock:
            for request in self.open:
                _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - see socketserver
        """Log what a client cannot cause; one that goes away or stops reading is no matter for the log."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.log_once("a connection", error)

    def log_once(self, what: str, error: BaseException | None) -> None:
        """Log the first failure of a kind."""
        if what not in self._failed:
            self._failed.add(what)
            reason = f"{type(error).__name__}: {error}"
            log.error("%s: %s failed: %s; further failures are not logged", self.name, what, reason)

    def answer(self, request: Request) -> Answer:
        """Call the handler of a path; log its first failure."""
        handler = self.handlers.get(request.path)
        if handler is None:
            return Answer(
                f"not found; there are: {', '.join(sorted(self.handlers))}\n".encode(), status=HTTPStatus.NOT_FOUND
            )
        try:
            return handler(request)
        except IrstError as error:
            return Answer(f"{error}\n".encode(), status=HTTPStatus.BAD_REQUEST)
        except Exception as error:
            self.log_once(request.path, error)
            return Answer(b"failed; see the log\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)


class _Connection(BaseHTTPRequestHandler):
    """Reads requests from a connection and answers them."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else headers wait for the client's acknowledgement of the answer before

    def version_string(self) -> str:
        """Name the server, without the version of Python."""
        return "irst-stream"

    def handle(self) -> None:
        """Read requests within their time and size, and answer them."""
        self.close_connection, idle_s = False, 0.0
        while not self.close_connection:
            head = self._head(idle_s)
            if not head or not self._mark(complete=True):
                return
            self.connection.settimeout(ANSWER_S)
            self.rfile = BytesIO(head)
            whole = next((head.index(end) + len(end) for end in END_OF_HEADERS if end in head), 0)
            if whole:
                self.handle_one_request()
            else:
                self.command, self.requestline, self.request_version = "GET", "", "HTTP/1.0"
                self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if len(head) >= MAX_REQUEST_BYTES else 400)
                self.close_connection = True
            if len(head) > whole:  # a body, or a request before its turn
                self.close_connection = True
            idle_s = IDLE_S
            if not self._mark(complete=False):
                return
        self._discard_rest()

    def _mark(self, *, complete: bool) -> bool:
        """Note whether the connection's request is complete; return False if the connection had to make room."""
        with self.server.lock:
            if self.connection not in self.server.open:
                return False
            del self.server.open[self.connection]  # so that it waits behind all others
            self.server.open[self.connection] = complete
        return True

    def _head(self, idle_s: float) -> bytes:
        """Receive the request line and headers; all bytes if they end early or are too long, empty after REQUEST_S.

        idle_s: further time for the first byte.
        """
        head, deadline = b"", time.monotonic() + REQUEST_S + idle_s
        while not any(end in head for end in END_OF_HEADERS) and len(head) < MAX_REQUEST_BYTES:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return b""
            self.connection.settimeout(remaining_s)
            received = self.connection.recv(4096)  # OSError, TimeoutError too, ends the connection
            if not received:
                break
            if not head:
                deadline = time.monotonic() + REQUEST_S
            head += received
        return head

    def _discard_rest(self) -> None:
        """Take what was sent beyond the headers: closing with unread bytes would reset the connection before the answer."""
        self.connection.settimeout(0)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.recv(1 << 16)

    def do_GET(self) -> None:
        """Answer a request."""
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        """Answer a request with headers only."""
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        try:
            parts = urlsplit(self.path)
            request = Request(parts.path, dict(parse_qsl(parts.query, max_num_fields=64)))
        except ValueError:
            answer = Answer(b"invalid request\n", status=HTTPStatus.BAD_REQUEST)
        else:
            answer = self._refusal(request.path) or self.server.answer(request)
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads would be taken for the next request
        self.send_response(answer.status)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            self.send_header("Connection", "close")  # which ends the connection after this answer
        self.send_header("Content-Type", answer.content_type)
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(answer.body)))
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        for name, value in SECURITY.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def _refusal(self, path: str) -> Answer | None:
        """Refuse another site's page, and whoever lacks the token.

        A name that a browser was led to resolve to this machine shows in the Host. An Origin is compared with the
        request's own Host, because a tunnel changes the port.
        """
        host = self.headers.get("Host", "localhost")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if self.server.local and not is_loopback(name):
            return Answer(b"expected 127.0.0.1 or localhost as the host\n", status=HTTPStatus.MISDIRECTED_REQUEST)
        origin = self.headers.get("Origin")
        foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
        if foreign or (path != "/" and self.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")):
            return Answer(b"refused to a page of another site\n", status=HTTPStatus.FORBIDDEN)
        if self.server.token and path not in self.server.open_paths and not self._has_token():
            return Answer(b"expected the token\n", status=HTTPStatus.UNAUTHORIZED)
        return None

    def _has_token(self) -> bool:
        """Whether the request bears the token; compared in constant time."""
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.server.token.encode())
        return scheme.lower() == "bearer" and same

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - see BaseHTTPRequestHandler
        """Log nothing of requests: a log that every client can fill is not bounded."""


def _cut(connection: socket.socket) -> None:
    """End a connection at once, whatever its thread waits for."""
    with suppress(OSError):  # the client may have been faster
        connection.shutdown(socket.SHUT_RDWR)


def _unbound(name: str, host: str, port: int, error: OSError) -> str:
    return f"{name}: {host}:{port} cannot be bound: {error.strerror or error}"
