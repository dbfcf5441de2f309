"""Plots of tracks: paths over a frame, and all errors over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from irst_stream.draw.marks import DETECTION_COLOUR, DIMMING, TRUTH_COLOUR, save, show, title, viridis
from irst_stream.score import TrackReport
from irst_stream.types import Floats, Frame, Ints, Tracks, Truth

__all__ = ["tracking"]


def tracking(path: Path, report: TrackReport, shown: Sequence[tuple[Tracks | None, Truth]], frame: Frame | None) -> None:
    """Draw the paths of one sequence, over a frame if given, and all errors over time into a PNG."""
    figure = Figure(figsize=(14, 7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))  # type: ignore[misc]
    axes = left.add_subplot()
    given = [tracks for tracks, _ in shown if tracks is not None]
    real = _paths([t.id for _, t in shown], [t.xy for _, t in shown])
    found = _paths([t.id[t.confirmed] for t in given], [t.state[t.confirmed, :2] for t in given])
    points = np.concatenate([np.zeros((0, 2)), *real, *found])
    axes.set_aspect("equal")
    if frame is not None:
        finite = frame.pixels[np.isfinite(frame.pixels)]
        show(axes, frame.pixels, 0, DIMMING * max(float(finite.max(initial=1)), 1))
    if len(points):
        low, high = points.min(axis=0) - 1, points.max(axis=0) + 1
        axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
    for line in real:
        axes.plot(*line.T, color=TRUTH_COLOUR, linewidth=3, alpha=0.5, solid_capstyle="round")
    for k, line in enumerate(found):
        axes.plot(*line.T, color=viridis(0.35 + 0.65 * (k % 8) / 7), linewidth=1.1)
        axes.plot(*line[-1:].T, ".", color=DETECTION_COLOUR, markersize=5)
    axes.set(xlabel="x, px", ylabel="y, px")
    axes.set_title(f"{title(shown[0][1].stamp)} onward; targets: {len(real)}, confirmed tracks: {len(found)}", fontsize=9)
    _over_time(right, report)
    entries = [
        Line2D([], [], color=TRUTH_COLOUR, linewidth=3, alpha=0.5, label="truth"),
        Line2D(
            [],
            [],
            color=viridis(0.7),
            marker=".",
            markerfacecolor=DETECTION_COLOUR,
            markeredgecolor=DETECTION_COLOUR,
            label="tracks and their last positions",
        ),
    ]
    figure.legend(handles=entries, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    save(figure, path)


def _paths(ids: Sequence[Ints], xy: Sequence[Floats]) -> list[Floats]:
    """The path (n, 2) px of each identity, from the ids (N,) and positions (N, 2) of successive frames."""
    all_ids, all_xy = np.concatenate([np.zeros(0, np.int64), *ids]), np.concatenate([np.zeros((0, 2)), *xy])
    return [all_xy[all_ids == key] for key in np.unique(all_ids)]


def _over_time(figure: SubFigure, report: TrackReport) -> None:
    """Plot GOSPA with its parts, the position error, and the counts, one below the other."""
    time = report.over_time
    gospa, error, count = figure.subplots(3, 1, sharex=True)
    gospa.plot(time.index, time.gospa, color="black", label="GOSPA, px")
    for part, name in zip(time.parts.T, ("localisation", "missed", "false"), strict=True):
        gospa.plot(time.index, part, linewidth=1, label=f"{name}, px²")
    error.plot(time.index, time.position_rmse, color="black", label="position error, rms, px")
    count.plot(time.index, time.targets, color=TRUTH_COLOUR, label="targets")
    count.plot(time.index, time.tracks, color=DETECTION_COLOUR, linewidth=1, label="confirmed tracks")
    gospa.set_title(
        f"HOTA {100 * report.hota.hota:.2f}, IDF1 {100 * report.identity.idf1:.2f}, MOTA {100 * report.clear.mota:.2f}",
        loc="left",
        fontsize=10,
    )
    count.set_xlabel("frame")
    for axes in (gospa, error, count):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)  # off the curves
