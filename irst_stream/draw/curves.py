"""Plots of numbers: precision over recall, ROC, losses of a training, latency over frame rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from irst_stream.draw.marks import DETECTION_COLOUR, save, viridis
from irst_stream.score import DetectionReport
from irst_stream.system.latency import PERCENTILES

if TYPE_CHECKING:  # whoever draws the curves of a training needs no sockets
    from irst_stream.live.load_test import LoadStep

__all__ = ["detection_curves", "latency_curves", "training_curves"]

ROC_LINES = ((0.2, "-"), (0.7, "--"))  # shade and line of each criterion; the curves may coincide


def detection_curves(path: Path, report: DetectionReport) -> None:
    """Draw curves of detections into a PNG.

    Precision over recall for each distance of CSO-mAP, unless the truth has boxes; the ROC for each criterion of hits.
    """
    panels = [_precision_recall] * (not report.boxes) + [_roc] * bool(report.hits)
    figure = Figure(figsize=(8 * len(panels), 4.6), layout="constrained")
    parts: Any = figure.subfigures(1, len(panels), squeeze=False)
    for part, draw_panel in zip(parts[0], panels, strict=True):
        draw_panel(part, report)
    save(figure, path)


def _roc(figure: SubFigure, report: DetectionReport) -> None:
    """Draw the share of targets found over the false detections a frame."""
    axes = figure.add_subplot()
    for (criterion, hit), (shade, line) in zip(report.hits.items(), ROC_LINES, strict=False):
        area = "-" if np.isnan(hit.roc_area) else f"{hit.roc_area:.1%}"
        label = f"{criterion}, {report.radius:g} px: AUC {area}"
        x, y = hit.roc.false_per_frame, hit.roc.found
        axes.step(x, y, line, where="post", color=viridis(shade), label=label, linewidth=1.8)
    axes.set(ylim=(0, 1.03), xlabel="false detections per frame", ylabel="targets found")
    if max((hit.roc.false_per_frame.max(initial=0) for hit in report.hits.values()), default=0) > 1:
        axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlim(left=0)
    axes.set_title(f"ROC ({report.images} images)", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False)


def _precision_recall(figure: SubFigure, report: DetectionReport) -> None:
    axes = figure.add_subplot()
    shades = np.linspace(0.15, 0.85, len(report.cso_map.curves))
    rows = zip(report.cso_map.curves, report.cso_map.thresholds, report.cso_map.ap, shades, strict=True)
    for (recall, precision), threshold, ap, shade in rows:
        label = f"within {threshold:.2f} px: AP {100 * ap:.2f}"
        axes.plot(recall, precision, color=viridis(shade), label=label, linewidth=1.8)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    axes.set_title(f"CSO-mAP {100 * report.cso_map.map:.2f} ({report.mode} matching, {report.images} images)", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False)


def training_curves(path: Path, curves: Sequence[Mapping[str, Any]]) -> None:
    """Draw a training run into a PNG: losses above, scores below, against minutes of training.

    curves: one mapping per validation with "seconds", "stage" and any figures; figures with "_" in the name are scores.
    """
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    losses, scores = figure.subplots(2, 1, sharex=True)
    minutes = _minutes(curves)
    names = dict.fromkeys(key for point in curves for key in point if key not in ("stage", "windows", "seconds"))
    for name in names:
        axes = scores if "_" in name else losses
        rows = [(m, point[name]) for m, point in zip(minutes, curves, strict=True) if name in point]
        axes.plot(*zip(*rows, strict=True), label=name, marker=".", linewidth=1.4)
    losses.set_yscale("symlog")
    losses.set(ylabel="loss")
    scores.set(xlabel="minutes of training", ylabel="CSO-mAP, right counts in %")
    for axes in (losses, scores):
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    save(figure, path)


def _minutes(curves: Sequence[Mapping[str, Any]]) -> list[float]:
    """Total training time of each point in minutes; in the curves, seconds restart at each stage."""
    minutes, earlier_s, stage, last_s = [], 0.0, None, 0.0
    for point in curves:
        if point["stage"] != stage:
            earlier_s, stage = earlier_s + last_s, point["stage"]
        last_s = float(point["seconds"])
        minutes.append((earlier_s + last_s) / 60)
    return minutes


def latency_curves(path: Path, steps: Sequence[LoadStep]) -> None:
    """Plot end-to-end latency and the latency of each stage against the frame rate into a PNG."""
    steps = sorted(steps, key=lambda step: step.offered)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    whole, parts = figure.subplots(1, 2)
    rates = [step.offered for step in steps]
    shades = [viridis(k / len(PERCENTILES)) for k in range(len(PERCENTILES) + 1)]
    for k, percentile in enumerate(PERCENTILES):
        values = [step.end_to_end.percentiles[k] for step in steps]
        whole.plot(rates, values, marker=".", color=shades[k], label=f"p{percentile:g}")
    whole.plot(rates, [step.end_to_end.longest for step in steps], marker=".", color=shades[-1], label="longest")
    whole.plot(rates, [step.lag_ms for step in steps], color="gray", linestyle="--", label="the window's lag")
    for name in dict.fromkeys(name for step in steps for name in step.stages if not name.startswith("end to end")):
        values = [step.stages[name].percentiles[2] if name in step.stages else np.nan for step in steps]
        parts.plot(rates, values, marker=".", label=name)
    for step in steps:
        if not step.kept_up:
            for axes in (whole, parts):
                axes.axvline(step.offered, color=DETECTION_COLOUR, linewidth=0.8, alpha=0.6)
    whole.set(title="end to end, ms (orange: rate not kept up with)", xlabel="frames/s")
    parts.set(title="p99 of each stage, ms", xlabel="frames/s")
    for axes in (whole, parts):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.25, which="both")
        axes.legend(frameon=False, fontsize=8)
    save(figure, path)
