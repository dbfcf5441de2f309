"""What a run over many recordings does, and what it hands to its workers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from irst_stream.conditioning.line_noise import MEMORY as LINE_MEMORY
from irst_stream.config import Config, files_of
from irst_stream.errors import FormatError
from irst_stream.http_settings import MetricsSettings, ViewSettings
from irst_stream.system.shipped import find_engine
from irst_stream.version import __version__

__all__ = ["Job", "Outcome", "Step", "Summary", "config_digest", "lead_in_frames", "piece_frames"]

SEARCH_LEAD = 200  # frames until the search of full frames knows its bad pixels, and the tracker its targets
WARM_FITS = 8  # fits from scratch until warm starts say the same whatever they began with
MEMORIES = 4  # lengths of the longest memory, until nothing is left of how it began
PIECE_FRAMES = 2000  # of a piece
PIECE_LEADS = 8  # a piece is at least this many times as long as its lead-in


@dataclass(frozen=True)
class Job:
    """What is done with every recording; the same for all workers.

    out: folder of the results, absolute, that all workers see; config: None for each recording's own; files: contents of
    the files that the configuration names, by setting, so that nodes need not have them; kind, variable, rate_hz, gray: of
    sources; piece_frames, lead_in: frames, None for what the configuration needs; tracks, parquet: whether these are
    written.
    """

    out: Path
    config: Config | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    kind: str | None = None
    variable: str | None = None
    rate_hz: float | None = None
    gray: bool = False
    piece_frames: int | None = None
    lead_in: int | None = None
    tracks: bool = True
    parquet: bool = False


@dataclass(frozen=True)
class Step:
    """One thing that a worker does: survey a recording, measure its poses, compute one of its pieces, or join them.

    name: of the recording's folder; source: its path or address; piece: its number.
    """

    what: Literal["survey", "poses", "piece", "join"]
    name: str
    source: str
    piece: int = -1


class Summary(msgspec.Struct, frozen=True):
    """What came of a recording: result.json.

    key: of everything that the results depend on; seconds: of computing, all pieces together; fault: why it could not be
    read to its end, "" if it could; lost: the fault is not the recording's: its workers ended, or this program has a fault;
    scores: where there is truth.
    """

    source: str
    name: str
    key: str
    frames: int = 0
    answered: int = 0
    detections: int = 0
    tracks: int = 0
    pieces: int = 0
    seconds: float = 0.0
    fault: str = ""
    lost: bool = False
    scores: dict[str, Any] = {}
    events: dict[str, int] = {}


@dataclass(frozen=True)
class Outcome:
    """What a step came to.

    missing: a survey's pieces that are still to compute; poses: its poses are to be measured before them; frames:
    computed, or to compute; summary: of a recording that is joined; notes: lines for the user; fault: why a step failed, ""
    if it did not; lost: the worker ended before it answered; bug: the fault is this program's; stop: the fault concerns all
    steps, as a full disk does.
    """

    step: Step
    missing: tuple[int, ...] = ()
    poses: bool = False
    frames: int = 0
    summary: Summary | None = None
    notes: tuple[str, ...] = ()
    fault: str = ""
    lost: bool = False
    bug: bool = False
    stop: bool = False


def lead_in_frames(config: Config, *, patches: bool) -> int:
    """Frames before a piece at which a worker begins, so that what windows remember has settled.

    patches: of frames that are one region each, where nothing is searched. 0 where nothing is remembered.
    """
    lead = 0 if config.readout == "fit" else config.window  # a network's maps, computed one frame at a time
    if config.readout in ("fit", "best") and config.fit.refit_every > 1:
        lead = max(lead, WARM_FITS * config.fit.refit_every)
    corrected = max(config.correct.scene_frames, LINE_MEMORY if config.correct.lines != "off" else 0)
    if patches:
        return max(lead, MEMORIES * corrected)
    return max(lead, SEARCH_LEAD, MEMORIES * max(config.propose.clutter_frames, corrected))


def piece_frames(lead_in: int) -> int:
    """Frames of a piece where nobody says how many: its lead-in is then at most an eighth more work."""
    return max(PIECE_FRAMES, PIECE_LEADS * lead_in)


def config_digest(job: Job, config: Config) -> str:
    """Digest of all of a configuration, its files and its engine that results depend on."""
    bare = replace(
        config,
        receive=(),
        publish=(),
        write=(),
        record=(),
        memory="",
        policy="lossless",
        queue=1,
        most_sensors=1,
        forget_s=1.0,
        threads=1,
        metrics=MetricsSettings(),
        view=ViewSettings(),
    )
    known = hashlib.sha256(f"{__version__} {job.tracks} {job.kind} {job.variable} {job.rate_hz} {job.gray}".encode())
    files = {setting: Path(name) for setting, name in files_of(config).items()}
    for setting in files:  # their places may differ from run to run, and from node to node
        section, name = setting.split(".")
        bare = replace(bare, **{section: replace(getattr(bare, section), **{name: ""})})
    known.update(msgspec.json.encode(bare))
    if config.readout != "fit" and config.engine:
        files["engine"] = find_engine(config.engine) / "manifest.toml"
    for setting, path in sorted(files.items()):
        known.update(setting.encode())
        known.update(_bytes_of(setting, path))
    return known.hexdigest()


def _bytes_of(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{setting}: {path}: {error.strerror or error}") from error
