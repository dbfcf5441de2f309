"""The summary of a run: archive.json, and report.html for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from irst_stream.archive.atomic import write_whole
from irst_stream.archive.job import Summary
from irst_stream.report.markup import Markup, element
from irst_stream.report.markup import table as html_table
from irst_stream.report.page import FOLDER, POLICY
from irst_stream.version import __version__

__all__ = ["HEADINGS", "summary_rows", "totals", "write_summaries"]

HEADINGS = ("recording", "frames", "answered", "detections", "tracks", "CSO-mAP", "found", "IDF1")
DASH = "-"


def summary_rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """Return the cells of each recording below HEADINGS; scores in percent, a dash where there is none."""
    return [
        [
            s.source,
            *(f"{n:,}" for n in (s.frames, s.answered, s.detections, s.tracks)),
            _percent(s.scores, "detections", "cso_map"),
            _percent(s.scores, "detections", "hits", "centre", "found"),
            _percent(s.scores, "tracks", "identity", "idf1"),
        ]
        for s in summaries
    ]


def totals(summaries: Sequence[Summary]) -> list[str]:
    """Return the cells of the last row: sums, and means of the scores over the recordings that have them."""
    rows = summary_rows(summaries)
    sums = [sum(getattr(s, name) for s in summaries) for name in ("frames", "answered", "detections", "tracks")]
    means = []
    for column in range(5, len(HEADINGS)):
        known = [float(row[column]) for row in rows if row[column] != DASH]
        means.append(f"{sum(known) / len(known):.2f}" if known else DASH)
    return ["all", *(f"{n:,}" for n in sums), *means]


def write_summaries(out: Path, summaries: Sequence[Summary]) -> None:
    """Write archive.json and report.html; raise an OutputError if that fails."""
    facts = {"irst_stream": __version__, "recordings": summaries}
    write_whole(out / "archive.json", msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
    write_whole(out / "report.html", _page(out.name, summaries).encode())


def _page(name: str, summaries: Sequence[Summary]) -> str:
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    rows = [[*row, f"{s.seconds:,.1f}", s.fault] for row, s in zip(summary_rows(summaries), summaries, strict=True)]
    seconds = f"{sum(s.seconds for s in summaries):,.1f}"
    broken = sum(bool(s.fault) for s in summaries)
    body = element(
        "body",
        element("header", element("h1", f"Archive {name}"), element("p", f"irst-stream {__version__}, {made}")),
        element(
            "section",
            element("h2", f"{len(summaries):,} recordings, {broken} with a fault"),
            html_table([*HEADINGS, "seconds", "fault"], [*rows, [*totals(summaries), seconds, ""]]),
        ),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"irst-stream: archive {name}"),
        element("style", Markup((FOLDER / "report.css").read_text("utf-8"))),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _percent(scores: dict[str, Any], *path: str) -> str:
    value: Any = scores
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return DASH if not isinstance(value, int | float) else f"{100 * value:.2f}"
