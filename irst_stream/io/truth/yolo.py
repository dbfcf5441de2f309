"""YOLO: one .txt an image; lines of class, centre x, centre y, width, height as fractions of the image's size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from irst_stream.errors import FormatError, SourceError
from irst_stream.io.media import images
from irst_stream.io.truth.table import first_row, header_columns, parse_numbers, read_rows
from irst_stream.io.truth.truth_set import TruthReader, TruthSet, check_boxes, files_within, image_name
from irst_stream.system.bounded_files import MAX_DATA_BYTES, read_bounded
from irst_stream.types import Stamp, Truth

__all__ = ["READER"]

SUFFIX = {".txt"}
IMAGES = {*images.SUFFIXES, ".jpg", ".jpeg"}
NO_LABELS = {"classes", "train", "val", "test", "readme"}  # lists that lie among the labels


def _truth(name: str, label: Path | None, image: Path) -> Truth:
    """Read the truth of an image; without a label file it holds no targets."""
    width, height = _image_size(image)
    rows = [_parse(row, where) for where, row in read_rows(label) if row] if label else []
    boxes = np.array(rows, np.float64).reshape(-1, 4) * (width, height, width, height)
    size = boxes[:, 2:]
    first = boxes[:, :2] - size / 2  # the outer edge of pixel 0 is 0 here: a box from there has its first pixel at 0
    check_boxes(first, size, str(label))
    return Truth.boxes(Stamp(name, 0, 0, 0, image.name), first, size, (width, height))


def _parse(row: list[str], where: str) -> list[float]:
    values = parse_numbers(row, where)
    if len(values) not in (5, 6) or not all(0 <= value <= 1 for value in values[1:5]):
        raise FormatError(
            f"{where}: expected class, x, y, width, height, the last four from 0 to 1, got {' '.join(row)[:60]!r}"
        )
    return values[1:5]


def _image_size(path: Path) -> tuple[int, int]:
    if path.suffix.lower() in images.SUFFIXES:
        shape = next(iter(images.read_pages([path]))).pixels.shape
    else:
        image = cv2.imdecode(np.frombuffer(read_bounded(path, MAX_DATA_BYTES) or b"\0", np.uint8), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise SourceError(f"{path}: not an image that can be decoded")
        shape = image.shape
    return shape[1], shape[0]


def _labels(path: Path) -> Path:
    """The folder of label files: `labels` within a data set's folder, or else the folder itself."""
    return path / "labels" if (path / "labels").is_dir() else path


def _label_files(folder: Path) -> list[Path]:
    return [p for p in files_within(folder, SUFFIX) if p.stem.lower() not in NO_LABELS]


def _truths(path: Path) -> Iterator[Truth]:
    folder = _labels(path.resolve())
    labels = {image_name(p, folder): p for p in _label_files(folder)}
    others = [sub for sub in (folder / "images", folder.parent / "images") if sub.is_dir() and sub != folder]
    found: dict[str, Path] = {}
    for place in (folder, *others):
        found |= {image_name(p, place): p for p in files_within(place, IMAGES) if image_name(p, place) not in found}
    for name, label in labels.items():
        if name not in found:
            where = " or ".join(str(place) for place in (folder, *others))
            raise SourceError(f"{label}: no image {name} in {where}; YOLO boxes are fractions of the image's size")
    for name, image in found.items():
        yield _truth(name, labels.get(name), image)


def _recognises(path: Path) -> bool:
    """Whether the first label file with a line has YOLO's, or all of some label files are empty."""
    files = _label_files(_labels(path)) if path.is_dir() else []
    row = next((row for file in files if (row := first_row(file))), None)
    return bool(files) and (row is None or (len(row) in (5, 6) and not header_columns(row)))


READER = TruthReader(
    "a folder of YOLO labels (.txt)",
    _recognises,
    lambda path: TruthSet("YOLO labels", lambda: _truths(path), by_image=True),
)
