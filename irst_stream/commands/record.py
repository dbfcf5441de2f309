"""irst-stream record: what a feed sends, into a recording."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import noun, positive, show_log
from irst_stream.commands.links import add_link_options, add_policy_option, checked, link_fields
from irst_stream.commands.outputs import check_output
from irst_stream.commands.view import attend
from irst_stream.errors import OutputError
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live.runner import Runner, Watch
from irst_stream.live.status import Status

__all__ = ["set_up"]

LONGEST_STALL_S = 86_400

EPILOG = """\
OUT.mcap must not exist; irst-stream replay and feed read it, any tool for MCAP opens it, and after a crash irst-stream
recover saves it. Recording stops before the disk is full: the file is closed, and the exit code is 2. Ctrl-C or SIGTERM
finish what has come and close the file."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Records the frames that arrive at an endpoint.", EPILOG
    parser.add_argument("out", metavar="OUT.mcap", type=Path)
    parser.add_argument("--from", dest="origin", metavar="ENDPOINT", required=True, help="such as tcp://127.0.0.1:5555")
    add_policy_option(parser)
    add_link_options(parser)
    parser.add_argument(
        "--sensor", metavar="NAME", action="append", default=[], help="of this sensor only; may be repeated"
    )
    parser.add_argument(
        "--stall", type=_stall, default=3.0, metavar="S", help="of silence, after which it connects anew (default 3)"
    )
    parser.add_argument("--seconds", type=positive, metavar="S", help="stop after so long")
    parser.add_argument("--compression", choices=("none", "lz4", "zstd"), default="none", help="of the file (default none)")
    parser.add_argument("--rotate-mb", type=positive, default=0.0, metavar="MB", help="begin a new file after so much")
    parser.add_argument("--rotate-s", type=positive, default=0.0, metavar="S", help="begin a new file after so long")
    parser.add_argument("--keep-free-mb", type=positive, default=1000.0, metavar="MB", help="of the disk (default 1000)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_output(args.out, suffix=".mcap")
    show_log()
    fields = link_fields(args, args.origin)
    given = checked(ReceiveSettings(**fields, sensors=tuple(args.sensor), stall_s=args.stall), "--from")
    names = ("compression", "rotate_mb", "rotate_s", "keep_free_mb")
    settings = RecordSettings(str(args.out), **{name: getattr(args, name) for name in names})
    source = ZmqSource(given, args.policy)
    try:
        recorder = Recorder(settings)
    except BaseException:
        source.close()
        raise
    runner = Runner(Watch(), {args.origin: source}, {str(args.out): recorder}, args.policy)
    attend(runner, args.seconds, over=_has_stopped, answers=False)
    status = runner.status()
    if _has_stopped(status):
        [(name, sink)] = status.sinks.items()
        where = "" if sink.alarm.startswith(name.removesuffix(".mcap")) else f"{name}: "
        raise OutputError(f"{where}{sink.alarm}; {noun(sink.written, 'record')} written, {sink.lost} lost")
    return 0


def _has_stopped(status: Status) -> bool:
    """Whether nothing is recorded any more."""
    return any(sink.alarm for sink in status.sinks.values())


def _stall(text: str) -> float:
    """An option that is a time for which a link may be silent."""
    seconds = positive(text)
    if seconds > LONGEST_STALL_S:
        raise argparse.ArgumentTypeError(f"expected at most {LONGEST_STALL_S:,} s, got {text!r}")
    return seconds
