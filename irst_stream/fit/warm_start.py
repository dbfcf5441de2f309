"""What is held of a fit from one window to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irst_stream.types import Floats, Ints

__all__ = ["WarmStart"]


class WarmStart(NamedTuple):
    """Where N fits have ended, for those of the next window to go on from.

    solutions (N, most + 1, most, 5): see compiled.search, 0 where there is no target; best (N,): the number of targets that
    was likeliest, 0 where nothing is held; age (N,): windows since the last fit from scratch; odds (N, most + 1): log
    evidence of each number of targets from the frames that have left the window.
    """

    solutions: Floats
    best: Ints
    age: Ints
    odds: Floats

    def later(self, frames: float, shift: Floats) -> WarmStart:
        """The same after so many frames, the targets having gone on as they went, and the platform having moved what stands
        still by these shifts (N, 2) px.
        """
        solutions = self.solutions.copy()
        solutions[..., :2] += frames * solutions[..., 2:4] + shift[:, None, None] * (solutions[..., 4:] != 0)
        return self._replace(solutions=solutions)

    def of(self, which: Ints, offset: Floats | None = None) -> WarmStart:
        """Some of them, their targets moved by these offsets (N, 2) px."""
        some = WarmStart(self.solutions[which], self.best[which], self.age[which], self.odds[which])
        if offset is not None:
            some.solutions[..., :2] += offset[:, None, None] * (some.solutions[..., 4:] != 0)
        return some

    def beside(self, others: WarmStart) -> WarmStart:
        """These and others."""
        solutions, best = np.concatenate([self.solutions, others.solutions]), np.append(self.best, others.best)
        return WarmStart(solutions, best, np.append(self.age, others.age), np.concatenate([self.odds, others.odds]))

    def targets(self, row: int) -> Floats:
        """(K, 5): the likeliest solution of one."""
        best = self.best[row]
        targets: Floats = self.solutions[row, best, :best]
        return targets

    def with_targets(self, row: int, targets: Floats) -> WarmStart:
        """The same, one having these targets (K, 5) in place of all that was held of it."""
        solutions, best, odds = self.solutions.copy(), self.best.copy(), self.odds.copy()
        solutions[row], best[row], odds[row] = 0, len(targets), 0
        solutions[row, len(targets), : len(targets)] = targets
        return self._replace(solutions=solutions, best=best, odds=odds)

    def mean(self) -> Floats:
        """(N, 5): each one's likeliest targets' mean, 0 where there is none."""
        total = self.solutions[np.arange(len(self.best)), self.best].sum(1)
        return np.asarray(total / np.maximum(self.best, 1)[:, None])
