"""Video files by OpenCV: gray, 8 bits of any codec, 16 bits where the codec has it (FFV1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from irst_stream.errors import SourceError
from irst_stream.io.medium import Clip, Medium, Page

__all__ = ["SUFFIXES", "open_video"]

SUFFIXES = {".avi", ".mkv", ".mov", ".mp4"}
GRAY_FORMATS = {0x30303859, 0x10003159}  # FourCC of FFmpeg's gray and gray16le


def open_video(path: Path) -> Medium:
    """A video as one sequence, its times from the container."""
    capture = _capture(path, convert=True)
    rate, frames = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    gray = int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)) in GRAY_FORMATS
    capture.release()
    stated = frames if frames > 0 else None
    clip = Clip(path.stem, lambda: _pages(path, gray, stated))
    return Medium("video", lambda: iter([clip]), stated, rate if rate > 0 else None)


def _capture(path: Path, *, convert: bool) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_CONVERT_RGB, int(convert)])
    if not capture.isOpened():
        raise SourceError(f"{path}: not a video that OpenCV can read (no known codec, truncated, or not a video)")
    return capture


def _pages(path: Path, gray: bool, stated: int | None) -> Iterator[Page]:
    """A codec of three planes that carries gray decodes to three equal channels, of which one is taken."""
    capture = _capture(path, convert=not gray)
    try:
        count = 0
        while True:
            found, image = capture.read()
            if not found:
                break
            if image.ndim == 3 and (image == image[..., :1]).all():
                image = image[..., 0]
            yield Page(image.copy(), path.name, round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6))
            count += 1
    finally:
        capture.release()
    if stated and count < stated - max(2, stated // 50):  # containers state the count only roughly
        raise SourceError(f"{path}: truncated or damaged: {count} of {stated} frames could be decoded")
