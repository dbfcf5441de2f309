"""irst-stream feed: a sensor emulator that sends recorded frames on schedule, whether or not anybody receives them."""

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

from irst_stream.commands.console import non_negative_int, pluralise, positive_float, positive_int, print_line, progress
from irst_stream.commands.links import add_link_options, add_policy_option, link_fields, validated_link
from irst_stream.commands.sources import add_source_options, open_input
from irst_stream.errors import LossError, UsageError
from irst_stream.io.recording.recorder import Recording
from irst_stream.io.zeromq import wire
from irst_stream.io.zeromq.settings import Link
from irst_stream.io.zeromq.sockets import LINGER_MS, Context, Socket, open_socket
from irst_stream.protocols import Source
from irst_stream.types import Frame, Policy

__all__ = ["relabelled", "scheduled", "set_up"]

EPILOG = """\
Frame k is due k / HZ seconds after the first one and is stamped with that due time (clock unix), whether or not the
receiver keeps up. Under --policy live, frames the receiver does not take are lost; under lossless, the feed falls behind
and waits at the end until all frames are delivered. Every sequence of PATH, and every round of --loop, is a new epoch of
one sensor, as if the sensor had restarted. The sensors of a recording stay separate: each keeps its name, its frames keep
their numbers, and HZ is the rate of the sensor with the most frames.

The feed starts when a receiver connects, or after --wait seconds. If none ever does, or if frames are not delivered under
lossless, the exit code is 3."""

MAX_SLEEP_S = 0.2  # so that Ctrl-C is noticed
NOTICE_AFTER_S = 2.0  # of waiting for delivery at the end
FLUSH_MS = 10_000  # for bytes that libzmq has copied but not yet sent
MAX_LOOP_BYTES = 2 * 2**30  # frames held in memory
MAX_EPOCH = 2**62  # of the first sequence: leaves room for the epochs that follow


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Send recorded frames to an endpoint as a live sensor would.", EPILOG
    add_source_options(parser)
    parser.add_argument("--to", metavar="ENDPOINT", required=True, help="where to send, for example tcp://127.0.0.1:5555")
    add_policy_option(parser)
    add_link_options(parser)
    parser.add_argument("--max", action="store_true", help="send as fast as possible, ignoring the rate")
    parser.add_argument("--sensor", metavar="NAME", type=_name, help="sensor name (default: name of the first sequence)")
    parser.add_argument(
        "--epoch", type=_epoch, metavar="N", help="epoch of the first sequence (default: the current time in ns)"
    )
    parser.add_argument(
        "--loop", type=positive_int, default=1, metavar="N", help="send all frames N times, from memory (default 1)"
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="send at most N frames")
    parser.add_argument(
        "--wait", type=positive_float, default=10.0, metavar="S", help="seconds to wait for a receiver (default 10)"
    )
    parser.add_argument(
        "--linger",
        type=positive_float,
        default=600.0,
        metavar="S",
        help="lossless: seconds to wait for delivery at the end (default 600)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    source = open_input(args)
    link = validated_link(Link(**link_fields(args, args.to)), "--to")
    rate = None if args.max else args.rate or source.rate_hz
    if rate is None and not args.max:
        raise UsageError(f"{args.path}: the frame rate is unknown; give --rate HZ or --max")
    sender, interrupted = _Sender(args.policy), False
    with zmq.Context() as context, closing(open_socket(context, sender.kind, link)) as socket:
        if not _wait_for_receiver(socket, args.wait) and args.policy == "lossless":
            raise LossError(f"{args.to}: no receiver within {args.wait:g} s, so that nothing was sent")
        total = None if source.frames is None else source.frames * args.loop
        with progress("feed", min(total or 10**12, args.limit or 10**12) if total or args.limit else None) as done:
            try:
                for frame in scheduled(islice(relabelled(source, args.sensor, args.loop, args.epoch), args.limit), rate):
                    message = wire.encode(frame)  # in the time until it is due, as far as that suffices
                    _wait_until(frame.stamp.time_ns)
                    sender.send(socket, message)
                    done(1)
            except KeyboardInterrupt:  # treated as a sensor that is switched off
                interrupted = True
        heard = args.policy == "lossless" or socket.poll(0) > 0  # a subscription waits to be read
        lost = sender.end(context, socket, LINGER_MS / 1e3 if interrupted else args.linger)
    print_line(f"{pluralise(sender.sent, 'frame')} sent to {args.to}")
    if not heard and sender.sent:
        raise LossError(f"{args.to}: no receiver connected, so that all frames are lost")
    if lost and not interrupted:
        raise LossError(f"{args.to}: {lost}")
    if lost:
        print_line(lost)
    return 0


def scheduled(frames: Iterable[Frame], rate_hz: float | None) -> Iterator[Frame]:
    """Yield each frame stamped with the time at which it is due (clock unix), ahead of it; now if rate_hz is None.

    The rate is that of the sensor with the most frames; another sensor's frame is due with its neighbour in the stream. The
    first frame is due once it has been read: what comes before takes none of the others' time.
    """
    start_ns, newest, last = 0, 0, dict[str, int]()
    for frame in frames:
        start_ns = start_ns or time.time_ns()
        newest = last[frame.stamp.sensor] = max(newest, last.get(frame.stamp.sensor, -1) + 1)
        due_ns = time.time_ns() if rate_hz is None else start_ns + round(newest * 1e9 / rate_hz)
        yield replace(frame, stamp=replace(frame.stamp, time_ns=due_ns, clock="unix"))


def _wait_until(due_ns: int) -> None:
    while (remaining_s := (due_ns - time.time_ns()) / 1e9) > 0:
        time.sleep(min(remaining_s, MAX_SLEEP_S))


def relabelled(source: Source, sensor: str | None, rounds: int, first_epoch: int | None) -> Iterator[Frame]:
    """Yield a source's frames `rounds` times, each sequence as a new epoch of one sensor, or of each sensor of a recording.

    sensor: its name, None for the name of the first sequence; first_epoch: each sensor's first epoch, None for the current
    time in ns.
    """
    frames: Iterable[Frame] = source
    if rounds > 1:
        frames = list(_held_in_memory(source))
    name, keep_names = sensor, sensor is None and isinstance(source, Recording)
    original = ""  # name in the recording of the sensor that --sensor renames
    first = time.time_ns() if first_epoch is None else first_epoch
    epochs: dict[str, int] = {}
    for _ in range(rounds):
        last: dict[str, tuple[str, int]] = {}  # each sensor's current sequence
        for frame in frames:
            stamp = frame.stamp
            if sensor and isinstance(source, Recording) and stamp.sensor != (original := original or stamp.sensor):
                names = f"{original} and {stamp.sensor}"
                raise UsageError(f"--sensor: the recording holds {names}; leave it out to keep each name")
            if keep_names or name is None:
                name = re.sub(r"[^A-Za-z0-9_.:-]+", "-", stamp.sensor)[:64] or "sensor"
            if last.get(name) != (stamp.sensor, stamp.epoch):
                last[name] = stamp.sensor, stamp.epoch
                epochs[name] = epochs.get(name, first - 1) + 1
            yield replace(frame, stamp=replace(stamp, sensor=name, epoch=epochs[name], source=""))


def _held_in_memory(source: Source) -> Iterator[Frame]:
    """Yield the frames; raise UsageError once they exceed MAX_LOOP_BYTES."""
    held = 0
    for frame in source:
        held += frame.pixels.nbytes
        if held > MAX_LOOP_BYTES:
            raise UsageError(f"--loop: the frames exceed {MAX_LOOP_BYTES >> 30} GiB; send them once, or fewer of them")
        yield frame


def _wait_for_receiver(socket: Socket, seconds: float) -> bool:
    """Wait until a subscriber (PUB) or a puller (PUSH) is connected, at most `seconds`; return whether one is."""
    if socket.poll(round(seconds * 1000), zmq.POLLIN if socket.type == zmq.XPUB else zmq.POLLOUT):
        return True
    if socket.type == zmq.XPUB:
        print_line(f"no receiver after {seconds:g} s; sending anyway")
    return False


class _Sender:
    """Sends frames and counts them (`sent`); under lossless it also tracks which are not yet delivered."""

    def __init__(self, policy: Policy) -> None:
        self.kind, self.sent = (zmq.XPUB if policy == "live" else zmq.PUSH), 0
        self._undelivered: deque[zmq.MessageTracker] = deque()

    def send(self, socket: Socket, message: wire.Message) -> None:
        """Send one frame's message; under lossless, block while the receiver is busy."""
        topic, header, payload = message
        last = zmq.Frame(payload, track=self.kind == zmq.PUSH, copy=False)
        while True:
            try:
                socket.send_multipart([topic, header, last], copy=False)
            except zmq.Again:
                continue
            break
        self.sent += 1
        if last.tracker:
            self._undelivered.append(last.tracker)
        while self._undelivered and self._undelivered[0].done:
            self._undelivered.popleft()

    def end(self, context: Context, socket: Socket, seconds: float) -> str:
        """Wait for delivery, then close the socket and the context; return what was lost in words, else ""."""
        undelivered = self._wait_for_delivery(seconds)
        linger_ms = LINGER_MS if self.kind == zmq.XPUB else min(round(seconds * 1000), FLUSH_MS)
        socket.close(0 if undelivered else linger_ms)
        began = time.monotonic()
        context.term()
        all_sent = self.kind == zmq.XPUB or (not undelivered and time.monotonic() - began < linger_ms / 1e3)
        return "" if all_sent else f"the last {undelivered or 'few'} frames were not delivered and are lost"

    def _wait_for_delivery(self, seconds: float) -> int:
        """Wait until all frames are delivered, at most `seconds` or until Ctrl-C; return how many are not."""
        began, noticed = time.monotonic(), False
        try:
            while self._undelivered and (remaining_s := began + seconds - time.monotonic()) > 0:
                if self._is_delivered(self._undelivered[0], min(remaining_s, NOTICE_AFTER_S)):
                    self._undelivered.popleft()
                elif not noticed:
                    noticed = True
                    print_line(f"waiting for the last frames to be delivered, at most {seconds:g} s")
        except KeyboardInterrupt:
            pass
        return sum(not message.done for message in self._undelivered)

    @staticmethod
    def _is_delivered(message: zmq.MessageTracker, seconds: float) -> bool:
        """Wait for one frame, at most `seconds`."""
        try:
            message.wait(seconds)
        except zmq.NotDone:
            return False
        return True


def _name(text: str) -> str:
    """Parse a sensor name."""
    if not wire.SENSOR_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected 1 to 64 letters, digits or any of _ . : -, got {text!r}")
    return text


def _epoch(text: str) -> int:
    """Parse an epoch."""
    value = non_negative_int(text)
    if value > MAX_EPOCH:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {MAX_EPOCH}, got {text!r}")
    return value
