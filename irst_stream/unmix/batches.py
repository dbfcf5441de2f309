"""How any number of patches or windows goes through plans of a few fixed batch sizes."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Batches"]


class Batches:
    """Splits a number into batches that take the least time in all; the last one may be larger than what is left."""

    def __init__(self, cost: Mapping[int, float]) -> None:
        """cost: what each batch size takes, in whatever unit."""
        self._cost = dict(cost)
        self._largest = max(cost, key=lambda size: size / cost[size])
        self._best: list[tuple[float, int]] = [(0.0, 0)]  # of each number: the least cost, and the first batch

    def split(self, count: int) -> list[int]:
        """The sizes of the batches, larger ones first."""
        most = max(self._cost)
        rest, sizes = count, []
        while rest > 2 * most:
            sizes.append(self._largest)
            rest -= self._largest
        while len(self._best) <= rest:
            n = len(self._best)
            self._best.append(min((cost + self._best[max(n - size, 0)][0], -size) for size, cost in self._cost.items()))
        while rest > 0:
            size = -self._best[rest][1]
            sizes.append(size)
            rest -= size
        return sorted(sizes, reverse=True)
