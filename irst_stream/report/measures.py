"""The numbers of a report: what each is called, its unit, which direction is better; and what to look at first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from irst_stream.report.runs import Profile, RecordingSummary, Run, Score

__all__ = ["Finding", "Measure", "change", "findings", "kept_rate", "measure", "numbers"]

MARKED_CHANGE = 0.02  # relative change from which on a difference is marked
LATE_MS = 100.0


class Measure(NamedTuple):
    """What a number is: title; unit, "%" for shares; better: +1 if higher is, -1 if lower is, 0 if neither."""

    title: str
    unit: str = ""
    better: int = 0


class Finding(NamedTuple):
    """Something to look at: how grave, 2 for a fault, 1 for a weakness, 0 for what is well; of which run, and what."""

    grave: int
    run: str
    text: str


MEASURES = {
    "cso_map": Measure("CSO-mAP", "%", 1),
    "gospa.total": Measure("GOSPA", "px", -1),
    "gospa.localisation": Measure("GOSPA: localisation", "px\u00b2", -1),
    "gospa.missed": Measure("GOSPA: missed", "px\u00b2", -1),
    "gospa.false": Measure("GOSPA: false", "px\u00b2", -1),
    "errors.count_accuracy": Measure("right number of targets", "%", 1),
    "errors.recall": Measure("recall", "%", 1),
    "errors.precision": Measure("precision", "%", 1),
    "errors.position_rmse": Measure("position error, rms", "px", -1),
    "errors.position_bias_x": Measure("position bias, x", "px"),
    "errors.position_bias_y": Measure("position bias, y", "px"),
    "errors.amplitude_rmse": Measure("amplitude error, rms", "DN", -1),
    "errors.amplitude_bias": Measure("amplitude bias", "DN"),
    "ospa2": Measure("OSPA(2)", "px", -1),
    "hota.hota": Measure("HOTA", "%", 1),
    "hota.det_a": Measure("HOTA: detection (DetA)", "%", 1),
    "hota.ass_a": Measure("HOTA: association (AssA)", "%", 1),
    "hota.loc_a": Measure("HOTA: localisation (LocA)", "%", 1),
    "hota.det_re": Measure("HOTA: detection recall", "%", 1),
    "hota.det_pr": Measure("HOTA: detection precision", "%", 1),
    "hota.ass_re": Measure("HOTA: association recall", "%", 1),
    "hota.ass_pr": Measure("HOTA: association precision", "%", 1),
    "identity.idf1": Measure("IDF1", "%", 1),
    "identity.idp": Measure("identity precision", "%", 1),
    "identity.idr": Measure("identity recall", "%", 1),
    "clear.mota": Measure("MOTA", "%", 1),
    "clear.motp": Measure("matched distance (MOTP)", "px", -1),
    "clear.missed": Measure("points missed", "", -1),
    "clear.false": Measure("points false", "", -1),
    "clear.switches": Measure("identity switches", "", -1),
    "clear.fragments": Measure("fragments", "", -1),
    "follow.position_rmse": Measure("track position error, rms", "px", -1),
    "follow.velocity_rmse": Measure("track velocity error, rms", "px/s", -1),
    "follow.purity": Measure("track purity", "%", 1),
    "follow.confirm_ms": Measure("time to confirm", "ms", -1),
    "follow.never": Measure("targets never confirmed", "", -1),
    "images": Measure("frames scored"),
    "frames": Measure("frames scored"),
    "truths": Measure("true points"),
    "targets": Measure("targets"),
    "tracks": Measure("confirmed tracks"),
    "unanswered": Measure("frames without a line", "", -1),
}


def measure(key: str) -> Measure:
    """What a number of a score is, by its dotted key; a key that is not known names itself."""
    if key.startswith("ap."):
        return Measure(f"AP within {key[3:]} px", "%", 1)
    return MEASURES.get(key, Measure(key.replace("_", " ").replace(".", ": ")))


def numbers(scores: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the dotted key and the value of every number in scores, those that have a name first."""
    found = dict(_numbers(scores, path))
    known = [key for key in MEASURES if key in found] + [key for key in found if key.startswith("ap.")]
    for key in (*known, *(key for key in found if key not in known)):
        yield key, found[key]


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield path, float(value)
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield from _numbers(inside, f"{path}.{key}" if path else str(key))


def change(key: str, before: float, after: float) -> tuple[float, int]:
    """The relative change of a number (infinite from 0), and whether it is better (+1), worse (-1) or neither (0)."""
    if before == after or not (math.isfinite(before) and math.isfinite(after)):
        return 0.0, 0
    relative = (after - before) / abs(before) if before else math.copysign(math.inf, after - before)
    better = measure(key).better if abs(relative) >= MARKED_CHANGE else 0
    return relative, better * (1 if after > before else -1)


def kept_rate(profile: Profile) -> float:
    """The highest rate of a profile that was kept up with, frames/s; 0 for none."""
    return max((step.offered for step in profile.steps if step.kept_up), default=0.0)


def findings(run: Run) -> list[Finding]:
    """What to look at first, the gravest first."""
    found = [Finding(2, run.name, fault) for fault in run.faults]
    for score in run.scores:
        found += [Finding(grave, run.name, f"{score.path.name}: {text}") for grave, text in _of_score(score)]
    for profile in run.profiles:
        found += [Finding(grave, run.name, f"{profile.path.name}: {text}") for grave, text in _of_profile(profile)]
    for recording in run.recordings:
        found += [Finding(grave, run.name, f"{recording.path.name}: {text}") for grave, text in _of_recording(recording)]
    return sorted(found, key=lambda one: -one.grave)


def _of_score(score: Score) -> Iterator[tuple[int, str]]:
    """What stands out in a score."""
    known = dict(numbers(score.scores))
    shares = {"errors.recall": 0.9, "errors.precision": 0.9, "errors.count_accuracy": 0.9, "identity.idf1": 0.9}
    for key, least in shares.items():
        if key in known and known[key] < least:
            yield 1 + (known[key] < least / 2), f"{measure(key).title} is {known[key]:.1%}"
    for key in ("unanswered", "follow.never", "clear.switches"):
        if known.get(key, 0) > 0:
            yield 1, f"{measure(key).title}: {known[key]:.0f}"
    rmse = known.get("errors.position_rmse", math.nan)
    bias = math.hypot(known.get("errors.position_bias_x", 0.0), known.get("errors.position_bias_y", 0.0))
    if bias > rmse / 2:
        yield 1, f"positions are off by {bias:.3f} px on average, of {rmse:.3f} px rms: a shift that stays"


def _of_profile(profile: Profile) -> Iterator[tuple[int, str]]:
    """What stands out in a profile."""
    failed = next((step for step in profile.steps if not step.kept_up), None)
    if failed:
        why = ", ".join(f"{count} {reason}" for reason, count in failed.unused.items()) or "answers too late"
        kept = kept_rate(profile)
        text = f"keeps up with {kept:.4g} frames/s" if kept else "keeps up with none of the rates"
        yield (0 if kept else 2), f"{text}, not with {failed.offered:.4g} ({why})"
    for step in profile.steps:
        late = step.end_to_end[2] - step.lag_ms
        if step.kept_up and late > LATE_MS:
            yield 1, f"p99 end to end is {late:.0f} ms beyond the window's lag at {step.offered:.4g} frames/s"


def _of_recording(recording: RecordingSummary) -> Iterator[tuple[int, str]]:
    """What stands out in a recording."""
    for sensor in recording.sensors:
        if sensor.missing:
            share = sensor.missing / (sensor.frames + sensor.missing)
            yield 1 + (share > 0.1), f"{sensor.name}: {sensor.missing} frames are missing ({share:.1%})"
        if 0 < sensor.answered < 0.9:
            yield 1, f"{sensor.name}: {1 - sensor.answered:.0%} of the frames have no result"
