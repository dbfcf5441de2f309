"""irst-stream look: recorded frames, results and truth on the live page."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from irst_stream.commands.console import pluralise, print_line, show_log, tcp_port
from irst_stream.commands.sources import add_source_options, open_input
from irst_stream.errors import UsageError
from irst_stream.http_settings import ViewSettings
from irst_stream.io import jsonl
from irst_stream.io.csv_results import csv_kind, read_csv
from irst_stream.io.files import FileSource
from irst_stream.io.recording.random_access import RandomAccess
from irst_stream.io.recording.recorder import Recording
from irst_stream.io.truth import open_truth
from irst_stream.io.truth.pairing import align_truth
from irst_stream.types import Detections, Tracks
from irst_stream.web.playback import FileFrames, Playback, RecordedFrames, Results
from irst_stream.web.routes import feed_handlers
from irst_stream.web.serve import serve_page

__all__ = ["set_up"]

VIEW_PORT = 8601
MOST_FILES = 2  # of detections
ENCODED_PER_S = 60.0  # most frames a second that the page is sent

EPILOG = """\
PATH is anything irst-stream inspect reads. A recording brings its detections and tracks along, a data set its truth; name
others with the options: two files of detections are drawn in two colours, and side by side if you wish. Open the address
that is printed; from another machine through a tunnel: ssh -L 8601:localhost:8601 HOST. Ctrl-C ends it."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Show recorded frames with results and truth in a browser.", EPILOG
    add_source_options(parser)
    parser.add_argument(
        "--detections", metavar="FILE", type=Path, nargs="+", default=[], help="one or two files, JSON lines or .csv"
    )
    parser.add_argument("--tracks", metavar="FILE", type=Path, help="tracks, JSON lines or .csv")
    parser.add_argument("--truth", metavar="TRUTH", type=Path, help="truth beside the frames: see irst-stream docs truth")
    parser.add_argument(
        "--port", type=tcp_port, default=VIEW_PORT, metavar="PORT", help=f"port of this machine (default {VIEW_PORT})"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if len(args.detections) > MOST_FILES:
        raise UsageError(f"--detections: expected at most {MOST_FILES} files, got {len(args.detections)}")
    if len({path.stem for path in args.detections}) < len(args.detections):
        raise UsageError(
            f"--detections: both files are called {args.detections[0].stem}; the page tells them by their names"
        )
    show_log()
    with ExitStack() as opened:
        source = open_input(args)
        store = (
            FileFrames(source)
            if isinstance(source, FileSource)
            else RecordedFrames(opened.enter_context(RandomAccess(args.path)))
        )
        names = {sensor.name for sensor in store.sensors()}
        results = _read_results(args, source, set() if args.single else names)
        feed = Playback(store, results, str(args.path))
        view = ViewSettings(port=args.port, frames_per_s=ENCODED_PER_S)
        page = opened.enter_context(serve_page(feed_handlers(feed, view.frames_per_s), view))
        print_line(f"{args.path}: {pluralise(len(names), 'sequence')}; {_described(results, source)}")
        print_line(f"page: {page.url}")
        with suppress(KeyboardInterrupt):  # how it ends
            threading.Event().wait()
    return 0


def _read_results(args: argparse.Namespace, source: FileSource | Recording, names: set[str]) -> Results:
    """Read the files of results and truth that the options name, and the data set's own truth."""
    found = {path.stem: _by_frame(path, _read(path, Detections), names) for path in args.detections}
    tracks = _by_frame(args.tracks, _read(args.tracks, Tracks), names) if args.tracks else None
    stamps = [record.stamp for records in (*found.values(), tracks or {}) for record in records.values()]
    if args.truth:
        truths, note = align_truth(stamps or [frame.stamp for frame in source], open_truth(args.truth))
        if note:
            print_line(note)
        return Results(found, tracks, _by_frame(args.truth, truths, names))
    truth = _by_frame(args.path, source.truths(), names) if source.has_truth else None
    return Results(found, tracks, truth)


def _read(path: Path, kind: type[Any]) -> Iterable[Any]:
    """The records of a file of detections or tracks."""
    is_csv = path.suffix.lower() == ".csv"
    holds = csv_kind(path) is kind if is_csv else jsonl.holds(path, kind)
    if not holds and path.is_file() and path.stat().st_size:
        raise UsageError(f"{path}: expected {kind.__name__.lower()}")
    return read_csv(path, kind) if is_csv else jsonl.read(path, kind)


def _by_frame(path: Path, records: Iterable[Any], names: set[str]) -> dict[tuple[str, int, int], Any]:
    """Records by sensor, epoch and index; raise a UsageError if they are of none of the frames' sequences.

    names: of these; empty if every image is a sequence of its own.
    """
    known = {(r.stamp.sensor, r.stamp.epoch, r.stamp.index): r for r in records}
    sequences = sorted({sensor for sensor, _, _ in known})
    if names and sequences and not names & set(sequences):
        raise UsageError(f"{path}: of sequence {sequences[0]!r}; the frames are of {min(names)!r}")
    return known


def _described(results: Results, source: FileSource | Recording) -> str:
    """What is shown besides frames."""
    parts = ["what is recorded"] if isinstance(source, Recording) else []
    parts += [f"detections of {name}" for name in results.detections]
    parts += ["tracks"] if results.tracks is not None else []
    parts += ["truth"] if results.truth is not None else []
    return ", ".join(parts) or "frames alone"
