"""What a run left behind: scores, profiles, recordings and configurations, found in a folder or named one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from irst_stream.errors import FormatError, IrstError, SourceError
from irst_stream.io.recording.random_access import RandomAccess
from irst_stream.system.latency import PERCENTILES
from irst_stream.types import Detections, Frame, Ints, Tracks

__all__ = ["Profile", "RecordingSummary", "Run", "Score", "SensorSummary", "Step", "read_run"]

MAX_JSON_BYTES = 256 * 2**20
MAX_FILES = 40  # of a folder
SAMPLES = 400  # frames of a sensor whose results are counted


@dataclass(frozen=True)
class Score:
    """A file of irst-stream score --json. kind: what was scored, "detections" or "tracks"; scores: as they stand there."""

    path: Path
    kind: str
    version: str
    truth: str
    frames: str
    scores: dict[str, Any]


class Stage(msgspec.Struct, frozen=True):
    """Latencies of a stage: percentiles as in system.latency.PERCENTILES, ms."""

    percentiles: Annotated[tuple[float, ...], msgspec.Meta(min_length=len(PERCENTILES))]


class Step(msgspec.Struct, frozen=True):
    """What a report needs of one rate of a profile, see live.load_test.LoadStep."""

    offered: float
    answered: float = 0.0
    lag_ms: float = 0.0
    cpu: float = 0.0
    kept_up: bool = False
    unused: dict[str, int] = {}
    stages: dict[str, Stage] = {}

    @property
    def end_to_end(self) -> tuple[float, ...]:
        """Percentiles of the latency from stamp to publication, ms; NaN if nothing was published."""
        known = (stage.percentiles for name, stage in self.stages.items() if name.startswith("end to end"))
        return next(known, (math.nan,) * len(PERCENTILES))


@dataclass(frozen=True)
class Profile:
    """A file of irst-stream profile --json. config: TOML; steps: in rising order of their rate."""

    path: Path
    machine: str
    target: str
    config: str
    steps: list[Step]


@dataclass(frozen=True)
class SensorSummary:
    """One sensor of a recording.

    missing: frames that its indices lack; answered: share of the sampled frames with results; positions, detections, tracks
    (N,): sampled frames, and how many detections and confirmed tracks they have. frame, found, followed: the one to show.
    """

    name: str
    frames: int
    rate_hz: float
    missing: int
    answered: float
    positions: Ints
    detections: Ints
    tracks: Ints
    frame: Frame
    found: Detections | None
    followed: Tracks | None


@dataclass(frozen=True)
class RecordingSummary:
    """A recording. size: bytes; config: TOML."""

    path: Path
    size: int
    config: str
    sensors: list[SensorSummary]


@dataclass
class Run:
    """Everything of one run. configs: TOML by the file's name; faults: files that could not be read, one line each."""

    name: str
    scores: list[Score] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    recordings: list[RecordingSummary] = field(default_factory=list)
    configs: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_run(path: Path) -> Run:
    """Read a run: a folder with its files, where a faulty one is noted, or one file, whose fault is raised."""
    run = Run(path.resolve().name if path.is_dir() else path.name)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_file():
        if not _read_file(path, run):
            raise FormatError(f"{path}: expected JSON of irst-stream score or profile, a recording, or a folder of these")
        return run
    files = [p for p in sorted(path.iterdir()) if p.suffix.lower() in (".json", ".mcap", ".toml") and p.is_file()]
    for file in files[:MAX_FILES]:
        try:
            _read_file(file, run)
        except IrstError as error:
            run.faults.append(str(error))
    if len(files) > MAX_FILES:
        run.faults.append(f"{path}: {len(files)} files, of which {MAX_FILES} are shown")
    if not (run.scores or run.profiles or run.recordings):
        raise SourceError(f"{path}: holds no scores (score --json), no profile (profile --json) and no recording")
    return run


def _read_file(path: Path, run: Run) -> bool:
    """Add a file to a run; return whether it is of a known kind."""
    suffix = path.suffix.lower()
    if suffix == ".mcap":
        run.recordings.append(_read_recording(path))
        return True
    if suffix == ".toml":
        run.configs[path.name] = path.read_text("utf-8", "replace")
        return True
    return suffix == ".json" and _add_json(path, _read_json(path), run)


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FormatError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB")
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON: {error}") from error
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


def _add_json(path: Path, value: Any, run: Run) -> bool:
    """Add scores or a profile; return False for other JSON."""
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("scores"), dict):
        kind = "tracks" if "tracks" in value else "detections"
        version, truth, frames = (str(value.get(key, "")) for key in ("irst_stream", "truth", "frames"))
        scores = value["scores"] | _numbers(value.get("maps"))
        run.scores.append(Score(path, kind, version, truth, frames, scores))
        return True
    if isinstance(value.get("rungs"), list):
        texts = (str(value.get(key, "")) for key in ("machine", "target", "config"))
        machine, target, config = texts
        run.profiles.append(Profile(path, machine, target, config, _steps(path, value["rungs"])))
        return True
    return False


def _steps(path: Path, rungs: Any) -> list[Step]:
    try:
        return sorted(msgspec.convert(rungs, list[Step]), key=lambda step: step.offered)
    except msgspec.ValidationError as error:
        raise FormatError(f"{path}: rungs: {error}") from error


def _numbers(value: Any) -> dict[str, Any]:
    return {"maps": value} if isinstance(value, dict) else {}


def _read_recording(path: Path) -> RecordingSummary:
    with RandomAccess(path) as recording:
        sensors = [_read_sensor(recording, name) for name in recording.frames]
        return RecordingSummary(path, path.stat().st_size, recording.config, sensors)


def _read_sensor(recording: RandomAccess, name: str) -> SensorSummary:
    count = recording.frames[name]
    positions = np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).astype(np.int64))
    found = [recording.detections(name, position) for position in positions.tolist()]
    followed = [recording.tracks(name, position) for position in positions.tolist()]
    numbers = recording.numbers(name)
    steps = np.diff(numbers)
    middle = _telling(found, followed)
    return SensorSummary(
        name,
        count,
        recording.rate_hz(name),
        int((steps[steps > 1] - 1).sum()),
        float(np.mean([one is not None for one in found])),
        positions,
        np.array([len(one) if one is not None else 0 for one in found], np.int64),
        np.array([int(one.confirmed.sum()) if one is not None else 0 for one in followed], np.int64),
        recording.frame(name, int(positions[middle])),
        found[middle],
        followed[middle],
    )


def _telling(found: list[Detections | None], followed: list[Tracks | None]) -> int:
    """The frame to show: one with most confirmed tracks, or most detections, as near to the middle as there is."""
    counts = [
        (int(t.confirmed.sum()) if t is not None else 0, len(d) if d is not None else 0)
        for d, t in zip(found, followed, strict=True)
    ]
    most = max(counts)
    return min((k for k, count in enumerate(counts) if count == most), key=lambda k: abs(k - len(counts) // 2))
