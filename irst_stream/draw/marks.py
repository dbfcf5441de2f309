"""What all plots share: brightness scales, marks of truth and detections, titles, legends and the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Rectangle

from irst_stream.types import Detections, Floats, Pixels, Stamp, Truth

__all__ = [
    "DETECTION_COLOUR",
    "DIMMING",
    "TRUTH_COLOUR",
    "FrameDetections",
    "Truths",
    "add_legend",
    "mark",
    "save",
    "show",
    "title",
    "viridis",
]

DIMMING = 3.0  # white is this many times the brightest pixel, so that marks stand out
TRUTH_COLOUR, DETECTION_COLOUR = "#00b4ff", "#ff6a00"
BRIGHTNESS_EXPONENT = 0.6  # below 1, so that the wings of a blurred group are visible
ELLIPSE_SCALE = 2 * 2.4477  # diameter of the 95 % ellipse of a 2-D Gaussian, in standard deviations

Truths = Mapping[Stamp, Truth]
FrameDetections = Mapping[Stamp, Detections]


def show(axes: Axes, pixels: Pixels, low: float, high: float) -> None:
    """Draw pixels (H, W) DN in shades of gray: black at `low`, white at `high`."""
    axes.imshow(pixels, cmap="gray", norm=PowerNorm(BRIGHTNESS_EXPONENT, low, high, clip=True), interpolation="nearest")
    axes.tick_params(labelsize=6, length=2)


def mark(
    axes: Axes, stamp: Stamp, truths: Truths, detections: FrameDetections, *, cross: float = 9, dot: float = 7
) -> None:
    """Mark truth as crosses and detections as dots with 95 % ellipses; the view does not change."""
    view = (axes.get_xlim(), axes.get_ylim())
    if stamp in truths:
        axes.plot(*truths[stamp].xy.T, "+", color=TRUTH_COLOUR, markersize=cross, markeredgewidth=1.2)
        for centre, size in zip(truths[stamp].xy, truths[stamp].size, strict=True):
            if np.isfinite(size).all():
                left, top = centre - size / 2
                axes.add_patch(Rectangle((left, top), *size, fill=False, edgecolor=TRUTH_COLOUR, linewidth=0.8))
    if stamp in detections:
        axes.plot(*detections[stamp].xy.T, ".", color=DETECTION_COLOUR, markersize=dot)
        for xy, cov in zip(detections[stamp].xy, detections[stamp].cov, strict=True):
            if np.isfinite(cov).all():
                axes.add_patch(_ellipse(xy, cov))
    axes.set(xlim=view[0], ylim=view[1])


def _ellipse(xy: Floats, cov: Floats) -> Ellipse:
    """The 95 % ellipse of a position (2,) px with covariance (2, 2) px^2."""
    variance, direction = np.linalg.eigh(cov)
    width, height = ELLIPSE_SCALE * np.sqrt(np.maximum(variance, 0))
    angle = np.degrees(np.arctan2(direction[1, 0], direction[0, 0]))
    return Ellipse((xy[0], xy[1]), width, height, angle=angle, fill=False, edgecolor=DETECTION_COLOUR, linewidth=1)


def title(stamp: Stamp) -> str:
    """Sensor and frame number; characters that matplotlib cannot draw are replaced or escaped."""
    name = stamp.sensor.encode("utf-8", "replace").decode().replace("$", r"\$")
    return f"{name}, frame {stamp.index}"


def add_legend(figure: Figure, truths: bool, detections: bool) -> None:
    """Name the marks that a figure has, above it."""
    entries = []
    if truths:
        entries.append(Line2D([], [], color=TRUTH_COLOUR, marker="+", linestyle="", markersize=9, label="truth"))
    if detections:
        entries.append(Line2D([], [], color=DETECTION_COLOUR, marker=".", linestyle="", label="detections"))
    if entries:
        figure.legend(handles=entries, loc="outside upper right", ncols=2, frameon=False, fontsize=9)


def viridis(shade: float) -> tuple[float, float, float, float]:
    """Return a colour of the scale, by its place from 0 to 1."""
    return colormaps["viridis"](shade)


def save(figure: Figure, path: Path) -> None:
    """Write a figure into a PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, format="png")
