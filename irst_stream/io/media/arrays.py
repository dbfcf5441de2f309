"""Arrays of frames: .npy and .npz as (frames, rows, columns), .mat as MATLAB's rows x columns x frames."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.io.media.medium import Clip, Medium, Page

__all__ = ["open_mat", "open_npy", "open_npz"]

Array = NDArray[Any]


def open_npy(path: Path) -> Medium:
    """One array, memory-mapped; a single image may be (rows, columns). Of a truncated one the whole frames are read."""
    try:
        with path.open("rb") as file:
            shape, by_columns, dtype = _read_header(file)
            start = file.tell()
    except (ValueError, EOFError) as error:
        raise SourceError(f"{path}: not a .npy array that can be read ({error})") from error
    if len(shape) not in (2, 3) or dtype.hasobject or min(shape) < 0:
        raise SourceError(f"{path}: expected numbers of (frames, rows, columns), got {dtype} of shape {shape}")
    if shape[-1] in (3, 4) and min(shape[:2]) > 4:
        raise SourceError(f"{path}: shape {shape} is one colour image, or frames {shape[-1]} px wide; expected gray frames")
    shape = shape if len(shape) == 3 else (1, *shape)
    return _medium("NumPy array", path, shape[0], partial(_npy_pages, path, start, shape, by_columns, dtype))


def open_npz(path: Path, variable: str | None) -> Medium:
    """One array of an archive, read frame by frame, compressed or not."""
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {name: _npy_header(archive, name) for name in archive.namelist() if name.endswith(".npy")}
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error, RuntimeError) as error:  # encrypted, unknown method
        raise SourceError(f"{path}: not a .npz archive that can be read ({error})") from error
    name = _choose(path, {n.removesuffix(".npy"): s for n, (s, _, _) in shapes.items()}, variable) + ".npy"
    shape, fortran, dtype = shapes[name]
    if fortran or dtype.hasobject:
        raise SourceError(f"{path}: {name} is stored by columns or as objects; expected plain rows")
    frames = shape[0] if len(shape) == 3 else 1
    return _medium("NumPy archive", path, frames, lambda: _npz_pages(path, name, frames, shape[-2:], dtype))


def open_mat(path: Path, variable: str | None) -> Medium:
    """One variable of a MATLAB file: version 7.3 is read frame by frame, earlier ones hold the variable in memory."""
    if h5py.is_hdf5(path):
        return _open_hdf5(path, variable)
    try:
        shapes = {name: shape for name, shape, kind in scipy.io.whosmat(path) if kind not in ("char", "cell", "struct")}
    except Exception as error:  # scipy raises whatever the bytes lead it into
        raise SourceError(f"{path}: not a MATLAB file that can be read ({error})") from error
    name = _choose(path, shapes, variable)
    shape = shapes[name]
    frames = shape[2] if len(shape) == 3 else 1
    return _medium("MATLAB file", path, frames, lambda: _mat5_pages(path, name))


def _medium(kind: str, path: Path, frames: int, pages: Any) -> Medium:
    return Medium(kind, lambda: iter([Clip(path.stem, pages)]), frames)


def _npy_pages(path: Path, start: int, shape: tuple[int, ...], by_columns: bool, dtype: np.dtype[Any]) -> Iterator[Page]:
    """Maps the frames that are there; of an array stored by columns all must be."""
    there = path.stat().st_size - start
    whole = int(np.prod(shape, dtype=object)) * dtype.itemsize
    frames = shape[0] if there >= whole else 0 if by_columns else there // (whole // shape[0])
    if frames and whole:
        order: Literal["F", "C"] = "F" if by_columns else "C"
        stack: Array = np.memmap(path, dtype, "r", start, (frames, *shape[1:]), order)
        yield from (Page(np.array(image), path.name) for image in stack)
    if frames < shape[0]:
        raise SourceError(f"{path}: truncated: {frames} of {shape[0]} frames are there")


def _choose(path: Path, shapes: dict[str, tuple[int, ...]], variable: str | None) -> str:
    """The variable that was asked for, or the only one that can be frames."""
    fitting = sorted(name for name, shape in shapes.items() if len(shape) in (2, 3) and min(shape) > 0 and max(shape) > 1)
    stacks = [name for name in fitting if len(shapes[name]) == 3] or fitting
    if variable is None and len(stacks) == 1:
        return stacks[0]
    if variable in fitting:
        return variable
    known = ", ".join(f"{name} {'x'.join(map(str, shapes[name]))}" for name in fitting) or "none that can be frames"
    asked = "several arrays; say which with --variable" if fitting else "no array that can be frames"
    asked = asked if variable is None else f"no array {variable!r}"
    raise SourceError(f"{path}: {asked}. It holds: {known}")


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    with archive.open(name) as member:
        return _read_header(member)


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def _npz_pages(path: Path, name: str, frames: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Page]:
    size = int(np.prod(shape)) * dtype.itemsize
    with zipfile.ZipFile(path) as archive, archive.open(name) as member:
        _read_header(member)
        for number in range(frames):
            try:
                data = member.read(size)
            except (zipfile.BadZipFile, EOFError, zlib.error) as error:
                raise SourceError(f"{path}: {name} is damaged at frame {number} ({error})") from error
            if len(data) != size:
                raise SourceError(f"{path}: {name} ends in frame {number} of {frames}")
            yield Page(np.frombuffer(data, dtype).reshape(shape), path.name)


def _mat5_pages(path: Path, name: str) -> Iterator[Page]:
    try:
        array = np.atleast_3d(scipy.io.loadmat(path, variable_names=[name])[name])
    except Exception as error:  # scipy raises whatever the bytes lead it into
        raise SourceError(f"{path}: variable {name} is truncated or damaged ({error})") from error
    return (Page(np.ascontiguousarray(array[:, :, k]), path.name) for k in range(array.shape[2]))


def _open_hdf5(path: Path, variable: str | None) -> Medium:
    try:
        with h5py.File(path, "r") as file:
            shapes = {name: data.shape[::-1] for name, data in _own_datasets(file)}
    except OSError as error:
        raise SourceError(f"{path}: not a MATLAB 7.3 file that can be read ({error})") from error
    name = _choose(path, shapes, variable)
    frames = shapes[name][2] if len(shapes[name]) == 3 else 1
    return _medium("MATLAB 7.3 file", path, frames, lambda: _hdf5_pages(path, name, frames))


def _own_datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """The arrays of numbers that the file itself holds: no link or storage elsewhere is followed."""
    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            data = file[name]
            if isinstance(data, h5py.Dataset) and data.dtype.kind in "uif" and not (data.external or data.is_virtual):
                yield name, data


def _hdf5_pages(path: Path, name: str, frames: int) -> Iterator[Page]:
    """HDF5 shows MATLAB's rows x columns x frames as (frames, columns, rows)."""
    with h5py.File(path, "r") as file:
        data = file[name]
        for number in range(frames):
            try:
                image = data[number] if data.ndim == 3 else data[:]
            except OSError as error:
                raise SourceError(f"{path}: {name} is damaged at frame {number} ({error})") from error
            yield Page(np.ascontiguousarray(image.T), path.name)
