"""Which places of a store on the GPU hold the maps of which frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irst_stream.types import Ints

__all__ = ["HeldMap", "Places", "runs"]


class HeldMap:
    """A frame's map in a store; its place is free again when nobody holds this any more."""

    __slots__ = ("_free", "place")

    def __init__(self, place: int, free: Callable[[int], None]) -> None:
        self.place, self._free = place, free

    def __del__(self) -> None:
        self._free(self.place)


class Places:
    """The places of a store, from 0 on; those that follow each other are given together where that is possible.

    One thread takes them; they are freed wherever a map is let go.
    """

    def __init__(self, count: int, most: int) -> None:
        """count: of places there are, for now; most: that there may ever be."""
        self.count, self._taken, self._next = count, np.zeros(most, bool), 0

    @property
    def free(self) -> int:
        """How many are."""
        return self.count - int(self._taken[: self.count].sum())

    def take(self, count: int) -> list[HeldMap]:
        """So many free places, in order, going round the store, so that neighbours are taken and freed together.

        There must be so many.
        """
        free = np.flatnonzero(~self._taken[: self.count])
        ahead = int(np.searchsorted(free, self._next))
        places = np.sort(np.concatenate([free[ahead : ahead + count], free[: max(count - len(free) + ahead, 0)]]))
        self._taken[places] = True
        self._next = int(places[-1]) + 1 if count else self._next
        return [HeldMap(place, self._release) for place in places.tolist()]

    def _release(self, place: int) -> None:
        self._taken[place] = False


def runs(places: Ints) -> list[tuple[int, int, int]]:
    """Places (n,) in order to runs of neighbours: the first's row in `places`, its place, how many follow each other."""
    edges = np.flatnonzero(np.diff(places) != 1) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(places)]
    return [(a, int(places[a]), b - a) for a, b in zip(starts, ends, strict=True) if b > a]
