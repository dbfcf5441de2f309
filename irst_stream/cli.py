"""The command line: which commands there are, and what happens when one of them fails."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from irst_stream import __version__
from irst_stream.commands import baseline, doctor, inspect, schema, score, simulate
from irst_stream.errors import IrstError

__all__ = ["main"]

DESCRIPTION = """\
Closely spaced infrared targets: from frames to sub-pixel detections and scores.

Infrared search-and-track sensors see far groups of small targets as one blurred spot. irst-stream generates
such data with exact truth, reads it from whatever files it comes in, and scores what a method finds."""

EPILOG = """\
a first round:
  irst-stream simulate seqcsist data --trajectories 100    a small SeqCSIST, three splits
  irst-stream inspect data/test --png test.png             what it is, and how it looks
  irst-stream baseline data/test cells.jsonl               perfect labels, read at cell centres
  irst-stream score cells.jsonl data/test --plot pr.png    what that readout can reach at best

x is the column, y the row, pixel centres are integers, in every file and every answer.
Exit codes: 0 done, 2 bad input (one line says what, where, and what was expected), 130 interrupted."""

COMMANDS = (simulate, inspect, baseline, score, schema, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except IrstError as error:
        print(f"irst-stream: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("irst-stream: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("irst-stream", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"irst-stream {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", parser_class=_Parser)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Keeps the line breaks of its texts, and says what is wrong in one line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options}
        super().__init__(*args, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. Try: {self.prog} --help\n")


if __name__ == "__main__":
    sys.exit(main())
