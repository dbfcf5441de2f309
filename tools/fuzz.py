"""Feeds mutated input to everything that reads from outside, and stops at the first thing that is not one clear line.

    python tools/fuzz.py all --cases 1000 --seed 1           a short run, as .ci/run does
    python tools/fuzz.py wire --cases 1000000 --seed 7       a long one: no traceback, flat memory

Each case is a valid input with a few random changes. A reader may accept it or raise an IrstError. Anything else is printed
with its seed and number, kept as fuzz-TARGET-SEED-NUMBER.bin, and ends with exit code 1; so does memory that grows by more
than GROWTH_MB from the first tenth of the cases to the last.
"""

import argparse
import logging
import os
import random
import socket
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import cv2
import msgspec
import numpy as np
import psutil

from irst_stream import Detections, Frame, IrstError, Stamp, Tracks, Truth, open_source
from irst_stream.config import parse_config
from irst_stream.io import jsonl
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.recovery import recover
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq import wire
from irst_stream.live.http_server import Answer, HttpServer
from irst_stream.system.printable import printable
from irst_stream.system.shipped import configs_folder

GROWTH_MB = 64
INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\n", b"\x1b", b'"', b"{", b"[", b"-1", b"1e999", b"nan", b"\xff" * 8)
STAMP = Stamp("cam", 1, 2, 3)


def mutate(data, rng):
    """A few random changes: bits, bytes, numbers, cut, doubled, swapped or inserted pieces."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at:at] = rng.choice(INTERESTING)
        elif kind == 3:
            del data[at : at + rng.choice((1, 2, 4, 8, 64))]
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            piece = data[at : at + rng.randrange(1, 64)]
            data[at:at] = piece * rng.choice((1, 2, 50))
        elif kind == 6 and at + 4 <= len(data):
            data[at : at + 4] = struct.pack(
                rng.choice("<>") + "I", rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data)))
            )
        else:
            other = rng.randrange(len(data) + 1)
            data[at : at + 8] = data[other : other + 8]
    return bytes(data)


def frame(index=0):
    pixels = np.random.default_rng(index).integers(0, 4096, (11, 11), dtype=np.uint16)
    return Frame(Stamp("cam", 1, index, index), pixels, 4095.0)


def records():
    detections = Detections.bare(STAMP, np.ones((2, 2)), np.ones(2), np.ones(2))
    tracks = Tracks(STAMP, np.ones(1, int), np.ones((1, 4)), np.eye(4)[None], np.ones(1), np.ones(1), [True], [0])
    return detections, tracks


@contextmanager
def wire_target(_):
    """One message of three parts, each with its length before it."""
    seeds = []
    for record in (frame(), *records()):
        parts = [bytes(part) for part in wire.encode(record)]
        seeds.append(b"".join(struct.pack("<H", len(part)) + part for part in parts))

    def feed(data):
        parts, stream = [], BytesIO(data)
        while (head := stream.read(2)) and len(head) == 2:
            parts.append(stream.read(struct.unpack("<H", head)[0]))
        wire.decode([memoryview(part) for part in (with_right_checksum(parts) if len(data) % 2 else parts)])

    yield seeds, feed


def with_right_checksum(parts):
    """The same message with the checksum of its payload, so that a change of a pixel is not all that is ever found."""
    try:
        header = msgspec.msgpack.decode(parts[1])
        return [parts[0], msgspec.msgpack.encode({**header, "crc32": zlib.crc32(parts[2])}), parts[2]]
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError, TypeError):
        return parts


@contextmanager
def http_target(_):
    """One connection to a server, and a good request after it."""
    seeds = [b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n", b"HEAD / HTTP/1.0\r\n\r\n"]
    with HttpServer("fuzz", {"/a": lambda request: Answer(str(request).encode())}, "127.0.0.1", 0) as server:

        def answer(data):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                received = b""
                while block := client.recv(1 << 16):
                    received += block
            return received

        def feed(data):
            with suppress(ConnectionError):  # it closed before it was told everything
                answer(data)
            if not answer(seeds[0]).startswith(b"HTTP/1.1 200"):
                raise AssertionError("the server no longer answers")

        yield seeds, feed


def file_target(suffix, write, read):
    """A target that reads a file of this suffix; write(path) makes a valid one."""

    @contextmanager
    def target(folder):
        path = folder / f"case{suffix}"
        write(path)
        seeds = [path.read_bytes()]

        def feed(data):
            path.write_bytes(data)
            read(path)

        yield seeds, feed

    return target


def write_recording(path):
    path.unlink(missing_ok=True)
    recorder = Recorder(RecordSettings(str(path), keep_free_mb=0.0))
    for index in range(4):
        recorder.write(frame(index), index)
    for record in records():
        recorder.write(record, 9)
    recorder.close()


def read_recording(path):
    try:
        with open_recording(path) as recording:
            list(recording)
            list(recording.results())
    finally:
        recover(path, path.with_name("recovered.mcap"))


def write_lines(path):
    jsonl.write(path, records())


def read_lines(path):
    for kind in (Detections, Tracks, Truth):
        try:
            list(jsonl.read(path, kind))
        except IrstError as error:
            check_line(error)


def write_image(suffix):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    return lambda path: path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def read_frames(path):
    list(open_source(path, rate_hz=50.0))


@contextmanager
def toml_target(_):
    seeds = [path.read_bytes() for path in sorted(configs_folder().glob("*.toml")) if "-" not in path.stem]
    yield seeds, lambda data: parse_config(data.decode("utf-8", "surrogateescape"), "fuzz.toml")


FILM = (np.arange(3 * 11 * 12).reshape(3, 11, 12) % 251).astype(np.uint16)
TARGETS = {
    "wire": wire_target,
    "http": http_target,
    "toml": toml_target,
    "mcap": file_target(".mcap", write_recording, read_recording),
    "jsonl": file_target(".jsonl", write_lines, read_lines),
    "png": file_target(".png", write_image(".png"), read_frames),
    "tiff": file_target(".tiff", write_image(".tiff"), read_frames),
    "jpeg": file_target(".jpg", write_image(".jpg"), read_frames),
    "npy": file_target(".npy", lambda path: np.save(path, FILM), read_frames),
    "npz": file_target(".npz", lambda path: np.savez_compressed(path, film=FILM), read_frames),
}


def check_line(error):
    """Raise unless the error is one line; what a terminal must not get raw is escaped where it is printed."""
    if "\n" in printable(str(error)):
        raise AssertionError(f"not one line: {error!r}")


def run(name, cases, seed, folder):
    """Feed the cases; return the number of each outcome."""
    rng, outcomes, memory = random.Random(seed), Counter(), []
    process = psutil.Process()
    with TARGETS[name](folder) as (seeds, feed):
        for number in range(cases):
            data = mutate(rng.choice(seeds), rng)
            try:
                feed(data)
                outcomes["accepted"] += 1
            except IrstError as error:
                check_line(error)
                outcomes["refused"] += 1
            except Exception:
                found = Path(f"fuzz-{name}-{seed}-{number}.bin")
                found.write_bytes(data)
                print(f"{name}: seed {seed}, case {number}: kept as {found}")
                raise
            if number % max(cases // 10, 1) == 0:
                memory.append(process.memory_info().rss / 2**20)
    growth = memory[-1] - memory[min(1, len(memory) - 1)]
    if growth > GROWTH_MB:
        raise AssertionError(f"{name}: memory grew by {growth:.0f} MB over {cases} cases")
    return outcomes, growth


@contextmanager
def quiet_libraries():
    """Keep libraries' and our own lines about damaged files from the terminal."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def main(argv=None):
    """Run the targets; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("all", *TARGETS))
    parser.add_argument("--cases", type=int, default=1000, help="cases for each target (default 1000)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        for name in TARGETS if args.target == "all" else (args.target,):
            began = time.perf_counter()
            try:
                outcomes, growth = run(name, args.cases, args.seed, Path(folder))
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {error}")
                return 1
            figures = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            print(f"{name:<6} {args.cases} cases: {figures}; memory {growth:+.0f} MB; {time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
