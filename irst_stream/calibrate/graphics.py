"""Burnt-in graphics of frames: letterbox borders, text and counters, told from targets, bad pixels and scenery.

What is drawn into frames differs from what a sensor sees in three ways, and all three are asked for:

    one level       a glyph is painted with one value at an end of the range, and ends within a pixel or two
    fixed places    a glyph is there in all frames, or, a digit of a counter, comes back at its place with its whole height
    shape           glyphs stand in a row with one height, and some have strokes, gaps or holes; cross-hairs are thin lines
                    that equal their own image turned by half

A target that hovers is one compact spot, several are compact spots: neither has strokes, so neither is ever masked, however
long it stays. Of scenery, edges are as sharp, but its parts share no height and no line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.types import Ints

__all__ = ["Graphic", "Graphics", "find_graphics"]

Box: TypeAlias = tuple[int, int, int, int]  # x, y, width, height px
MIN_FRAMES = 8  # fewer do not tell what stays
MOST_FRAMES = 64  # sampled; more tell nothing new
END_SHARE = 0.1  # of the range: a glyph's level is this near to an end of it
CONTRAST_SHARE = 0.2  # of the range: by which a glyph stands out of its surroundings
SURROUNDINGS_PX = 15
LIT_SHARE = 0.8  # of a glyph's pixels stand out so
COMING_BACK, ALWAYS = 0.06, 0.9  # shares of the frames in which a digit's stroke, and a fixed glyph's, are lit
MIN_GLYPH_PX, MAX_GLYPH_PX = 5, 40  # height
MIN_GLYPHS, MIN_STROKED = 3, 2  # of a line; of them, with strokes
MAX_SOLIDITY = 0.78  # area over that of the convex hull: less has strokes, gaps or holes; a spot has about 0.9
HEIGHT_RATIO = 1.35  # of glyphs of one line
GAP_HEIGHTS = 1.6  # between glyphs of one line, at most
LINE_OFFSET_SHARE = 0.25  # of the height: by which the middles of a line's glyphs differ
BAR_RATIO = 4  # width over height of a dash
SAME_HEIGHT = 0.7  # share of its frames in which a digit has about its whole height
MARGIN_PX = 2  # masked about a graphic: blur and ringing
MIN_RETICLE_PX, MAX_LINE_PX = 12, 3  # a cross-hair's sides, and its lines' thickness
SYMMETRIC_SHARE = 0.85  # of a cross-hair's pixels
BORDER_STEP_SHARE = 0.02  # of the range: by which a border is flat, in space and time
EDGE_PX, BLOCK_PX = 2, 8  # within which a border's edge rises, and a codec's block, within which it rings
RINGING_PX, MIN_TELLING = 16, 0.25  # about text, a codec's largest block; share of a row's pixels beyond it
MAX_BORDER_SHARE = 0.45  # of the frame's side


class Graphic(NamedTuple):
    """One thing that was found: what it is, and its box x, y, width, height px."""

    what: str
    box: Box

    def __str__(self) -> str:
        x, y, width, height = self.box
        return f"{self.what} at x {x} to {x + width - 1}, y {y} to {y + height - 1} px"


@dataclass(frozen=True, slots=True, eq=False)
class Graphics:
    """What is drawn into frames: excluded (H, W), and what it consists of; nothing where nothing was found."""

    excluded: NDArray[np.bool_]
    found: tuple[Graphic, ...]

    @property
    def share(self) -> float:
        """Share of the frame's pixels that are excluded."""
        return float(self.excluded.mean())


class _Glyph(NamedTuple):
    """A connected part: box, solidity, and whether it is there in all frames."""

    x: int
    y: int
    width: int
    height: int
    solidity: float
    always: bool

    @property
    def stroked(self) -> bool:
        return self.solidity <= MAX_SOLIDITY

    @property
    def box(self) -> Box:
        return self.x, self.y, self.width, self.height


def find_graphics(stack: NDArray[np.generic]) -> Graphics:
    """Find what is drawn into frames (T, H, W), in any order; fewer than MIN_FRAMES, or none, give nothing."""
    shape = stack.shape[1:]
    excluded = np.zeros(shape, bool)
    if len(stack) < MIN_FRAMES:
        return Graphics(excluded, ())
    chosen = np.unique(np.linspace(0, len(stack) - 1, min(len(stack), MOST_FRAMES)).astype(np.int64))
    frames = stack[chosen]
    values = frames[np.isfinite(frames)] if frames.dtype.kind == "f" else frames
    if not values.size or values.min() == values.max():
        return Graphics(excluded, ())
    low, high = float(values.min()), float(values.max())
    drawn = list[Graphic]()
    for ends, lit in _levels(frames, low, high):
        for text in _text_lines(ends, lit):
            x, y, width, height = text.box
            excluded[max(y - MARGIN_PX, 0) : y + height + MARGIN_PX, max(x - MARGIN_PX, 0) : x + width + MARGIN_PX] = True
            drawn.append(text)
        for reticle in _reticles(lit.mean(axis=0)):
            x, y, width, height = reticle.box
            lines = np.zeros(shape, np.uint8)  # what a frame encloses is seen by the sensor
            lines[y : y + height, x : x + width] = lit[:, y : y + height, x : x + width].mean(axis=0) >= ALWAYS
            excluded |= cv2.dilate(lines, np.ones(2 * [2 * MARGIN_PX + 1], np.uint8)) > 0
            drawn.append(reticle)
    borders = list(_borders(frames, high - low, excluded))
    for border in borders:
        x, y, width, height = border.box
        excluded[y : y + height, x : x + width] = True
    return Graphics(excluded, (*borders, *drawn))


def _borders(frames: NDArray[np.generic], span: float, drawn: NDArray[np.bool_]) -> Iterator[Graphic]:
    """Yield flat bands along the frame's sides: one value in all their pixels and frames, with a step at their inner edge.

    A flat sky has no such step, and a frame that is flat altogether has no inside. drawn (H, W): pixels of text, about
    which a codec's ringing does not count.
    """
    rows, columns = frames.shape[1:]
    flat = BORDER_STEP_SHARE * span
    low, high = (np.asarray(part.reduce(frames, axis=0), np.float64) for part in (np.fmin, np.fmax))
    counts = cv2.dilate(drawn.astype(np.uint8), np.ones(2 * [2 * RINGING_PX + 1], np.uint8)) == 0
    for what, turned in (("top", 0), ("bottom", 2), ("left", 3), ("right", 1)):
        least, most = np.rot90(low, turned), np.rot90(high, turned)
        tells = np.asarray(np.rot90(counts, turned), np.bool_)
        level = float(np.median(least[0]))
        as_level = (least >= level - flat) & (most <= level + flat)
        is_flat = np.asarray((as_level | ~tells).all(axis=1) & (tells.mean(axis=1) >= MIN_TELLING))
        depth = int(np.argmin(is_flat)) if not is_flat.all() else 0
        if not 0 < depth <= MAX_BORDER_SHARE * len(is_flat):
            continue
        depth = _edge_of(np.abs((least + most) / 2 - level), tells, depth, flat)
        if not depth:
            continue
        box = {
            "top": (0, 0, columns, depth),
            "bottom": (0, rows - depth, columns, depth),
            "left": (0, 0, depth, rows),
            "right": (columns - depth, 0, depth, rows),
        }[what]
        yield Graphic(f"{what} border", box)


def _edge_of(away: NDArray[np.floating], tells: NDArray[np.bool_], depth: int, flat: float) -> int:
    """Return the depth at which a border ends that is flat for `depth` rows, 0 where it has no sharp edge.

    away, tells (H, W): by how much each pixel differs from the border's level, DN, and which of them count. A codec rings
    about an edge within its block.
    """
    rows = range(depth - EDGE_PX, min(depth + BLOCK_PX, len(away)))
    typical = [float(np.median(away[k][tells[k]])) if k >= 0 and tells[k].any() else 0.0 for k in rows]
    for k, (before, at) in enumerate(zip(typical, typical[EDGE_PX:], strict=False)):
        if at >= 2 * flat:
            return depth + k if before <= flat else 0
    return 0


def _levels(frames: NDArray[np.generic], low: float, high: float) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield, for bright glyphs and for dark ones, which pixels of frames (T, H, W) are at that end of the range.

    And which of them also stand out of their surroundings, so that they may be a glyph's.
    """
    ends, lit = (np.zeros((2, *frames.shape), bool) for _ in range(2))
    step = CONTRAST_SHARE * 255
    for k, frame in enumerate(frames):
        light = np.nan_to_num(np.asarray(frame, np.float32), nan=(low + high) / 2)
        scaled = np.clip((light - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
        over = scaled.astype(np.int16) - cv2.medianBlur(scaled, SURROUNDINGS_PX)
        ends[0, k], ends[1, k] = scaled >= (1 - END_SHARE) * 255, scaled <= END_SHARE * 255
        lit[0, k], lit[1, k] = ends[0, k] & (over >= step), ends[1, k] & (over <= -step)
    yield from zip(ends, lit, strict=True)


def _text_lines(ends: NDArray[np.bool_], lit: NDArray[np.bool_]) -> Iterator[Graphic]:
    """Yield the lines of glyphs among the pixels of _levels (T, H, W), and what else of the same rows is painted."""
    words = _glyphs(ends, lit, words=True)
    boxes: list[Box] = []
    for line in _lines(_glyphs(ends, lit)):
        stroked = sum(glyph.stroked for glyph in line)
        if len(line) < MIN_GLYPHS or stroked < MIN_STROKED:
            continue
        changing = sum(not glyph.always for glyph in line)
        box = _box([glyph.box for glyph in line])
        for word in words:
            if _in_rows(word, box) and _gap(word.box, box) <= GAP_HEIGHTS * box[3]:
                box = _box([box, word.box])
        boxes.append(box)
        yield Graphic(f"text of {len(line)} glyphs" + (f", {changing} of them changing," if changing else ""), box)
    for word in words:  # farther along the rows of a line
        if any(_are_close(word, box) for box in boxes) and all(
            _gap(word.box, box) > 0 for box in boxes if _in_rows(word, box)
        ):
            yield Graphic("text", word.box)


def _in_rows(word: _Glyph, box: Box) -> bool:
    """Whether a word lies within the rows of a line's box, as far as its strokes may."""
    _, y, _, height = box
    return y - MARGIN_PX <= word.y and word.y + word.height <= y + height + MARGIN_PX


def _gap(one: Box, other: Box) -> int:
    """Columns between two boxes; negative where they overlap."""
    return max(one[0], other[0]) - min(one[0] + one[2], other[0] + other[2])


def _are_close(word: _Glyph, box: Box) -> bool:
    """Whether a word stands in a line's rows, beyond its ends, and is about as high."""
    return _in_rows(word, box) and _gap(word.box, box) > 0 and word.stroked and word.height >= box[3] / 2


def _box(boxes: list[Box]) -> Box:
    """Return the box that holds some boxes."""
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _reticles(share: NDArray[np.floating]) -> Iterator[Graphic]:
    """Yield thin lines that are lit in all frames and equal their own image turned by half: cross-hairs, frames."""
    always = (share >= ALWAYS).astype(np.uint8)
    joined = cv2.morphologyEx(always, cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8))
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    for label in range(1, count):
        x, y, width, height, _ = (int(value) for value in boxes[label])
        if min(width, height) < MIN_RETICLE_PX:
            continue
        part = (labels[y : y + height, x : x + width] == label) & (always[y : y + height, x : x + width] > 0)
        thickness = 2 * float(cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_C, 3).max()) - 1
        if thickness > MAX_LINE_PX or _solidity(part) > MAX_SOLIDITY / 2:
            continue
        turned = cv2.dilate(part[::-1, ::-1].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if (part & turned).sum() >= SYMMETRIC_SHARE * part.sum():
            yield Graphic("cross-hair or frame", (x, y, width, height))


def _glyphs(ends: NDArray[np.bool_], lit: NDArray[np.bool_], *, words: bool = False) -> list[_Glyph]:
    """Return the connected parts that come back at their place, of a glyph's size, which stand out of their surroundings.

    ends and lit (T, H, W): see _levels; words: close small gaps first, and return what has strokes or is a bar, however
    small; no compact spot is.
    """
    share, lit_share = ends.mean(axis=0), lit.mean(axis=0)
    back = np.asarray(share >= COMING_BACK)
    joined = cv2.morphologyEx(back.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) if words else back
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(joined.astype(np.uint8), connectivity=8)
    glyphs = []
    for label in range(1, count):
        x, y, width, height, _ = (int(value) for value in boxes[label])
        if height > MAX_GLYPH_PX or width > 4 * MAX_GLYPH_PX or (height < MIN_GLYPH_PX and not words):
            continue
        own = (labels[y : y + height, x : x + width] == label) & back[y : y + height, x : x + width]
        if (
            lit_share[y : y + height, x : x + width][own].sum()
            < LIT_SHARE * share[y : y + height, x : x + width][own].sum()
        ):
            continue  # the rim of something large
        often = ends[:, y : y + height, x : x + width] & own
        often = often[np.flatnonzero(often.any(axis=(1, 2)))]
        if np.mean(_heights(often) >= SAME_HEIGHT * height) < SAME_HEIGHT:
            continue  # what drifts is never as high as its trail
        typical = often[np.argsort(often.sum(axis=(1, 2)))[len(often) // 2]]
        always = bool((share[y : y + height, x : x + width][own] >= ALWAYS).mean() > 0.7)
        glyph = _Glyph(x, y, width, height, _solidity(typical), always)
        if not words or glyph.stroked or width >= BAR_RATIO * height:
            glyphs.append(glyph)
    return glyphs


def _heights(parts: NDArray[np.bool_]) -> Ints:
    """Return the height (N,) px of the lit part of each image (N, h, w); each has a lit pixel."""
    rows = np.asarray(parts.any(axis=2))
    first, last = rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.asarray(last - first + 1, np.int64)


def _solidity(part: NDArray[np.bool_]) -> float:
    """Return the area of an image's lit pixels (h, w) over that of their convex hull, pixels counted as squares."""
    y, x = np.nonzero(part)
    corners = np.concatenate([np.stack([x + dx, y + dy], axis=1) for dx in (0, 1) for dy in (0, 1)]).astype(np.int32)
    return float(len(x) / max(cv2.contourArea(cv2.convexHull(corners)), 1.0))


def _lines(glyphs: list[_Glyph]) -> list[list[_Glyph]]:
    """Return the glyphs in lines: neighbours along x of about one height, their middles level."""
    waiting = sorted(glyphs, key=lambda glyph: glyph.x)
    lines: list[list[_Glyph]] = []
    for glyph in waiting:
        for line in lines:
            if any(_follows(glyph, other) for other in line[-4:]):
                line.append(glyph)
                break
        else:
            lines.append([glyph])
    return lines


def _follows(one: _Glyph, other: _Glyph) -> bool:
    """Whether two glyphs may be neighbours in one line of text."""
    tall, short = max(one.height, other.height), min(one.height, other.height)
    offset = abs((one.y + one.height / 2) - (other.y + other.height / 2))
    level = tall <= HEIGHT_RATIO * short + 1 and offset <= LINE_OFFSET_SHARE * tall + 0.5
    return level and -0.2 * tall <= _gap(one.box, other.box) <= GAP_HEIGHTS * tall
