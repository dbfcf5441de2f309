"""Pictures of frames: patches side by side, full frames with their groups enlarged, methods compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from irst_stream.draw.marks import DIMMING, TRUTH_COLOUR, FrameDetections, Truths, add_legend, mark, save, show, title
from irst_stream.draw.places import Place, enclosing_place, places
from irst_stream.types import Floats, Frame, Stamp

__all__ = ["comparison", "preview"]

PATCH_WIDTH = 24  # px: wider frames are shown together with enlarged places
COLUMNS = 6
MAX_ZOOMS = 6  # enlarged places of a full frame
MIN_CLOSE_UP = 0.5  # px shown around a group when methods are compared, at least


def preview(path: Path, frames: Sequence[Frame], truths: Truths, detections: FrameDetections) -> None:
    """Draw frames into a PNG: patches side by side, or one full frame with its targets boxed and some enlarged."""
    wide = max(frames[0].pixels.shape) > PATCH_WIDTH
    figure = _full_frame(frames[0], truths, detections) if wide else _patch_sheet(frames, truths, detections)
    add_legend(figure, bool(truths), bool(detections))
    save(figure, path)


def comparison(path: Path, frames: Sequence[Frame], truths: Truths, methods: Mapping[str, FrameDetections]) -> None:
    """Draw one row per frame into a PNG: the whole frame, then an enlarged panel per method with its detections."""
    figure = Figure(figsize=(2.6 * (len(methods) + 1), 2.6 * len(frames) + 0.6), layout="constrained")
    panels = figure.subplots(len(frames), len(methods) + 1, squeeze=False)
    for (sensor, *enlarged), frame in zip(panels, frames, strict=True):
        points = _points(frame.stamp, truths, *methods.values())
        finite = frame.pixels[np.isfinite(frame.pixels)]
        brightest = max(float(finite.max(initial=1)), 1)
        show(sensor, frame.pixels, 0, brightest)
        sensor.set_title(title(frame.stamp), fontsize=9)
        sensor.set(xticks=[], yticks=[])
        for axes, (name, found) in zip(enlarged, methods.items(), strict=True):
            show(axes, frame.pixels, 0, DIMMING * brightest)
            axes.set_title(name, fontsize=9)
            axes.set(xticks=[], yticks=[])
            if len(points):
                low, high = points.min(axis=0), points.max(axis=0)
                (x, y), side = (low + high) / 2, max(MIN_CLOSE_UP, 0.75 * float((high - low).max()))
                axes.set(xlim=(x - side, x + side), ylim=(y + side, y - side))
            mark(axes, frame.stamp, truths, found, cross=14, dot=8)
    add_legend(figure, bool(truths), True)
    save(figure, path)


def _points(stamp: Stamp, *sets: Truths | FrameDetections) -> Floats:
    """Positions (N, 2) px in a frame, from the first set that has any there; (0, 2) if none has."""
    found = (records[stamp].xy for records in sets if stamp in records)
    return next((xy for xy in found if len(xy)), np.zeros((0, 2)))


def _patch_sheet(frames: Sequence[Frame], truths: Truths, detections: FrameDetections) -> Figure:
    """Draw patches in rows, sequence after sequence, with one brightness scale for all and one view per sequence."""
    columns = min(COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.25 * rows + 0.4), layout="constrained")
    top = max(float(np.max(frame.pixels, where=np.isfinite(frame.pixels), initial=0)) for frame in frames)
    for k, frame in enumerate(frames):
        axes = figure.add_subplot(rows, columns, k + 1)
        show(axes, frame.pixels, 0, top or 1)
        known = [truths[f.stamp].xy for f in frames if f.stamp.sensor == frame.stamp.sensor and f.stamp in truths]
        if sum(map(len, known)):
            place = enclosing_place(np.concatenate(known), np.concatenate(known))
            if 2 * place.reach < max(frame.pixels.shape):
                _zoom_to(axes, place)
        mark(axes, frame.stamp, truths, detections)
        axes.set_title(title(frame.stamp), fontsize=8)
    return figure


def _zoom_to(axes: Axes, place: Place) -> None:
    """Limit the view to a place."""
    x, y, reach = place
    side, step = reach + 0.5, 2 * reach // 3
    axes.set(xlim=(x - side, x + side), ylim=(y + side, y - side))
    axes.set_xticks([x - step, x, x + step])
    axes.set_yticks([y - step, y, y + step])


def _full_frame(frame: Frame, truths: Truths, detections: FrameDetections) -> Figure:
    """Draw the frame at the left, all places boxed, and up to MAX_ZOOMS of them enlarged at the right by their numbers."""
    found = places(truths.get(frame.stamp), detections.get(frame.stamp), frame.pixels.shape)
    enlarged = found[:MAX_ZOOMS]
    figure = Figure(figsize=(14, 7) if enlarged else (9, 7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.2, 1)) if enlarged else (figure, figure)  # type: ignore[misc]
    axes = left.add_subplot()
    finite = frame.pixels[np.isfinite(frame.pixels)]
    low, high = np.percentile(finite, (0.5, 99.95)) if finite.size else (0, 1)
    show(axes, frame.pixels, low, max(high, low + 1))
    height, width = frame.pixels.shape
    more = f"; {len(enlarged)} of {len(found)} places enlarged" if len(found) > len(enlarged) else ""
    axes.set_title(f"{title(frame.stamp)}, {width} x {height} px{more}", fontsize=9)
    for place in found[MAX_ZOOMS:]:
        _box(axes, place, 0.6)
    for k, place in enumerate(enlarged):
        _box(axes, place, 1)
        _number(axes, place, k + 1)
        zoom = right.add_subplot(3, 2, k + 1)
        _zoom(zoom, frame, place, k + 1)
        mark(zoom, frame.stamp, truths, detections)
    return figure


def _box(axes: Axes, place: Place, line_width: float) -> None:
    """Draw the outline of a place."""
    side = 2 * place.reach + 1
    corner = (place.x - side / 2, place.y - side / 2)
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=TRUTH_COLOUR, linewidth=line_width))


def _number(axes: Axes, place: Place, number: int) -> None:
    """Write a place's number at its upper right corner."""
    half = place.reach + 0.5
    back = {"boxstyle": "round,pad=0.15", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
    axes.annotate(
        f"{number}",
        (place.x + half, place.y - half),
        (3, 3),
        textcoords="offset points",
        color="white",
        fontsize=8,
        bbox=back,
        annotation_clip=True,
    )


def _zoom(axes: Axes, frame: Frame, place: Place, number: int) -> None:
    """Draw one place of the frame with its own brightness scale; outside the frame it stays white."""
    x, y, reach = place
    rows = slice(max(y - reach, 0), y + reach + 1)
    columns = slice(max(x - reach, 0), x + reach + 1)
    part = frame.pixels[rows, columns]
    left, top = columns.start - 0.5, rows.start - 0.5
    extent = (left, left + part.shape[1], top + part.shape[0], top)
    axes.imshow(part, cmap="gray", extent=extent, interpolation="nearest")
    _zoom_to(axes, place)
    axes.set_title(f"{number}", fontsize=9, loc="left")
    axes.tick_params(labelsize=7, length=2)
