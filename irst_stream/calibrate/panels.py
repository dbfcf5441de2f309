"""Panels of a report, drawn by OpenCV, so that the plain install draws them: images, strips of cut-outs, curves, text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Floats

__all__ = ["Curve", "Panel", "chart", "encode", "grey", "heat", "image_panel", "sheet", "strip", "text_panel"]

Panel: TypeAlias = NDArray[np.uint8]  # (H, W, 3) blue, green, red
FONT, LINE = cv2.FONT_HERSHEY_SIMPLEX, cv2.LINE_AA
INK, FAINT, PAPER, GRID = (40, 40, 40), (130, 130, 130), (255, 255, 255), (225, 225, 225)
COLOURS = ((170, 90, 20), (0, 106, 255), (60, 150, 60), (160, 60, 160))
WIDTH = 760  # px of a panel
MARGINS = (70, 30, 44, 52)  # px of a chart: left, right, top, bottom
TITLE_HEIGHT, LABEL_WIDTH = 34, 84
TEXT = 0.46  # scale of the font


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A curve of a chart: x and y (K,); dots: points in place of a line."""

    x: Floats
    y: Floats
    name: str
    dots: bool = False


def encode(panel: Panel) -> bytes:
    """Encode a panel as a PNG."""
    return cv2.imencode(".png", panel)[1].tobytes()


def grey(image: NDArray[np.generic], low: float | None = None, high: float | None = None) -> Panel:
    """Return an image (H, W) in gray, from its low to its high value: its 1st and 99.7th percentile unless given."""
    values = np.nan_to_num(np.asarray(image, np.float64), nan=np.nan, posinf=np.nan, neginf=np.nan)
    known = values[np.isfinite(values)]
    if low is None:
        low = float(np.quantile(known, 0.01)) if known.size else 0.0
    if high is None:
        high = float(np.quantile(known, 0.997)) if known.size else 1.0
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9), 0, 1)
    return np.repeat((255 * scaled).astype(np.uint8)[..., None], 3, axis=2)


def heat(image: Floats, limit: float) -> Panel:
    """Return an image (H, W) of signed values: blue below 0, white at 0, red above, full at +-limit."""
    share = np.clip(np.nan_to_num(image) / max(limit, 1e-12), -1, 1)
    fade = (255 * (1 - np.abs(share))).astype(np.uint8)
    full = np.full(share.shape, 255, np.uint8)
    return np.stack([np.where(share < 0, full, fade), fade, np.where(share > 0, full, fade)], axis=-1)


def image_panel(title: str, image: Panel, notes: Sequence[str] = (), *, smooth: bool = False) -> Panel:
    """Return a panel of WIDTH px with an image (H, W, 3), enlarged or reduced, below its title, and notes below it."""
    scale = WIDTH / image.shape[1]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    shown = cv2.resize(image, (WIDTH, max(round(image.shape[0] * scale), 1)), interpolation=how)
    return _stack([_title(title), np.asarray(shown, np.uint8), *_notes(notes)])


def strip(title: str, rows: Sequence[Sequence[Panel]], names: Sequence[str], notes: Sequence[str] = ()) -> Panel:
    """Return a panel of cut-outs, each row with its name: rows of equally many images (h, w, 3)."""
    count = max(len(row) for row in rows)
    label = 86
    side = (WIDTH - label) // max(count, 6) - 4
    canvas = np.full(((side + 6) * len(rows), WIDTH, 3), 255, np.uint8)
    for r, (row, name) in enumerate(zip(rows, names, strict=True)):
        top = r * (side + 6)
        cv2.putText(canvas, name, (0, top + side // 2 + 4), FONT, TEXT, INK, 1, LINE)
        for k, image in enumerate(row):
            left = label + k * (side + 4)
            shown = cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST)
            canvas[top : top + side, left : left + side] = shown
            cv2.rectangle(canvas, (left - 1, top), (left + side, top + side), GRID, 1)
    return _stack([_title(title), canvas, *_notes(notes)])


def chart(
    title: str,
    curves: Sequence[Curve],
    x_name: str,
    y_name: str,
    notes: Sequence[str] = (),
    *,
    log_y: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> Panel:
    """Return a panel with curves over common axes; curves without points are left out.

    marks: vertical lines at x, with a word each.
    """
    height = 330
    canvas = np.full((height, WIDTH, 3), 255, np.uint8)
    shown = [curve for curve in curves if len(curve.x)]
    if not shown:
        cv2.putText(canvas[:60], "nothing measured", (MARGINS[0], 40), FONT, TEXT, FAINT, 1, LINE)
        return _stack([_title(title), canvas[:60], *_notes(notes)])
    axes = _Axes.of(shown, [at for at, _ in marks], log_y, height)
    axes.draw(canvas, x_name, y_name)
    for at, word in marks:
        x = axes.column(np.array([at]))[0]
        cv2.line(canvas, (x, MARGINS[2]), (x, height - MARGINS[3]), FAINT, 1, LINE)
        width = cv2.getTextSize(word, FONT, TEXT, 1)[0][0]
        place = x + 5 if x + 5 + width < WIDTH else x - 5 - width
        cv2.putText(canvas, word, (place, MARGINS[2] + 14), FONT, TEXT, FAINT, 1, LINE)
    left = MARGINS[0]
    for curve, colour in zip(shown, COLOURS, strict=False):
        points = np.stack([axes.column(curve.x), axes.row(curve.y)], axis=1)
        if curve.dots:
            for x, y in points.tolist():
                cv2.circle(canvas, (x, y), 3, colour, -1, LINE)
        else:
            cv2.polylines(canvas, [points.reshape(-1, 1, 2).astype(np.int32)], False, colour, 2, LINE)
        cv2.rectangle(canvas, (left, 16), (left + 14, 22), colour, -1)
        cv2.putText(canvas, curve.name, (left + 20, 24), FONT, TEXT, INK, 1, LINE)
        left += 36 + cv2.getTextSize(curve.name, FONT, TEXT, 1)[0][0]
    return _stack([_title(title), canvas, *_notes(notes)])


def text_panel(title: str, lines: Sequence[str]) -> Panel:
    """Return a panel of lines of text, long ones broken."""
    return _stack([_title(title), *_notes(lines, INK)])


def sheet(panels: Sequence[Panel], columns: int = 2) -> Panel:
    """Return all panels side by side and below each other, each in the column that is shortest so far."""
    gap = 28
    stacks: list[list[Panel]] = [[] for _ in range(columns)]
    for panel in panels:
        shortest = min(stacks, key=lambda stack: sum(len(one) + gap for one in stack))
        shortest.append(panel)
    height = max(sum(len(one) + gap for one in stack) for stack in stacks) + gap
    canvas = np.full((height, columns * (WIDTH + gap) + gap, 3), 255, np.uint8)
    for k, stack in enumerate(stacks):
        top, left = gap, gap + k * (WIDTH + gap)
        for panel in stack:
            canvas[top : top + len(panel), left : left + panel.shape[1]] = panel
            top += len(panel) + gap
    return canvas


@dataclass(frozen=True, slots=True)
class _Axes:
    """The ranges of a chart, and where its values are drawn."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_y: bool
    height: int

    @classmethod
    def of(cls, curves: Sequence[Curve], marks: Sequence[float], log_y: bool, height: int) -> _Axes:
        x = np.concatenate([*(curve.x for curve in curves), np.array(marks)])
        y = np.concatenate([curve.y for curve in curves])
        y = y[np.isfinite(y) & ((y > 0) | (not log_y))]
        low, high = (float(y.min()), float(y.max())) if y.size else (0.1, 1.0)
        if log_y:
            low, high = 10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high) + 1e-9)
        else:
            low, high = min(low, 0.0), high + 0.05 * (high - min(low, 0.0))
        left, right = float(np.nanmin(x)), float(np.nanmax(x))
        return cls((left, right if right > left else left + 1), (low, high if high > low else low + 1), log_y, height)

    def column(self, x: Floats) -> NDArray[np.int64]:
        """Pixel columns of values."""
        share = (x - self.x[0]) / (self.x[1] - self.x[0])
        return np.rint(MARGINS[0] + np.clip(share, 0, 1) * (WIDTH - MARGINS[0] - MARGINS[1])).astype(np.int64)

    def row(self, y: Floats) -> NDArray[np.int64]:
        """Pixel rows of values."""
        low, high = self.y
        if self.log_y:
            y, low, high = np.log10(np.maximum(y, low)), float(np.log10(low)), float(np.log10(high))
        share = np.clip((np.nan_to_num(y, nan=low) - low) / (high - low), 0, 1)
        return np.rint(self.height - MARGINS[3] - share * (self.height - MARGINS[2] - MARGINS[3])).astype(np.int64)

    def draw(self, canvas: Panel, x_name: str, y_name: str) -> None:
        """Draw grid, numbers and names."""
        left, right, top, bottom = MARGINS[0], WIDTH - MARGINS[1], MARGINS[2], self.height - MARGINS[3]
        for at in _ticks(*self.x):
            x = int(self.column(np.array([at]))[0])
            cv2.line(canvas, (x, top), (x, bottom), GRID, 1)
            _centred(canvas, f"{at:g}", x, bottom + 18)
        if self.log_y:
            exponents = np.arange(round(np.log10(self.y[0])), round(np.log10(self.y[1])) + 1)
            rows = [(10.0**e, f"{10.0**e:g}") for e in exponents[:: max(len(exponents) // 6, 1)]]
        else:
            rows = [(at, f"{at:g}") for at in _ticks(*self.y)]
        for at, word in rows:
            y = int(self.row(np.array([at]))[0])
            cv2.line(canvas, (left, y), (right, y), GRID, 1)
            width = cv2.getTextSize(word, FONT, TEXT, 1)[0][0]
            cv2.putText(canvas, word, (left - 8 - width, y + 5), FONT, TEXT, INK, 1, LINE)
        cv2.rectangle(canvas, (left, top), (right, bottom), FAINT, 1)
        _centred(canvas, x_name, (left + right) // 2, bottom + 40)
        cv2.putText(canvas, y_name, (left, top - 6), FONT, TEXT, FAINT, 1, LINE)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    raw = (high - low) / 5
    step = 10 ** np.floor(np.log10(raw))
    step *= min((1, 2, 5, 10), key=lambda k: abs(k * step - raw))
    first = np.ceil(low / step - 1e-9)
    return [round(float(k * step), 12) + 0.0 for k in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def _centred(canvas: Panel, text: str, x: int, y: int) -> None:
    width = cv2.getTextSize(text, FONT, TEXT, 1)[0][0]
    cv2.putText(canvas, text, (x - width // 2, y), FONT, TEXT, INK, 1, LINE)


def _title(text: str) -> Panel:
    line = np.full((TITLE_HEIGHT, WIDTH, 3), 255, np.uint8)
    cv2.putText(line, _drawable(text), (0, 22), FONT, 0.6, INK, 1, LINE)
    return line


def _notes(lines: Sequence[str], colour: tuple[int, int, int] = FAINT) -> list[Panel]:
    """Lines of text, broken where they are wider than a panel; what stands before two spaces is a label."""
    drawn = []
    for line in lines:
        label, gap, rest = _drawable(line).partition("  ")
        left, text = (LABEL_WIDTH, rest.strip()) if gap else (0, label)
        for k, part in enumerate(_broken(text, WIDTH - left)):
            row = np.full((20, WIDTH, 3), 255, np.uint8)
            if gap and k == 0:
                cv2.putText(row, label, (0, 15), FONT, TEXT, FAINT, 1, LINE)
            cv2.putText(row, part, (left, 15), FONT, TEXT, colour, 1, LINE)
            drawn.append(row)
    return drawn


def _broken(text: str, width: int) -> list[str]:
    """Break a line into parts of that width at most, px."""
    parts, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and cv2.getTextSize(longer, FONT, TEXT, 1)[0][0] > width:
            parts.append(line)
            longer = word
        line = longer
    return [*parts, line]


def _drawable(text: str) -> str:
    """A text in the letters that the font has."""
    return text.encode("ascii", "replace").decode()


def _stack(parts: Sequence[Panel]) -> Panel:
    return np.concatenate(parts, axis=0)
