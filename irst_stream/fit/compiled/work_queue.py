"""A shared counter from which threads take their next row. Compiled."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from irst_stream.system.numba_cache import compiled

__all__ = ["take_next"]


@intrinsic
def _fetch_and_add(_context, taken):  # type: ignore[no-untyped-def]
    """Add 1 to taken (1,) atomically; return its value before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(taken), generate


@compiled
def take_next(taken):  # type: ignore[no-untyped-def]
    """Add 1 to taken (1,) int64 atomically, so that no two threads get the same value; return its value before."""
    return _fetch_and_add(taken)  # type: ignore[call-arg]  # numba passes the context
