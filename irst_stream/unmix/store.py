"""Allocate the slots of a store on the GPU to the maps of frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irst_stream.types import Ints

__all__ = ["SlotAllocator", "StoredMap", "contiguous_runs"]


class StoredMap:
    """A frame's map in a store; its slot is released when the last reference to this object is dropped."""

    __slots__ = ("_release", "slot")

    def __init__(self, slot: int, release: Callable[[int], None]) -> None:
        self.slot, self._release = slot, release

    def __del__(self) -> None:
        self._release(self.slot)


class SlotAllocator:
    """Allocates the slots of a store, numbered from 0; consecutive slots are given together where possible.

    One thread takes slots; any thread may release them, by dropping a StoredMap.
    """

    def __init__(self, count: int, max_count: int) -> None:
        """count: the slots that exist now; max_count: the most that there may ever be."""
        self.count, self._taken, self._next = count, np.zeros(max_count, bool), 0

    @property
    def available(self) -> int:
        """The number of free slots."""
        return self.count - int(self._taken[: self.count].sum())

    def take(self, count: int) -> list[StoredMap]:
        """Take `count` free slots, in ascending order; at least `count` slots must be available.

        Allocation goes round the store like a ring buffer, so that neighbours are taken and released together.
        """
        free = np.flatnonzero(~self._taken[: self.count])
        ahead = int(np.searchsorted(free, self._next))
        slots = np.sort(np.concatenate([free[ahead : ahead + count], free[: max(count - len(free) + ahead, 0)]]))
        self._taken[slots] = True
        self._next = int(slots[-1]) + 1 if count else self._next
        return [StoredMap(slot, self._release) for slot in slots.tolist()]

    def _release(self, slot: int) -> None:
        self._taken[slot] = False


def contiguous_runs(slots: Ints) -> list[tuple[int, int, int]]:
    """Split ascending slots (n,) into runs of consecutive ones: (index of the first in `slots`, its slot, length) each."""
    edges = np.flatnonzero(np.diff(slots) != 1) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(slots)]
    return [(a, int(slots[a]), b - a) for a, b in zip(starts, ends, strict=True) if b > a]
