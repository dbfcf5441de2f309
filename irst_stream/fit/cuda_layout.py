"""Compile-time parameters of fit.cu, the GPU source of the search, and the memory layout of its structs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.resources import files
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.fit.compiled import PARAMETERS, FitPriors, PsfBank
from irst_stream.fit.search import FitResults, RegionBatch
from irst_stream.types import Ints

__all__ = ["Kernel", "Precision", "read_source"]

Precision = Literal["float64", "float32"]
REALS = {"float64": "double", "float32": "float"}
SOURCE = "fit.cu"
EXTRA_STARTS = 2  # per number of targets, beyond start_count: one with a target in the centre, one grown or hinted
PRIORS = (
    "amplitude_dn",
    "amplitude",
    "common",
    "own",
    "min_spread",
    "max_spread",
    "extra_target",
)  # fields of Priors in fit.cu, in their order


PSF_NUMBERS, PSF_PROFILES = ("first", "per_width", "width_px"), ("columns", "rows")  # of PsfShape, where it has terms
ALIGNMENT = 256  # bytes, of regions in a GPU's memory

SHARED_CONSTANTS = {  # names in fit.cu that mean what they mean in the compiled modules, which alone give their values
    "levenberg_marquardt": (
        *("MAX_STEP_PX", "MIN_GAIN", "FIRST_DAMPING", "DAMPING_DECREASE", "DAMPING_INCREASE"),
        "MAX_DAMPING",
    ),
    "likelihood": ("PARAMETERS", "SQRT_2_BY_PI", "ERF_CUTOFF", "UNKNOWN", "INFINITE"),
    "frame_equations": ("MIN_EXCESS",),
    "normal_equations": ("LOG_2PI", "SPREAD_STEPS"),
    "evidence": ("RULED_OUT_EVIDENCE", "MIN_LIGHT", "CURVATURE_NORM", "QUARTIC_VARIANCE", "COINCIDENCE_REACH"),
    "starts": ("MIN_SPREAD_PX", "SPLIT_PX"),
    "model_selection": (
        *("STEPS", "FIRST_STEPS", "HOPELESS_DEFICIT", "FINISH_MISFIT", "DUPLICATE_PX"),
        *("AGREEMENT_PX", "OVERFIT_PENALTY", "ODDS_DECAY", "MAX_ODDS"),
    ),
}


def read_source() -> str:
    """The text of fit.cu."""
    return files("irst_stream.fit").joinpath(SOURCE).read_text()


@dataclass(frozen=True)
class Kernel:
    """A variant of the kernel: for images (T, H, W) of one shape, in one precision, with a number of lanes per region.

    lanes: threads of a block; in_shared: whether a block's working memory is in its shared memory; psf_size: terms of each
    PSF, 0 for Gaussians along the frame's axes, and pieces of each one's profiles, None for those of the priors' PSF.
    """

    fit_priors: FitPriors
    shape: tuple[int, int, int]
    precision: Precision
    lanes: int
    in_shared: bool = True
    psf_size: tuple[int, int] | None = None

    @property
    def macros(self) -> list[str]:
        """Definitions for the compiler, as -DNAME=VALUE."""
        frames, height, width = self.shape
        values: dict[str, Any] = {
            "MOST": self.fit_priors.max_targets,
            "FRAMES": frames,
            "HEIGHT": height,
            "WIDTH": width,
            "VARIANTS": self.fit_priors.start_count + EXTRA_STARTS,
            "TERMS": self._terms[0],
            "PIECES": self._terms[1],
            "LANES": self.lanes,
            "REAL": REALS[self.precision],
            "SINGLE": int(self.precision == "float32"),
            "IN_SHARED": int(self.in_shared),
        }
        for module, names in SHARED_CONSTANTS.items():
            for name in names:
                value = getattr(import_module(f"irst_stream.fit.compiled.{module}"), name)
                values[name] = value if isinstance(value, int) else f"R({value!r})"
        return [f"-D{name}={value}" for name, value in values.items()]

    @cached_property
    def priors_dtype(self) -> np.dtype[Any]:
        """The struct Priors of fit.cu."""
        psf = ((name,) for name in PSF_NUMBERS), ((name, (*self._terms, 4)) for name in PSF_PROFILES)
        stretch = ("stretch", 2)
        fields = ("sigma",), *((name,) for name in PRIORS), stretch, *(chain(*psf) if self._terms[0] else ())
        return self._record(("start_count", "i4"), *fields)

    def header_bytes(self, psfs: int) -> int:
        """Offset of the regions in an upload, after the priors with each of some PSFs."""
        return -(-psfs * self.priors_dtype.itemsize // ALIGNMENT) * ALIGNMENT

    @property
    def _terms(self) -> tuple[int, int]:
        """See psf_size."""
        terms, pieces = self.psf_size or self.fit_priors.shape.columns.shape[:2]
        return terms, pieces

    @cached_property
    def region_dtype(self) -> np.dtype[Any]:
        """The struct Region of fit.cu."""
        most = self.fit_priors.max_targets
        hint, warm_solutions = (most, PARAMETERS), (most + 1, most, PARAMETERS)
        fields = (
            ("times", self.shape[0]),
            ("shifts", (self.shape[0], 2)),
            ("noise",),
            ("limits", 2),
            ("shot",),
            ("hint", hint),
            ("warm_solutions", warm_solutions),
            ("odds", most + 1),
            ("images", self.shape),
        )
        return self._record(("psf", "i4"), ("hint_count", "i4"), ("first_number", "i4"), *fields)

    @cached_property
    def result_dtype(self) -> np.dtype[Any]:
        """The struct Result of fit.cu."""
        most = self.fit_priors.max_targets
        targets, solutions = (most, PARAMETERS), (most + 1, most, PARAMETERS)
        fields = (
            ("targets", targets),
            ("cov", (most, most, 2, 2)),
            ("amplitude_sd", most),
            ("probability", most),
            ("reduced_chi_square", 2),
        )
        return self._record(("number", "i4"), *fields, ("solutions", solutions), ("odds", most + 1))

    def _record(self, *fields: tuple[Any, ...]) -> np.dtype[Any]:
        """The dtype of a C struct; fields: (name, "i4"), or name and shape of numbers of the kernel's precision."""
        typed = [f if f[1:] == ("i4",) else (f[0], self.precision, *f[1:]) for f in fields]
        return np.dtype(typed, align=True)

    def write_priors(self, psfs: PsfBank, into: NDArray[Any]) -> None:
        """Fill into (P,) of priors_dtype: the priors with each PSF of a bank, (1,) with their own where it holds none."""
        into["start_count"] = self.fit_priors.start_count
        for name in PRIORS:
            into[name] = getattr(self.fit_priors.priors, name)
        own = self.fit_priors.shape
        if len(psfs.sigma):
            into["sigma"], into["stretch"] = psfs.sigma, psfs.stretches
            profiles = {"first": psfs.first, "per_width": psfs.per_width, "width_px": psfs.sigma}
            profiles |= {"columns": psfs.columns, "rows": psfs.rows}
        else:
            into["sigma"], into["stretch"] = self.fit_priors.sigma, (own.stretch_x, own.stretch_y)
            profiles = {name: getattr(own, name) for name in (*PSF_NUMBERS, *PSF_PROFILES)}
        for name in (*PSF_NUMBERS, *PSF_PROFILES) if self._terms[0] else ():
            into[name] = profiles[name]

    def write_regions(self, which: Ints, regions: RegionBatch, into: NDArray[Any]) -> None:
        """Fill into (n,) of region_dtype from the regions `which` (n,)."""
        hint_count = regions.hint_count[which]
        # A hint of more targets than max_targets is never a start; hint_count 0 says so to the kernel.
        into["hint_count"] = np.where(hint_count <= self.fit_priors.max_targets, hint_count, 0)
        into["hint"] = regions.hints[which, : self.fit_priors.max_targets]
        into["times"] = regions.times
        for name in ("psf", "first_number", "shifts", "noise", "limits", "shot", "warm_solutions", "odds", "images"):
            into[name] = getattr(regions, name)[which]

    def read_results(self, found: NDArray[Any], which: Ints, results: FitResults) -> None:
        """Fill the rows `which` (n,) of the results from found (n,) of result_dtype."""
        for name in found.dtype.names or ():  # a GPU searches no PSF width
            getattr(results, name)[which] = found[name]
