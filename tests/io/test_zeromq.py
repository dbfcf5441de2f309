"""Sockets: what is sent arrives, what is wrong is counted, who is unknown stays outside."""

import os
import stat
import time
from contextlib import closing

import msgspec
import numpy as np
import pytest
import zmq
from feeds import LOCAL, collecting, patch, send, sender, until

from irst_stream import Detections, OutputError, SourceError, Stamp, UsageError
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.curve_keys import MOST_REJECTED, Doorkeeper, allowed_keys, key_files, make_keys, read_keys
from irst_stream.io.zeromq.settings import Link, PublishSettings, ReceiveSettings, is_local, link_fault
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource
from irst_stream.live.queues import OTHERS


@pytest.mark.parametrize(("policy", "kind"), [("lossless", zmq.PUSH), ("live", zmq.PUB)])
def test_frames_arrive_as_they_were_sent(policy, kind):
    sent = [patch(i, level=i, shape=(11, 11 + i)) for i in range(40)]
    with collecting(policy) as taken, sender(taken.source.endpoint, kind) as socket:
        if kind == zmq.PUB:  # a subscription takes a moment to get through
            until(lambda: send(socket, patch(999)) or taken.frames, "the subscription")
            until(lambda: taken.frames[-1].stamp.index == 999)
        send(socket, *sent)
        until(lambda: [f.stamp for f in taken.frames if f.stamp.index != 999] == [f.stamp for f in sent])
        for before, after in zip(sent, (f for f in taken.frames if f.stamp.index != 999), strict=True):
            assert (before.pixels == after.pixels).all()
            assert after.full_scale == 4095


def test_what_is_no_frame_is_counted_by_reason_and_passed_over():
    with collecting() as taken, sender(taken.source.endpoint) as socket:
        socket.send(b"one part")
        socket.send_multipart([b"frame/cam/", b"garbage", b""])
        topic, header, payload = wire.encode(patch(0))
        socket.send_multipart([topic, header, bytes(payload)[:-2]])
        socket.send_multipart([topic, header, b"\1" * len(payload)])
        socket.send_multipart([topic, b"\x80" * 70_000, payload])
        changed = msgspec.msgpack.decode(header) | {"protocol": 9}
        socket.send_multipart([topic, msgspec.msgpack.encode(changed), payload])
        found = Detections.bare(Stamp("cam", 0, 0, 0), np.zeros((1, 2)), np.ones(1), np.ones(1))
        socket.send_multipart(wire.encode(found))
        send(socket, patch(1))
        until(lambda: taken.frames)
        assert [f.stamp.index for f in taken.frames] == [1]
        assert taken.source.rejected == {"parts": 1, "header": 2, "length": 1, "crc": 1, "version": 1, "kind": 1}


@pytest.mark.parametrize("policy", ["lossless", "live"])
def test_only_the_sensors_that_are_asked_for_are_heard(policy):
    kind = zmq.PUB if policy == "live" else zmq.PUSH
    with collecting(policy, sensors=("cam1",)) as taken, sender(taken.source.endpoint, kind) as socket:
        until(lambda: send(socket, patch(0, "cam1"), patch(0, "cam10"), patch(0, "b")) or len(taken.frames) > 1)
        assert {f.stamp.sensor for f in taken.frames} == {"cam1"}


def test_a_message_beyond_the_limit_breaks_its_own_connection_only():
    with collecting(largest_mb=0.01) as taken, sender(taken.source.endpoint) as big, sender(taken.source.endpoint) as small:
        send(big, patch(0, "big", shape=(200, 200)))
        until(lambda: taken.source.links["disconnected"], "the disconnection")
        send(small, patch(0))
        until(lambda: taken.frames)
        assert {f.stamp.sensor for f in taken.frames} == {"cam"}


def test_silence_is_noticed_and_the_link_opened_anew():
    listener = zmq.Context()
    publisher = listener.socket(zmq.PUB)
    publisher.bind(LOCAL)
    endpoint = publisher.last_endpoint.decode()
    try:
        with collecting("live", endpoint=endpoint, bind=False, stall_s=0.1) as taken:
            until(lambda: taken.source.stalled)
            assert taken.source.links["stalled"] == 1
            until(lambda: send(publisher, patch(0)) or taken.frames)
            until(lambda: taken.source.links["stalled"] >= 2, "a second stall: the first had ended")
    finally:
        listener.destroy(0)


def test_a_flood_does_not_keep_a_source_from_stopping(monkeypatch):
    monkeypatch.setattr("irst_stream.io.zeromq.sockets.REST_S", 0.2)
    monkeypatch.setattr("irst_stream.io.zeromq.sockets.GAP_MS", 5000)  # this machine may be busy
    with collecting() as taken, sender(taken.source.endpoint) as socket:
        send(socket, patch(0))
        taken.source.stop()
        until(lambda: send(socket, *(patch(1) for _ in range(100))) or not taken.is_alive(), "the end")


def test_a_link_over_which_nonsense_comes_has_not_stalled():
    with collecting(stall_s=2.0) as taken, sender(taken.source.endpoint) as socket:
        socket.send(b"nonsense")
        until(lambda: taken.source.rejected)
        ended = time.monotonic() + 2.5
        until(lambda: socket.send(b"nonsense") or time.monotonic() > ended)
        assert taken.source.links["stalled"] == 0


def test_what_has_come_before_a_stop_is_still_given_out():
    source = ZmqSource(ReceiveSettings(LOCAL, bind=True), "lossless")
    try:
        with sender(source.endpoint) as socket:
            send(socket, *(patch(i) for i in range(1000)))
            frames = iter(source)
            assert next(frames).stamp.index == 0
            until(lambda: source._socket.poll(0))
            source.stop()
            rest = [f.stamp.index for f in frames]
        assert rest == list(range(1, 1000)), "what waits in the system's buffers too"
    finally:
        source.close()


def test_an_endpoint_in_use_gives_one_clear_line():
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
def test_which_endpoints_only_this_machine_reaches(endpoint, local):
    assert is_local(endpoint) is local
    field, fault = link_fault(Link(endpoint, bind=True))
    assert bool(fault) is not local
    assert field == ("" if local else "endpoint")
    assert link_fault(Link(endpoint, bind=True, unencrypted_on_the_network=True)) == ("", "")
    assert link_fault(Link(endpoint))[0] == ("endpoint" if "*" in endpoint else ""), "nobody can go to any of them"
    if not local:
        with pytest.raises(UsageError, match="can be reached from other machines without keys"):
            ZmqSource(ReceiveSettings(endpoint, bind=True))


UNKNOWN = (
    *("", "127.0.0.1:5555", "tcp:/127.0.0.1:1", "tcp://", "ipc://", "udp://127.0.0.1:1", "inproc://feed"),
    *("tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://:5555", "tcp://[::1:5555", "tcp://two words:5555"),
    *("tcp://127.0.0.1:99999", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:http", "tcp://127.0.0.1:٣"),
)


@pytest.mark.parametrize(
    ("link", "field"),
    [
        *((Link(endpoint, bind, unencrypted_on_the_network=True), "endpoint") for endpoint in UNKNOWN for bind in (0, 1)),
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
def test_links_that_make_no_sense_are_named(link, field):
    assert link_fault(link)[0] == field


@pytest.fixture
def keys(tmp_path):
    """Key pairs of a server, a client it knows and one it does not; the folder of those it knows."""
    pairs = {name: make_keys(tmp_path / name) for name in ("server", "known", "unknown")}
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed/known.key").write_bytes((tmp_path / "known.key").read_bytes())
    return tmp_path, pairs


def curve(pairs, name):
    """A client's socket options."""
    mine = pairs[name]
    return {
        "curve_publickey": mine.public,
        "curve_secretkey": mine.secret,
        "curve_serverkey": pairs["server"].public,
    }


def test_known_keys_come_in_and_unknown_ones_are_counted(keys, caplog):
    folder, pairs = keys
    access = {"keys": str(folder / "server.key_secret"), "allow": str(folder / "allowed")}
    with (
        collecting(**access) as taken,
        sender(taken.source.endpoint, **curve(pairs, "unknown"), linger=0) as stranger,
        sender(taken.source.endpoint, **curve(pairs, "known")) as friend,
    ):
        send(stranger, patch(0, "stranger"))
        until(lambda: taken.source.rejected["client"], "the rejection")
        send(friend, patch(7))
        until(lambda: taken.frames)
        assert [f.stamp.sensor for f in taken.frames] == ["cam"]
    assert pairs["unknown"].public.decode() in caplog.text


def test_any_number_of_unknown_clients_are_counted_in_bounded_memory(keys):
    folder, _ = keys
    with zmq.Context() as context, closing(Doorkeeper(context, folder / "allowed")) as door:
        for k in range(1000):
            assert not door.callback("", f"{k:040}".encode())
        assert door.rejected.total() == 1000
        assert len(door.rejected) == MOST_REJECTED + 1
        assert door.rejected[OTHERS] == 1000 - MOST_REJECTED


def test_a_file_that_is_no_key_keeps_nobody_out(keys, caplog):
    folder, pairs = keys
    access = {"keys": str(folder / "server.key_secret"), "allow": str(folder / "allowed")}
    with collecting(**access) as taken:
        (folder / "allowed" / "another.key").write_text("junk")
        with sender(taken.source.endpoint, **curve(pairs, "known")) as friend:
            send(friend, patch(0))
            until(lambda: taken.frames)
    assert "another.key: no key file that can be read" in caplog.text


def test_a_client_without_keys_says_nothing(keys):
    folder, pairs = keys
    access = {"keys": str(folder / "server.key_secret"), "allow": str(folder / "allowed")}
    with (
        collecting(**access) as taken,
        sender(taken.source.endpoint, linger=0) as stranger,
        sender(taken.source.endpoint, **curve(pairs, "known")) as friend,
    ):
        send(stranger, patch(0, "stranger"))
        until(lambda: taken.source.links["refused"], "the refusal")
        send(friend, patch(0))
        until(lambda: taken.frames)
        assert {f.stamp.sensor for f in taken.frames} == {"cam"}


def test_results_go_out_encrypted_to_those_who_are_known(keys):
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


def test_results_that_nobody_takes_are_counted(monkeypatch):
    monkeypatch.setattr("irst_stream.io.zeromq.sockets.SEND_TIMEOUT_MS", 1)
    sink = ZmqSink(PublishSettings(LOCAL), "lossless")
    found = Detections.bare(Stamp("cam", 0, 3, 0), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    sink.write(found, 0)
    assert sink.lost == 1
    sink.close()
    sink.close()


def test_key_files_are_private_from_the_start_and_never_written_over(tmp_path):
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


def test_what_is_no_key_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="no key file that can be read"):
        read_keys(tmp_path / "missing.key")
    (tmp_path / "short.key").write_text('curve\n    public-key = "abc"\n')
    with pytest.raises(UsageError, match="a key has 40 letters, got 3"):
        read_keys(tmp_path / "short.key")
    for key in (40 * "#", 40 * ";"):
        (tmp_path / "wrong.key").write_text(f'curve\n    public-key = "{key}"\n')
        with pytest.raises(UsageError, match=f"a key is written in Z85, got {key}"):
            read_keys(tmp_path / "wrong.key")
    with pytest.raises(UsageError, match="no such folder"):
        allowed_keys(tmp_path / "nowhere")
    public = key_files(tmp_path / "me")[0]
    make_keys(tmp_path / "me")
    with pytest.raises(UsageError, match="is a public key"):
        ZmqSource(ReceiveSettings("tcp://127.0.0.1:1", keys=str(public), server_key=str(public)))
