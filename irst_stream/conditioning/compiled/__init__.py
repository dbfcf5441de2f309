"""Compiled kernels of the registration: motion between two images, block by block."""

from irst_stream.conditioning.compiled.block_motion import BLOCK_PX, align_blocks

__all__ = ["BLOCK_PX", "align_blocks"]
