"""irst-stream recover: copy the readable records of a broken recording into a new one."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import print_line
from irst_stream.commands.outputs import atomic_output, check_outputs
from irst_stream.errors import OutputError
from irst_stream.io.recording.recovery import RecoveryResult, recover

__all__ = ["set_up"]

EPILOG = """\
A recording is broken if its writer was killed (it has no end) or if the disk lost part of it (checksums do not match).
All frames, detections and tracks that can be read and verified are written to OUT.mcap in order; BROKEN.mcap is not
changed. If the writer was killed, at most the last half second is missing."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Copy the readable records of a broken recording into a new one.", EPILOG
    parser.add_argument("path", metavar="BROKEN.mcap", type=Path, help="recording to read")
    parser.add_argument("out", metavar="OUT.mcap", type=Path, help="recording to create")
    parser.add_argument("--replace", action="store_true", help="overwrite OUT.mcap if it exists")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_outputs(args, out=".mcap")
    if args.out.is_file() and not args.replace:
        raise OutputError(f"{args.out}: exists; choose another name or add --replace")
    with atomic_output(args.out) as part:
        found = recover(args.path, part)
    print_line(_describe(found))
    print_line(f"recording: {args.out}")
    return 0


def _describe(found: RecoveryResult) -> str:
    """What was recovered, and what is missing."""
    counts = f"frames {found.frames}, detections {found.detections}, tracks {found.tracks}"
    if found.intact:
        return f"{counts}; the recording is whole"
    return f"{counts}; {found.lost_bytes:,} bytes could not be read" if found.lost_bytes else f"{counts}; it had no end"
