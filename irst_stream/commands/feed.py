"""irst-stream feed: a sensor emulator, which sends recorded frames on schedule, whoever listens."""

from __future__ import annotations

import argparse
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice

import zmq

from irst_stream.commands.console import count, noun, positive, print_line, progress, whole
from irst_stream.commands.links import add_link_options, add_policy_option, checked, link_fields
from irst_stream.commands.sources import add_source_options, open_any
from irst_stream.errors import OutputError, UsageError
from irst_stream.io.recording.recorder import Recording
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import Link
from irst_stream.io.zeromq.sockets import LINGER_MS, Context, Socket, open_socket
from irst_stream.protocols import Source
from irst_stream.types import Frame, Policy

__all__ = ["as_sent", "paced", "set_up"]

EPILOG = """\
Frame k is due k / HZ seconds after the first one, and bears the time when it was due (clock unix), whether or not the
receiver keeps up: under --policy live what it does not take is lost, under lossless the feed falls behind, and waits at its
end until all is taken. Every sequence of PATH, and every round of --loop, is a new epoch of the one sensor, as if that had
restarted. The sensors of a recording stay apart: each keeps its name and its frames their numbers, at HZ frames/s for the
one that comes most often.

The feed starts when somebody listens, or after --wait seconds."""

CHUNK_S = 0.2  # how long a sleep lasts at most, so that Ctrl-C is heard
SAID_AFTER_S = 2.0  # of waiting at the end
LAST_BYTES_MS = 10_000  # for what libzmq has copied, and not yet handed on
LARGEST_LOOP = 2 * 2**30  # bytes of frames that are held
LARGEST_EPOCH = 2**62  # of the first sequence: it leaves room for those that follow


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Sends recorded frames to an endpoint as a live sensor would.", EPILOG
    add_source_options(parser)
    parser.add_argument("--to", metavar="ENDPOINT", required=True, help="such as tcp://127.0.0.1:5555")
    add_policy_option(parser)
    add_link_options(parser)
    parser.add_argument("--max", action="store_true", help="as fast as it can, in place of the rate")
    parser.add_argument("--sensor", metavar="NAME", type=_name, help="the sensor's name (default the first sequence's)")
    parser.add_argument("--epoch", type=_epoch, metavar="N", help="of the first sequence (default the time, in ns)")
    parser.add_argument("--loop", type=count, default=1, metavar="N", help="send all of it N times, from memory")
    parser.add_argument("--limit", type=count, metavar="N", help="send N frames at most")
    parser.add_argument("--wait", type=positive, default=10.0, metavar="S", help="for a listener (default 10)")
    parser.add_argument(
        "--linger", type=positive, default=600.0, metavar="S", help="lossless: until all is taken, at the end (default 600)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    source = open_any(args)
    link = checked(Link(**link_fields(args, args.to)), "--to")
    rate = None if args.max else args.rate or source.rate_hz
    if rate is None and not args.max:
        raise UsageError(f"{args.path}: states no rate; say --rate HZ, or --max")
    sending, switched_off = _Sending(args.policy), False
    with zmq.Context() as context, closing(open_socket(context, sending.kind, link)) as socket:
        _await_listener(socket, args.wait)
        total = None if source.frames is None else source.frames * args.loop
        with progress("feed", min(total or 10**12, args.limit or 10**12) if total or args.limit else None) as done:
            try:
                for frame in paced(islice(as_sent(source, args.sensor, args.loop, args.epoch), args.limit), rate):
                    sending.send(socket, frame)
                    done(1)
            except KeyboardInterrupt:  # as a sensor that is switched off
                switched_off = True
        lost = sending.end(context, socket, LINGER_MS / 1e3 if switched_off else args.linger)
    print_line(f"{noun(sending.sent, 'frame')} sent to {args.to}")
    if lost and not switched_off:
        raise OutputError(f"{args.to}: {lost}")
    if lost:
        print_line(lost)
    return 0


def paced(frames: Iterable[Frame], rate_hz: float | None) -> Iterator[Frame]:
    """Gives each frame when it is due, with the time when it was due as its stamp's; at once where there is no rate.

    The rate is that of the sensor that comes most often: frames of others are due with those that they stand between.
    """
    start_ns, newest, last = time.time_ns(), 0, dict[str, int]()
    for frame in frames:
        newest = last[frame.stamp.sensor] = max(newest, last.get(frame.stamp.sensor, -1) + 1)
        due_ns = time.time_ns() if rate_hz is None else start_ns + round(newest * 1e9 / rate_hz)
        while (left := (due_ns - time.time_ns()) / 1e9) > 0:
            time.sleep(min(left, CHUNK_S))
        yield replace(frame, stamp=replace(frame.stamp, time_ns=due_ns, clock="unix"))


def as_sent(source: Source, sensor: str | None, rounds: int, first_epoch: int | None) -> Iterator[Frame]:
    """All rounds of a source's frames, each sequence an epoch of its own: of one sensor, or of each that a recording holds.

    sensor: its name, None for that of the first sequence; first_epoch: of each sensor, None for the time.
    """
    frames: Iterable[Frame] = source
    if rounds > 1:
        frames = list(_held(source))
    name, apart = sensor, sensor is None and isinstance(source, Recording)
    of = ""  # the one sensor of a recording that is to be called so
    first = time.time_ns() if first_epoch is None else first_epoch
    epochs: dict[str, int] = {}
    for _ in range(rounds):
        last: dict[str, tuple[str, int]] = {}  # of each sensor the sequence that it is in
        for frame in frames:
            stamp = frame.stamp
            if sensor and isinstance(source, Recording) and stamp.sensor != (of := of or stamp.sensor):
                raise UsageError(f"--sensor: there are {of} and {stamp.sensor}; leave it out, and each keeps its name")
            if apart or name is None:
                name = re.sub(r"[^A-Za-z0-9_.:-]+", "-", stamp.sensor)[:64] or "sensor"
            if last.get(name) != (stamp.sensor, stamp.epoch):
                last[name] = stamp.sensor, stamp.epoch
                epochs[name] = epochs.get(name, first - 1) + 1
            yield replace(frame, stamp=replace(stamp, sensor=name, epoch=epochs[name], source=""))


def _held(source: Source) -> Iterator[Frame]:
    held = 0
    for frame in source:
        held += frame.pixels.nbytes
        if held > LARGEST_LOOP:
            raise UsageError(
                f"--loop: these frames are more than {LARGEST_LOOP >> 30} GiB; send them once, or fewer of them"
            )
        yield frame


def _await_listener(socket: Socket, seconds: float) -> None:
    """Waits until somebody has subscribed, or pulls."""
    ready = socket.poll(round(seconds * 1000), zmq.POLLIN if socket.type == zmq.XPUB else zmq.POLLOUT)
    if not ready:
        print_line(f"nobody listens after {seconds:g} s; starting all the same")


class _Sending:
    """Sends frames, and knows which of them have not been taken yet, where none may be lost. sent: how many there were."""

    def __init__(self, policy: Policy) -> None:
        self.kind, self.sent = (zmq.XPUB if policy == "live" else zmq.PUSH), 0
        self._under_way: deque[zmq.MessageTracker] = deque()

    def send(self, socket: Socket, frame: Frame) -> None:
        """Sends one frame; the receiver of a lossless feed may make it wait."""
        topic, header, payload = wire.encode(frame)
        last = zmq.Frame(payload, track=self.kind == zmq.PUSH, copy=False)
        while True:
            try:
                socket.send_multipart([topic, header, last], copy=False)
            except zmq.Again:
                continue
            break
        self.sent += 1
        if last.tracker:
            self._under_way.append(last.tracker)
        while self._under_way and self._under_way[0].done:
            self._under_way.popleft()

    def end(self, context: Context, socket: Socket, seconds: float) -> str:
        """Closes both after what _await_taken waits for; what was lost, in words, as far as anybody can know."""
        left = self._await_taken(seconds)
        linger_ms = LINGER_MS if self.kind == zmq.XPUB else min(round(seconds * 1000), LAST_BYTES_MS)
        socket.close(0 if left else linger_ms)
        began = time.monotonic()
        context.term()
        all_gone = self.kind == zmq.XPUB or (not left and time.monotonic() - began < linger_ms / 1e3)
        return "" if all_gone else f"the last {left or 'few'} of them were not taken, and are lost"

    def _await_taken(self, seconds: float) -> int:
        """Waits until all have been taken, for so long at most, or until Ctrl-C; how many have not."""
        began, said = time.monotonic(), False
        try:
            while self._under_way and (left := began + seconds - time.monotonic()) > 0:
                if self._taken(self._under_way[0], min(left, SAID_AFTER_S)):
                    self._under_way.popleft()
                elif not said:
                    said = True
                    print_line(f"waiting until all is taken, {seconds:g} s at most")
        except KeyboardInterrupt:
            pass
        return sum(not message.done for message in self._under_way)

    @staticmethod
    def _taken(message: zmq.MessageTracker, seconds: float) -> bool:
        try:
            message.wait(seconds)
        except zmq.NotDone:
            return False
        return True


def _name(text: str) -> str:
    """An option that is a sensor's name."""
    if not wire.NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected 1 to 64 letters, digits or any of _ . : -, got {text!r}")
    return text


def _epoch(text: str) -> int:
    """An option that is an epoch."""
    value = whole(text)
    if value > LARGEST_EPOCH:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {LARGEST_EPOCH}, got {text!r}")
    return value
