"""How threads share rows out among themselves. Compiled."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from irst_stream.system.numba_cache import compiled

__all__ = ["take_one"]


@intrinsic
def _taken_before(_context, taken):  # type: ignore[no-untyped-def]
    """Adds 1 to taken (1,) in one go; what it was before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(taken), generate


@compiled
def take_one(taken):  # type: ignore[no-untyped-def]
    """Adds 1 to taken (1,) int64, in one go, so that no two threads are given the same; what it was before."""
    return _taken_before(taken)  # type: ignore[call-arg]  # of numba, which gives the context itself
