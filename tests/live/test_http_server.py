"""The HTTP server: what it answers, and that no client makes it grow, hang or speak."""

import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack

import pytest
from local_feeds import until

from irst_stream import UsageError
from irst_stream.live import http_server
from irst_stream.live.http_server import MAX_CONNECTIONS, Answer, HttpServer

HELLO = {
    "/hello": lambda request: Answer(f"hello {request.query.get('name', '')}".encode()),
    "/bad": lambda request: Answer(request.query["none"].encode()),
    "/large": lambda _: Answer(bytes(64 << 20)),
}


@pytest.fixture
def server():
    with HttpServer("page", HELLO, "127.0.0.1", 0) as running:
        yield running


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def raw(server, data):
    """What the server answers to these bytes, until it closes."""
    with connected(server) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)  # no further request
        received = b""
        while block := client.recv(1 << 16):
            received += block
    return received


def fetched(server, path="/hello"):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=20) as answer:
        return answer.read()


def test_get_and_head_answer_and_unknown_paths_say_what_there_is(server):
    assert fetched(server, "/hello?name=a&name=you%20there") == b"hello you there"
    head = raw(server, b"HEAD /hello HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nServer: irst-stream\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 6\r\n" in head
    with pytest.raises(urllib.error.HTTPError, match="404") as missing:
        fetched(server, "/")
    assert missing.value.read() == b"not found; there are: /bad, /hello, /large\n"
    missing.value.close()
    assert b" 501 " in raw(server, b"POST /hello HTTP/1.0\r\n\r\n")


def test_a_failing_handler_answers_500_and_is_logged_once(server, caplog):
    for _ in range(3):
        assert b" 500 " in raw(server, b"GET /bad HTTP/1.0\r\n\r\n")
    expected = "page: /bad failed: KeyError: 'none'; further failures are not logged"
    assert caplog.messages == [expected]


def test_600_half_sent_requests_keep_nobody_out(server):
    threads = threading.active_count()
    with ExitStack() as opened:
        for _ in range(600):
            client = opened.enter_context(connected(server))
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: loc")
        assert fetched(server) == b"hello "
        assert server.connections <= MAX_CONNECTIONS
        until(lambda: threading.active_count() <= threads + MAX_CONNECTIONS, "threads of cut connections end")
    until(lambda: not server.connections, "all connections close")


def test_a_trickled_request_and_an_answer_not_taken_end_in_time(server, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_S", 0.3)
    monkeypatch.setattr(http_server, "ANSWER_S", 0.3)
    with connected(server) as trickle, connected(server) as deaf:
        deaf.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        trickle.settimeout(0.05)
        for byte in b"GET /hello HTTP/1.0\r\n" + b"x" * 2000:
            try:
                trickle.sendall(bytes([byte]))
                if trickle.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            raise AssertionError("the trickled request was not ended")
        until(lambda: not server.connections, "the client that takes no answer is cut")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /hello HTTP/9.9\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: [::\r\n\r\n",
        b"GET //[bad HTTP/1.1\r\n\r\n",
        b"GET /hello?" + b"a=1&" * 500 + b" HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n" + b"X: \xff\xfe\x00\r\n" * 200 + b"\r\n",
        b"GET /hello HTTP/1.1\r\nContent-Length: -5\r\nAccept: application/openmetrics-text; version=;;\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n: : :\r\n \x0b\r\n\r\n",
        b"A" * 20_000,
        b"GET /hello HTTP/1.1\r\nX: " + b"A" * 20_000 + b"\r\n\r\n",
    ],
)
def test_odd_requests_get_an_answer_or_an_end_and_no_traceback(server, data, capfd, caplog):
    try:
        answer = raw(server, data)
    except ConnectionError:
        answer = b""
    assert answer[:5] in (b"", b"HTTP/", b"<!DOC")
    assert fetched(server) == b"hello "
    assert (*capfd.readouterr(), caplog.messages) == ("", "", [])


def test_a_name_that_a_browser_was_led_to_resolve_to_this_machine_is_refused(server):
    assert b" 421 " in raw(server, b"GET /hello HTTP/1.1\r\nHost: evil.example:80\r\n\r\n")
    assert raw(server, b"GET /hello HTTP/1.1\r\nHost: localhost:80\r\n\r\n").endswith(b"hello ")
    assert raw(server, b"GET /hello HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").endswith(b"hello ")


def test_an_address_in_use_gives_one_line(server):
    for bind in (
        lambda: HttpServer("page", {}, "127.0.0.1", server.port),
        lambda: HttpServer.check("page", "127.0.0.1", server.port),
    ):
        with pytest.raises(UsageError, match=rf"^page: 127.0.0.1:{server.port} cannot be bound: Address already in use$"):
            bind()


def test_closing_cuts_open_connections():
    server = HttpServer("page", HELLO, "127.0.0.1", 0)
    with connected(server) as waiting:
        waiting.sendall(b"GET")
        until(lambda: server.connections == 1, "the connection is accepted")
        server.close()
        assert waiting.recv(1) == b""
    server.close()
