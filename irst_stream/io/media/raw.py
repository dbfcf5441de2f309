"""Raw pixel files without a format header; a sidecar states their layout. 14-bit pixels in 16 bits are common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from irst_stream.errors import SourceError
from irst_stream.io.media.medium import Clip, Medium, Page, Reader, natural_key
from irst_stream.io.media.sidecar import Sidecar, sidecar_path, write_sidecar
from irst_stream.types import Pixels

__all__ = ["FOLDER_READER", "READER", "SUFFIXES", "write_raw"]

SUFFIXES = {".raw", ".bin", ".dat"}


def open_raw(path: Path, layout: Sidecar) -> Medium:
    """Open a raw file, or a folder of raw files that share one sidecar, as one sequence."""
    if layout.width is None or layout.height is None:
        raise SourceError(
            f"{path}: raw pixels need a sidecar {sidecar_path(path).name} that states at least width and height "
            '(also dtype = "uint16", byte_order = "little", header_bytes, frame_header_bytes, bits, rate_hz)'
        )
    files = sorted(raw_files(path), key=natural_key) if path.is_dir() else [path]
    stride = layout.frame_header_bytes + layout.width * layout.height * _dtype(layout).itemsize
    frames = sum(max(file.stat().st_size - layout.header_bytes, 0) // stride for file in files)
    kind = "folder of raw files" if path.is_dir() else "raw recording"
    pages = partial(_all_pages, files, layout)
    pages_from = partial(_pages, path, layout) if path.is_file() else None
    return Medium(kind, lambda: iter([Clip(path.resolve().stem, pages, frames, pages_from)]), frames)


def raw_files(folder: Path) -> list[Path]:
    """The raw files in a folder, unsorted; each may hold one or several frames."""
    return [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]


def write_raw(path: Path, frames: Iterable[Pixels], *, rate_hz: float | None = None, bits: int | None = None) -> int:
    """Write frames, all (H, W) of one dtype, and the sidecar needed to read them; return their number.

    rate_hz: frame rate, Hz; bits: significant bits of a pixel. Raise a ValueError for no frames, or frames of differing
    shape or dtype.
    """
    count, first = 0, None
    with path.open("wb") as file:
        for frame in frames:
            first = frame if first is None else first
            if (frame.shape, frame.dtype) != (first.shape, first.dtype):
                raise ValueError(f"frame {count}: expected {first.shape} {first.dtype}, got {frame.shape} {frame.dtype}")
            file.write(np.ascontiguousarray(frame, frame.dtype.newbyteorder("<")).data)
            count += 1
    if first is None:
        raise ValueError("expected at least one frame, got none")
    layout = {"width": first.shape[1], "height": first.shape[0], "dtype": first.dtype.name}
    write_sidecar(path, Sidecar(rate_hz=rate_hz, bits=bits, **layout))
    return count


def _dtype(layout: Sidecar) -> np.dtype[Any]:
    order: Literal["<", ">"] = "<" if layout.byte_order == "little" else ">"
    return np.dtype(layout.dtype).newbyteorder(order)


def _all_pages(files: list[Path], layout: Sidecar) -> Iterator[Page]:
    return (page for path in files for page in _pages(path, layout))


def _pages(path: Path, layout: Sidecar, first: int = 0) -> Iterator[Page]:
    dtype, shape = _dtype(layout), (layout.height or 0, layout.width or 0)
    size = layout.frame_header_bytes + shape[0] * shape[1] * dtype.itemsize
    pixel_bytes = path.stat().st_size - layout.header_bytes
    if pixel_bytes < 0:
        raise SourceError(f"{path}: shorter than its header of {layout.header_bytes} bytes")
    with path.open("rb") as file:
        count = min(first, pixel_bytes // size)
        file.seek(layout.header_bytes + count * size)
        while remaining := pixel_bytes - count * size:
            if remaining < size:
                raise SourceError(
                    f"{path}: truncated in frame {count}: {remaining} of {size} bytes; check the size in the sidecar"
                )
            pixels = np.frombuffer(file.read(size), dtype, offset=layout.frame_header_bytes)
            yield Page(pixels.reshape(shape), path.name)
            count += 1


def _is_raw(path: Path, sidecar: Sidecar) -> bool:
    return path.is_file() and (path.suffix.lower() in SUFFIXES or sidecar.width is not None)


READER = Reader(".raw, .bin, .dat with a sidecar", _is_raw, lambda path, sidecar, _: open_raw(path, sidecar))
FOLDER_READER = Reader(
    "raw files with a sidecar",
    lambda path, _: path.is_dir() and bool(raw_files(path)),
    lambda path, sidecar, _: open_raw(path, sidecar),
    of_folders=True,
)
