"""Faults injected into running pipelines: what survived, what was lost, and whether it was counted.

    python tools/bench_faults.py [--json OUT.json]

Each row is one fault, with real sockets, files and processes where it takes them. "lost" is what the output lacks, compared
with what was sent; "counted" is what the program itself says is lost, or how often something was, where it cannot know more
("times"). The two must agree, and the exit code is 1 if they do not or if something did not survive.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq

from irst_stream import Detections, Frame, Stamp
from irst_stream.io.lines_sink import LinesSink, WriteSettings
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.recovery import recover
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSink, ZmqSource
from irst_stream.live.http_server import Answer, HttpServer
from irst_stream.live.memory_file import MemoryFile
from irst_stream.live.outlets import SinkWriter
from irst_stream.live.queues import QueuedRecord
from irst_stream.system.latency import Clocks

PATIENCE_S = 30.0


class Row(NamedTuple):
    """A fault; injected, lost and counted are numbers of what `unit` says."""

    fault: str
    unit: str
    injected: int
    survived: bool
    lost: int
    counted: int
    exact: bool = True

    @property
    def is_honest(self) -> bool:
        """Whether what is lost is counted, or at least said."""
        return self.lost == self.counted if self.exact else bool(self.lost) == bool(self.counted)


def detection(index):
    return Detections.bare(Stamp("cam", 1, index, index), np.ones((1, 2)), np.ones(1), np.ones(1))


def frame(index, side=64):
    return Frame(Stamp("cam", 1, index, index), np.full((side, side), index % 4096, np.uint16), 4095.0)


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def writer_of(sink):
    """A sink with its queue and its thread."""
    writer = SinkWriter("out", sink, "lossless", Clocks())
    threading.Thread(target=writer.run, daemon=True).start()
    return writer


def disk_full_of_lines(folder):
    """A disk that is full for half of the lines, and then has room again."""
    sink = LinesSink(WriteSettings(str(folder / "found.jsonl")), Detections)
    real, count = sink._file.append, 400

    def full(_):
        raise OSError(28, "No space left on device")

    writer = writer_of(sink)
    for k in range(count):
        if k == 100:
            until(lambda: not len(writer.queue))
            sink._file.append = full
        if k == 300:
            until(lambda: not len(writer.queue))
            sink._file.append = real
            until(lambda: time.monotonic() >= writer._retry_at_s)
        writer.put(QueuedRecord(detection(k), 1))
    writer.queue.close()
    survived = writer.ended.wait(PATIENCE_S) and not writer.status().alarm
    kept = (folder / "found.jsonl").read_text().count("\n")
    return Row("disk full, then not: lines", "lines", count, survived, count - kept, writer.status().lost)


def disk_full_of_frames(folder):
    """A disk that has no room for a third of the frames, and then has some again."""
    free, count = [10**12], 300
    recorder = Recorder(RecordSettings(str(folder / "a.mcap"), keep_free_mb=100), free=lambda _: free[0])
    for k in range(count):
        free[0] = 0 if 100 <= k < 200 else 10**12
        if k == 200:
            until(lambda: time.monotonic() >= recorder._retry_at_s)
        recorder.write(frame(k), k * 10**7)
    survived = not recorder.alarm
    recorder.close()
    kept = sum(len(list(open_recording(path))) for path in folder.glob("*.mcap"))
    return Row("disk full, then not: recording", "frames", count, survived, count - kept, recorder.lost)


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from bench_faults import QueuedRecord, Recorder, RecordSettings, frame, until, writer_of
recorder = Recorder(RecordSettings(sys.argv[1], keep_free_mb=0))
writer = writer_of(recorder)
for k in range(40):
    writer.put(QueuedRecord(frame(k), 0))
until(lambda: not len(writer.queue))
time.sleep(0.5)
print("silent", flush=True)
time.sleep(600)
"""


def killed_while_silent(folder):
    """A recorder killed half a second after its feed fell silent."""
    words = [sys.executable, "-c", KILLED, str(folder / "a.mcap"), str(Path(__file__).parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    kept = recover(folder / "a.mcap", folder / "b.mcap").frames
    return Row("SIGKILL 0.5 s after the last frame", "frames", 40, kept > 0, 40 - kept, 0)


def deaf_subscriber(_):
    """A subscriber that is connected, and reads only when all has been sent."""
    count, sink = 3000, ZmqSink(PublishSettings("tcp://127.0.0.1:*", high_water=8), "live")
    rows = Detections.bare(Stamp("cam", 1, 0, 0), np.ones((500, 2)), np.ones(500), np.ones(500))
    with zmq.Context() as context, context.socket(zmq.SUB) as deaf:
        deaf.rcvhwm, deaf.rcvbuf, deaf.rcvtimeo = 8, 4096, 1000
        deaf.subscribe(b"")
        deaf.connect(sink.endpoint)
        time.sleep(0.3)
        for _ in range(count):
            sink.write(rows, 1)
        taken = 0
        try:
            while True:
                deaf.recv_multipart()
                taken += 1
        except zmq.Again:
            pass
        sink.close()
    return Row("subscriber that does not read", "results", count, True, count - taken, sink.overflows, exact=False)


def invalid_messages(_):
    """Every other message is damaged."""
    count = 2000
    source, taken = ZmqSource(ReceiveSettings("tcp://127.0.0.1:*", bind=True), "lossless"), []
    thread = threading.Thread(target=lambda: taken.extend(source), daemon=True)
    thread.start()
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        sender.connect(source.endpoint)
        for k in range(count):
            topic, header, pixels = wire.encode(frame(k, 11))
            sender.send_multipart([topic, header, bytes(pixels)[k % 2 :]])
        until(lambda: len(taken) + source.rejected.total() == count)
    survived, lost = thread.is_alive(), count - len(taken)
    source.stop()
    thread.join(PATIENCE_S)
    source.close()
    return Row("every other message damaged", "messages", count, survived, lost, source.rejected.total())


def half_sent_requests(_):
    """Clients of the HTTP server that never finish their request, and one that does."""
    count = 600
    with ExitStack() as opened:
        server = opened.enter_context(HttpServer("bench", {"/a": lambda _: Answer(b"x")}, "127.0.0.1", 0))
        for _ in range(count):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(b"GET /a HTTP/1.1\r\n")
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(b"GET /a HTTP/1.0\r\n\r\n")
            answered = client.recv(100).startswith(b"HTTP/1.1 200")
    return Row("600 half-sent HTTP requests", "good requests", 1, answered, int(not answered), 0)


def damaged_memory(folder):
    """A file of memories cut at every length."""
    path = folder / "memory.json"
    with closing(MemoryFile(path)) as memory:
        memory.save({}, final=True)
    whole, survived = path.read_bytes(), 0
    lengths = range(len(whole) - 1)  # without its newline it is whole
    for length in lengths:
        path.write_bytes(whole[:length])
        with closing(MemoryFile(path)) as memory:
            survived += memory.first_id > 1
    return Row("memory file cut short", "files", len(lengths), survived == len(lengths), len(lengths) - survived, 0)


FAULTS = (
    *(disk_full_of_lines, disk_full_of_frames, killed_while_silent, deaf_subscriber),
    *(invalid_messages, half_sent_requests, damaged_memory),
)


def main(argv=None):
    """Inject every fault, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    rows = []
    print(f"{'fault':<36}{'injected':>10} {'':<14}{'survived':>9}{'lost':>7}{'counted':>9}")
    for inject in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            row = inject(Path(folder))
        rows.append(row)
        yes, times = "yes" if row.survived else "NO", "" if row.exact else " times"
        print(f"{row.fault:<36}{row.injected:>10} {row.unit:<14}{yes:>9}{row.lost:>7}{row.counted:>9}{times}", flush=True)
    if args.json:
        args.json.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n")
    return int(not all(row.survived and row.is_honest for row in rows))


if __name__ == "__main__":
    sys.exit(main())
