"""Compiled kernels of the region search: passes over whole frames, and tests of single pixels.

Frames are read row by row in float32 throughout, so that the loops vectorise. Pixels that need a closer look are listed in
one pass and visited one by one. A flat index is row * width + column. An expanded map (m, W) is a coarse map already
interpolated along its rows to the frame's width; kernels interpolate it down the columns as they read it.
"""

from irst_stream.propose.compiled.cell_grid import CellWeights, Interpolation, cell_means, interpolate_map
from irst_stream.propose.compiled.clutter import (
    clipped_squares,
    compare_clutter,
    learn_clutter,
    learn_levels,
    subtract_clutter,
    whiten_response,
)
from irst_stream.propose.compiled.contrast import CELLS, local_contrast
from irst_stream.propose.compiled.filters import (
    FILTER_RADIUS,
    SD_PER_MEAN_ABS,
    apply_filter,
    apply_kernel,
    is_dark_rim,
    local_maxima,
    peak_strengths,
)
from irst_stream.propose.compiled.frames import cut_patches, find_outliers, mean_light, subtract_background
from irst_stream.propose.compiled.places import (
    DEFICIT_ALLOWANCE,
    OUTLIER_SIGMAS,
    bright_pixels,
    light_centroids,
    neighbour_deficits,
    select_regions,
)

__all__ = [
    "CELLS",
    "DEFICIT_ALLOWANCE",
    "FILTER_RADIUS",
    "OUTLIER_SIGMAS",
    "SD_PER_MEAN_ABS",
    "CellWeights",
    "Interpolation",
    "apply_filter",
    "apply_kernel",
    "bright_pixels",
    "cell_means",
    "clipped_squares",
    "compare_clutter",
    "cut_patches",
    "find_outliers",
    "interpolate_map",
    "is_dark_rim",
    "learn_clutter",
    "learn_levels",
    "light_centroids",
    "local_contrast",
    "local_maxima",
    "mean_light",
    "neighbour_deficits",
    "peak_strengths",
    "select_regions",
    "subtract_background",
    "subtract_clutter",
    "whiten_response",
]
