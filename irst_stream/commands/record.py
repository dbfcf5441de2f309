"""irst-stream record: write the frames of a feed into a recording."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import positive_float, show_log
from irst_stream.commands.links import add_link_options, add_policy_option, link_fields, validated_link
from irst_stream.commands.outputs import check_outputs
from irst_stream.commands.view import raise_losses, run_with_view
from irst_stream.errors import UsageError
from irst_stream.io.file_series import series_fault
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live.runner import Runner
from irst_stream.live.sequence_monitor import SequenceMonitor
from irst_stream.live.status import Status

__all__ = ["set_up"]

MAX_STALL_S = 86_400

EPILOG = """\
If OUT.mcap exists, the recording goes to OUT-0002.mcap, and so on; {start} in its name stands for the time at which it
begins, UTC. irst-stream replay and feed read recordings, any MCAP tool opens them, and irst-stream recover repairs them
after a crash, which costs at most the last half second. Recording stops before the disk is full: the file is closed, and
the exit code is 3. Ctrl-C or SIGTERM writes the frames received so far and closes the file."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Record the frames that arrive at an endpoint.", EPILOG
    parser.add_argument("out", metavar="OUT.mcap", type=Path, help="recording to create")
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="ENDPOINT",
        required=True,
        help="where frames come from, for example tcp://127.0.0.1:5555",
    )
    add_policy_option(parser)
    add_link_options(parser)
    parser.add_argument(
        "--sensor", metavar="NAME", action="append", default=[], help="record this sensor only; may be repeated"
    )
    parser.add_argument(
        "--stall", type=_stall, default=3.0, metavar="S", help="reconnect after this many seconds of silence (default 3)"
    )
    parser.add_argument("--seconds", type=positive_float, metavar="S", help="stop after this many seconds")
    parser.add_argument(
        "--compression", choices=("none", "lz4", "zstd"), default="none", help="compression of the file (default none)"
    )
    parser.add_argument(
        "--rotate-mb", type=positive_float, default=0.0, metavar="MB", help="start a new file after this many megabytes"
    )
    parser.add_argument(
        "--rotate-s", type=positive_float, default=0.0, metavar="S", help="start a new file after this many seconds"
    )
    parser.add_argument(
        "--keep-free-mb",
        type=positive_float,
        default=1000.0,
        metavar="MB",
        help="megabytes to leave free on the disk (default 1000)",
    )
    parser.add_argument(
        "--keep-mb",
        type=positive_float,
        default=0.0,
        metavar="MB",
        help="delete the oldest recordings of this name beyond this many megabytes in all (default: keep all)",
    )
    parser.add_argument(
        "--keep-hours",
        type=positive_float,
        default=0.0,
        metavar="H",
        help="delete recordings of this name after this many hours (default: keep all)",
    )
    parser.add_argument(
        "--fsync", action="store_true", help="force every chunk to the disk, so that a power failure costs at most the last"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_outputs(args, out=".mcap")
    if fault := series_fault(str(args.out)):
        raise UsageError(f"OUT.mcap: {fault}")
    show_log()
    fields = link_fields(args, args.origin)
    receive = validated_link(ReceiveSettings(**fields, sensors=tuple(args.sensor), stall_s=args.stall), "--from")
    names = ("compression", "rotate_mb", "rotate_s", "keep_free_mb", "keep_mb", "keep_hours", "fsync")
    settings = RecordSettings(str(args.out), **{name: getattr(args, name) for name in names})
    source = ZmqSource(receive, args.policy)
    try:
        recorder = Recorder(settings)
    except BaseException:
        source.close()
        raise
    runner = Runner(SequenceMonitor(), {args.origin: source}, {str(args.out): recorder}, args.policy)
    run_with_view(runner, args.seconds, is_done=_has_stopped, with_results=False)
    raise_losses(runner.status())
    return 0


def _has_stopped(status: Status) -> bool:
    """Whether the recorder takes no more records."""
    return any(sink.alarm for sink in status.sinks.values())


def _stall(text: str) -> float:
    """Parse the time in s that a link may be silent."""
    seconds = positive_float(text)
    if seconds > MAX_STALL_S:
        raise argparse.ArgumentTypeError(f"expected at most {MAX_STALL_S:,} s, got {text!r}")
    return seconds
