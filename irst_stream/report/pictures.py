"""Pictures of a report as inline SVG: curves over an axis, and frames with what was found in them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from irst_stream.io.tone import tone_levels, toned
from irst_stream.report.markup import Markup, element
from irst_stream.report.runs import SensorSummary

__all__ = ["Curve", "curves", "frame_picture"]

Curve = Sequence[tuple[float, float]]  # x, y
WIDTH, HEIGHT = 560, 220  # of a plot
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 10, 40  # room around its axes
TICKS = 5
CHI2_95 = 5.991  # of 2 degrees of freedom


def curves(lines: Mapping[str, Curve], across: str, up: str, *, from_zero: bool = True) -> Markup:
    """Curves by name over one axis, with what the axes are called and their units; "" where there are no points."""
    points = [(x, y) for line in lines.values() for x, y in line if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return Markup("")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_ticks, y_ticks = _ticks(min(xs), max(xs)), _ticks(min(0.0, *ys) if from_zero else min(ys), max(ys))
    x_low, x_high, y_low, y_high = x_ticks[0], max(x_ticks[-1], *xs), y_ticks[0], max(y_ticks[-1], *ys)

    def at(x: float, y: float) -> tuple[float, float]:
        across_px = (x - x_low) / (x_high - x_low or 1) * (WIDTH - LEFT - RIGHT)
        up_px = (y - y_low) / (y_high - y_low or 1) * (HEIGHT - TOP - BOTTOM)
        return LEFT + across_px, HEIGHT - BOTTOM - up_px

    parts: list[Markup] = []
    for value in y_ticks:
        x, y = at(x_low, value)
        parts.append(element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}"))
        parts.append(element("text", _short(value), x=LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end"))
    for value in x_ticks:
        x, _ = at(value, y_low)
        parts.append(element("text", _short(value), x=f"{x:.1f}", y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    parts.append(element("text", across, class_="axis", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle"))
    for k, (name, line) in enumerate(lines.items()):
        places = [at(x, y) for x, y in line if math.isfinite(x) and math.isfinite(y)]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(element("polyline", element("title", name), class_=f"curve c{k % 6}", points=text))
        if len(places) <= 12:
            parts += [element("circle", class_=f"dot c{k % 6}", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3) for x, y in places]
    keys = [element("span", element("i", class_=f"key c{k % 6}"), f" {name}") for k, name in enumerate(lines)]
    drawn = element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="plot zoomable", role="img", aria_label=up)
    return element("figure", element("figcaption", element("b", up), " ", *keys), drawn)


def _ticks(low: float, high: float) -> list[float]:
    """Some round values from at most `low` to about `high`."""
    span = high - low or max(abs(high), 1.0)
    step = 10.0 ** math.floor(math.log10(span / TICKS))
    step *= next((factor for factor in (1, 2, 5, 10) if span / (step * factor) <= TICKS), 10)
    first = math.floor(low / step)
    return [k * step for k in range(first, math.ceil(high / step) + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def frame_picture(sensor: SensorSummary) -> Markup:
    """A frame with detections (95 % ellipses) and confirmed tracks with their ids; it can be zoomed."""
    height, width = sensor.frame.pixels.shape
    _, png = cv2.imencode(".png", toned(sensor.frame.pixels, *tone_levels(sensor.frame.pixels)))
    data = f"data:image/png;base64,{base64.b64encode(png.tobytes()).decode()}"
    parts = [element("image", href=data, x=-0.5, y=-0.5, width=width, height=height)]
    size = max(width, height) / 100  # of marks, px of the frame
    if sensor.found is not None:
        for (x, y), cov in zip(sensor.found.xy.tolist(), sensor.found.cov, strict=True):
            rx, ry, degrees = size / 4, size / 4, 0.0
            if np.isfinite(cov).all():
                variances, axes = np.linalg.eigh(cov)
                rx, ry = np.sqrt(np.maximum(variances[::-1], 0) * CHI2_95).tolist()
                degrees = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
            turn = f"rotate({degrees:.1f} {x:.3f} {y:.3f})"
            shape = {"cx": f"{x:.3f}", "cy": f"{y:.3f}", "rx": f"{rx:.3f}", "ry": f"{ry:.3f}", "transform": turn}
            parts.append(element("ellipse", class_="detection", **shape))
    if sensor.followed is not None:
        parts += _track_marks(sensor, size)
    stamp = sensor.frame.stamp
    caption = (
        f"{stamp.sensor}, frame {stamp.index}: detections (blue, 95 % ellipses), tracks (orange). Wheel: zoom; drag: pan."
    )
    box = f"-0.5 -0.5 {width} {height}"
    drawn = element("svg", *parts, viewBox=box, class_="frame zoomable", role="img", aria_label=caption)
    return element("figure", drawn, element("figcaption", caption))


def _track_marks(sensor: SensorSummary, size: float) -> list[Markup]:
    """A circle for each confirmed track, and ids that do not stand on each other."""
    tracks = sensor.followed
    if tracks is None:
        return []
    marks, taken = [], list[tuple[float, float]]()
    confirmed = tracks.confirmed
    for number, (x, y) in zip(tracks.id[confirmed].tolist(), tracks.state[confirmed, :2].tolist(), strict=True):
        left, base = x + 1.6 * size, y
        while any(abs(left - a) < 6 * size and abs(base - b) < 2.2 * size for a, b in taken):
            base += 2.2 * size
        taken.append((left, base))
        marks.append(element("circle", class_="track", cx=f"{x:.3f}", cy=f"{y:.3f}", r=f"{size:.2f}"))
        where = {"x": f"{left:.2f}", "y": f"{base:.2f}", "font_size": f"{2.2 * size:.2f}"}
        marks.append(element("text", number, class_="id", **where))
    return marks
