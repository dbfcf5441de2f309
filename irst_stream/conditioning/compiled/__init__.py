"""Compiled kernels: motion between two images, block by block; correction of each pixel."""

from irst_stream.conditioning.compiled.block_motion import align_blocks
from irst_stream.conditioning.compiled.correct import correct_pixels

__all__ = ["align_blocks", "correct_pixels"]
