"""One worker: surveys recordings, computes pieces and joins them, with one network and one fit a configuration."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from irst_stream.archive.atomic import part_path, publish, write_whole
from irst_stream.archive.job import Job, Outcome, Step, Summary, config_digest
from irst_stream.archive.join import write_joined
from irst_stream.archive.piece import TrackerTap, compute_piece
from irst_stream.archive.piece_file import PieceManifest, read_manifest, read_piece, write_piece
from irst_stream.archive.poses import measure_poses, read_poses, with_poses
from irst_stream.archive.recordings import as_named
from irst_stream.archive.scores import score_results
from irst_stream.archive.survey import OpenRecording, Survey, piece_key, survey_key, window_reach
from irst_stream.build import build_pipeline, make_tracker
from irst_stream.chain.pipeline import Pipeline
from irst_stream.config import Config
from irst_stream.errors import FormatError, IrstError, OutputError
from irst_stream.io import jsonl
from irst_stream.io.parquet_results import write_parquet
from irst_stream.source_config import unpack_files
from irst_stream.system.bounded_files import MAX_DATA_BYTES, read_bounded
from irst_stream.types import Detections, Frame, Tracks
from irst_stream.version import __version__

__all__ = ["Worker", "noted"]

MAX_PIPELINES = 4  # configurations whose network and fit are held


def _recording_folder(job: Job, name: str) -> Path:
    """Return the folder of a recording's results."""
    return job.out / "recordings" / name


def _read_struct(path: Path, kind: type[msgspec.Struct]) -> msgspec.Struct | None:
    """Return what a JSON file of an archive holds; None where it is missing, damaged or of another version."""
    try:
        return msgspec.json.decode(read_bounded(path, MAX_DATA_BYTES), type=kind)
    except (OSError, IrstError, msgspec.DecodeError, UnicodeDecodeError):
        return None


class Worker:
    """Takes one step after another; keeps the last recording open, and a pipeline for each configuration."""

    def __init__(self, job: Job) -> None:
        if job.config is not None and job.files:
            job = replace(job, config=unpack_files(job.config, job.files))
        self._job = job
        self._opened: tuple[str, OpenRecording] | None = None
        self._pipelines: dict[str, _Pipelines] = {}

    def __call__(self, step: Step) -> Outcome:
        """Take a step; whatever goes wrong is in the outcome, in one line."""
        notes: list[str] = []
        work = {"survey": self._survey, "poses": self._poses, "piece": self._piece, "join": self._join}[step.what]
        try:
            with noted(notes, step.source):
                outcome = work(step)
        except OutputError as error:
            outcome = Outcome(step, fault=str(error), stop=True)
        except IrstError as error:
            outcome = Outcome(step, fault=as_named(step.source, str(error)))
        except OSError as error:
            fault = f"{error.filename or step.source}: {error.strerror or error}"
            outcome = Outcome(step, fault=as_named(step.source, fault))
        except Exception as error:
            where = " / ".join(line.strip() for line in traceback.format_exc().splitlines() if line.startswith("  File"))
            kind = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            fault = f"{step.source}: a fault of this program, not of your input ({kind}); {where}"
            outcome = Outcome(step, fault=fault, bug=True)
        return replace(outcome, notes=(*notes, *outcome.notes))

    def close(self) -> None:
        """Close the recording that is open; may be called twice."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def _open(self, source: str) -> OpenRecording:
        if self._opened is None or self._opened[0] != source:
            self.close()
            self._opened = source, OpenRecording(self._job, source)
        return self._opened[1]

    def _survey(self, step: Step) -> Outcome:
        """Survey a recording, and find out what is left to do."""
        self.close()  # what was open may have changed
        folder = _recording_folder(self._job, step.name)
        known = _read_struct(folder / "survey.json", Survey)
        before = known if isinstance(known, Survey) else None
        survey = self._open(step.source).survey(self._job, step.source, before)
        _clean(folder, survey)
        if survey != before:
            write_whole(folder / "survey.json", msgspec.json.format(msgspec.json.encode(survey), indent=1) + b"\n")
        notes = (f"{step.source}: {change}; it starts again",) if before and (change := _change(before, survey)) else ()
        summary = _read_struct(folder / "result.json", Summary)
        if isinstance(summary, Summary) and summary.key == survey_key(survey) and self._has_results(folder):
            return Outcome(step, summary=summary, notes=notes)
        numbers = range(len(survey.pieces))
        missing = tuple(k for k in numbers if read_manifest(_piece_path(folder, k), piece_key(survey, k)) is None)
        poses = bool(missing) and self._registers(survey) and not _poses_path(folder, survey).is_file()
        frames = survey.frames * len(missing) // max(len(numbers), 1)
        return Outcome(step, missing, poses, frames, notes=notes)

    def _has_results(self, folder: Path) -> bool:
        suffixes = (".jsonl", ".parquet") if self._job.parquet else (".jsonl",)
        kinds = ("detections", "tracks") if self._job.tracks else ("detections",)
        return all((folder / f"{kind}{suffix}").is_file() for kind in kinds for suffix in suffixes)

    def _registers(self, survey: Survey) -> bool:
        """Whether a sequence is split whose poses are measured on its frames."""
        config = self._open(survey.source).config
        split = any(span.lead for spans in survey.pieces for span in spans)
        return split and not survey.patches and config.register.when != "off"

    def _poses(self, step: Step) -> Outcome:
        """Measure the poses of a recording."""
        folder = _recording_folder(self._job, step.name)
        survey, recording = self._known_survey(folder), self._open(step.source)
        names = dict.fromkeys(span.sequence for spans in survey.pieces for span in spans)
        sequences = [partial(recording.frames_from, name, 0) for name in names]
        unknown = measure_poses(_poses_path(folder, survey), sequences, recording.config)
        notes = (f"{step.source}: {unknown} frames show too little to measure the platform's motion",) if unknown else ()
        return Outcome(step, notes=notes)

    def _piece(self, step: Step) -> Outcome:
        """Compute one piece and write its file."""
        folder = _recording_folder(self._job, step.name)
        survey, recording = self._known_survey(folder), self._open(step.source)
        digest = config_digest(self._job, recording.config)
        config, frames_from = recording.config, recording.frames_from
        if self._registers(survey):
            poses = read_poses(_poses_path(folder, survey))
            config = replace(config, register=replace(config.register, when="off"))

            def frames_from(sequence: str, first: int) -> Iterator[Frame]:
                return with_poses(recording.frames_from(sequence, first), poses)

        pipelines = self._pipelines_of(f"{digest} {config.register.when}", config)
        piece = compute_piece(survey.pieces[step.piece], frames_from, pipelines.new, window_reach(config))
        manifest = PieceManifest(
            piece_key(survey, step.piece),
            step.source,
            __version__,
            digest,
            "" if recording.config.readout == "fit" else f"{recording.config.engine} ({recording.config.backend})",
            piece.frames,
            len(piece.results),
            round(piece.seconds, 3),
            piece.fault,
            dict(piece.events),
        )
        write_piece(_piece_path(folder, step.piece), manifest, piece.results)
        return Outcome(step, frames=piece.frames)

    def _join(self, step: Step) -> Outcome:
        """Join the pieces of a recording up to its first fault: one tracker over all, results, scores, result.json."""
        folder, job = _recording_folder(self._job, step.name), self._job
        survey, recording = self._known_survey(folder), self._open(step.source)
        manifests = _whole_part(folder, survey)
        pieces = (read_piece(_piece_path(folder, k))[1] for k in range(len(manifests)))
        new_tracker = partial(make_tracker, recording.config) if job.tracks else None
        joined = write_joined(folder, pieces, new_tracker, patches=survey.patches)
        if job.parquet:
            _write_tables(folder, tracks=job.tracks)
        scores, note = score_results(recording.source, folder, tracks=job.tracks)
        events = sum((Counter(manifest.events) for manifest in manifests), joined.events)
        summary = Summary(
            step.source,
            step.name,
            survey_key(survey),
            sum(manifest.frames for manifest in manifests),
            joined.answered,
            joined.detections,
            len(joined.ids),
            len(survey.pieces),
            round(sum(manifest.seconds for manifest in manifests), 3),
            as_named(step.source, next((manifest.fault for manifest in manifests if manifest.fault), survey.fault)),
            False,
            scores,
            {name: count for name, count in sorted(events.items()) if count},
        )
        write_whole(folder / "result.json", msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
        return Outcome(step, summary=summary, notes=(note,) if note else ())

    def _known_survey(self, folder: Path) -> Survey:
        survey = _read_struct(folder / "survey.json", Survey)
        if not isinstance(survey, Survey):
            raise OutputError(f"{folder / 'survey.json'}: missing or damaged; expected an --out that all workers see")
        return survey

    def _pipelines_of(self, digest: str, config: Config) -> _Pipelines:
        if digest not in self._pipelines:
            while len(self._pipelines) >= MAX_PIPELINES:
                self._pipelines.pop(next(iter(self._pipelines)))
            self._pipelines[digest] = _Pipelines(config, tracks=self._job.tracks)
        return self._pipelines[digest]


class _Pipelines:
    """Pipelines of one configuration, which share one network and one fit."""

    def __init__(self, config: Config, *, tracks: bool) -> None:
        self._taps: list[TrackerTap] = []

        def new_tracker(first_id: int) -> TrackerTap:
            self._taps.append(TrackerTap(make_tracker(config, first_id)))
            return self._taps[-1]

        self._first = build_pipeline(config, tracks=tracks, new_tracker=new_tracker)

    def new(self) -> tuple[Pipeline, Callable[[], TrackerTap | None]]:
        """Return a pipeline that knows no sensor, and what returns its first sensor's tracker."""
        self._taps.clear()
        return self._first.another(), lambda: self._taps[0] if self._taps else None


@contextmanager
def noted(notes: list[str], source: str) -> Iterator[None]:
    """Collect the package's warnings of a recording, which would else appear on whatever machine the worker runs.

    Those of windows are left out: they are counted as events, and would be as many as recordings.
    """
    logger = logging.getLogger("irst_stream")
    handler = _NoteHandler(notes, source)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


class _NoteHandler(logging.Handler):
    def __init__(self, notes: list[str], source: str) -> None:
        super().__init__(logging.WARNING)
        self._notes, self._source = notes, source

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "irst_stream.chain.window" or record.levelno >= logging.ERROR:
            note = as_named(self._source, record.getMessage())
            self._notes.append(note if note.startswith(f"{self._source}:") else f"{self._source}: {note}")


def _clean(folder: Path, survey: Survey) -> None:
    """Remove what a run that was killed, or one with other pieces, left behind."""
    kept = {_piece_path(folder, number) for number in range(len(survey.pieces))} | {_poses_path(folder, survey)}
    for pattern in ("**/*.part", "pieces/*.piece", "poses-*.jsonl"):
        for path in folder.glob(pattern):
            if path not in kept:
                path.unlink(missing_ok=True)


def _poses_path(folder: Path, survey: Survey) -> Path:
    return folder / f"poses-{survey_key(survey)[:16]}.jsonl"


def _piece_path(folder: Path, number: int) -> Path:
    return folder / "pieces" / f"{number:06d}.piece"


def _whole_part(folder: Path, survey: Survey) -> list[PieceManifest]:
    """The manifests of the pieces up to the first with a fault; raise a FormatError for a missing one."""
    manifests: list[PieceManifest] = []
    for number in range(len(survey.pieces)):
        manifest = read_manifest(_piece_path(folder, number), piece_key(survey, number))
        if manifest is None:
            raise FormatError(f"{_piece_path(folder, number)}: missing or damaged; the next run computes it again")
        manifests.append(manifest)
        if manifest.fault:
            break
    return manifests


def _change(before: Survey, now: Survey) -> str:
    """What of a recording has changed since it was surveyed, in words; "" for nothing that its results depend on."""
    changes = {
        "the recording has changed": before.content != now.content,
        "the configuration has changed": before.config != now.config and before.irst_stream == now.irst_stream,
        f"made by irst-stream {before.irst_stream}": before.irst_stream != now.irst_stream,
        "its pieces are others": before.pieces != now.pieces,
    }
    return ", ".join(words for words, changed in changes.items() if changed)


def _write_tables(folder: Path, *, tracks: bool) -> None:
    kinds: tuple[Any, ...] = (Detections, Tracks) if tracks else (Detections,)
    for kind in kinds:
        name = kind.__name__.lower()
        part = part_path(folder / f"{name}.parquet")
        try:
            write_parquet(part, jsonl.read(folder / f"{name}.jsonl", kind), kind)
            publish(part, folder / f"{name}.parquet")
        finally:
            part.unlink(missing_ok=True)
