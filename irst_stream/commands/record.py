"""irst-stream record: what a feed sends, into a recording."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import positive, show_log
from irst_stream.commands.links import add_link_options, add_policy_option, link_fields
from irst_stream.commands.outputs import check_output
from irst_stream.commands.view import attend, print_summary
from irst_stream.io.recording import Recorder, RecordSettings
from irst_stream.io.zeromq import ReceiveSettings, ZmqSource
from irst_stream.runner import Runner, Watch

__all__ = ["set_up"]

EPILOG = """\
OUT.mcap must not exist; irst-stream replay and feed read it, any tool for MCAP opens it, and after a crash irst-stream
recover saves it. Recording stops with an alarm before the disk is full. Ctrl-C or SIGTERM finish what has come and close
the file."""


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
    parser.add_argument("--seconds", type=positive, metavar="S", help="stop after so long")
    parser.add_argument("--compression", choices=("none", "lz4", "zstd"), default="none", help="of the file (default none)")
    parser.add_argument("--rotate-mb", type=positive, default=0.0, metavar="MB", help="begin a new file after so much")
    parser.add_argument("--rotate-s", type=positive, default=0.0, metavar="S", help="begin a new file after so long")
    parser.add_argument("--keep-free-mb", type=positive, default=1000.0, metavar="MB", help="of the disk (default 1000)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_output(args.out, suffix=".mcap")
    show_log()
    given = ReceiveSettings(**link_fields(args, args.origin), sensors=tuple(args.sensor))
    names = ("compression", "rotate_mb", "rotate_s", "keep_free_mb")
    settings = RecordSettings(str(args.out), **{name: getattr(args, name) for name in names})
    source = ZmqSource(given, args.policy)
    try:
        recorder = Recorder(settings)
    except BaseException:
        source.close()
        raise
    runner = Runner(Watch(), {args.origin: source}, {str(args.out): recorder}, args.policy)
    attend(runner, args.seconds)
    print_summary(runner.status())
    return 0
