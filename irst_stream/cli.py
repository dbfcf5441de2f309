"""The command line: which commands there are, and what happens when one of them fails."""

from __future__ import annotations

import argparse
import difflib
import os
import platform
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

from irst_stream.errors import IrstError, LossError
from irst_stream.system.printable import printable
from irst_stream.version import __version__

__all__ = ["main"]

GROUPS = {
    "see": {
        "inspect": "say what a file or folder holds, and draw it",
        "look": "show recorded frames, results and truth in a browser",
        "doctor": "say what this machine can do, and what is missing for what",
        "docs": "print a page of the documentation: tutorial, settings, troubleshooting ...",
        "config": "list what a configuration may hold, and check one",
        "schema": "print the JSON Schema of detections, tracks, truth and poses",
    },
    "run": {
        "calibrate": "measure a sensor on its frames, and write the settings that follow",
        "correct": "measure gain and offset of each pixel of a sensor, on frames of uniform scenes",
        "run": "run a live pipeline, from sensor feeds to published detections and tracks",
        "fleet": "run many sensors, on all cores of this machine or on a Ray cluster",
        "replay": "turn recorded frames into sub-pixel detections and tracks",
        "archive": "the same of many recordings, on all cores or on a cluster",
        "feed": "send recorded frames as a live sensor would",
        "record": "record a feed",
        "warm-up": "compile ahead what the first run on a machine would compile",
        "recover": "save the readable part of a broken recording",
    },
    "measure": {
        "score": "score detections or tracks against truth: CSO-mAP, ROC, GOSPA, HOTA, IDF1, errors",
        "export": "write detections, tracks and recordings as CSV, Parquet, MOT lines, video, or for Rerun",
        "compare": "hold published methods against each other on the same frames",
        "baseline": "detections of perfect labels read at cell centres, for comparison",
        "profile": "measure latency and throughput under load",
        "report": "write scores, profiles and recordings of runs as one HTML file",
    },
    "make": {
        "simulate": "generate data sets with exact truth",
        "engine": "import, export, build, check and run networks",
        "keys": "make key pairs for feeds that cross a network",
    },
}
"""Each command is a module of irst_stream.commands, loaded only when asked for: doctor must work where others break."""

DESCRIPTION = """\
Closely spaced infrared targets: from frames to sub-pixel detections, tracks and scores.

Infrared search-and-track sensors see far groups of small targets as one blurred spot. irst-stream finds the
targets of each group, live or in recordings, follows them, and scores what any method finds."""

EPILOG = """\
a first round:
  irst-stream simulate seqcsist data --trajectories 100    a small SeqCSIST, three splits
  irst-stream inspect data/test --png test.png             what it is, and how it looks
  irst-stream replay data/test --detections found.jsonl    sub-pixel detections with covariances
  irst-stream score found.jsonl data/test --plot pr.png    how good they are
  irst-stream docs tutorial                                from a recording to tracks, step by step

x is the column, y the row, pixel centres are integers, in every file and every answer.
Exit codes: 0 done, 2 bad input (one line says what, where, and what was expected), 3 output that was promised is lost (one
line says how much of what), 70 a fault of the program (one line names a file with its traceback), 130 interrupted."""

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        with _ending_at_once():
            parser = _parser(words[0] if words else "")
        if words and words[0].startswith("-"):  # before a missing command is what is complained of
            parser.check_options(words[:1])
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what service managers send ends as Ctrl-C does
        args = parser.parse_args(words)
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except IrstError as error:
        _say(str(error))
        return 3 if isinstance(error, LossError) else 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _say(f"{error.filename or 'output'}: {error.strerror or error}")
        return 2
    except Exception as error:
        _say(_report(error, words))
        return INTERNAL_ERROR


def _say(text: str) -> None:
    """Print one line to standard error."""
    print(f"irst-stream: {printable(text)}", file=sys.stderr)


def _report(error: Exception, words: Sequence[str]) -> str:
    """Keep the traceback of a fault of the program in a file; return the line that says so."""
    facts = f"irst-stream {__version__}, Python {sys.version}, {platform.platform()}\n{words}\n\n"
    text = facts + "".join(traceback.format_exception(error))
    kind = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    try:
        handle, path = tempfile.mkstemp(".txt", "irst-stream-fault-", text=True)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        where = f"please send {path} to the maintainers"
    except OSError:
        where = " / ".join(line.strip() for line in text.splitlines() if line.startswith("  File"))
    return f"a fault of this program, not of your input ({kind}); {where}"


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """While modules are loaded Ctrl-C ends the process: nothing is to be finished, and some crash if they are stopped."""

    def end(*_: object) -> None:
        os.write(2, b"irst-stream: interrupted\n")
        os._exit(130)

    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # and not ignored, as in the background
    if heard:
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _parser(asked: str) -> _Parser:
    """The whole parser, of which only the command that is asked for knows its own options."""
    usage = "irst-stream [-h] [--version] COMMAND ..."
    parser = _Parser("irst-stream", usage=usage, description=DESCRIPTION, epilog=f"{_listing()}\n\n{EPILOG}")
    parser.add_argument("--version", action="version", version=f"irst-stream {__version__}")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, help=argparse.SUPPRESS, prog=parser.prog, parser_class=_Parser
    )
    for name in (name for group in GROUPS.values() for name in group):
        command = commands.add_parser(name)  # without help: argparse lists all in one row, _listing() in groups
        if name == asked:
            import_module(f"irst_stream.commands.{name.replace('-', '_')}").set_up(command)
    return parser


def _listing() -> str:
    """The commands, by what a person wants."""
    lines = []
    for title, group in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<10}{summary}" for name, summary in group.items())]
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """Keeps the line breaks of its texts, and says what is wrong in one line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options}
        super().__init__(*args, **options)
        self._negative_number_matcher = re.compile(r"-\.?\d")  # so that --drift -4,2 and --frames -3: are values

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is unknown where its command is known, so that the error names the command."""
        found, unknown = super().parse_known_args(args, namespace)
        self.check_options([word for word in unknown if word.startswith("-") and len(word) > 1])
        if unknown:
            self.error(f"one argument too many: {unknown[0]}")
        return found, unknown

    def check_options(self, words: Sequence[str]) -> None:
        """End with an error if a word is not one of this parser's options."""
        known = list(self._option_string_actions)
        for word in words:
            name = word.partition("=")[0]
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                self.error(f"no option {name}" + (f"; did you mean {near[0]}?" if near else ""))

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"{self.prog}: {message.rstrip('?.')}. Try: {self.prog} --help") + "\n")


if __name__ == "__main__":
    sys.exit(main())
