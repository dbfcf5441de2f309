"""The PSF of a sensor over its field: one for all of it, or PSFs at a grid of places and between them.

A lens that is sharp in the middle blurs towards the corners. Such a PSF is measured at a few places, and is interpolated
bilinearly between them; beyond the outermost ones it stays as it is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError  # noqa: N812 - it is an exception

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.point_spread import PointSpread, gaussian, gaussian_of, tabulated
from irst_stream.types import Floats

__all__ = ["PsfField", "read_psf", "sensor_psf", "uniform", "write_psf"]

STEPS = 8  # a cell of the grid: places within a step of each other share a PSF
MAX_GRID = 9  # places a side
MAX_SIDE, MAX_OVERSAMPLING = 1001, 64  # of a table in a file
UNREADABLE = ValueError, KeyError, EOFError, BadZipFile, ZlibError, NotImplementedError, MemoryError


@dataclass(frozen=True, eq=False)
class PsfField:
    """PSFs at a grid of places: columns (C,) and rows (R,) px of the frame, ascending; psfs: R rows of C PSFs each.

    All are Gaussians, or all are tables of the same side and oversampling.
    """

    columns: Floats
    rows: Floats
    psfs: tuple[tuple[PointSpread, ...], ...]
    _between: dict[tuple[int, int], PointSpread] = field(default_factory=dict, repr=False)

    @property
    def is_uniform(self) -> bool:
        """Whether one PSF serves the whole field."""
        return self.columns.size * self.rows.size == 1

    @property
    def middle(self) -> PointSpread:
        """The PSF in the middle of the grid."""
        return self.at(np.array([np.mean(self.columns[[0, -1]]), np.mean(self.rows[[0, -1]])]))

    @property
    def widest_px(self) -> float:
        """The largest standard deviation along any axis in the field, px."""
        return max(max(psf.sigma_x, psf.sigma_y) for row in self.psfs for psf in row)

    def at(self, place: Floats) -> PointSpread:
        """Return the PSF at a place (2,) px of the frame: x, y."""
        return self.psfs[0][0] if self.is_uniform else self._of(*self._steps(place[None])[0].tolist())

    def scaled(self, factor: float) -> PsfField:
        """Return the same field with all widths times this factor."""
        return PsfField(self.columns, self.rows, tuple(tuple(psf.scaled(factor) for psf in row) for row in self.psfs))

    def groups(self, places: Floats) -> Iterator[tuple[PointSpread, NDArray[np.int64]]]:
        """Yield each PSF that serves some of the places (N, 2) px, and the rows of these places; none for no place."""
        if self.is_uniform:
            if len(places):
                yield self.psfs[0][0], np.arange(len(places))
            return
        kinds, which = np.unique(self._steps(places), axis=0, return_inverse=True)
        for k, steps in enumerate(kinds.tolist()):
            yield self._of(*steps), np.flatnonzero(which.reshape(-1) == k)

    def _steps(self, places: Floats) -> NDArray[np.int64]:
        """(N, 2): the places (N, 2) px in steps of the grid, 0 to STEPS (C - 1) and STEPS (R - 1)."""
        at = [np.interp(places[:, axis], line, np.arange(len(line))) for axis, line in enumerate((self.columns, self.rows))]
        return np.rint(STEPS * np.stack(at, axis=1)).astype(np.int64)

    def _of(self, x: int, y: int) -> PointSpread:
        """The PSF at a place in steps of the grid."""
        found = self._between.get((x, y))
        if found is None:
            self._between[x, y] = found = self._interpolated(x / STEPS, y / STEPS)
        return found

    def _interpolated(self, x: float, y: float) -> PointSpread:
        """The bilinear mean of the PSFs about a place in units of the grid: of tables, or of Gaussians' second moments."""
        column, row = min(int(x), max(len(self.columns) - 2, 0)), min(int(y), max(len(self.rows) - 2, 0))
        u, v = x - column, y - row
        shares = ((column, row, (1 - u) * (1 - v)), (column + 1, row, u * (1 - v)), (column, row + 1, (1 - u) * v))
        parts = [(self.psfs[r][c], share) for c, r, share in (*shares, (column + 1, row + 1, u * v)) if share > 0]
        if len(parts) == 1:
            return parts[0][0]
        if parts[0][0].measured:
            return tabulated(np.asarray(sum(share * psf.table for psf, share in parts)), parts[0][0].oversampling)
        return gaussian_of(np.asarray(sum(share * psf.moments for psf, share in parts)))


def uniform(psf: PointSpread) -> PsfField:
    """Return the field of a PSF that is the same everywhere."""
    return PsfField(np.zeros(1), np.zeros(1), ((psf,),))


def sensor_psf(sigma_px: float, axis_ratio: float, axis_angle_deg: float, table: str) -> PsfField:
    """Return the PSF that settings describe: of the file `table`, or a Gaussian where that is ""."""
    return read_psf(Path(table)) if table else uniform(gaussian(sigma_px, axis_ratio, axis_angle_deg))


def read_psf(path: Path) -> PsfField:
    """Read a PSF that write_psf wrote; raise a FormatError for anything else."""
    try:
        with path.open("rb") as whole, np.load(whole, allow_pickle=False) as file:
            columns, rows, axes, tables = (np.asarray(file[k], np.float64) for k in ("columns", "rows", "axes", "tables"))
            oversampling = int(file["oversampling"])
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or 'not a PSF that irst-stream calibrate wrote'}") from error
    except UNREADABLE as error:
        raise FormatError(f"{path}: not a PSF that irst-stream calibrate wrote") from error
    fault = _grid_fault(columns, rows, axes) or _table_fault(tables, (*axes.shape[:2],), oversampling)
    if fault:
        raise FormatError(f"{path}: {fault}")
    grid = []
    for row_axes, row_tables in zip(axes, tables, strict=True):
        parts = zip(row_axes, row_tables, strict=True)
        grid.append(tuple(_psf_of(own, table, oversampling) for own, table in parts))
    return PsfField(columns, rows, tuple(grid))


def write_psf(path: Path, psf: PsfField) -> None:
    """Write a PSF, all its places, as a .npz file."""
    nodes = [node for row in psf.psfs for node in row]
    grid = len(psf.rows), len(psf.columns)
    tables = np.array([node.table if node.measured else np.zeros((0, 0)) for node in nodes], np.float32)
    axes = np.array([(node.sigma_x, node.sigma_y, node.angle) for node in nodes])
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            columns=psf.columns,
            rows=psf.rows,
            axes=axes.reshape(*grid, 3),
            tables=tables.reshape(*grid, *tables.shape[1:]),
            oversampling=np.int64(nodes[0].oversampling),
        )


def _psf_of(axes: Floats, table: Floats, oversampling: int) -> PointSpread:
    """The PSF of one place in a file; axes (3,): sigma_x, sigma_y, px, and the angle, rad."""
    sigma_x, sigma_y, angle = axes.tolist()
    if table.size:
        return PointSpread(sigma_x, sigma_y, angle, table, oversampling, measured=True)
    return gaussian(math.sqrt(sigma_x * sigma_y), sigma_x / sigma_y, math.degrees(angle))


def _grid_fault(columns: Floats, rows: Floats, axes: Floats) -> str:
    """What is wrong with the places of a file and the axes there; "" if nothing is."""
    for name, line in (("columns", columns), ("rows", rows)):
        if line.ndim != 1 or not 1 <= len(line) <= MAX_GRID or not np.isfinite(line).all() or (np.diff(line) <= 0).any():
            return f"{name}: expected 1 to {MAX_GRID} ascending places, px"
    if axes.shape != (len(rows), len(columns), 3):
        return f"axes: expected {(len(rows), len(columns), 3)}, got {axes.shape}"
    if not np.isfinite(axes).all() or not ((axes[..., :2] > 0.01) & (axes[..., :2] < 100)).all():
        return "axes: expected standard deviations of 0.01 to 100 px"
    return ""


def _table_fault(tables: Floats, grid: tuple[int, ...], oversampling: int) -> str:
    """What is wrong with the tables of a file; "" if nothing is."""
    if tables.ndim != 4 or tables.shape[:2] != grid:
        return f"tables: expected a table at each of {grid} places, got {tables.shape}"
    height, width = tables.shape[2:]
    if height == width == 0:
        return ""
    if height != width or height % 2 == 0 or not 5 <= height <= MAX_SIDE:
        return f"expected a square table with an odd side, got {(height, width)}"
    if not 1 <= oversampling <= MAX_OVERSAMPLING:
        return f"oversampling: expected 1 to {MAX_OVERSAMPLING}, got {oversampling}"
    if not np.isfinite(tables).all() or not (tables.max(axis=(2, 3)) > 0).all():
        return "tables: expected finite numbers, some of them above 0"
    return ""
