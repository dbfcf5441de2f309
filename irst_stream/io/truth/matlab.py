"""MATLAB groundTruth objects (.mat), as its labelling applications write them: boxes of each frame, from pixel 1.

The labels are a structure array with one row a frame, of which each label's field is a matrix (boxes, 4), empty where
there is none. The other fields, as the frame's time, are of other types.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from irst_stream.errors import FormatError, MissingPackageError
from irst_stream.io.truth.truth_set import TruthReader, TruthSet, check_boxes, sequence_name
from irst_stream.system.bounded_files import MAX_DATA_BYTES, read_bounded
from irst_stream.types import Floats, Stamp, Truth

__all__ = ["READER"]

HEADER = 128  # bytes
MATRIX, COMPRESSED = 14, 15  # types of elements
STRUCTURE, DOUBLE, BYTES = 2, 6, 9  # classes of matrices
MAX_BYTES = 1 << 28


def _truths(path: Path) -> Iterator[Truth]:
    name = sequence_name(path)
    for index, boxes in enumerate(_read(path)):
        first, size = boxes[:, :2] - 1, boxes[:, 2:]
        check_boxes(first, size, f"{path}: frame {index}")
        yield Truth.boxes(Stamp(name, 0, index, 0), first, size)


def _read(path: Path) -> list[Floats]:
    """The boxes (n, 4) x, y, width, height of each frame, as the file has them."""
    try:
        from mcos_decoder import MatStream
    except ImportError as error:
        raise MissingPackageError("mcos-decoder", "matlab", f"{path}: a MATLAB groundTruth object") from error
    if path.stat().st_size > MAX_BYTES:
        raise FormatError(f"{path}: expected labels of at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    tables: list[list[Floats]] = []
    for data in _elements(read_bounded(path, MAX_DATA_BYTES), path):
        for variable in MatStream(data, skip_header=0).walk():
            if _class_and_shape(variable)[0] == BYTES:  # objects lie in an array of bytes, behind eight of its own
                objects = MatStream(variable.children[-1].payload, skip_header=8).walk()
                tables += (table for element in objects for table in _tables(element))
    if not tables:
        raise FormatError(f"{path}: no boxes of frames found; expected a MATLAB groundTruth object with rectangle labels")
    return max(tables, key=len)


def _elements(data: bytes, path: Path) -> Iterator[bytes]:
    """Yield the elements of a file, decompressed. scipy is not asked: damaged files crash it, without an error to catch."""
    if not data.startswith(b"MATLAB 5.0") or data[126:HEADER] != b"IM":
        raise FormatError(
            f"{path}: not a MATLAB groundTruth object; expected a little-endian MATLAB file of version 5 to 7"
        )
    at = HEADER
    while at < len(data):
        kind, size = struct.unpack("<II", data[at : at + 8].ljust(8, b"\xff"))
        end = at + 8 + size
        if end > len(data):
            raise FormatError(f"{path}: truncated: the element at byte {at} ends behind the file's {len(data)} bytes")
        if kind == COMPRESSED:
            try:
                yield zlib.decompressobj().decompress(data[at + 8 : end], MAX_BYTES)
            except zlib.error as error:
                raise FormatError(f"{path}: damaged: the element at byte {at} cannot be decompressed ({error})") from error
        else:
            yield data[at:end]
        at = end if kind == COMPRESSED else end + -size % 8


def _tables(element: Any) -> Iterator[list[Floats]]:
    """Yield the boxes of each frame of every structure array in an element that has a field of boxes."""
    fields = [child for child in element.children if child.type_id == MATRIX]
    kind, (rows, columns) = _class_and_shape(element)
    if kind == STRUCTURE and columns == 1 and rows and fields and len(fields) % rows == 0:
        width = len(fields) // rows
        cells = [[_boxes(field) for field in fields[k : k + width]] for k in range(0, len(fields), width)]
        labels = [k for k in range(width) if all(row[k] is not None for row in cells)]
        if labels:
            yield [np.concatenate([row[k] for k in labels]) for row in cells]
    for field in fields:
        yield from _tables(field)


def _boxes(element: Any) -> Floats | None:
    """The boxes (n, 4) that a matrix holds, (0, 4) if it is empty, None if it is not a matrix of boxes."""
    kind, (rows, columns) = _class_and_shape(element)
    if kind != DOUBLE or (columns != 4 and rows * columns):
        return None
    values = element.children[-1].as_array()
    if values is None or len(values) != rows * columns:
        return None
    return np.asarray(values, np.float64).reshape(columns, rows).T.reshape(-1, 4)  # stored column by column


def _class_and_shape(element: Any) -> tuple[int, tuple[int, int]]:
    """A matrix's class, and its rows and columns; 0 and (0, 0) for what is not a matrix of two dimensions."""
    if element.type_id != MATRIX or len(element.children) < 3:
        return 0, (0, 0)
    flags, shape = (child.as_array() for child in element.children[:2])
    if flags is None or shape is None or len(flags) != 2 or len(shape) != 2:
        return 0, (0, 0)
    return int(flags[0]) & 255, (int(shape[0]), int(shape[1]))


READER = TruthReader(
    "a MATLAB groundTruth object (.mat)",
    lambda path: path.is_file() and path.suffix.lower() == ".mat",
    lambda path: TruthSet("MATLAB groundTruth", lambda: _truths(path)),
)
