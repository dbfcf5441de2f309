"""Binary masks: one PNG, BMP or TIFF an image, in which each connected component is a target at its centroid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.io.media.images import SUFFIXES, encode_png, read_pages
from irst_stream.io.truth.truth_set import TruthReader, TruthSet, files_within, image_name
from irst_stream.types import Stamp, Truth

__all__ = ["READER", "write_mask"]

MARKS = ("_pixels0", "_mask", "_gt")  # what mask files append to their image's name
MAX_GREY = 0.01  # share of pixels between 0 and the largest value, as of smoothed edges, that a mask may have


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask (H, W) bool as a PNG of 0 and 255."""
    path.write_bytes(encode_png(np.where(mask, 255, 0).astype(np.uint8)))


def _truth(path: Path, folder: Path) -> Truth:
    mask = _read(path)
    _, _, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    boxes, xy = np.asarray(stats[1:, :4], np.float64), np.asarray(centroids[1:], np.float64)  # row 0: the background
    n = len(xy)
    name = image_name(path, folder)
    mark = next((mark for mark in MARKS if name.lower().endswith(mark)), "")
    stamp = Stamp(name[: len(name) - len(mark)] or name, 0, 0, 0, path.name)
    unknown, group = np.full(n, np.nan), np.zeros(n, np.int64)
    return Truth(stamp, np.arange(n), group, xy, unknown, boxes[:, 2:], (mask.shape[1], mask.shape[0]))


def _read(path: Path) -> NDArray[np.bool_]:
    """Read a mask (H, W); colour channels are joined, transparency is ignored."""
    image = next(iter(read_pages([path]))).pixels
    if image.ndim == 3:
        image = image[..., :3].max(axis=-1)
    if image.ndim != 2 or not image.size:
        raise FormatError(f"{path}: expected a mask of rows and columns, got shape {image.shape}")
    top = image.max()
    grey = ((image != 0) & (image != top)).mean()
    if not np.isfinite(top) or grey > MAX_GREY:
        raise FormatError(f"{path}: expected a mask of 0 and one other value, got {grey:.0%} of pixels in between")
    return np.asarray(image > top / 2)


def _open(path: Path) -> TruthSet:
    folder = path.parent if path.is_file() else _folder(path)
    files = [path] if path.is_file() else files_within(folder, SUFFIXES)

    def truths() -> Iterator[Truth]:
        return (_truth(file, folder) for file in files)

    return TruthSet("binary masks", truths, by_image=True)


def _folder(path: Path) -> Path:
    """The folder of masks: `masks` within a data set's folder, or else the folder itself."""
    return path / "masks" if (path / "masks").is_dir() else path


def _recognises(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES if path.is_file() else bool(files_within(_folder(path), SUFFIXES))


READER = TruthReader("a folder of binary masks (PNG, BMP, TIFF)", _recognises, _open)
