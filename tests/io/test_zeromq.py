"""Sockets: messages arrive, invalid ones are counted, and unknown clients are rejected."""

import os
import stat
import time
from contextlib import closing

import msgspec
import numpy as np
import pytest
import zmq
from local_feeds import LOCAL, collecting, send, sender, small_frame, until

from irst_stream import Detections, OutputError, SourceError, Stamp, UsageError
from irst_stream.io.zeromq import sockets, wire
from irst_stream.io.zeromq.curve_keys import (
    MAX_REJECTED_KEYS,
    ClientAuthenticator,
    allowed_keys,
    key_files,
    make_keys,
    read_keys,
)
from irst_stream.io.zeromq.settings import Link, PublishSettings, ReceiveSettings, is_local, link_fault
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource
from irst_stream.live.queues import OTHERS


@pytest.mark.parametrize(("policy", "kind"), [("lossless", zmq.PUSH), ("live", zmq.PUB)])
def test_frames_arrive_as_they_were_sent(policy, kind):
    sent = [small_frame(i, level=i, shape=(11, 11 + i)) for i in range(40)]
    with collecting(policy) as taken, sender(taken.source.endpoint, kind) as socket:
        if kind == zmq.PUB:  # the subscription must reach the publisher first
            until(lambda: send(socket, small_frame(999)) or taken.frames, "the subscription")
            until(lambda: taken.frames[-1].stamp.index == 999)
        send(socket, *sent)
        until(lambda: [f.stamp for f in taken.frames if f.stamp.index != 999] == [f.stamp for f in sent])
        for before, after in zip(sent, (f for f in taken.frames if f.stamp.index != 999), strict=True):
            assert (before.pixels == after.pixels).all()
            assert after.full_scale == 4095


def test_invalid_messages_are_dropped_and_counted_by_reason():
    with collecting() as taken, sender(taken.source.endpoint) as socket:
        socket.send(b"one part")
        socket.send_multipart([b"frame/cam/", b"garbage", b""])
        topic, header, payload = wire.encode(small_frame(0))
        socket.send_multipart([topic, header, bytes(payload)[:-2]])
        socket.send_multipart([topic, header, b"\1" * len(payload)])
        socket.send_multipart([topic, b"\x80" * 70_000, payload])
        changed = msgspec.msgpack.decode(header) | {"protocol": 9}
        socket.send_multipart([topic, msgspec.msgpack.encode(changed), payload])
        found = Detections.bare(Stamp("cam", 0, 0, 0), np.zeros((1, 2)), np.ones(1), np.ones(1))
        socket.send_multipart(wire.encode(found))
        send(socket, small_frame(1))
        until(lambda: taken.frames)
        assert [f.stamp.index for f in taken.frames] == [1]
        assert taken.source.rejected == {"parts": 1, "header": 2, "length": 1, "crc": 1, "version": 1, "kind": 1}


@pytest.mark.parametrize("policy", ["lossless", "live"])
def test_only_the_configured_sensors_are_received(policy):
    kind = zmq.PUB if policy == "live" else zmq.PUSH
    with collecting(policy, sensors=("cam1",)) as taken, sender(taken.source.endpoint, kind) as socket:
        until(
            lambda: (
                send(socket, small_frame(0, "cam1"), small_frame(0, "cam10"), small_frame(0, "b")) or len(taken.frames) > 1
            )
        )
        assert {f.stamp.sensor for f in taken.frames} == {"cam1"}


def test_a_message_beyond_the_limit_closes_only_its_own_connection():
    with collecting(largest_mb=0.01) as taken, sender(taken.source.endpoint) as big, sender(taken.source.endpoint) as small:
        send(big, small_frame(0, "big", shape=(200, 200)))
        until(lambda: taken.source.links["disconnected"], "the disconnection")
        send(small, small_frame(0))
        until(lambda: taken.frames)
        assert {f.stamp.sensor for f in taken.frames} == {"cam"}


def test_silence_counts_as_a_stall_and_the_link_is_reopened():
    listener = zmq.Context()
    publisher = listener.socket(zmq.PUB)
    publisher.bind(LOCAL)
    endpoint = publisher.last_endpoint.decode()
    try:
        with collecting("live", endpoint=endpoint, bind=False, stall_s=0.1) as taken:
            until(lambda: taken.source.stalled)
            assert taken.source.links["stalled"] == 1
            until(lambda: send(publisher, small_frame(0)) or taken.frames)
            until(lambda: taken.source.links["stalled"] >= 2, "a second stall: the first had ended")
    finally:
        listener.destroy(0)


def test_a_source_stops_even_if_frames_keep_arriving(monkeypatch):
    monkeypatch.setattr(sockets, "DRAIN_S", 0.2)
    monkeypatch.setattr(sockets, "DRAIN_POLL_MS", 5000)  # this machine may be busy
    with collecting() as taken, sender(taken.source.endpoint) as socket:
        send(socket, small_frame(0))
        taken.source.stop()
        until(lambda: send(socket, *(small_frame(1) for _ in range(100))) or not taken.is_alive(), "the end")


def test_invalid_messages_prevent_a_stall():
    with collecting(stall_s=2.0) as taken, sender(taken.source.endpoint) as socket:
        socket.send(b"nonsense")
        until(lambda: taken.source.rejected)
        deadline = time.monotonic() + 2.5
        until(lambda: socket.send(b"nonsense") or time.monotonic() > deadline)
        assert taken.source.links["stalled"] == 0


def test_frames_that_arrived_before_a_stop_are_still_delivered():
    source = ZmqSource(ReceiveSettings(LOCAL, bind=True), "lossless")
    try:
        with sender(source.endpoint) as socket:
            send(socket, *(small_frame(i) for i in range(1000)))
            frames = iter(source)
            assert next(frames).stamp.index == 0
            until(lambda: source._socket.poll(0))
            source.stop()
            rest = [f.stamp.index for f in frames]
        assert rest == list(range(1, 1000)), "including frames in the operating system's buffers"
    finally:
        source.close()


def test_an_endpoint_in_use_gives_a_one_line_error():
    source = ZmqSource(ReceiveSettings(LOCAL, bind=True))
    try:
        with pytest.raises(SourceError, match=rf"{source.endpoint}: cannot be bound: Address already in use"):
            ZmqSource(ReceiveSettings(source.endpoint, bind=True))
    finally:
        source.close()


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.8.8.8:*", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:5555", True),
        ("ipc:///tmp/feed", True),
        ("tcp://*:5555", False),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://eth0:5555", False),
        ("tcp://192.168.1.7:5555", False),
        ("tcp://[::]:5555", False),
    ],
)
def test_which_endpoints_are_local(endpoint, local):
    assert is_local(endpoint) is local
    field, fault = link_fault(Link(endpoint, bind=True))
    assert bool(fault) is not local
    assert field == ("" if local else "endpoint")
    assert link_fault(Link(endpoint, bind=True, unencrypted_on_the_network=True)) == ("", "")
    assert link_fault(Link(endpoint))[0] == ("endpoint" if "*" in endpoint else ""), "an end cannot connect to a wildcard"
    if not local:
        with pytest.raises(UsageError, match="can be reached from other machines without keys"):
            ZmqSource(ReceiveSettings(endpoint, bind=True))


INVALID_ENDPOINTS = (
    *("", "127.0.0.1:5555", "tcp:/127.0.0.1:1", "tcp://", "ipc://", "udp://127.0.0.1:1", "inproc://feed"),
    *("tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://:5555", "tcp://[::1:5555", "tcp://two words:5555"),
    *("tcp://127.0.0.1:99999", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:http", "tcp://127.0.0.1:٣"),
)


@pytest.mark.parametrize(
    ("link", "field"),
    [
        *(
            (Link(endpoint, bind, unencrypted_on_the_network=True), "endpoint")
            for endpoint in INVALID_ENDPOINTS
            for bind in (0, 1)
        ),
        (Link("tcp://*:5555"), "endpoint"),
        (Link("tcp://127.0.0.1:*"), "endpoint"),
        (Link("tcp://127.0.0.1:0"), "endpoint"),
        (Link("tcp://127.0.0.1:1", bind=True, keys="k", server_key="s"), "server_key"),
        (Link("tcp://127.0.0.1:1", keys="k", allow="a"), "allow"),
        (Link("tcp://127.0.0.1:1", keys="k"), "server_key"),
        (Link("tcp://127.0.0.1:1", bind=True, keys="k"), "allow"),
        (Link("tcp://127.0.0.1:1", bind=True, allow="a"), "keys"),
    ],
)
def test_the_invalid_field_of_a_link_is_named(link, field):
    assert link_fault(link)[0] == field


@pytest.fixture
def keys(tmp_path):
    """A folder with key pairs of a server, a known and an unknown client, and `allowed`, the server's allow-list."""
    pairs = {name: make_keys(tmp_path / name) for name in ("server", "known", "unknown")}
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed/known.key").write_bytes((tmp_path / "known.key").read_bytes())
    return tmp_path, pairs


def curve(pairs, name):
    """CURVE socket options of a client."""
    own = pairs[name]
    return {
        "curve_publickey": own.public,
        "curve_secretkey": own.secret,
        "curve_serverkey": pairs["server"].public,
    }


def test_known_keys_are_accepted_and_unknown_ones_counted(keys, caplog):
    folder, pairs = keys
    access = {"keys": str(folder / "server.key_secret"), "allow": str(folder / "allowed")}
    with (
        collecting(**access) as taken,
        sender(taken.source.endpoint, **curve(pairs, "unknown"), linger=0) as stranger,
        sender(taken.source.endpoint, **curve(pairs, "known")) as friend,
    ):
        send(stranger, small_frame(0, "stranger"))
        until(lambda: taken.source.rejected["client"], "the rejection")
        send(friend, small_frame(7))
        until(lambda: taken.frames)
        assert [f.stamp.sensor for f in taken.frames] == ["cam"]
    assert pairs["unknown"].public.decode() in caplog.text


def test_rejected_clients_are_counted_in_bounded_memory(keys):
    folder, _ = keys
    with zmq.Context() as context, closing(ClientAuthenticator(context, folder / "allowed")) as authenticator:
        for k in range(1000):
            assert not authenticator.callback("", f"{k:040}".encode())
        assert authenticator.rejected.total() == 1000
        assert len(authenticator.rejected) == MAX_REJECTED_KEYS + 1
        assert authenticator.rejected[OTHERS] == 1000 - MAX_REJECTED_KEYS


def test_an_invalid_key_file_is_ignored(keys, caplog):
    folder, pairs = keys
    access = {"keys": str(folder / "server.key_secret"), "allow": str(folder / "allowed")}
    with collecting(**access) as taken:
        (folder / "allowed" / "another.key").write_text("junk")
        with sender(taken.source.endpoint, **curve(pairs, "known")) as friend:
            send(friend, small_frame(0))
            until(lambda: taken.frames)
    assert "another.key: not a readable key file" in caplog.text


def test_a_client_without_keys_is_refused(keys):
    folder, pairs = keys
    access = {"keys": str(folder / "server.key_secret"), "allow": str(folder / "allowed")}
    with (
        collecting(**access) as taken,
        sender(taken.source.endpoint, linger=0) as stranger,
        sender(taken.source.endpoint, **curve(pairs, "known")) as friend,
    ):
        send(stranger, small_frame(0, "stranger"))
        until(lambda: taken.source.links["refused"], "the refusal")
        send(friend, small_frame(0))
        until(lambda: taken.frames)
        assert {f.stamp.sensor for f in taken.frames} == {"cam"}


def test_results_are_sent_encrypted_to_known_clients(keys):
    folder, pairs = keys
    access = {"keys": str(folder / "server.key_secret"), "allow": str(folder / "allowed")}
    sink = ZmqSink(PublishSettings(LOCAL, **access), "lossless")
    found = Detections.bare(Stamp("cam", 0, 3, 0), np.array([[1.0, 2.0]]), np.ones(1), np.ones(1))
    try:
        with sender(sink.endpoint, zmq.PULL, **curve(pairs, "known"), rcvtimeo=20_000) as listener:
            sink.write(found, 123)
            received = wire.decode(listener.recv_multipart())
        assert received.published_ns == 123
        assert received.record.xy.tolist() == [[1.0, 2.0]]
    finally:
        sink.close()


def test_results_without_a_receiver_are_counted_as_lost(monkeypatch):
    monkeypatch.setattr(sockets, "SEND_TIMEOUT_MS", 1)
    sink = ZmqSink(PublishSettings(LOCAL), "lossless")
    found = Detections.bare(Stamp("cam", 0, 3, 0), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    sink.write(found, 0)
    assert sink.lost == 1
    sink.close()
    sink.close()


def test_key_files_are_created_private_and_never_overwritten(tmp_path):
    os.umask(mask := os.umask(0))
    keys = make_keys(tmp_path / "me")
    public, secret = key_files(tmp_path / "me")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert read_keys(secret) == keys
    assert read_keys(public) == keys._replace(secret=b"")
    with pytest.raises(OutputError, match="exists"):
        make_keys(tmp_path / "me")
    assert read_keys(secret) == keys
    secret.chmod(0o640)
    with pytest.raises(UsageError, match="others may read this secret key"):
        read_keys(secret)
    os.umask(mask)


def test_an_invalid_key_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a readable key file"):
        read_keys(tmp_path / "missing.key")
    (tmp_path / "short.key").write_text('curve\n    public-key = "abc"\n')
    with pytest.raises(UsageError, match="expected a key of 40 characters, got 3"):
        read_keys(tmp_path / "short.key")
    for key in (40 * "#", 40 * ";"):
        (tmp_path / "wrong.key").write_text(f'curve\n    public-key = "{key}"\n')
        with pytest.raises(UsageError, match=f"expected a key in Z85, got {key}"):
            read_keys(tmp_path / "wrong.key")
    with pytest.raises(UsageError, match="no such folder"):
        allowed_keys(tmp_path / "nowhere")
    public = key_files(tmp_path / "me")[0]
    make_keys(tmp_path / "me")
    with pytest.raises(UsageError, match="is a public key"):
        ZmqSource(ReceiveSettings("tcp://127.0.0.1:1", keys=str(public), server_key=str(public)))
