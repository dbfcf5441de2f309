"""Orders and searches of sorted numbers, and running numbers. Compiled: NumPy's own take half a second each to compile."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = ["falling_order", "first_at_least", "numbered", "rising_order"]


@compiled
def numbered(count):  # type: ignore[no-untyped-def]
    """The numbers (count,) from 0 on."""
    numbers = np.empty(count, np.int64)
    for k in range(count):
        numbers[k] = k
    return numbers


@compiled
def rising_order(values):  # type: ignore[no-untyped-def]
    """Indices (N,) of values (N,) by rising value (merge sort); equal ones keep their order, NaN come last."""
    count = len(values)
    order, spare = numbered(count), np.empty(count, np.int64)
    length = 1
    while length < count:
        for begin in range(0, count, 2 * length):
            left, middle = begin, min(begin + length, count)
            right, end = middle, min(begin + 2 * length, count)
            for k in range(begin, end):
                if left < middle and (right == end or not _precedes(values, order[right], order[left])):
                    spare[k] = order[left]
                    left += 1
                else:
                    spare[k] = order[right]
                    right += 1
        order, spare = spare, order
        length *= 2
    return order


@compiled
def _precedes(values, a, b):  # type: ignore[no-untyped-def]
    """Whether the value at a comes before that at b."""
    return values[a] < values[b] or (values[b] != values[b] and values[a] == values[a])


@compiled
def falling_order(values):  # type: ignore[no-untyped-def]
    """Indices (N,) of values (N,) by falling value; equal ones keep their order, NaN come last."""
    negative = np.empty(len(values))
    for k in range(len(values)):
        negative[k] = -values[k]
    return rising_order(negative)


@compiled
def first_at_least(rising, value):  # type: ignore[no-untyped-def]
    """Index of the first of rising (N,) that is at least this value; N where none is."""
    low, high = 0, len(rising)
    while low < high:
        middle = (low + high) // 2
        if rising[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
