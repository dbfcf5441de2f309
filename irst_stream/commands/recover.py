"""irst-stream recover: what a broken recording still holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import print_line
from irst_stream.commands.outputs import check_output, replacing
from irst_stream.errors import OutputError
from irst_stream.io.recording.recovery import Recovered, recover

__all__ = ["set_up"]

EPILOG = """\
A recording whose writer was killed, or whose disk lost some of it, has no end or does not agree with its checksums. All
frames, detections and tracks that can be read and are certainly right go into OUT.mcap, in their order; BROKEN.mcap is left
as it is. Of a writer that was killed at most the last half second is missing."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Saves what a broken recording still holds.", EPILOG
    parser.add_argument("path", metavar="BROKEN.mcap", type=Path)
    parser.add_argument("out", metavar="OUT.mcap", type=Path)
    parser.add_argument("--replace", action="store_true", help="write over an OUT.mcap that exists")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_output(args.out, args.path, suffix=".mcap")
    if args.out.is_file() and not args.replace:
        raise OutputError(f"{args.out}: exists; choose another name, or say --replace")
    with replacing(args.out) as part:
        found = recover(args.path, part)
    print_line(_words(found))
    print_line(f"recording: {args.out}")
    return 0


def _words(found: Recovered) -> str:
    counts = f"frames {found.frames}, detections {found.detections}, tracks {found.tracks}"
    if found.whole:
        return f"{counts}; the recording is whole"
    return f"{counts}; {found.lost_bytes:,} bytes could not be read" if found.lost_bytes else f"{counts}; it had no end"
