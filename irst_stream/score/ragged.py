"""Images with any number of rows each, stored as one flat array, so that 15,000 images are scored at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = ["Pairs", "Ragged"]

PAIRS_AT_ONCE = 4_000_000  # bounds the memory of one block of pairs
FloatType = type[np.float32] | type[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """rows (R, C): the rows of all I images, one image after another; count (I,): number of rows of each image."""

    rows: Floats
    count: Ints

    @classmethod
    def of(cls, images: Sequence[Floats], columns: tuple[int, ...], name: str) -> Ragged:
        """Concatenate (n, c) arrays, c one of `columns`, keeping the columns that all of them have.

        Arrays without elements may have any shape. `name` is what errors call the images.
        """
        parts = [np.asarray(image, np.float64) for image in images]
        for k, part in enumerate(parts):
            if part.size and (part.ndim != 2 or part.shape[1] not in columns):
                raise ValueError(f"{name}[{k}]: expected shape (n, {' or '.join(map(str, columns))}), got {part.shape}")
        filled = [part for part in parts if part.size]
        width = min((part.shape[1] for part in filled), default=columns[0])
        rows = np.concatenate([part[:, :width] for part in filled]) if filled else np.zeros((0, width))
        if not np.isfinite(rows).all():
            raise ValueError(f"{name}: expected finite numbers")
        return cls(rows, np.array([len(part) if part.size else 0 for part in parts], np.int64))

    @property
    def start(self) -> Ints:
        """(I,): each image's first row."""
        return np.cumsum(self.count) - self.count

    @property
    def image(self) -> Ints:
        """(R,): the image each row belongs to."""
        return np.repeat(np.arange(len(self.count)), self.count)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """K pairs of a detection and a truth of one image: the row (K,) of each, and their distance (K,) px.

    Sorted by detection, then truth.
    """

    detection: Ints
    truth: Ints
    distance: Floats

    @classmethod
    def within(cls, detections: Ragged, truths: Ragged, reach: float, precision: FloatType = np.float64) -> Pairs:
        """All pairs at most `reach` px apart, with positions and distances in the given precision."""
        count = truths.count[detections.image]  # pairs of each detection
        parts = []
        first = 0
        while first < len(count):
            last = first + max(int(np.searchsorted(np.cumsum(count[first:]), PAIRS_AT_ONCE)), 1)
            parts.append(cls._block(detections, truths, count, first, min(last, len(count)), reach, precision))
            first = last
        return cls(*map(np.concatenate, zip(*parts, strict=True))) if parts else cls(*_NO_PAIRS)

    @staticmethod
    def _block(
        detections: Ragged, truths: Ragged, count: Ints, first: int, last: int, reach: float, precision: FloatType
    ) -> tuple[Ints, Ints, Floats]:
        """The pairs of the detections first:last; count (R,): number of truths in each detection's image."""
        block = count[first:last]
        detection = np.repeat(np.arange(first, last), block)
        number = np.arange(len(detection)) - np.repeat(np.cumsum(block) - block, block)  # of the truth in its image
        truth = truths.start[detections.image[detection]] + number
        from_, to = detections.rows[:, :2].astype(precision), truths.rows[:, :2].astype(precision)
        distance = np.linalg.norm(from_[detection] - to[truth], axis=1)
        near = distance <= precision(reach)
        return detection[near], truth[near], distance[near]


_NO_PAIRS = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
