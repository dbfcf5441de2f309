"""irst-stream export: detections, tracks and recordings in formats of other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irst_stream.commands.console import image_size, pluralise, positive_float, print_line, progress
from irst_stream.commands.outputs import atomic_output, check_outputs
from irst_stream.errors import FormatError, UsageError
from irst_stream.io import jsonl
from irst_stream.io.csv_results import write_csv
from irst_stream.io.film import FilmFrame, write_film
from irst_stream.io.parquet_results import check_parquet, write_parquet
from irst_stream.io.recording.random_access import RandomAccess
from irst_stream.io.rerun_results import check_rerun, write_rerun
from irst_stream.io.truth.mot import encode_mot
from irst_stream.types import Detections, Tracks

__all__ = ["set_up"]

EPILOG = """\
IN is a recording (.mcap), or JSON lines of detections or tracks. --to says what to write:
csv      a row for each detection or track, with its frame, covariance and all else that JSON lines say; a frame in which
         nothing was found has a row without x and y. irst-stream score reads it too.
parquet  the same as Parquet; needs the extra parquet.
mot      confirmed tracks as MOT Challenge lines: frame, id, left, top, width, height, score, -1, -1, -1; frames and pixels
         count from 1. A track is a point: --box says the size of the boxes. One file holds one sequence.
video    an MP4 of a recording's frames with detections, tracks and ids drawn on them.
rerun    a recording for the Rerun viewer (.rrd); needs the extra rerun.
Recordings themselves open in Rerun and in MCAP viewers, which show their images. Rerun reports its use to its makers
unless you forbid it: rerun analytics disable."""


@dataclass(frozen=True)
class _Format:
    """suffix: of the file; of_frames: needs a recording's frames; check(): raises if a package is missing."""

    suffix: str
    of_frames: bool = False
    check: Callable[[], None] = lambda: None


FORMATS = {
    "csv": _Format(".csv"),
    "parquet": _Format(".parquet", check=check_parquet),
    "mot": _Format(".txt"),
    "video": _Format(".mp4", of_frames=True),
    "rerun": _Format(".rrd", of_frames=True, check=check_rerun),
}


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Write detections, tracks or a recording in a format of other programs.", EPILOG
    parser.add_argument("found", metavar="IN", type=Path, help="recording, or JSON lines of detections or tracks")
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", help="file to write (default: named after IN, here)")
    parser.add_argument("--to", choices=FORMATS, help="format (default: by the suffix of OUT)")
    parser.add_argument("--what", choices=("detections", "tracks"), help="of a recording: which table (default tracks)")
    parser.add_argument("--sequence", metavar="NAME", help="write this sequence only")
    parser.add_argument("--box", type=_box, metavar="WxH", help="size of the boxes of MOT lines, px (default 1x1)")
    parser.add_argument("--rate", type=positive_float, metavar="HZ", help="pictures/s of a video (default the sensor's)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.found.is_dir():
        raise UsageError(f"{args.found}: is a folder; expected a recording, or JSON lines of detections or tracks")
    name, args.out = _target(args)
    chosen = FORMATS[name]
    _check_options(args, name)
    check_outputs(args, out=chosen.suffix)
    chosen.check()
    if chosen.of_frames:
        _export_frames(args, name)
        return 0
    kind, records = _records(args, name)
    with atomic_output(args.out) as part:
        writers = {"csv": write_csv, "parquet": write_parquet}
        lines = _write_mot(part, args, records) if name == "mot" else writers[name](part, records, kind)
    print_line(f"{args.out}: {pluralise(lines, 'line')} of {pluralise(len(records), 'frame')}")
    return 0


def _target(args: argparse.Namespace) -> tuple[str, Path]:
    """The format, and the file to write."""
    by_suffix = {known.suffix: name for name, known in FORMATS.items()}
    if args.to is None and args.out is None:
        raise UsageError("export: expected OUT, or --to with a format")
    if args.to is None:
        if args.out.suffix.lower() not in by_suffix:
            raise UsageError(f"{args.out}: expected a name that ends in {', '.join(by_suffix)}, or --to with a format")
        return by_suffix[args.out.suffix.lower()], args.out
    return args.to, args.out or Path(args.found.stem + FORMATS[args.to].suffix)


def _check_options(args: argparse.Namespace, name: str) -> None:
    """Raise a UsageError for an option that does not apply."""
    recording = args.found.suffix.lower() == ".mcap"
    if FORMATS[name].of_frames and not recording:
        raise UsageError(f"--to {name}: shows frames; expected a recording (.mcap), got {args.found}")
    for option, applies in (
        ("box", name == "mot"),
        ("rate", name == "video"),
        ("what", recording and not FORMATS[name].of_frames and name != "mot"),
    ):
        if getattr(args, option) is not None and not applies:
            raise UsageError(f"--{option}: does not apply to {name} of {args.found}")


def _records(args: argparse.Namespace, name: str) -> tuple[Any, list[Any]]:
    """The kind of the records to write, and the records."""
    if args.found.suffix.lower() == ".mcap":
        kind: Any = Detections if args.what == "detections" else Tracks
        with RandomAccess(args.found) as recording:
            read = recording.detections if kind is Detections else recording.tracks
            places = [(s, k) for s in _sensors(args, recording) for k in range(recording.frames[s])]
            found = [record for record in (read(*place) for place in places) if record is not None]
        if not found:
            other = "tracks" if kind is Detections else "detections"
            raise UsageError(f"{args.found}: holds no {kind.__name__.lower()}; --what {other} takes the others")
        return kind, found
    kind = Tracks if jsonl.holds(args.found, Tracks) else Detections
    if name == "mot" and kind is Detections:
        raise UsageError(f"--to mot: MOT Challenge lines hold tracks; {args.found} holds detections")
    records = [r for r in jsonl.read(args.found, kind) if args.sequence in (None, r.stamp.sensor)]
    if args.sequence is not None and not records:
        raise UsageError(f"{args.found}: no sequence {args.sequence!r}")
    return kind, records


def _sensors(args: argparse.Namespace, recording: RandomAccess) -> list[str]:
    """The sensors of a recording to write."""
    if args.sequence is None:
        return list(recording.frames)
    if args.sequence not in recording.frames:
        raise UsageError(f"{args.found}: no sequence {args.sequence!r}; there are: {', '.join(list(recording.frames)[:4])}")
    return [args.sequence]


def _export_frames(args: argparse.Namespace, name: str) -> None:
    """Write a video, or a recording for Rerun."""
    with RandomAccess(args.found) as recording:
        sensors = _sensors(args, recording)
        if name == "video" and len(sensors) > 1:
            names = ", ".join(sensors[:4])
            raise UsageError(
                f"{args.found}: {len(sensors)} sequences ({names}); a video shows one, name it with --sequence"
            )
        total = sum(recording.frames[sensor] for sensor in sensors)
        with progress("export", total) as done, atomic_output(args.out) as part:
            written = part.with_name(f"{part.stem}.part{args.out.suffix}")  # OpenCV takes the format from the suffix
            frames = _with_results(recording, sensors, done)
            rate_hz = args.rate or recording.rate_hz(sensors[0]) or 25.0
            try:
                count = write_film(written, frames, rate_hz) if name == "video" else write_rerun(written, frames)
                written.replace(part)
            finally:
                written.unlink(missing_ok=True)
    print_line(f"{args.out}: {pluralise(count, 'frame')} of {', '.join(sensors)}")


def _with_results(recording: RandomAccess, sensors: list[str], done: Callable[[int], None]) -> Iterator[FilmFrame]:
    """Each frame with its detections and tracks."""
    for sensor in sensors:
        for position in range(recording.frames[sensor]):
            frame = recording.frame(sensor, position)
            yield frame, recording.detections(sensor, position), recording.tracks(sensor, position)
            done(1)


def _write_mot(path: Path, args: argparse.Namespace, records: Iterable[Any]) -> int:
    sequences = sorted({(record.stamp.sensor, record.stamp.epoch) for record in records})
    if len(sequences) > 1:
        names = ", ".join(name for name, _ in sequences[:4])
        raise FormatError(
            f"{args.found}: {len(sequences)} sequences ({names}); one file holds one, name it with --sequence"
        )
    lines = list(encode_mot(records, args.box or (1, 1)))
    path.write_text("".join(lines), "utf-8")
    return len(lines)


def _box(text: str) -> tuple[int, int]:
    """Parse WxH of at least 1 px."""
    size = image_size(text)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"expected WxH of at least 1x1, got {text!r}")
    return size
