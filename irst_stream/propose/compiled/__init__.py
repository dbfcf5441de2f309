"""The sums over whole frames that the search is made of, and what is looked at about single places. Compiled.

Frames are read row by row, in float32 throughout, so that the processor does many pixels at once; wherever few places
matter they are listed in one pass and looked at one by one. Places are flat: row * width + column. A map of cells that has
been widened, (m, W), has been interpolated along its rows already; down its columns that is done where it is read.
"""

from irst_stream.propose.compiled.cells import Between, Cells, cell_means, read_map
from irst_stream.propose.compiled.filters import REACH, SPREAD, peaks, respond, rims, strengths
from irst_stream.propose.compiled.frames import cut, mean_light, standing_out, take_off
from irst_stream.propose.compiled.places import DOUBT, STANDS_OUT, cover, light_middles, surpluses

__all__ = [
    "DOUBT",
    "REACH",
    "SPREAD",
    "STANDS_OUT",
    "Between",
    "Cells",
    "cell_means",
    "cover",
    "cut",
    "light_middles",
    "mean_light",
    "peaks",
    "read_map",
    "respond",
    "rims",
    "standing_out",
    "strengths",
    "surpluses",
    "take_off",
]
