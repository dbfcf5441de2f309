"""What goes wrong on the way: pauses, noise, crowds and listeners who do not listen cost nobody else a frame."""

import random
import select
import socket as tcp
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress

import msgspec
import numpy as np
import pytest
import zmq
from feeds import LOCAL, PATIENCE_S, lines, patch, running, send, sender, until

from irst_stream import Detections, Frame, WireError
from irst_stream.build import reader_maker
from irst_stream.config import parse_config
from irst_stream.io.jsonl import LinesSink
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.curve_keys import make_keys
from irst_stream.io.zeromq.settings import PublishSettings
from irst_stream.io.zeromq.sockets import ZmqSink

FUZZED = 100_000
GOOD_EVERY = 100


class Network(threading.Thread):
    """A stretch of network to an endpoint, which may pause; a connection ends at both its ends."""

    def __init__(self, endpoint):
        super().__init__(daemon=True)
        self.beyond = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        self.door = tcp.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self.door.getsockname()[1]}"
        self.paused, self.still, self.ended, self.other_end = *(threading.Event() for _ in range(3)), {}

    def pause(self):
        """From now on nothing moves."""
        self.paused.set()
        assert self.still.wait(PATIENCE_S)

    def resume(self):
        self.paused.clear()

    def run(self):
        while not self.ended.is_set():
            if self.paused.is_set():
                self.still.set()
                self.ended.wait(0.01)
                continue
            for end in select.select([self.door, *self.other_end], [], [], 0.01)[0]:
                if end is self.door:
                    here, there = self.door.accept()[0], tcp.create_connection(self.beyond)
                    self.other_end |= {here: there, there: here}
                elif end in self.other_end:
                    self._pass_on(end)
        for end in (self.door, *self.other_end):
            end.close()

    def _pass_on(self, end):
        with suppress(OSError):
            if data := end.recv(1 << 16):
                self.other_end[end].sendall(data)
                return
        for gone in (end, self.other_end[end]):
            del self.other_end[gone]
            gone.close()


@contextmanager
def network(endpoint):
    made = Network(endpoint)
    made.start()
    try:
        yield made
    finally:
        made.ended.set()
        made.join(PATIENCE_S)


def test_a_network_that_pauses_for_five_seconds_costs_nothing_where_nothing_may_be_lost():
    with running(stall_s=5.0) as live, network(live.source.endpoint) as between, sender(between.endpoint) as socket:
        send(socket, *(patch(k) for k in range(20)))
        until(lambda: len(live.noted.of()) == 16 and live.source.links["connected"] == 1, "answers")
        between.pause()
        send(socket, *(patch(k) for k in range(20, 30)))
        until(lambda: live.source.stalled, "the stall")
        between.resume()
        send(socket, *(patch(k) for k in range(30, 50)))
        until(lambda: live.noted.of()[-1] == 47, "answers")
        assert not live.source.stalled
    status = live.status()
    assert live.noted.of() == list(range(2, 48))
    assert status.frames == 50
    assert status.dropped == {}
    assert (status.links["connected"], status.links["stalled"]) == (1, 1)
    assert status.rejected == {}


HOSTILE = {
    "protocol": [0, 2, -1, "1", None, 2**63],
    "kind": ["tracks", "detections", "", 7],
    "sensor": ["", "x" * 65, "a/b", "a\n", 3, "ü"],
    "epoch": [2**63, 1.5, "1"],
    "index": [-1, 2**63, None],
    "time_ns": [2**63, "now", float("nan")],
    "clock": ["wall", 1],
    "dtype": ["float64", "int16", "complex64", "uint16 ", 2],
    "byte_order": ["middle", 0],
    "shape": [[11], [11, 11, 1], [0, 11], [11, 12], [-11, -11], [2**31, 2**31], [1 << 15, 1 << 15], [2**63, 2], "11x11"],
    "crc32": [0, -1, 2**32],
    "full_scale": [0, -1.0, float("nan"), float("inf"), "bright"],
    "columns": [["x"], "x"],
    "metadata": [{"a": [1] * 50}, b"\0" * 1000],
}


class Fuzzer:
    """Messages of a faulty sensor: those of a good one, changed in one way or other, and noise."""

    def __init__(self, seed):
        self.chance, self.number = random.Random(seed), 0
        self.ways = (
            self._bytes_changed,
            self._cut,
            self._parts_shuffled,
            self._field_changed,
            self._field_gone,
            self._noise,
        )

    def message(self):
        self.number += 1
        parts = [bytes(part) for part in wire.encode(patch(self.number, "faulty", epoch=self.number // 1000))]
        if self.number % 500 == 0:
            parts[1] = self.chance.choice([b"\x80" * 70_000, b"\x91" * 60_000, b"\xdf\xff\xff\xff\xff" + b"\x01" * 60_000])
            return parts
        return self.chance.choice(self.ways)(parts)

    def _bytes_changed(self, parts):
        changed = [bytearray(part) for part in parts]
        for _ in range(self.chance.randint(1, 4)):
            part = self.chance.choice(changed)
            part[self.chance.randrange(len(part))] = self.chance.randrange(256)
        return [bytes(part) for part in changed]

    def _cut(self, parts):
        k = self.chance.randrange(3)
        parts[k] = parts[k][: self.chance.randrange(len(parts[k]))]
        return parts

    def _parts_shuffled(self, parts):
        return self.chance.choices(parts, k=self.chance.randint(1, 6))

    def _field_changed(self, parts):
        field = self.chance.choice(list(HOSTILE))
        header = msgspec.msgpack.decode(parts[1]) | {field: self.chance.choice(HOSTILE[field])}
        return [parts[0], msgspec.msgpack.encode(header), parts[2]]

    def _field_gone(self, parts):
        header = msgspec.msgpack.decode(parts[1])
        del header[self.chance.choice(list(header))]
        return [parts[0], msgspec.msgpack.encode(header), parts[2]]

    def _noise(self, _):
        return [self.chance.randbytes(self.chance.randrange(300)) for _ in range(self.chance.randint(1, 4))]


def verdict(parts):
    """What is to be counted of a message, "" of a frame."""
    try:
        return "" if isinstance(wire.decode(parts).record, Frame) else "kind"
    except WireError as error:
        return error.reason


def test_of_a_hundred_thousand_messages_each_is_a_frame_or_counted_as_none():
    fuzzer, expected, good = Fuzzer(7), Counter(), FUZZED // GOOD_EVERY
    began = time.monotonic()
    with running() as live, sender(live.source.endpoint) as socket:
        for k in range(FUZZED):
            if k % GOOD_EVERY == 0:
                send(socket, patch(k // GOOD_EVERY))
            else:
                parts = fuzzer.message()
                expected[verdict(parts)] += 1
                socket.send_multipart(parts)
        until(lambda: live.status().frames + sum(live.status().rejected.values()) == FUZZED, "all messages")
        until(lambda: len(live.noted.of()) == good - 4, "all answers")
    status, frames = live.status(), good + expected.pop("")
    assert live.noted.of() == list(range(2, good - 2))
    assert status.rejected == expected
    assert status.frames == frames
    assert set(expected) == {"parts", "topic", "header", "version", "dtype", "shape", "length", "crc"}
    assert min(expected.values()) > 100, "a fair trial"
    assert time.monotonic() - began < 30


CROWD, SERVED = 30, 8


def noise(_, k):
    return [b"frame/noise/", random.Random(k).randbytes(100), b""]


def other_epochs(number, k):
    return wire.encode(patch(k // 3, f"restless{number}", epoch=(-k) ** 3))


def inventions(number, k):
    return wire.encode(patch(0, f"guest{number}.{k}"))


def other_sizes(number, k):
    return wire.encode(patch(k, f"shifty{number}", shape=(1 + k % 60, 1 + k % 7)))


def broken_pixels(number, k):
    topic, header, payload = wire.encode(patch(k, f"noisy{number}"))
    return [topic, header, bytes(payload[:-1]) + b"\x77"]


def too_large(_, k):
    return [b"frame/large/", b"", b"\0" * 70_000] if k % 50 == 0 else [b""]


@contextmanager
def crowd(endpoint):
    """Thirty faulty sensors that send as fast as they can, six of which do not even speak ZeroMQ; .sent by kind."""
    ways = (noise, other_epochs, inventions, other_sizes, broken_pixels, too_large)
    ended, where = threading.Event(), ("127.0.0.1", int(endpoint.rpartition(":")[2]))
    sent = Counter()

    def misbehave():
        with zmq.Context() as context:
            sockets = [context.socket(zmq.PUSH) for _ in range(CROWD - 6)]
            for each in sockets:
                each.set(zmq.LINGER, 0)
                each.connect(endpoint)
            for k in range(10**6):
                if ended.is_set():
                    break
                for number, each in enumerate(sockets):
                    with suppress(zmq.Again):
                        way = ways[number % len(ways)]
                        each.send_multipart(way(number, k), zmq.NOBLOCK)
                        sent[way.__name__] += 1
                if k % 20 == 0:
                    shout(where, k)
            for each in sockets:
                each.close()

    thread = threading.Thread(target=misbehave, daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def shout(where, seed):
    """What is not ZeroMQ, from six at once."""
    with suppress(OSError):
        for number in range(6):
            with tcp.create_connection(where, 1) as connection:
                connection.sendall(random.Random(seed + number).randbytes(200))


def test_thirty_faulty_sensors_take_no_window_from_a_good_one():
    with running(most_sensors=SERVED, largest_mb=0.05) as live, sender(live.source.endpoint) as socket:
        send(socket, patch(0))
        until(lambda: live.status().frames == 1)
        with crowd(live.source.endpoint) as sent:
            until(lambda: len(sent) == 6 and min(sent.values()) > 20 and live.status().dropped.get("sensors", 0) > 1000)
            for k in range(1, 300):
                send(socket, patch(k))
            until(lambda: len(live.noted.of()) == 296, "all answers of the good sensor")
    status = live.status()
    assert live.noted.of() == list(range(2, 298))
    assert len(status.sensors) <= SERVED + 1, "those served, and all others"
    assert {stamp.sensor for stamp in live.noted.stamps} <= set(status.sensors)
    assert {"header", "crc", "parts"} <= set(status.rejected)
    assert status.links["disconnected"] > 0


def test_pixels_that_are_no_light_do_not_end_a_run():
    config = parse_config("[fit]\nsigma_px = 0.5\namplitude_dn = 200.0\namplitude_sd_dn = 10.0\n", "here")
    odd = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0]
    chance = np.random.default_rng(3)
    with running(read=reader_maker(config, None)()) as live, sender(live.source.endpoint) as socket:
        for k in range(60):
            pixels = np.where(chance.random((11, 11)) < (k % 4) / 3, odd[k // 5 % len(odd)], 10).astype(np.float32)
            send(socket, Frame(patch(k, "odd").stamp, pixels))
            send(socket, patch(k))
        until(lambda: len(live.noted.of()) == 56 == len(live.noted.of("odd")), "all answers")
    assert live.status().dropped == {}


@pytest.mark.parametrize("policy", ["live", "lossless"])
def test_a_listener_who_never_reads_costs_the_others_nothing(policy, tmp_path, monkeypatch):
    monkeypatch.setattr("irst_stream.io.zeromq.sockets.SEND_TIMEOUT_MS", 50)
    sink = ZmqSink(PublishSettings(LOCAL, high_water=2), policy)
    file = LinesSink(tmp_path / "found.jsonl", Detections)
    deaf = {"kind": zmq.SUB if policy == "live" else zmq.PULL, "rcvhwm": 1, "rcvbuf": 4096}

    def many_targets(window, _):
        return Detections.bare(window.stamp, np.ones((3000, 2)), np.ones(3000), np.ones(3000))

    with (
        sender(sink.endpoint, **deaf, **({"subscribe": b""} if policy == "live" else {})),
        running(sinks={"listener": sink, "file": file}, read=many_targets) as live,
        sender(live.source.endpoint) as socket,
    ):
        send(socket, *(patch(k) for k in range(64)))
        until(lambda: live.status().sinks["file"].written == 60, "all lines")
        until(lambda: sum(live.status().sinks["listener"][:3]) == 60)
    status = live.status()
    assert live.noted.of() == list(range(2, 62))
    assert [line["index"] for line in lines(tmp_path / "found.jsonl")] == list(range(2, 62))
    assert status.dropped == {}
    assert status.sinks["file"] == (60, 0, 0, "")
    written, waiting, lost, alarm = status.sinks["listener"]
    assert (written + lost, waiting, alarm) == (60, 0, "")
    assert (lost > 0) == (policy == "lossless"), "a PUB does not say who has missed what"


def test_a_sensor_that_takes_someone_else_for_the_receiver_stays_outside(tmp_path):
    pairs = {name: make_keys(tmp_path / name) for name in ("server", "known", "other")}
    (tmp_path / "allowed").mkdir()
    (tmp_path / "known.key").rename(tmp_path / "allowed/known.key")
    access = {"keys": str(tmp_path / "server.key_secret"), "allow": str(tmp_path / "allowed")}
    mine = {"curve_publickey": pairs["known"].public, "curve_secretkey": pairs["known"].secret}
    with (
        running(**access) as live,
        sender(live.source.endpoint, **mine, curve_serverkey=pairs["other"].public, linger=0) as astray,
        sender(live.source.endpoint, **mine, curve_serverkey=pairs["server"].public) as right,
    ):
        astray.send_multipart(wire.encode(patch(0, "astray")), zmq.NOBLOCK)
        until(lambda: live.source.links["refused"], "the refusal")
        send(right, *(patch(k) for k in range(10)))
        until(lambda: len(live.noted.of()) == 6)
    assert set(live.status().sensors) == {"cam"}
