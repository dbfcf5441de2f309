"""The warm start that a fit hands to the next window."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = ["AT_ONCE", "WarmStart"]

AT_ONCE = 1_000_000  # windows


class WarmStart(NamedTuple):
    """The last solutions of N fits, from which those of the next window start.

    solutions (N, most + 1, most, 5): of each number of targets, see compiled.model_selection, 0 where there is no target;
    best (N,): likeliest number of targets, 0 where there is no solution; owed (N,): windows since the turn of a fit from
    scratch came, 0 where none is owed, AT_ONCE where the next fit is to be from scratch;
    odds (N, most + 1): log evidence of each number of targets from the frames that have left the window; width_ratio (N,):
    PSF width that was found over the expected one, 0 where there is no solution; extent (N, 2): of an extended target, px,
    0 for point targets.
    """

    solutions: Floats
    best: Ints
    owed: Ints
    odds: Floats
    width_ratio: Floats
    extent: Floats

    def predicted(self, frames: float, shift: Floats) -> WarmStart:
        """Predict the targets' positions: their motion over these frames plus the platform's shift (N, 2) px."""
        solutions = self.solutions.copy()
        solutions[..., :2] += frames * solutions[..., 2:4] + shift[:, None, None] * (solutions[..., 4:] != 0)
        return self._replace(solutions=solutions)

    def of(self, which: Ints, offset: Floats | None = None) -> WarmStart:
        """Select these rows, their targets moved by offset (N, 2) px."""
        columns: tuple[Any, ...] = tuple(column[which] for column in self)
        some = WarmStart(*columns)
        if offset is not None:
            some.solutions[..., :2] += offset[:, None, None] * (some.solutions[..., 4:] != 0)
        return some

    def joined(self, others: WarmStart) -> WarmStart:
        """Concatenate these and the others."""
        columns: tuple[Any, ...] = tuple(np.concatenate(pair) for pair in zip(self, others, strict=True))
        return WarmStart(*columns)

    def with_rows(self, which: Ints, others: WarmStart) -> WarmStart:
        """Replace these rows by the rows of others, one each."""
        columns: list[Any] = [column.copy() for column in self]
        for column, new in zip(columns, others, strict=True):
            column[which] = new
        return WarmStart(*columns)

    def targets(self, row: int) -> Floats:
        """(K, 5): the likeliest solution of one row."""
        best = self.best[row]
        targets: Floats = self.solutions[row, best, :best]
        return targets

    def with_targets(self, row: int, targets: Floats) -> WarmStart:
        """Replace all solutions and odds of one row by these targets (K, 5)."""
        solutions, best, odds = self.solutions.copy(), self.best.copy(), self.odds.copy()
        solutions[row], best[row], odds[row] = 0, len(targets), 0
        solutions[row, len(targets), : len(targets)] = targets
        return self._replace(solutions=solutions, best=best, odds=odds)

    def mean(self) -> Floats:
        """(N, 5): the mean of each row's likeliest targets, 0 where there is none."""
        total = self.solutions[np.arange(len(self.best)), self.best].sum(1)
        return np.asarray(total / np.maximum(self.best, 1)[:, None])
