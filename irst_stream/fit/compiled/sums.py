"""Sums, medians and extremes of a few numbers. Compiled: NumPy's own take a tenth of a second and more each to compile."""

from __future__ import annotations

from irst_stream.system.numba_cache import compiled

__all__ = ["index_of_largest", "index_of_least", "median", "total"]


@compiled
def total(values):  # type: ignore[no-untyped-def]
    """The sum of values (N,)."""
    value = 0.0
    for k in range(len(values)):
        value += values[k]
    return value


@compiled
def index_of_largest(values):  # type: ignore[no-untyped-def]
    """Index of the first largest of values (N,); 0 where there are none."""
    best = 0
    for k in range(1, len(values)):
        if values[k] > values[best]:
            best = k
    return best


@compiled
def index_of_least(values):  # type: ignore[no-untyped-def]
    """Index of the first least of values (N,); 0 where there are none."""
    best = 0
    for k in range(1, len(values)):
        if values[k] < values[best]:
            best = k
    return best


@compiled
def median(values):  # type: ignore[no-untyped-def]
    """The median of values (N,), at least one, which are left in another order."""
    middle = len(values) // 2
    upper = _partition(values, middle)
    if len(values) % 2:
        return upper
    lower = values[0]
    for k in range(1, middle):
        lower = max(lower, values[k])
    return 0.5 * (lower + upper)


@compiled
def _partition(values, rank):  # type: ignore[no-untyped-def]
    """Move what is smaller than the value of that rank before it, and what is larger behind it; return it (quickselect)."""
    first, last = 0, len(values) - 1
    while first < last:
        pivot, low, high = values[(first + last) // 2], first, last
        while low <= high:
            while values[low] < pivot:
                low += 1
            while values[high] > pivot:
                high -= 1
            if low <= high:
                values[low], values[high] = values[high], values[low]
                low += 1
                high -= 1
        if rank <= high:
            last = high
        elif rank >= low:
            first = low
        else:
            break
    return values[rank]
