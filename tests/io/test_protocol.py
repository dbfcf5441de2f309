"""PROTOCOL.md and the sensor client in C, which was written from it, say the same as wire.py."""

import json
import re
import shutil
import struct
import subprocess
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

from irst_stream import Detections, Frame, Stamp
from irst_stream.io.zeromq import wire

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "irst_stream" / "io" / "PROTOCOL.md"
CLIENT = ROOT / "tools" / "sensor_client.c"
PATIENCE_MS = 10_000
SIGTERM = -15


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The client, compiled as strictly as can be, with the libzmq that Python uses."""
    if shutil.which("cc") is None:
        pytest.fail("no C compiler: install gcc, or another one whose command is cc")
    bundled = list((Path(zmq.__file__).parents[1] / "pyzmq.libs").glob("libzmq*.so*"))
    link = [str(bundled[0]), f"-Wl,-rpath,{bundled[0].parent}"] if bundled else ["-lzmq"]
    program = tmp_path_factory.mktemp("client") / "sensor_client"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wpedantic", "-O2"]
    built = subprocess.run(["cc", *flags, CLIENT, "-o", program, *link, "-lm"], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


@contextmanager
def receiver(kind, endpoint="tcp://127.0.0.1:*", bind=True, **options):
    """A socket that waits for PATIENCE_MS at most, and where the client finds it."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.rcvtimeo, socket.linger = PATIENCE_MS, 0
        for name, value in options.items():
            setattr(socket, name, value)
        if kind == zmq.SUB:
            socket.subscribe(wire.topic("frame", "cam1"))
        (socket.bind if bind else socket.connect)(endpoint)
        yield socket, socket.last_endpoint.rstrip(b"\0").decode()


@contextmanager
def running(client, *arguments):
    """The client as a child process, which does not outlive the test."""
    with subprocess.Popen([client, *map(str, arguments)], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def take(socket, count):
    return [wire.decode(socket.recv_multipart()).record for _ in range(count)]


def check(frames, width, height):
    """That frames are of one epoch and follow each other, and show what the client says they do."""
    assert {f.stamp.epoch for f in frames} == {frames[0].stamp.epoch}
    for before, after in pairwise(frames):
        assert after.stamp.index == before.stamp.index + 1
        assert after.stamp.time_ns >= before.stamp.time_ns
    row, column = np.mgrid[:height, :width]
    for frame in frames:
        k = frame.stamp.index
        x, y = (width / 4 + 0.3 * k) % width, (height / 2 + 0.1 * k) % height
        expected = 1000 + 2000 * np.exp(-((column - x) ** 2 + (row - y) ** 2) / 2)
        assert frame.pixels.dtype == np.uint16
        np.testing.assert_allclose(frame.pixels, expected, rtol=0, atol=1)
        assert msgspec.msgpack.decode(frame.metadata)["spot"] == pytest.approx([x, y], abs=1e-9)
        assert (frame.full_scale, frame.stamp.clock) == (16383, "unix")


@pytest.mark.parametrize(("sensor", "width", "height", "count"), [("cam1", 37, 5, 200), ("A.b:c-d_" * 8, 640, 512, 3)])
def test_every_frame_of_the_client_is_read(client, sensor, width, height, count):
    options = ["--sensor", sensor, "--width", width, "--height", height, "--frames", count, "--rate", 1000]
    with receiver(zmq.PULL) as (socket, endpoint):
        before = time.time_ns()
        with running(client, "--socket", "push", *options, endpoint) as process:
            frames = take(socket, count)
            assert process.wait(10) == 0, process.stderr.read()
    check(frames, width, height)
    assert {f.stamp.sensor for f in frames} == {sensor}
    assert [f.stamp.index for f in frames] == list(range(count))
    assert before <= frames[0].stamp.epoch <= frames[0].stamp.time_ns <= frames[-1].stamp.time_ns <= time.time_ns()


def test_a_client_that_starts_again_is_another_epoch(client):
    with receiver(zmq.PULL) as (socket, endpoint):
        epochs = []
        for _ in range(2):
            with running(client, "--socket", "push", "--frames", 1, endpoint):
                [frame] = take(socket, 1)
            assert frame.stamp.index == 0
            epochs.append(frame.stamp.epoch)
    assert epochs[0] < epochs[1]


def test_a_subscriber_hears_the_client(client):
    with (
        receiver(zmq.SUB) as (socket, endpoint),
        running(client, "--socket", "pub", "--frames", 0, "--rate", 200, endpoint) as process,
    ):
        check(take(socket, 10), 64, 64)
        process.terminate()
        assert process.wait(10) == SIGTERM, process.stderr.read()


def test_the_client_may_be_the_one_that_binds(client, tmp_path):
    endpoint = f"ipc://{tmp_path}/s"
    with (
        receiver(zmq.PULL, endpoint, bind=False) as (socket, _),
        running(client, "--bind", "--socket", "push", "--frames", 5, endpoint),
    ):
        check(take(socket, 5), 64, 64)


def test_a_client_with_keys_reaches_a_server_that_it_knows(client):
    (public, secret), (its_public, its_secret) = zmq.curve_keypair(), zmq.curve_keypair()
    own = ["--public-key", its_public.decode(), "--secret-key", its_secret.decode()]
    with receiver(zmq.PULL, curve_server=1, curve_secretkey=secret) as (socket, endpoint):
        with running(client, "--socket", "push", "--frames", 5, "--server-key", public.decode(), *own, endpoint) as process:
            check(take(socket, 5), 64, 64)
            assert process.wait(10) == 0, process.stderr.read()
        with socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL) as refused:
            with running(client, "--socket", "push", "--server-key", its_public.decode(), *own, endpoint):
                assert refused.poll(PATIENCE_MS), "a client that takes this server for another one was let in"
            socket.disable_monitor()
        assert not socket.poll(0)


WRONG = {
    "": "expected an endpoint",
    "tcp://127.0.0.1:1 tcp://127.0.0.1:2": "one endpoint is enough",
    "--loud 1 tcp://127.0.0.1:1": "--loud: no such option",
    "tcp://127.0.0.1:1 --frames": "--frames: expected a value",
    "--frames 1.5 tcp://127.0.0.1:1": "--frames: expected a whole number from 0 to 1000000000, got '1.5'",
    "--width 0 tcp://127.0.0.1:1": "--width: expected a whole number from 1 to 32768, got '0'",
    "--rate 99999999999999999999 tcp://127.0.0.1:1": "--rate: expected a whole number",
    "--socket req tcp://127.0.0.1:1": "--socket: expected pub or push, got 'req'",
    "--sensor a/b tcp://127.0.0.1:1": "--sensor: expected 1 to 64 letters",
    f"--sensor {'a' * 65} tcp://127.0.0.1:1": "--sensor: expected 1 to 64 letters",
    "--server-key abc tcp://127.0.0.1:1": "--server-key, --public-key and --secret-key are given together",
    "--server-key a --public-key b --secret-key c tcp://127.0.0.1:1": "expected 40 characters of Z85",
    "--bind --server-key a --public-key b --secret-key c tcp://127.0.0.1:1": "for an end that connects",
    "nowhere": "nowhere: cannot be connected to",
    "--bind tcp://host.invalid:1": "tcp://host.invalid:1: cannot be bound",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_makes_no_sense_is_one_clear_line(client, arguments):
    ended = subprocess.run([client, *arguments.split()], check=False, capture_output=True, text=True, timeout=10)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("sensor_client: ")
    assert WRONG[arguments] in ended.stderr


def test_help_names_every_option(client):
    ended = subprocess.run([client, "--help"], check=False, capture_output=True, text=True, timeout=10)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(re.findall(r'"(--[a-z-]+)"', CLIENT.read_text())) - {"--help"} == set(re.findall(r"--[a-z-]+", ended.stdout))


def dumps():
    """The hex dumps of PROTOCOL.md: of each a list of bytes and what they mean; bytes without a meaning join the next."""
    for block in re.findall(r"```hex\n(.*?)```", PROTOCOL.read_text(), re.DOTALL):
        lines, held = [], b""
        for line in block.splitlines():
            data, _, meaning = line.partition("|")
            held += bytes.fromhex(data)
            if meaning:
                lines.append((held, meaning.strip()))
                held = b""
        yield [*lines, (held, "")] if held else lines


def whole(dump):
    return b"".join(data for data, _ in dump)


def entry(data):
    """A msgpack key and value as a map of one entry."""
    return msgspec.msgpack.decode(b"\x81" + data)


def test_the_frame_in_the_text_is_what_it_says():
    topic, header, payload, *_ = dumps()
    [(data, meaning)] = topic
    assert data.decode() == meaning
    (lead, _), *entries = header
    said = {}
    for data, meaning in entries:
        assert entry(data) == json.loads("{" + meaning + "}")
        said |= entry(data)
    assert lead == bytes([0x80 | len(said)])
    for data, meaning in payload:
        assert struct.unpack("<3H", data) == tuple(map(int, meaning.split()))
    frame = wire.decode([whole(topic), whole(header), whole(payload)]).record
    assert isinstance(frame, Frame)
    assert frame.stamp == Stamp(said["sensor"], said["epoch"], said["index"], said["time_ns"], "", said["clock"])
    assert frame.pixels.tolist() == [[int(pixel) for pixel in meaning.split()] for _, meaning in payload]
    assert frame.full_scale == said["full_scale"]
    assert msgspec.msgpack.decode(frame.metadata) == said["metadata"]


def test_the_detections_in_the_text_are_what_they_say():
    *_, topic, header, payload = dumps()
    said = json.loads(re.search(r"```json\n(.*?)```", PROTOCOL.read_text(), re.DOTALL)[1])
    assert msgspec.msgpack.decode(whole(header)) == said
    assert whole(topic).decode() == topic[0][1]
    for data, meaning in payload:
        assert struct.unpack("<d", data) == (float(meaning),)
    found, published_ns = wire.decode([whole(topic), whole(header), whole(payload)])
    assert isinstance(found, Detections)
    assert found.stamp == Stamp(said["sensor"], said["epoch"], said["index"], said["time_ns"], "", said["clock"])
    assert published_ns == said["published_ns"]
    row = [*found.xy[0], *found.cov[0][[0, 0, 1], [0, 1, 1]], found.amplitude[0], found.amplitude_sd[0], found.score[0]]
    assert [*row, found.region[0]] == [float(meaning) for _, meaning in payload]


def test_lengths_in_the_text_are_those_of_the_parts():
    said = re.findall(r"^(?:Topic|Header|Payload), (\d+) bytes", PROTOCOL.read_text(), re.MULTILINE)
    assert [int(length) for length in said] == [len(whole(dump)) for dump in dumps()]


def test_the_text_knows_every_key_and_column():
    text = PROTOCOL.read_text()
    columns = {f"`{name}`" for name in (*wire.DETECTION_COLUMNS, *wire.TRACK_COLUMNS)}
    keys = {f"| `{name}` |" for name in wire.Header.__struct_fields__}
    assert {name for name in keys | columns if name not in text} == set()
    for kind, names in (("detections", wire.DETECTION_COLUMNS), ("tracks", wire.TRACK_COLUMNS)):
        assert f"| {kind} | " + ", ".join(f"`{name}`" for name in names) + " |" in text


def test_the_client_writes_its_header_as_the_text_shows_it(client):
    _, header, _, *_ = dumps()
    with (
        receiver(zmq.PULL) as (socket, endpoint),
        running(client, "--socket", "push", "--width", 3, "--height", 2, "--frames", 3, "--rate", 100, endpoint),
    ):
        sent = msgspec.msgpack.decode([socket.recv_multipart() for _ in range(3)][2][1])
    shown = msgspec.msgpack.decode(whole(header))
    assert list(sent) == list(shown)
    new = {"epoch": sent["epoch"], "time_ns": sent["time_ns"]}
    assert sent == shown | new
