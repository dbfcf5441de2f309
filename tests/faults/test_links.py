"""Faults of links: pauses, noise, many faulty senders and slow receivers cost no other sensor a frame."""

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
from local_feeds import LOCAL, PATIENCE_S, lines, running, send, sender, small_frame, until

from irst_stream import Detections, Frame, WireError
from irst_stream.build import resolver_maker
from irst_stream.config import parse_config
from irst_stream.io.lines_sink import LinesSink, WriteSettings
from irst_stream.io.zeromq import sockets, wire
from irst_stream.io.zeromq.curve_keys import make_keys
from irst_stream.io.zeromq.settings import PublishSettings
from irst_stream.io.zeromq.sockets import ZmqSink

FUZZED = 100_000
GOOD_EVERY = 100


class Proxy(threading.Thread):
    """A TCP proxy to an endpoint that can pause; when one end of a connection closes, so does the other."""

    def __init__(self, endpoint):
        super().__init__(daemon=True)
        self.target = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        self.server = tcp.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        self.pausing, self.paused, self.stopped, self.other_end = *(threading.Event() for _ in range(3)), {}

    def pause(self):
        """Stop forwarding; return once nothing is being forwarded."""
        self.pausing.set()
        assert self.paused.wait(PATIENCE_S)

    def resume(self):
        self.pausing.clear()

    def run(self):
        while not self.stopped.is_set():
            if self.pausing.is_set():
                self.paused.set()
                self.stopped.wait(0.01)
                continue
            for end in select.select([self.server, *self.other_end], [], [], 0.01)[0]:
                if end is self.server:
                    here, there = self.server.accept()[0], tcp.create_connection(self.target)
                    self.other_end |= {here: there, there: here}
                elif end in self.other_end:
                    self._forward(end)
        for end in (self.server, *self.other_end):
            end.close()

    def _forward(self, end):
        with suppress(OSError):
            if data := end.recv(1 << 16):
                self.other_end[end].sendall(data)
                return
        for closing in (end, self.other_end[end]):
            del self.other_end[closing]
            closing.close()


@contextmanager
def proxy(endpoint):
    """A running proxy to an endpoint."""
    thread = Proxy(endpoint)
    thread.start()
    try:
        yield thread
    finally:
        thread.stopped.set()
        thread.join(PATIENCE_S)


def test_a_network_pause_of_five_seconds_loses_nothing_under_lossless():
    with running(stall_s=5.0) as live, proxy(live.source.endpoint) as between, sender(between.endpoint) as socket:
        send(socket, *(small_frame(k) for k in range(20)))
        until(lambda: len(live.published.indices()) == 16 and live.source.links["connected"] == 1, "answers")
        between.pause()
        send(socket, *(small_frame(k) for k in range(20, 30)))
        until(lambda: live.source.stalled, "the stall")
        between.resume()
        send(socket, *(small_frame(k) for k in range(30, 50)))
        until(lambda: live.published.indices()[-1] == 47, "answers")
        assert not live.source.stalled
    status = live.status()
    assert live.published.indices() == list(range(2, 48))
    assert status.frames == 50
    assert status.dropped == {}
    assert (status.links["connected"], status.links["stalled"]) == (1, 1)
    assert status.rejected == {}


INVALID_VALUES = {
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
    """Messages of a faulty sensor: valid messages changed in one of several ways, and noise."""

    def __init__(self, seed):
        self.rng, self.number = random.Random(seed), 0
        self.mutations = (
            self._change_bytes,
            self._truncate,
            self._shuffle_parts,
            self._change_field,
            self._remove_field,
            self._noise,
        )

    def message(self):
        self.number += 1
        parts = [bytes(part) for part in wire.encode(small_frame(self.number, "faulty", epoch=self.number // 1000))]
        if self.number % 500 == 0:
            parts[1] = self.rng.choice([b"\x80" * 70_000, b"\x91" * 60_000, b"\xdf\xff\xff\xff\xff" + b"\x01" * 60_000])
            return parts
        return self.rng.choice(self.mutations)(parts)

    def _change_bytes(self, parts):
        changed = [bytearray(part) for part in parts]
        for _ in range(self.rng.randint(1, 4)):
            part = self.rng.choice(changed)
            part[self.rng.randrange(len(part))] = self.rng.randrange(256)
        return [bytes(part) for part in changed]

    def _truncate(self, parts):
        k = self.rng.randrange(3)
        parts[k] = parts[k][: self.rng.randrange(len(parts[k]))]
        return parts

    def _shuffle_parts(self, parts):
        return self.rng.choices(parts, k=self.rng.randint(1, 6))

    def _change_field(self, parts):
        field = self.rng.choice(list(INVALID_VALUES))
        header = msgspec.msgpack.decode(parts[1]) | {field: self.rng.choice(INVALID_VALUES[field])}
        return [parts[0], msgspec.msgpack.encode(header), parts[2]]

    def _remove_field(self, parts):
        header = msgspec.msgpack.decode(parts[1])
        del header[self.rng.choice(list(header))]
        return [parts[0], msgspec.msgpack.encode(header), parts[2]]

    def _noise(self, _):
        return [self.rng.randbytes(self.rng.randrange(300)) for _ in range(self.rng.randint(1, 4))]


def rejection(parts):
    """The reason under which a message must be counted, "" for a valid frame."""
    try:
        return "" if isinstance(wire.decode(parts).record, Frame) else "kind"
    except WireError as error:
        return error.reason


def test_each_of_100000_fuzzed_messages_is_a_frame_or_counted_as_invalid():
    fuzzer, expected, good = Fuzzer(7), Counter(), FUZZED // GOOD_EVERY
    start = time.monotonic()
    with running() as live, sender(live.source.endpoint) as socket:
        for k in range(FUZZED):
            if k % GOOD_EVERY == 0:
                send(socket, small_frame(k // GOOD_EVERY))
            else:
                parts = fuzzer.message()
                expected[rejection(parts)] += 1
                socket.send_multipart(parts)
        until(lambda: live.status().frames + sum(live.status().rejected.values()) == FUZZED, "all messages")
        until(lambda: len(live.published.indices()) == good - 4, "all answers")
    status, frames = live.status(), good + expected.pop("")
    assert live.published.indices() == list(range(2, good - 2))
    assert status.rejected == expected
    assert status.frames == frames
    assert set(expected) == {"parts", "topic", "header", "version", "dtype", "shape", "length", "crc"}
    assert min(expected.values()) > 100, "each reason must be tested often"
    assert time.monotonic() - start < 2 * PATIENCE_S


FAULTY_SENSORS, SERVED_SENSORS = 30, 8


def noise(_, k):
    return [b"frame/noise/", random.Random(k).randbytes(100), b""]


def changing_epochs(number, k):
    return wire.encode(small_frame(k // 3, f"restless{number}", epoch=(-k) ** 3))


def new_sensor_names(number, k):
    return wire.encode(small_frame(0, f"guest{number}.{k}"))


def changing_sizes(number, k):
    return wire.encode(small_frame(k, f"shifty{number}", shape=(1 + k % 60, 1 + k % 7)))


def broken_pixels(number, k):
    topic, header, payload = wire.encode(small_frame(k, f"noisy{number}"))
    return [topic, header, bytes(payload[:-1]) + b"\x77"]


def too_large(_, k):
    return [b"frame/large/", b"", b"\0" * 70_000] if k % 50 == 0 else [b""]


@contextmanager
def faulty_sensors(endpoint):
    """Thirty faulty sensors that send at full speed, six of them without ZeroMQ; yields the messages sent by fault."""
    faults = (noise, changing_epochs, new_sensor_names, changing_sizes, broken_pixels, too_large)
    stopped, address = threading.Event(), ("127.0.0.1", int(endpoint.rpartition(":")[2]))
    sent = Counter()

    def misbehave():
        with zmq.Context() as context:
            faulty = [context.socket(zmq.PUSH) for _ in range(FAULTY_SENSORS - 6)]
            for each in faulty:
                each.set(zmq.LINGER, 0)
                each.connect(endpoint)
            for k in range(10**6):
                if stopped.is_set():
                    break
                for number, each in enumerate(faulty):
                    with suppress(zmq.Again):
                        fault = faults[number % len(faults)]
                        each.send_multipart(fault(number, k), zmq.NOBLOCK)
                        sent[fault.__name__] += 1
                if k % 20 == 0:
                    send_garbage(address, k)
            for each in faulty:
                each.close()

    thread = threading.Thread(target=misbehave, daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        stopped.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def send_garbage(address, seed):
    """Send random bytes over six TCP connections."""
    with suppress(OSError):
        for number in range(6):
            with tcp.create_connection(address, 1) as connection:
                connection.sendall(random.Random(seed + number).randbytes(200))


def test_thirty_faulty_sensors_cost_a_good_one_no_window():
    with running(most_sensors=SERVED_SENSORS, largest_mb=0.05) as live, sender(live.source.endpoint) as socket:
        send(socket, small_frame(0))
        until(lambda: live.status().frames == 1)
        with faulty_sensors(live.source.endpoint) as sent:
            until(lambda: len(sent) == 6 and min(sent.values()) > 20 and live.status().dropped.get("sensors", 0) > 1000)
            for k in range(1, 300):
                send(socket, small_frame(k))
            until(lambda: len(live.published.indices()) == 296, "all answers of the good sensor")
    status = live.status()
    assert live.published.indices() == list(range(2, 298))
    assert len(status.sensors) <= SERVED_SENSORS + 1, "the served sensors, and one entry for all others"
    assert {stamp.sensor for stamp in live.published.stamps} <= set(status.sensors)
    assert {"header", "crc", "parts"} <= set(status.rejected)
    assert status.links["disconnected"] > 0


def test_extreme_pixel_values_do_not_end_a_run():
    config = parse_config("[fit]\nsigma_px = 0.5\namplitude_dn = 200.0\namplitude_sd_dn = 10.0\n", "here")
    odd = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0]
    rng = np.random.default_rng(3)
    with running(read=resolver_maker(config, None)()) as live, sender(live.source.endpoint) as socket:
        for k in range(60):
            pixels = np.where(rng.random((11, 11)) < (k % 4) / 3, odd[k // 5 % len(odd)], 10).astype(np.float32)
            send(socket, Frame(small_frame(k, "odd").stamp, pixels))
            send(socket, small_frame(k))
        until(lambda: len(live.published.indices()) == 56 == len(live.published.indices("odd")), "all answers")
    assert live.status().dropped == {"blank": 7}, (
        "of every fourth frame no pixel is left as it was; three values are not finite"
    )
    assert live.status().unused == {}


@pytest.mark.parametrize("policy", ["live", "lossless"])
def test_a_receiver_that_never_reads_delays_no_other_sink(policy, tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "SEND_TIMEOUT_MS", 50)
    sink = ZmqSink(PublishSettings(LOCAL, high_water=2), policy)
    file = LinesSink(WriteSettings(str(tmp_path / "found.jsonl")), Detections)
    deaf = {"kind": zmq.SUB if policy == "live" else zmq.PULL, "rcvhwm": 1, "rcvbuf": 4096}

    def many_targets(window, _):
        return Detections.bare(window.stamp, np.ones((3000, 2)), np.ones(3000), np.ones(3000))

    with (
        sender(sink.endpoint, **deaf, **({"subscribe": b""} if policy == "live" else {})),
        running(sinks={"listener": sink, "file": file}, read=many_targets) as live,
        sender(live.source.endpoint) as socket,
    ):
        send(socket, *(small_frame(k) for k in range(64)))
        until(lambda: live.status().sinks["file"].written == 60, "all lines")
        until(lambda: sum(live.status().sinks["listener"][:3]) == 60)
    status = live.status()
    assert live.published.indices() == list(range(2, 62))
    assert [line["index"] for line in lines(tmp_path / "found.jsonl")] == list(range(2, 62))
    assert status.dropped == {}
    assert status.sinks["file"][:4] == (60, 0, 0, "")
    written, waiting, lost, alarm, overflows = status.sinks["listener"]
    assert (written + lost, waiting, alarm) == (60, 0, "")
    assert (lost > 0) == (policy == "lossless")
    assert (overflows > 0) == (policy == "live"), "that a subscriber misses some is known, although nobody waits for it"


def test_a_sensor_with_the_wrong_server_key_is_refused(tmp_path):
    pairs = {name: make_keys(tmp_path / name) for name in ("server", "known", "other")}
    (tmp_path / "allowed").mkdir()
    (tmp_path / "known.key").rename(tmp_path / "allowed/known.key")
    access = {"keys": str(tmp_path / "server.key_secret"), "allow": str(tmp_path / "allowed")}
    own = {"curve_publickey": pairs["known"].public, "curve_secretkey": pairs["known"].secret}
    with (
        running(**access) as live,
        sender(live.source.endpoint, **own, curve_serverkey=pairs["other"].public, linger=0) as misdirected,
        sender(live.source.endpoint, **own, curve_serverkey=pairs["server"].public) as correct,
    ):
        misdirected.send_multipart(wire.encode(small_frame(0, "misdirected")), zmq.NOBLOCK)
        until(lambda: live.source.links["refused"], "the refusal")
        send(correct, *(small_frame(k) for k in range(10)))
        until(lambda: len(live.published.indices()) == 6)
    assert set(live.status().sensors) == {"cam"}
