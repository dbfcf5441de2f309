"""The source of the search for GPUs, fit.cu: what it is compiled with, and how its regions and answers lie in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.compiled import PARAMETERS
from irst_stream.fit.search import FitPriors, FitResults, RegionBatch
from irst_stream.types import Ints

__all__ = ["Kernel", "Precision", "read_source"]

Precision = Literal["float64", "float32"]
REALS = {"float64": "double", "float32": "float"}
SOURCE = "fit.cu"
SPARE_VARIANTS = 2  # starts of one number of targets besides the turns: with a target in the middle; grown, or the hint
PRIORS = (
    "amplitude_dn",
    "amplitude",
    "common",
    "own",
    "least_spread",
    "greatest_spread",
    "company",
)  # of Look, in its order


def read_source() -> str:
    """The text of fit.cu."""
    return files("irst_stream.resolve").joinpath(SOURCE).read_text()


@dataclass(frozen=True)
class Kernel:
    """One form of the kernel: for images (T, H, W) of one shape, in one arithmetic, by so many lanes a region.

    in_shared: whether a block's working memory is to lie in its shared memory.
    """

    known: FitPriors
    shape: tuple[int, int, int]
    precision: Precision
    lanes: int
    in_shared: bool = True

    @property
    def macros(self) -> list[str]:
        """What the compiler is told, as -DNAME=VALUE."""
        frames, height, width = self.shape
        values: dict[str, Any] = {
            "MOST": self.known.most,
            "FRAMES": frames,
            "HEIGHT": height,
            "WIDTH": width,
            "VARIANTS": self.known.turns + SPARE_VARIANTS,
            "LANES": self.lanes,
            "REAL": REALS[self.precision],
            "SINGLE": int(self.precision == "float32"),
            "IN_SHARED": int(self.in_shared),
        }
        return [f"-D{name}={value}" for name, value in values.items()]

    @cached_property
    def look(self) -> np.dtype[Any]:
        """The Look of fit.cu."""
        return self._record(("turns", "i4"), ("sigma",), ("shot",), *((name,) for name in PRIORS))

    @cached_property
    def region(self) -> np.dtype[Any]:
        """The Region of fit.cu."""
        most = self.known.most
        hint, held = (most, PARAMETERS), (most + 1, most, PARAMETERS)
        fields = (
            ("times", self.shape[0]),
            ("shifts", (self.shape[0], 2)),
            ("noise",),
            ("limits", 2),
            ("hint", hint),
            ("held", held),
            ("odds", most + 1),
            ("images", self.shape),
        )
        return self._record(("hinted", "i4"), ("begin", "i4"), *fields)

    @cached_property
    def answer(self) -> np.dtype[Any]:
        """The Answer of fit.cu."""
        most = self.known.most
        points, solutions = (most, PARAMETERS), (most + 1, most, PARAMETERS)
        fields = (
            ("points", points),
            ("cov", (most, most, 2, 2)),
            ("amplitude_sd", most),
            ("probability", most),
            ("strain", 2),
        )
        return self._record(("number", "i4"), *fields, ("solutions", solutions), ("odds", most + 1))

    def _record(self, *fields: tuple[Any, ...]) -> np.dtype[Any]:
        """A struct in C; fields: name and type, or name and shape of numbers of the kernel's precision."""
        typed = [f if f[1:] == ("i4",) else (f[0], self.precision, *f[1:]) for f in fields]
        return np.dtype(typed, align=True)

    def write_look(self, into: NDArray[Any]) -> None:
        """Fills into (1,) of Look."""
        for name in ("turns", "sigma", "shot"):
            into[name] = getattr(self.known, name)
        for name in PRIORS:
            into[name] = getattr(self.known.priors, name)

    def write_regions(self, which: Ints, regions: RegionBatch, into: NDArray[Any]) -> None:
        """Fills into (n,) of Region from the regions `which` (n,)."""
        hinted = regions.hinted[which]
        into["hinted"] = np.where(hinted <= self.known.most, hinted, 0)  # of more targets than there may be
        into["hint"] = regions.hints[which, : self.known.most]
        into["times"] = regions.times
        for name in ("begin", "shifts", "noise", "limits", "held", "odds", "images"):
            into[name] = getattr(regions, name)[which]

    def read_answers(self, found: NDArray[Any], which: Ints, answers: FitResults) -> None:
        """Fills the rows `which` (n,) of the answers from found (n,) of Answer."""
        for name, column in answers._asdict().items():
            column[which] = found[name]
