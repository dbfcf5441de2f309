"""Frames in array files: .npy and .npz as (frames, rows, columns), .mat as MATLAB's rows x columns x frames."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import SourceError
from irst_stream.io.media.medium import Choice, Clip, Medium, Page, Reader
from irst_stream.io.media.sidecar import Sidecar
from irst_stream.system.bounded_files import MAX_DATA_BYTES

if TYPE_CHECKING:
    import h5py

__all__ = ["READER"]

Array = NDArray[Any]
# RuntimeError: an encrypted archive, or an unknown compression method
NPZ_ERRORS = (zipfile.BadZipFile, ValueError, EOFError, zlib.error, RuntimeError)


def open_npy(path: Path) -> Medium:
    """Open a .npy array, memory-mapped; a single image may be (rows, columns).

    A truncated array yields its complete frames, then raises a SourceError.
    """
    try:
        with path.open("rb") as file:
            shape, column_order, dtype = _read_header(file)
            start = file.tell()
    except (ValueError, EOFError) as error:
        raise SourceError(f"{path}: not a .npy array that can be read ({error})") from error
    if len(shape) not in (2, 3) or dtype.hasobject or min(shape) < 0:
        raise SourceError(f"{path}: expected numbers of (frames, rows, columns), got {dtype} of shape {shape}")
    if shape[-1] in (3, 4) and min(shape[:2]) > 4:
        raise SourceError(f"{path}: shape {shape} is one colour image, or frames {shape[-1]} px wide; expected gray frames")
    shape = shape if len(shape) == 3 else (1, *shape)
    pages = partial(_npy_pages, path, start, shape, column_order, dtype)
    return _medium("NumPy array", path, shape[0], pages, pages)


def open_npz(path: Path, variable: str | None) -> Medium:
    """Open one array of a .npz archive, compressed or not; read frame by frame, or as a whole if it is in column order."""
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {name: _npy_header(archive, name) for name in archive.namelist() if name.endswith(".npy")}
    except NPZ_ERRORS as error:
        raise SourceError(f"{path}: not a .npz archive that can be read ({error})") from error
    name = _choose(path, {n.removesuffix(".npy"): s for n, (s, _, _) in shapes.items()}, variable) + ".npy"
    shape, fortran, dtype = shapes[name]
    if dtype.hasobject:
        raise SourceError(f"{path}: {name} holds objects; expected numbers")
    if fortran:
        stack = shape if len(shape) == 3 else (1, *shape)
        return _medium("NumPy archive", path, stack[0], lambda: _npz_column_pages(path, name, stack, dtype))
    frames = shape[0] if len(shape) == 3 else 1
    return _medium("NumPy archive", path, frames, lambda: _npz_pages(path, name, frames, shape[-2:], dtype))


def open_mat(path: Path, variable: str | None) -> Medium:
    """Open one variable of a MATLAB file: version 7.3 is read frame by frame, earlier versions load the whole variable."""
    import h5py  # slow to import, and few files need it; scipy.io likewise

    if h5py.is_hdf5(path):
        return _open_hdf5(path, variable)
    import scipy.io

    try:
        shapes = {name: shape for name, shape, kind in scipy.io.whosmat(path) if kind not in ("char", "cell", "struct")}
    except Exception as error:  # damaged bytes make scipy raise errors of any type
        raise SourceError(f"{path}: not a MATLAB file that can be read ({error})") from error
    name = _choose(path, shapes, variable)
    shape = shapes[name]
    frames = shape[2] if len(shape) == 3 else 1
    return _medium("MATLAB file", path, frames, lambda: _mat5_pages(path, name))


def _medium(kind: str, path: Path, frames: int, pages: Any, pages_from: Any = None) -> Medium:
    return Medium(kind, lambda: iter([Clip(path.stem, pages, frames, pages_from)]), frames)


def _npy_pages(
    path: Path, start: int, shape: tuple[int, ...], column_order: bool, dtype: np.dtype[Any], first: int = 0
) -> Iterator[Page]:
    """Memory-map the complete frames; an array in column order can be read only if the file is complete."""
    available = path.stat().st_size - start
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    frames = shape[0] if available >= expected else 0 if column_order else available // (expected // shape[0])
    if frames and expected:
        order: Literal["F", "C"] = "F" if column_order else "C"
        stack: Array = np.memmap(path, dtype, "r", start, (frames, *shape[1:]), order)
        yield from (Page(np.array(image), path.name) for image in stack[first:])
    if frames < shape[0]:
        raise SourceError(f"{path}: truncated: {frames} of {shape[0]} frames can be read")


def _choose(path: Path, shapes: dict[str, tuple[int, ...]], variable: str | None) -> str:
    """The requested variable, or the only one whose shape can be frames; raise a SourceError if there is none."""
    candidates = sorted(
        name for name, shape in shapes.items() if len(shape) in (2, 3) and min(shape) > 0 and max(shape) > 1
    )
    stacks = [name for name in candidates if len(shapes[name]) == 3] or candidates
    if variable is None and len(stacks) == 1:
        return stacks[0]
    if variable in candidates:
        return variable
    known = ", ".join(f"{name} {'x'.join(map(str, shapes[name]))}" for name in candidates) or "none that can be frames"
    fault = "several arrays; choose one with --variable" if candidates else "no array that can be frames"
    fault = fault if variable is None else f"no array {variable!r}"
    raise SourceError(f"{path}: {fault}. Arrays in the file: {known}")


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
                raise SourceError(f"{path}: {name} is truncated in frame {number} of {frames}")
            yield Page(np.frombuffer(data, dtype).reshape(shape), path.name)


def _npz_column_pages(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Page]:
    """Read an array in column order, where every frame is spread over the whole array."""
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > MAX_DATA_BYTES:
        raise SourceError(
            f"{path}: {name} is in column order and holds {size:,} bytes; expected at most {MAX_DATA_BYTES:,}"
        )
    with zipfile.ZipFile(path) as archive, archive.open(name) as member:
        _read_header(member)
        try:
            data = member.read(size)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise SourceError(f"{path}: {name} is damaged ({error})") from error
    if len(data) != size:
        raise SourceError(f"{path}: {name} is truncated")
    stack = np.frombuffer(data, dtype).reshape(shape, order="F")
    yield from (Page(image, path.name) for image in stack)


def _mat5_pages(path: Path, name: str) -> Iterator[Page]:
    import scipy.io

    try:
        array = np.atleast_3d(scipy.io.loadmat(path, variable_names=[name])[name])
    except Exception as error:  # damaged bytes make scipy raise errors of any type
        raise SourceError(f"{path}: variable {name} is truncated or damaged ({error})") from error
    return (Page(np.ascontiguousarray(array[:, :, k]), path.name) for k in range(array.shape[2]))


def _open_hdf5(path: Path, variable: str | None) -> Medium:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            shapes = {name: data.shape[::-1] for name, data in _own_datasets(file)}
    except OSError as error:
        raise SourceError(f"{path}: not a MATLAB 7.3 file that can be read ({error})") from error
    name = _choose(path, shapes, variable)
    frames = shapes[name][2] if len(shapes[name]) == 3 else 1
    return _medium("MATLAB 7.3 file", path, frames, lambda: _hdf5_pages(path, name, frames))


def _own_datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the numeric arrays stored in the file itself; links and external storage are not followed."""
    import h5py

    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            data = file[name]
            if isinstance(data, h5py.Dataset) and data.dtype.kind in "uif" and not (data.external or data.is_virtual):
                yield name, data


def _hdf5_pages(path: Path, name: str, frames: int) -> Iterator[Page]:
    """Read frame by frame. HDF5 presents MATLAB's rows x columns x frames as (frames, columns, rows)."""
    import h5py

    with h5py.File(path, "r") as file:
        data = file[name]
        for number in range(frames):
            try:
                image = data[number] if data.ndim == 3 else data[:]
            except OSError as error:
                raise SourceError(f"{path}: {name} is damaged at frame {number} ({error})") from error
            yield Page(np.ascontiguousarray(image.T), path.name)


def _open(path: Path, _: Sidecar, choice: Choice) -> Medium:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return open_npy(path)
    return (open_npz if suffix == ".npz" else open_mat)(path, choice.variable)


READER = Reader(
    ".npy, .npz, .mat",
    lambda path, _: path.is_file() and path.suffix.lower() in (".npy", ".npz", ".mat"),
    _open,
    lambda path: path.suffix.lower() != ".npy",
)
