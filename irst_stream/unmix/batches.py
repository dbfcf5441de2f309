"""Split any number of patches or windows over plans of a few fixed batch sizes."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Batches"]


class Batches:
    """Splits a count into batches of least total time; the last batch may be larger than the remainder that it serves."""

    def __init__(self, cost: Mapping[int, float]) -> None:
        """cost: the time of one batch of each size, in any unit."""
        self._cost = dict(cost)
        self._most_efficient = max(cost, key=lambda size: size / cost[size])
        self._best: list[tuple[float, int]] = [
            (0.0, 0)
        ]  # per count: the least total cost, and minus the first batch's size

    def split(self, count: int) -> list[int]:
        """Return the batch sizes for `count` items, largest first; none for 0."""
        largest = max(self._cost)
        rest, sizes = count, []
        while rest > 2 * largest:  # bounds the table of best splits
            sizes.append(self._most_efficient)
            rest -= self._most_efficient
        while len(self._best) <= rest:
            n = len(self._best)
            self._best.append(min((cost + self._best[max(n - size, 0)][0], -size) for size, cost in self._cost.items()))
        while rest > 0:
            size = -self._best[rest][1]
            sizes.append(size)
            rest -= size
        return sorted(sizes, reverse=True)
