"""irst-stream feed: a sensor emulator, which sends recorded frames on schedule, whoever listens."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count as counter
from itertools import islice

import zmq

from irst_stream import wire
from irst_stream.commands.console import count, noun, positive, print_line, progress, whole
from irst_stream.commands.links import add_link_options, add_policy_option, link_fields
from irst_stream.commands.sources import add_source_options, open_any
from irst_stream.errors import UsageError
from irst_stream.io.zeromq import Link, Socket, open_socket
from irst_stream.protocols import Source
from irst_stream.types import Frame

__all__ = ["set_up"]

EPILOG = """\
Frame k is due k / HZ seconds after the first one, and bears the time when it was due (clock unix), whether or not the
receiver keeps up: under --policy live what it does not take is lost, under lossless the feed falls behind. Every sequence
of PATH, and every round of --loop, is a new epoch of the one sensor, as if that had restarted.

The feed starts when somebody listens, or after --wait seconds."""

CHUNK_S = 0.2  # how long a sleep lasts at most, so that Ctrl-C is heard
LARGEST_LOOP = 2 * 2**30  # bytes of frames that are held


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Sends recorded frames to an endpoint as a live sensor would.", EPILOG
    add_source_options(parser)
    parser.add_argument("--to", metavar="ENDPOINT", required=True, help="such as tcp://127.0.0.1:5555")
    add_policy_option(parser)
    add_link_options(parser)
    parser.add_argument("--max", action="store_true", help="as fast as it can, in place of the rate")
    parser.add_argument("--sensor", metavar="NAME", help="the sensor's name (default the first sequence's)")
    parser.add_argument("--epoch", type=whole, metavar="N", help="of the first sequence (default the time, in ns)")
    parser.add_argument("--loop", type=count, default=1, metavar="N", help="send all of it N times, from memory")
    parser.add_argument("--limit", type=count, metavar="N", help="send N frames at most")
    parser.add_argument("--wait", type=positive, default=10.0, metavar="S", help="for a listener (default 10)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    source = open_any(args)
    link = Link(**link_fields(args, args.to))
    rate = None if args.max else args.rate or source.rate_hz
    if rate is None and not args.max:
        raise UsageError(f"{args.path}: states no rate; say --rate HZ, or --max")
    sent = 0
    kind = zmq.XPUB if args.policy == "live" else zmq.PUSH
    with zmq.Context() as context, closing(open_socket(context, kind, link)) as socket:
        _await_listener(socket, args.wait)
        total = None if source.frames is None else source.frames * args.loop
        with progress("feed", min(total or 10**12, args.limit or 10**12) if total or args.limit else None) as done:
            try:
                for frame in paced(islice(_frames(source, args.sensor, args.loop, args.epoch), args.limit), rate):
                    _send(socket, frame)
                    sent += 1
                    done(1)
            except KeyboardInterrupt:
                pass  # as a sensor that is switched off
    print_line(f"{noun(sent, 'frame')} sent to {args.to}")
    return 0


def paced(frames: Iterable[Frame], rate_hz: float | None) -> Iterator[Frame]:
    """Gives each frame when it is due, with the time when it was due as its stamp's; at once where there is no rate."""
    start_ns = time.time_ns()
    for k, frame in enumerate(frames):
        due_ns = time.time_ns() if rate_hz is None else start_ns + round(k * 1e9 / rate_hz)
        while (left := (due_ns - time.time_ns()) / 1e9) > 0:
            time.sleep(min(left, CHUNK_S))
        yield replace(frame, stamp=replace(frame.stamp, time_ns=due_ns, clock="unix"))


def _frames(source: Source, sensor: str | None, rounds: int, first_epoch: int | None) -> Iterator[Frame]:
    """All rounds of a source's frames as those of one sensor, each sequence an epoch of its own."""
    frames: Iterable[Frame] = source
    if rounds > 1:
        frames = list(_held(source))
    name, last, epoch = sensor or "", "", 0
    epochs = counter(time.time_ns() if first_epoch is None else first_epoch)
    for _ in range(rounds):
        for frame in frames:
            if frame.stamp.index == 0 or frame.stamp.sensor != last:
                last, epoch = frame.stamp.sensor, next(epochs)
                name = name or re.sub(r"[^A-Za-z0-9_.:-]+", "-", last)[:64] or "sensor"
            yield replace(frame, stamp=replace(frame.stamp, sensor=name, epoch=epoch, source=""))
        last = ""


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


def _send(socket: Socket, frame: Frame) -> None:
    while True:
        try:
            socket.send_multipart(wire.encode(frame), copy=False)
        except zmq.Again:  # the receiver of a lossless feed makes it wait
            continue
        return
