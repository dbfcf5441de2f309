"""Pascal VOC: one XML file an image, with boxes whose first and last pixels count from 1."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from irst_stream.errors import FormatError
from irst_stream.io.annotation_xml import parse_annotation
from irst_stream.io.truth.truth_set import TruthReader, TruthSet, check_boxes, files_within, image_name
from irst_stream.types import Stamp, Truth

__all__ = ["READER"]

SUFFIX = {".xml"}


def _truth(path: Path, folder: Path) -> Truth:
    root = parse_annotation(path)
    corners = np.array(
        [
            [_number(found, f"bndbox/{name}", f"{path}: object {k}") for name in ("xmin", "ymin", "xmax", "ymax")]
            for k, found in enumerate(root.findall("object"))
        ],
        np.float64,
    ).reshape(-1, 4)
    first, size = corners[:, :2] - 1, corners[:, 2:] - corners[:, :2] + 1
    check_boxes(first, size, str(path))
    stamp = Stamp(image_name(path, folder), 0, 0, 0, (root.findtext("filename") or path.stem).strip())
    return Truth.boxes(stamp, first, size, _frame_size(root, path))


def _frame_size(root: ET.Element, path: Path) -> tuple[int, int]:
    """Width and height, (0, 0) where the file does not say them."""
    if root.find("size/width") is None or root.find("size/height") is None:
        return 0, 0
    width, height = (_number(root, f"size/{name}", str(path)) for name in ("width", "height"))
    return (int(width), int(height)) if min(width, height) >= 1 else (0, 0)


def _number(found: ET.Element, name: str, where: str) -> float:
    text = found.findtext(name)
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not abs(value) < 2**31:
        raise FormatError(f"{where}: {name}: expected a number, got {text!r}")
    return value


def _open(path: Path) -> TruthSet:
    files = [path] if path.is_file() else files_within(path, SUFFIX)
    folder = path.parent if path.is_file() else path

    def truths() -> Iterator[Truth]:
        return (_truth(file, folder) for file in files)

    return TruthSet("VOC XML", truths, by_image=True)


def _recognises(path: Path) -> bool:
    return path.suffix.lower() in SUFFIX if path.is_file() else bool(files_within(path, SUFFIX))


READER = TruthReader("VOC XML, a file or a folder", _recognises, _open)
