"""The report: one HTML file that needs nothing else, with pictures that can be zoomed."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from irst_stream.report.markup import Markup, element, table
from irst_stream.report.measures import Finding, change, findings, kept_rate, measure, numbers
from irst_stream.report.pictures import curves, frame_picture
from irst_stream.report.runs import Profile, RecordingSummary, Run, Score
from irst_stream.system.latency import PERCENTILES
from irst_stream.version import __version__

__all__ = ["write_report"]

FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
MOST_FINDINGS = 12
GRAVE = ("well", "look", "fault")
DASH = "\u2013"


def write_report(path: Path, runs: Sequence[Run]) -> None:
    """Write the report of runs; the first two are compared number by number."""
    names = " and ".join(run.name for run in runs)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"irst-stream: {names}"),
        element("style", Markup((FOLDER / "report.css").read_text("utf-8"))),
    )
    script = element("script", Markup((FOLDER / "report.js").read_text("utf-8")))
    body = element("body", *_sections(runs, names), script)
    path.write_text(f"<!doctype html>\n{element('html', head, body, lang='en')}\n", "utf-8")


def _sections(runs: Sequence[Run], names: str) -> Iterator[Markup]:
    """Yield the parts of the page."""
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    yield element("header", element("h1", names), element("p", f"irst-stream {__version__}, {made}"))
    yield _section("first", "What to look at first", _findings(runs))
    for kind in ("detections", "tracks"):
        tables = _score_groups(runs, kind)
        if tables:
            parts = [part for columns in tables for part in _scores(columns, compared=len(runs) > 1)]
            yield _section(f"{kind}-scores", f"Scores of {kind}", *parts)
    profiles = [(run, profile) for run in runs for profile in run.profiles]
    if profiles:
        yield _section("profiles", "Latency and throughput", *_profiles(profiles, several=len(runs) > 1))
    recordings = [(run, recording) for run in runs for recording in run.recordings]
    if recordings:
        yield _section("recordings", "Recordings", *_recordings(recordings, several=len(runs) > 1))
    yield _section("settings", "Settings and versions", *_settings(runs))


def _section(key: str, title: str, *parts: Markup) -> Markup:
    return element("section", element("h2", title), *parts, id=key)


def _findings(runs: Sequence[Run]) -> Markup:
    """What stands out, and the largest differences of two runs."""
    found = [finding for run in runs for finding in findings(run)]
    found += _differences(runs) if len(runs) > 1 else []
    found.sort(key=lambda one: -one.grave)
    if not found:
        return element("p", "Nothing stands out.")
    rows = [
        element("li", element("b", GRAVE[one.grave], class_=GRAVE[one.grave]), f" {one.run}: {one.text}")
        for one in found[:MOST_FINDINGS]
    ]
    more = len(found) - MOST_FINDINGS
    note = [element("p", f"{more} more in the tables below.")] if more > 0 else []
    return element("div", element("ul", *rows, class_="findings"), *note)


def _differences(runs: Sequence[Run]) -> list[Finding]:
    """What the second run does worse or better than the first."""
    first, second = runs[0], runs[1]
    found = []
    for before, after in _pairs(first.scores, second.scores):
        known = dict(numbers(after.scores))
        for key, value in numbers(before.scores):
            relative, better = change(key, value, known.get(key, value))
            if better:
                words = f"{measure(key).title} {_value(key, value)} \u2192 {_value(key, known[key])} ({_percent(relative)})"
                found.append((abs(relative), Finding(int(better < 0), second.name, f"{after.path.name}: {words}")))
    found.sort(key=lambda one: -one[0])
    return [finding for _, finding in found[:MOST_FINDINGS]]


def _pairs(first: Sequence[Score], second: Sequence[Score]) -> Iterator[tuple[Score, Score]]:
    """Scores of the same name and kind, or the only ones of a kind."""
    for kind in ("detections", "tracks"):
        left, right = ([score for score in scores if score.kind == kind] for scores in (first, second))
        by_name = {score.path.name: score for score in right}
        for score in left:
            other = by_name.get(score.path.name) or (right[0] if len(left) == len(right) == 1 else None)
            if other:
                yield score, other


def _score_groups(runs: Sequence[Run], kind: str) -> list[list[tuple[str, Score]]]:
    """Scores that stand in one table, with their runs' names: all of one run; of several runs, those of the same name.

    Where each run has one score of the kind, these belong together whatever their names.
    """
    scores = [[score for score in run.scores if score.kind == kind] for run in runs]
    single = len(runs) == 1 or all(len(of_run) == 1 for of_run in scores)
    groups: dict[str, list[tuple[str, Score]]] = {}
    for run, of_run in zip(runs, scores, strict=True):
        for score in of_run:
            groups.setdefault("" if single else score.path.name, []).append((run.name, score))
    return list(groups.values())


def _scores(columns: Sequence[tuple[str, Score]], *, compared: bool) -> Iterator[Markup]:
    """One table: a column for each score; compared: with a column of differences where there are two."""
    known = [dict(numbers(score.scores)) for _, score in columns]
    keys = list(dict.fromkeys(key for one in known for key in one))
    compared = compared and len(columns) == 2
    head = ["", *(f"{name}: {score.path.name}" for name, score in columns), *(["change"] if compared else [])]
    rows = []
    for key in keys:
        values = [one.get(key) for one in known]
        row: list[object] = [measure(key).title, *(DASH if v is None else _value(key, v) for v in values)]
        if compared:
            row.append(_change_cell(key, values[0], values[1]))
        rows.append(row)
    rows += [["truth", *(score.truth for _, score in columns), *([""] if compared else [])]]
    rows += [["frames", *(score.frames for _, score in columns), *([""] if compared else [])]]
    yield table(head, rows)
    for title, unit, name in (("GOSPA over time", "px", "gospa"), ("Confirmed tracks over time", "", "tracks")):
        lines = {f"{run}: {score.path.name}": _over_time(score, name) for run, score in columns}
        yield curves({key: line for key, line in lines.items() if line}, "frame", f"{title}{', ' * bool(unit)}{unit}")


def _over_time(score: Score, name: str) -> list[tuple[float, float]]:
    """A series of a score over its frames; empty if it has none."""
    series = score.scores.get("over_time")
    if not isinstance(series, dict) or not isinstance(series.get(name), list):
        return []
    pairs = zip(series.get("index", []), series[name], strict=False)
    return [(float(x), float(y)) for x, y in pairs if x is not None and y is not None]


def _change_cell(key: str, before: float | None, after: float | None) -> Markup:
    """The change between two runs, marked where it is better or worse."""
    if before is None or after is None:
        return element("td", "only one", class_="quiet")
    relative, better = change(key, before, after)
    words = {1: "better", -1: "worse", 0: "" if abs(relative) < 0.0005 else "change"}[better]
    return element("td", _percent(relative) if relative else "=", class_=words or "quiet")


def _percent(relative: float) -> str:
    return "from 0" if abs(relative) == np.inf else f"{relative:+.1%}"


def _value(key: str, value: float) -> str:
    """A number with its unit."""
    unit = measure(key).unit
    if unit == "%":
        return f"{100 * value:.2f} %"
    text = f"{value:,.0f}" if value == round(value) and not unit else f"{value:.4g}"
    return f"{text} {unit}".strip()


def _profiles(profiles: Sequence[tuple[Run, Profile]], *, several: bool) -> Iterator[Markup]:
    """The rates that were kept up with, and latency over rate."""
    rows, lines = [], {}
    for run, profile in profiles:
        name = f"{run.name}: {profile.path.name}" if several else profile.path.name
        kept = f"{kept_rate(profile):.4g}" if kept_rate(profile) else "none"
        rows.append([name, profile.target, profile.machine, kept])
        for k, percentile in ((0, "p50"), (2, "p99")):
            points = [(step.offered, step.end_to_end[k]) for step in profile.steps if step.kept_up]
            lines[f"{name} {percentile}"] = [point for point in points if point[1] == point[1]]
    yield table(["profile", "target", "machine", "keeps up with, frames/s"], rows)
    yield curves({key: line for key, line in lines.items() if line}, "frames/s", "End to end latency, ms")
    for run, profile in profiles:
        yield element("h3", f"{run.name}: {profile.path.name}" if several else profile.path.name)
        yield _steps(profile)


def _steps(profile: Profile) -> Markup:
    """Every rate of a profile."""
    rows = []
    for step in profile.steps:
        unused = ", ".join(f"{count} {reason}" for reason, count in step.unused.items()) or "0"
        kept = element("td", "yes", class_="better") if step.kept_up else element("td", "no", class_="worse")
        latencies = [_ms(value) for value in step.end_to_end]
        rows.append([f"{step.offered:.4g}", f"{step.answered:.1f}", unused, *latencies, f"{step.cpu:.0%}", kept])
    heads = (f"p{percentile:g}, ms" for percentile in PERCENTILES)
    return table(["frames/s", "answered/s", "not used", *heads, "CPU", "kept up"], rows)


def _ms(value: float) -> str:
    return DASH if value != value else f"{value:.1f}"


def _recordings(recordings: Sequence[tuple[Run, RecordingSummary]], *, several: bool) -> Iterator[Markup]:
    """The sensors of each recording, a frame of each, and what was found over time."""
    rows = []
    for run, recording in recordings:
        name = f"{run.name}: {recording.path.name}" if several else recording.path.name
        for sensor in recording.sensors:
            height, width = sensor.frame.pixels.shape
            kind = f"{width} x {height} px, {sensor.frame.pixels.dtype}"
            rate, answered = f"{sensor.rate_hz:.1f}", f"{sensor.answered:.0%}"
            rows.append(
                [
                    name,
                    sensor.name,
                    kind,
                    f"{sensor.frames:,}",
                    rate,
                    sensor.missing,
                    answered,
                    f"{recording.size / 1e6:,.1f}",
                ]
            )
    heads = ["recording", "sensor", "frames are", "frames", "frames/s", "missing", "answered", "file, MB"]
    yield table(heads, rows)
    for run, recording in recordings:
        for sensor in recording.sensors:
            title = f"{recording.path.name}, {sensor.name}"
            yield element("h3", f"{run.name}: {title}" if several else title)
            lines = {"detections": sensor.detections, "confirmed tracks": sensor.tracks}
            counted = {
                n: list(zip(sensor.positions.tolist(), c.tolist(), strict=True)) for n, c in lines.items() if c.any()
            }
            pictures = [frame_picture(sensor), curves(counted, "frame", "Detections and tracks a frame")]
            yield element("div", *pictures, class_="pictures")


def _settings(runs: Sequence[Run]) -> Iterator[Markup]:
    """The configurations, and the versions of what made the report."""
    for run in runs:
        texts = dict(run.configs) | {f"{r.path.name} (recorded)": r.config for r in run.recordings if r.config}
        texts |= {f"{p.path.name} (profiled)": p.config for p in run.profiles if p.config}
        for name, text in texts.items():
            yield element("details", element("summary", f"{run.name}: {name}"), element("pre", text))
    versions = sorted({score.version for run in runs for score in run.scores if score.version})
    rows = [
        ["report by", f"irst-stream {__version__}, Python {platform.python_version()}"],
        ["scores by", ", ".join(f"irst-stream {version}" for version in versions) or DASH],
        ["NumPy, OpenCV", f"{np.__version__}, {cv2.__version__}"],
        ["machine", f"{platform.machine()}, {platform.system()} {platform.release()}"],
    ]
    yield table(["", ""], rows)
