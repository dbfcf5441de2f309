"""Pictures, by matplotlib: previews of frames with truth and detections marked, precision over recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from irst_stream.errors import MissingPackageError, OutputError
from irst_stream.score import Report
from irst_stream.types import Detections, Floats, Frame, Pixels, Stamp, Truth

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse, Rectangle
except ImportError as error:
    raise MissingPackageError("matplotlib", "plot", "a picture") from error

__all__ = ["precision_recall", "preview"]

PATCH_WIDTH = 64  # px: wider frames are shown with enlarged groups beside them
COLUMNS = 6
GROUP_REACH = 2.5  # px: how much of a patch is shown around its group
ZOOMS, ZOOM_REACH = 6, 6  # enlarged groups of a full frame, px around each
TRUTH_COLOUR, DETECTION_COLOUR = "#00b4ff", "#ff6a00"
BRIGHTEN = 0.6  # exponent of the brightness scale, so that the skirts of a blur show beside its peak
ELLIPSE_SCALE = 2 * 2.4477  # a 2-D Gaussian's 95 % ellipse has 2.4477 standard deviations on either side

Truths = Mapping[Stamp, Truth]
Answers = Mapping[Stamp, Detections]


def preview(path: Path, frames: Sequence[Frame], truths: Truths, detections: Answers) -> None:
    """Draws frames into a PNG: patches side by side, or one full frame with its groups enlarged."""
    wide = max(frames[0].pixels.shape) > PATCH_WIDTH
    figure = _full_frame(frames[0], truths, detections) if wide else _sheet(frames, truths, detections)
    _add_key(figure, bool(truths), bool(detections))
    _save(figure, path)


def precision_recall(path: Path, report: Report) -> None:
    """Draws a curve for each distance into a PNG."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    shades = np.linspace(0.15, 0.85, len(report.cso_map.curves))
    rows = zip(report.cso_map.curves, report.cso_map.thresholds, report.cso_map.ap, shades, strict=True)
    for (recall, precision), threshold, ap, shade in rows:
        label = f"within {threshold:.2f} px: AP {100 * ap:.2f}"
        axes.plot(recall, precision, color=_viridis(shade), label=label, linewidth=1.8)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    axes.set_title(f"CSO-mAP {100 * report.cso_map.map:.2f} ({report.mode} matching, {report.images} images)", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False)
    _save(figure, path)


def _viridis(shade: float) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    return colormaps["viridis"](shade)


def _sheet(frames: Sequence[Frame], truths: Truths, detections: Answers) -> Figure:
    """Patches in rows, a sequence after another; all in one brightness scale."""
    columns = min(COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.25 * rows + 0.4), layout="constrained")
    top = max(float(np.nanmax(np.where(np.isfinite(f.pixels), f.pixels, -np.inf))) for f in frames)
    for k, frame in enumerate(frames):
        axes = figure.add_subplot(rows, columns, k + 1)
        _show(axes, frame.pixels, 0, top if np.isfinite(top) and top > 0 else 1)
        if frame.stamp in truths and len(truths[frame.stamp]):
            _look_at(axes, truths[frame.stamp].xy.mean(axis=0))
        _mark(axes, frame.stamp, truths, detections)
        axes.set_title(_title(frame.stamp), fontsize=8)
    return figure


def _look_at(axes: Axes, centre: Floats) -> None:
    """Shows the pixels around a point, whole ones, all of the same number."""
    x, y = np.rint(centre)
    axes.set(xlim=(x - GROUP_REACH, x + GROUP_REACH), ylim=(y + GROUP_REACH, y - GROUP_REACH))
    axes.set_xticks(x + np.arange(-2, 3))
    axes.set_yticks(y + np.arange(-2, 3))


def _full_frame(frame: Frame, truths: Truths, detections: Answers) -> Figure:
    """The frame at the left, up to six of its groups enlarged at the right."""
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.55, 1))  # type: ignore[misc]  # its stub says one
    axes = left.add_subplot()
    values = np.where(np.isfinite(frame.pixels), frame.pixels, np.nan)
    _show(axes, frame.pixels, *np.nanpercentile(values, (0.5, 99.95)))
    height, width = frame.pixels.shape
    axes.set_title(f"{_title(frame.stamp)}, {width} x {height} px", fontsize=9)
    for k, centre in enumerate(_centres(frame.stamp, truths, detections)[:ZOOMS]):
        x, y = centre - ZOOM_REACH
        side = 2 * ZOOM_REACH
        axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=TRUTH_COLOUR, linewidth=1))
        axes.annotate(f"{k + 1}", (x + side, y), color=TRUTH_COLOUR, fontsize=8)
        _zoom(right.add_subplot(3, 2, k + 1), frame, centre, k + 1)
        _mark(right.axes[-1], frame.stamp, truths, detections)
    return figure


def _centres(stamp: Stamp, truths: Truths, detections: Answers) -> list[Floats]:
    """Where a full frame is worth enlarging: its groups, or its detections, far enough from each other."""
    points: list[Floats] = []
    if stamp in truths:
        truth = truths[stamp]
        points = [truth.xy[truth.group == g].mean(axis=0) for g in np.unique(truth.group)]
        points.sort(key=lambda p: -int((np.abs(truth.xy - p).max(axis=1) < ZOOM_REACH).sum()))
    elif stamp in detections:
        points = list(detections[stamp].xy)
    apart: list[Floats] = []
    for point in points:
        if all(np.abs(point - other).max() > ZOOM_REACH for other in apart):
            apart.append(point)
    return apart


def _zoom(axes: Axes, frame: Frame, centre: Floats, number: int) -> None:
    height, width = frame.pixels.shape
    x, y = np.clip(np.rint(centre).astype(int), ZOOM_REACH, (width - 1 - ZOOM_REACH, height - 1 - ZOOM_REACH))
    part = frame.pixels[y - ZOOM_REACH : y + ZOOM_REACH + 1, x - ZOOM_REACH : x + ZOOM_REACH + 1]
    left, top = x - ZOOM_REACH - 0.5, y - ZOOM_REACH - 0.5
    extent = (left, left + part.shape[1], top + part.shape[0], top)
    axes.imshow(part, cmap="gray", extent=extent, interpolation="nearest")
    axes.set_title(f"{number}", fontsize=8, loc="left")
    axes.tick_params(labelsize=6, length=2)


def _show(axes: Axes, pixels: Pixels, low: float, high: float) -> None:
    axes.imshow(pixels, cmap="gray", norm=PowerNorm(BRIGHTEN, low, high, clip=True), interpolation="nearest")
    axes.tick_params(labelsize=6, length=2)


def _mark(axes: Axes, stamp: Stamp, truths: Truths, detections: Answers) -> None:
    """Truth as crosses, detections as dots with their 95 % ellipses; the view stays as it is."""
    view = (axes.get_xlim(), axes.get_ylim())
    if stamp in truths:
        axes.plot(*truths[stamp].xy.T, "+", color=TRUTH_COLOUR, markersize=9, markeredgewidth=1.6)
    if stamp in detections:
        axes.plot(*detections[stamp].xy.T, ".", color=DETECTION_COLOUR, markersize=7)
        for xy, cov in zip(detections[stamp].xy, detections[stamp].cov, strict=True):
            if np.isfinite(cov).all():
                axes.add_patch(_ellipse(xy, cov))
    axes.set(xlim=view[0], ylim=view[1])


def _ellipse(xy: Floats, cov: Floats) -> Ellipse:
    variance, direction = np.linalg.eigh(cov)
    width, height = ELLIPSE_SCALE * np.sqrt(np.maximum(variance, 0))
    angle = np.degrees(np.arctan2(direction[1, 0], direction[0, 0]))
    return Ellipse((xy[0], xy[1]), width, height, angle=angle, fill=False, edgecolor=DETECTION_COLOUR, linewidth=1)


def _title(stamp: Stamp) -> str:
    return f"{stamp.sensor}, frame {stamp.index}"


def _add_key(figure: Figure, truths: bool, detections: bool) -> None:
    entries = []
    if truths:
        entries.append(Line2D([], [], color=TRUTH_COLOUR, marker="+", linestyle="", markersize=9, label="truth"))
    if detections:
        entries.append(Line2D([], [], color=DETECTION_COLOUR, marker=".", linestyle="", label="detections"))
    if entries:
        figure.legend(handles=entries, loc="outside upper right", ncols=2, frameon=False, fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
