"""irst-stream archive: many recordings at once, on all cores or on a cluster."""

from __future__ import annotations

import argparse
import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from irst_stream.archive.driver import Progress, run_archive
from irst_stream.archive.job import Job, Summary
from irst_stream.archive.recordings import find_recordings
from irst_stream.archive.summary import HEADINGS, summary_rows, totals, write_summaries
from irst_stream.archive.workers import LocalWorkers, OneWorker, Workers, ray_workers
from irst_stream.build import compile_everything
from irst_stream.commands.console import (
    LOG_EVERY_S,
    error_console,
    non_negative_int,
    pluralise,
    positive_float,
    positive_int,
    print_line,
    print_note,
    print_table,
    show_log,
)
from irst_stream.config import files_of
from irst_stream.errors import LossError, OutputError, SourceError, UsageError
from irst_stream.io.media.csist import KINDS
from irst_stream.io.parquet_results import check_parquet
from irst_stream.source_config import read_named_config

__all__ = ["set_up"]

MOST_ROWS = 40  # of the table on the terminal
MOST_FAULTS = 20

EPILOG = """\
SOURCES are folders and files of frames, recordings (.mcap), folders that hold any of these, globs, @LIST.txt with one of
them a line, and addresses in object storage, for example s3://bucket/*.mcap (extra storage, and the store's own).

A long recording is split into pieces, each begun a lead-in before its first frame, so that all cores work on it; one
tracker then follows the targets over all of them. Results are those of irst-stream replay; irst-stream docs
many-recordings says how nearly.

OUT/recordings/NAME/ gets detections.jsonl, tracks.jsonl, result.json and, with --parquet, both as Parquet; OUT itself
archive.json and report.html. A run that was stopped goes on where it was: give the same command again. A recording, or a
configuration, that has changed starts again. What cannot be read is reported, costs no other recording, and gives exit
code 2.

--on runs on a Ray cluster that this machine belongs to (extra ray): one worker for each CPU, on a share of the GPUs where
there are any. All nodes see the sources and OUT under the same paths."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Turn many recordings into detections and tracks, with many workers.", EPILOG
    parser.add_argument("sources", metavar="SOURCES", nargs="+", help="recordings: see below")
    parser.add_argument(
        "--out", metavar="OUT", type=Path, required=True, help="folder of the results; may be one to go on with"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="of all recordings: a TOML file, or a bundled one (default: each its own)"
    )
    parser.add_argument(
        "--workers", type=positive_int, metavar="N", help="processes here (default: one per core); with --on, most workers"
    )
    parser.add_argument("--on", metavar="ray://HOST:PORT", help="run on the Ray cluster at this address")
    parser.add_argument("--no-tracks", action="store_true", help="detections alone")
    parser.add_argument("--parquet", action="store_true", help="write Parquet too; needs the extra parquet")
    parser.add_argument(
        "--piece", type=positive_int, metavar="FRAMES", help="length of a piece (default 2000, or 8 lead-ins)"
    )
    parser.add_argument(
        "--lead-in",
        type=non_negative_int,
        metavar="FRAMES",
        help="frames before a piece (default: as the configuration needs)",
    )
    parser.add_argument("--kind", choices=sorted(KINDS), help="kind of data set, if the folders do not identify it")
    parser.add_argument("--variable", metavar="NAME|NUMBER", help="of .mat, .npz and FITS files: see irst-stream replay")
    parser.add_argument("--rate", type=positive_float, metavar="HZ", help="frame rate in frames/s, overrides the files'")
    parser.add_argument("--gray", action="store_true", help="convert colour images and video by luminance")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    show_log()
    if args.parquet:
        check_parquet()
    job = _job(args)
    sources = find_recordings(args.sources)
    _check_out(args.out, sources)
    began = time.monotonic()
    with _claimed(args.out), _workers(args, job) as workers, _display() as report:
        done = {summary.source: summary for summary in run_archive(sources, len(sources), workers, report)}
    summaries = [done[source] for source in sources]
    write_summaries(args.out, summaries)
    _print_summaries(summaries, time.monotonic() - began)
    print_line(f"results: {args.out}, report: {args.out / 'report.html'}")
    _raise_faults(summaries)
    return 0


def _job(args: argparse.Namespace) -> Job:
    config = read_named_config(args.config) if args.config else None
    files = {}
    for setting, name in files_of(config).items() if config else ():
        try:
            files[setting] = Path(name).read_bytes()
        except OSError as error:
            raise UsageError(f"{setting}: {name}: {error.strerror or error}") from error
    if args.piece and args.lead_in and args.lead_in > 10 * args.piece:
        raise UsageError(f"--lead-in: expected at most ten pieces of {args.piece} frames, got {args.lead_in}")
    return Job(
        args.out.resolve(),
        config,
        files,
        args.kind,
        args.variable,
        args.rate,
        args.gray,
        args.piece,
        args.lead_in,
        not args.no_tracks,
        args.parquet,
    )


def _check_out(out: Path, sources: list[str]) -> None:
    """Raise an OutputError where the results would be written into a recording, or over what is not an archive's."""
    for source in map(Path, sources):
        if source.is_dir() and (source.resolve() == out.resolve() or source.resolve() in out.resolve().parents):
            raise OutputError(f"{out}: lies in the recording {source}; choose another place")
    if out.is_dir() and any(out.iterdir()) and not (out / "recordings").is_dir():
        raise OutputError(f"{out}: holds files that do not belong to an archive; choose an empty folder, or a new one")


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Make the folder, and hold a lock on it; the system releases it even if the process is killed."""
    try:
        (out / "recordings").mkdir(parents=True, exist_ok=True)
        lock = (out / "archive.lock").open("w")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{out}: another run is filling this folder; wait for it, or choose another") from None
        yield


@contextmanager
def _workers(args: argparse.Namespace, job: Job) -> Iterator[Workers]:
    if args.on is not None:
        with ray_workers(args.on, job, args.workers) as cluster:
            yield cluster
        return
    compile_everything()  # once, before all workers want to
    count = args.workers or len(os.sched_getaffinity(0))
    with closing(OneWorker(job) if count == 1 else LocalWorkers(job, count)) as workers:
        yield workers


@contextmanager
def _display() -> Iterator[Callable[[Progress], None]]:
    """Yield what shows how far the run is: a bar on a terminal, else a line every LOG_EVERY_S and at the end."""
    if not error_console.is_terminal:
        yield _ProgressLines()
        return
    with Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=error_console) as bars:
        task = bars.add_task("archive", total=None)
        yield lambda p: bars.update(task, description=_told(p), total=p.pieces, completed=p.pieces_done)


class _ProgressLines:
    """Progress as plain lines on standard error."""

    def __init__(self) -> None:
        self._logged_s = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._logged_s >= LOG_EVERY_S or progress.finished == progress.recordings:
            self._logged_s = now
            print_note(f"{_told(progress)}, {progress.pieces_done} of {progress.pieces} pieces")


def _told(progress: Progress) -> str:
    """How far a run is, in words: recordings, and the time left."""
    left = progress.seconds_left
    text = f"archive: {progress.finished} of {pluralise(progress.recordings, 'recording')}"
    if left is None or progress.finished == progress.recordings:
        return text
    return f"{text}, about {left:.0f} s left" if left < 120 else f"{text}, about {left / 60:.0f} min left"


def _print_summaries(summaries: list[Summary], seconds: float) -> None:
    rows = summary_rows(summaries)
    print_table(HEADINGS, [*rows[:MOST_ROWS], totals(summaries)])
    if len(rows) > MOST_ROWS:
        print_line(f"({len(rows) - MOST_ROWS} more recordings in archive.json)")
    events = sum((Counter(summary.events) for summary in summaries), Counter[str]())
    if events:
        print_line(f"events: {', '.join(f'{count} {name}' for name, count in sorted(events.items()))}")
    computed = sum(summary.seconds for summary in summaries)
    print_line(f"{seconds:.1f} s; {computed:.1f} s of computing, all workers and runs together")


def _raise_faults(summaries: list[Summary]) -> None:
    """Say what could not be read; raise the error that gives the exit code."""
    broken = [summary for summary in summaries if summary.fault]
    for summary in broken[:MOST_FAULTS]:
        where = "" if summary.source in summary.fault else f"{summary.source}: "
        print_note(f"{where}{summary.fault}" + (", up to there it is done" if summary.answered else ""))
    if len(broken) > MOST_FAULTS:
        print_note(f"and {len(broken) - MOST_FAULTS} more, see archive.json")
    if not broken:
        return
    text = f"{len(broken)} of {pluralise(len(summaries), 'recording')} could not be read to the end; all others are done"
    raise (LossError if any(summary.lost for summary in broken) else SourceError)(text)
