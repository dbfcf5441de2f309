"""COCO JSON: images, and annotations whose bbox is x, y, width, height from the image's upper left corner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from irst_stream.errors import FormatError
from irst_stream.io.truth.truth_set import TruthReader, TruthSet, check_boxes
from irst_stream.system.bounded_files import MAX_DATA_BYTES, read_bounded
from irst_stream.types import Stamp, Truth

__all__ = ["READER"]

Key = int | str


class _Image(msgspec.Struct):
    id: Key
    file_name: str
    width: int = 0
    height: int = 0


class _Annotation(msgspec.Struct):
    image_id: Key
    bbox: tuple[float, float, float, float]
    track_id: int | None = None


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]


def _truths(path: Path) -> Iterator[Truth]:
    try:
        content = msgspec.json.decode(read_bounded(path, MAX_DATA_BYTES), type=_Coco)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not COCO JSON, with images and annotations, as truth in .json is: {error}") from error
    rows: dict[Key, list[_Annotation]] = {image.id: [] for image in content.images}
    for k, annotation in enumerate(content.annotations):
        if annotation.image_id not in rows:
            raise FormatError(f"{path}: annotation {k}: image_id: no image {annotation.image_id!r}")
        rows[annotation.image_id].append(annotation)
    for image in content.images:
        boxes = np.array([a.bbox for a in rows[image.id]], np.float64).reshape(-1, 4)
        check_boxes(boxes[:, :2], boxes[:, 2:], f"{path}: {image.file_name}")
        tracked = [a.track_id for a in rows[image.id] if a.track_id is not None]
        ids = np.array(tracked if len(tracked) == len(boxes) else range(len(boxes)), np.int64)
        name = PurePosixPath(image.file_name.replace("\\", "/"))
        stamp = Stamp(name.with_suffix("").as_posix() if name.name else "", 0, 0, 0, name.name)
        size = (image.width, image.height) if min(image.width, image.height) > 0 else (0, 0)
        # COCO's x = 0 is the outer edge of the first pixel, so a box from there has its first pixel at x.
        yield Truth.boxes(stamp, boxes[:, :2], boxes[:, 2:], size, ids)


READER = TruthReader(
    "COCO JSON (.json)",
    lambda path: path.is_file() and path.suffix.lower() == ".json",
    lambda path: TruthSet("COCO JSON", lambda: _truths(path), by_image=True),
)
