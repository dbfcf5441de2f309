"""Headerless recordings: frames one after another, laid out as a sidecar says. 14 bits in 16 are usual."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from irst_stream.errors import SourceError
from irst_stream.io.media.medium import Clip, Medium, Page, natural_key
from irst_stream.io.media.sidecar import Sidecar, sidecar_path, write_sidecar
from irst_stream.types import Pixels

__all__ = ["SUFFIXES", "open_raw", "raw_files", "write_raw"]

SUFFIXES = {".raw", ".bin", ".dat"}


def open_raw(path: Path, layout: Sidecar) -> Medium:
    """A raw recording, or a folder of them that share one sidecar, as one sequence."""
    if layout.width is None or layout.height is None:
        raise SourceError(
            f"{path}: raw pixels need a sidecar {sidecar_path(path).name} that states at least width and height "
            '(also dtype = "uint16", byte_order = "little", header_bytes, frame_header_bytes, bits, rate_hz)'
        )
    files = sorted(raw_files(path), key=natural_key) if path.is_dir() else [path]
    stride = layout.frame_header_bytes + layout.width * layout.height * _dtype(layout).itemsize
    frames = sum(max(file.stat().st_size - layout.header_bytes, 0) // stride for file in files)
    kind = "folder of raw files" if path.is_dir() else "raw recording"
    pages = partial(_chain, files, layout)
    return Medium(kind, lambda: iter([Clip(path.resolve().stem, pages)]), frames)


def raw_files(folder: Path) -> list[Path]:
    """The raw files in a folder, in no order; each may hold one frame or several."""
    return [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]


def write_raw(path: Path, frames: Iterable[Pixels], *, rate_hz: float | None = None, bits: int | None = None) -> int:
    """Writes frames, all of one size and type, and the sidecar that reads them back; returns how many."""
    count, first = 0, None
    with path.open("wb") as file:
        for frame in frames:
            first = frame if first is None else first
            if (frame.shape, frame.dtype) != (first.shape, first.dtype):
                raise ValueError(f"frame {count}: expected {first.shape} {first.dtype}, got {frame.shape} {frame.dtype}")
            file.write(np.ascontiguousarray(frame, frame.dtype.newbyteorder("<")).data)
            count += 1
    if first is None:
        raise ValueError("a raw recording needs at least one frame")
    layout = {"width": first.shape[1], "height": first.shape[0], "dtype": first.dtype.name}
    write_sidecar(path, Sidecar(rate_hz=rate_hz, bits=bits, **layout))
    return count


def _dtype(layout: Sidecar) -> np.dtype[Any]:
    order: Literal["<", ">"] = "<" if layout.byte_order == "little" else ">"
    return np.dtype(layout.dtype).newbyteorder(order)


def _chain(files: list[Path], layout: Sidecar) -> Iterator[Page]:
    return (page for path in files for page in _pages(path, layout))


def _pages(path: Path, layout: Sidecar) -> Iterator[Page]:
    dtype, shape = _dtype(layout), (layout.height or 0, layout.width or 0)
    size = layout.frame_header_bytes + shape[0] * shape[1] * dtype.itemsize
    whole = path.stat().st_size - layout.header_bytes
    if whole < 0:
        raise SourceError(f"{path}: shorter than its header of {layout.header_bytes} bytes")
    with path.open("rb") as file:
        file.seek(layout.header_bytes)
        count = 0
        while left := whole - count * size:
            if left < size:
                raise SourceError(f"{path}: ends in frame {count}: {left} of {size} bytes; is the sidecar's size right?")
            pixels = np.frombuffer(file.read(size), dtype, offset=layout.frame_header_bytes)
            yield Page(pixels.reshape(shape), path.name)
            count += 1
