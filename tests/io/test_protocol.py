"""PROTOCOL.md, the example sensor in C and wire.py agree on the protocol."""

import json
import re
import shutil
import struct
import subprocess
import sys
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
PROTOCOL = ROOT / "irst_stream" / "io" / "zeromq" / "PROTOCOL.md"
CLIENT = ROOT / "tools" / "sensor_client.c"
PATIENCE_MS = 10_000
SIGTERM = -15


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The example sensor, compiled with strict warnings and the libzmq that PyZMQ uses."""
    if shutil.which("cc") is None:
        pytest.fail("no C compiler: install gcc, or another compiler with the command cc")
    bundled = list((Path(zmq.__file__).parents[1] / "pyzmq.libs").glob("libzmq*.so*"))
    link = [str(bundled[0]), f"-Wl,-rpath,{bundled[0].parent}"] if bundled else ["-lzmq"]
    program = tmp_path_factory.mktemp("client") / "sensor_client"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wpedantic", "-O2"]
    built = subprocess.run(["cc", *flags, CLIENT, "-o", program, *link, "-lm"], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


@contextmanager
def receiver(kind, endpoint="tcp://127.0.0.1:*", bind=True, **options):
    """A socket with a receive timeout of PATIENCE_MS, and its endpoint."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.rcvtimeo, socket.linger = PATIENCE_MS, 0
        for name, value in options.items():
            setattr(socket, name, value)
        if kind == zmq.SUB:
            socket.subscribe(wire.topic("frame", "cam1"))
        (socket.bind if bind else socket.connect)(endpoint)
        yield socket, socket.last_endpoint.rstrip(b"\0").decode()


@pytest.fixture(params=["C", "Python", "Node.js"])
def sensor_client(request):
    """The command of each example sensor."""
    if request.param == "C":
        return [request.getfixturevalue("client")]
    if request.param == "Python":
        return [sys.executable, CLIENT.with_suffix(".py")]
    if (node := shutil.which("node")) is None:
        pytest.fail("no Node.js: install it; .ci/run does")
    return [node, CLIENT.with_suffix(".mjs")]


@contextmanager
def running(client, *arguments):
    """An example sensor as a child process, terminated when the block ends; client: its program, or its command."""
    command = client if isinstance(client, list) else [client]
    with subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def take(socket, count):
    return [wire.decode(socket.recv_multipart()).record for _ in range(count)]


def check(frames, width, height):
    """Check that frames have one epoch and consecutive indices, and show the spot that the client draws."""
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
def test_every_frame_of_a_client_is_read(sensor_client, sensor, width, height, count):
    options = ["--sensor", sensor, "--width", width, "--height", height, "--frames", count, "--rate", 1000]
    with receiver(zmq.PULL) as (socket, endpoint):
        before = time.time_ns() // 10**6 * 10**6  # a clock of whole ms may start the epoch
        with running(sensor_client, "--socket", "push", *options, endpoint) as process:
            frames = take(socket, count)
            assert process.wait(10) == 0, process.stderr.read()
    check(frames, width, height)
    assert {f.stamp.sensor for f in frames} == {sensor}
    assert [f.stamp.index for f in frames] == list(range(count))
    assert before <= frames[0].stamp.epoch <= frames[0].stamp.time_ns <= frames[-1].stamp.time_ns <= time.time_ns()


def test_a_restarted_client_has_a_later_epoch(sensor_client):
    with receiver(zmq.PULL) as (socket, endpoint):
        epochs = []
        for _ in range(2):
            with running(sensor_client, "--socket", "push", "--frames", 1, endpoint):
                [frame] = take(socket, 1)
            assert frame.stamp.index == 0
            epochs.append(frame.stamp.epoch)
    assert epochs[0] < epochs[1]


def test_a_subscriber_receives_a_clients_frames(sensor_client):
    with (
        receiver(zmq.SUB) as (socket, endpoint),
        running(sensor_client, "--socket", "pub", "--frames", 0, "--rate", 200, endpoint) as process,
    ):
        check(take(socket, 10), 64, 64)
        process.terminate()
        assert process.wait(10) == SIGTERM, process.stderr.read()


def test_the_client_can_bind(client, tmp_path):
    endpoint = f"ipc://{tmp_path}/s"
    with (
        receiver(zmq.PULL, endpoint, bind=False) as (socket, _),
        running(client, "--bind", "--socket", "push", "--frames", 5, endpoint),
    ):
        check(take(socket, 5), 64, 64)


def test_a_client_with_keys_connects_only_to_the_server_it_knows(client):
    (public, secret), (its_public, its_secret) = zmq.curve_keypair(), zmq.curve_keypair()
    own = ["--public-key", its_public.decode(), "--secret-key", its_secret.decode()]
    with receiver(zmq.PULL, curve_server=1, curve_secretkey=secret) as (socket, endpoint):
        with running(client, "--socket", "push", "--frames", 5, "--server-key", public.decode(), *own, endpoint) as process:
            check(take(socket, 5), 64, 64)
            assert process.wait(10) == 0, process.stderr.read()
        with socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL) as refused:
            with running(client, "--socket", "push", "--server-key", its_public.decode(), *own, endpoint):
                assert refused.poll(PATIENCE_MS), "a client with another server's key was accepted"
            socket.disable_monitor()
        assert not socket.poll(0)


INVALID = {
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


@pytest.mark.parametrize("arguments", INVALID)
def test_invalid_arguments_give_one_line_of_error(client, arguments):
    ended = subprocess.run([client, *arguments.split()], check=False, capture_output=True, text=True, timeout=10)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("sensor_client: ")
    assert INVALID[arguments] in ended.stderr


def test_help_names_every_option(client):
    ended = subprocess.run([client, "--help"], check=False, capture_output=True, text=True, timeout=10)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(re.findall(r'"(--[a-z-]+)"', CLIENT.read_text())) - {"--help"} == set(re.findall(r"--[a-z-]+", ended.stdout))


def dumps():
    """Yield each hex dump of PROTOCOL.md as a list of (bytes, comment); bytes without a comment join the next line."""
    for block in re.findall(r"```hex\n(.*?)```", PROTOCOL.read_text(), re.DOTALL):
        lines, pending = [], b""
        for line in block.splitlines():
            data, _, comment = line.partition("|")
            pending += bytes.fromhex(data)
            if comment:
                lines.append((pending, comment.strip()))
                pending = b""
        yield [*lines, (pending, "")] if pending else lines


def all_bytes(dump):
    return b"".join(data for data, _ in dump)


def entry(data):
    """Decode a msgpack key and value as a map of one entry."""
    return msgspec.msgpack.decode(b"\x81" + data)


def expected_stamp(header):
    return Stamp(header["sensor"], header["epoch"], header["index"], header["time_ns"], "", header["clock"])


def test_the_example_frame_matches_its_comments():
    topic, header, payload, *_ = dumps()
    [(data, comment)] = topic
    assert data.decode() == comment
    (lead, _), *entries = header
    expected = {}
    for data, comment in entries:
        assert entry(data) == json.loads("{" + comment + "}")
        expected |= entry(data)
    assert lead == bytes([0x80 | len(expected)])
    for data, comment in payload:
        assert struct.unpack("<3H", data) == tuple(map(int, comment.split()))
    frame = wire.decode([all_bytes(topic), all_bytes(header), all_bytes(payload)]).record
    assert isinstance(frame, Frame)
    assert frame.stamp == expected_stamp(expected)
    assert frame.pixels.tolist() == [[int(pixel) for pixel in comment.split()] for _, comment in payload]
    assert frame.full_scale == expected["full_scale"]
    assert msgspec.msgpack.decode(frame.metadata) == expected["metadata"]


def test_the_example_detections_match_their_comments():
    *_, topic, header, payload = dumps()
    expected = json.loads(re.search(r"```json\n(.*?)```", PROTOCOL.read_text(), re.DOTALL)[1])
    assert msgspec.msgpack.decode(all_bytes(header)) == expected
    assert all_bytes(topic).decode() == topic[0][1]
    for data, comment in payload:
        assert struct.unpack("<d", data) == (float(comment),)
    found, published_ns = wire.decode([all_bytes(topic), all_bytes(header), all_bytes(payload)])
    assert isinstance(found, Detections)
    assert found.stamp == expected_stamp(expected)
    assert published_ns == expected["published_ns"]
    row = [*found.xy[0], *found.cov[0][[0, 0, 1], [0, 1, 1]], found.amplitude[0], found.amplitude_sd[0], found.score[0]]
    assert [*row, found.region[0]] == [float(comment) for _, comment in payload]


def test_the_stated_lengths_match_the_examples():
    stated = re.findall(r"^(?:Topic|Header|Payload), (\d+) bytes", PROTOCOL.read_text(), re.MULTILINE)
    assert [int(length) for length in stated] == [len(all_bytes(dump)) for dump in dumps()]


def test_every_key_and_column_is_documented():
    text = PROTOCOL.read_text()
    columns = {f"`{name}`" for name in (*wire.DETECTION_COLUMNS, *wire.TRACK_COLUMNS)}
    keys = {f"| `{name}` |" for name in wire.Header.__struct_fields__}
    assert {name for name in keys | columns if name not in text} == set()
    for kind, names in (("detections", wire.DETECTION_COLUMNS), ("tracks", wire.TRACK_COLUMNS)):
        assert f"| {kind} | " + ", ".join(f"`{name}`" for name in names) + " |" in text


def test_the_client_sends_the_documented_header(client):
    _, header, _, *_ = dumps()
    with (
        receiver(zmq.PULL) as (socket, endpoint),
        running(client, "--socket", "push", "--width", 3, "--height", 2, "--frames", 3, "--rate", 100, endpoint),
    ):
        sent = msgspec.msgpack.decode([socket.recv_multipart() for _ in range(3)][2][1])
    shown = msgspec.msgpack.decode(all_bytes(header))
    assert list(sent) == list(shown)
    new = {"epoch": sent["epoch"], "time_ns": sent["time_ns"]}
    assert sent == shown | new
