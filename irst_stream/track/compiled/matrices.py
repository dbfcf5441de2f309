"""Products of small matrices, and solutions of their equations. Compiled: NumPy's own take up to half a second each."""

from __future__ import annotations

import numpy as np

from irst_stream.system.numba_cache import compiled

__all__ = ["product", "product_transposed", "solve_right"]


@compiled
def product(a, b):  # type: ignore[no-untyped-def]
    """The product (N, M) of a (N, K) and b (K, M)."""
    out = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]
    return out


@compiled
def product_transposed(a, b):  # type: ignore[no-untyped-def]
    """The product (N, M) of a (N, K) and the transpose of b (M, K)."""
    out = np.zeros((a.shape[0], b.shape[0]))
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            for k in range(a.shape[1]):
                out[i, j] += a[i, k] * b[j, k]
    return out


@compiled
def solve_right(right, matrix):  # type: ignore[no-untyped-def]
    """The solution (N, D) of solution times matrix (D, D) = right (N, D), by elimination with pivots; matrix is symmetric.

    All 0 where the matrix is singular.
    """
    size = len(matrix)
    left, solution = matrix.copy(), right.copy()
    for c in range(size):
        pivot = c
        for r in range(c + 1, size):
            if abs(left[r, c]) > abs(left[pivot, c]):
                pivot = r
        if left[pivot, c] == 0.0:
            return np.zeros(right.shape)
        for k in range(size):
            left[c, k], left[pivot, k] = left[pivot, k], left[c, k]
        for i in range(len(solution)):
            solution[i, c], solution[i, pivot] = solution[i, pivot], solution[i, c]
        for r in range(c + 1, size):
            factor = left[r, c] / left[c, c]
            for k in range(c, size):
                left[r, k] -= factor * left[c, k]
            for i in range(len(solution)):
                solution[i, r] -= factor * solution[i, c]
    for i in range(len(solution)):
        for c in range(size - 1, -1, -1):
            value = solution[i, c]
            for k in range(c + 1, size):
                value -= left[c, k] * solution[i, k]
            solution[i, c] = value / left[c, c]
    return solution
