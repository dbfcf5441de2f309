"""Gray video files, read with OpenCV: 8 bits with any codec, 16 bits where the codec supports it (FFV1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from irst_stream.errors import SourceError
from irst_stream.io.media.medium import Clip, Medium, Page, Reader

__all__ = ["READER", "SUFFIXES", "check_depth"]

SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}
GRAY_FORMATS = (b"Y800", b"Y1\x00\x10")  # FFmpeg's tags for gray and gray16le, which OpenCV returns unconverted
DEEP_BITS = range(9, 17)  # bit depths in the tags of FFmpeg's other deep formats, which OpenCV truncates to 8 bits


def open_video(path: Path) -> Medium:
    """Open a video as one sequence, with times from the container."""
    capture = _capture(path, convert=True)
    rate, frames = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    tag = (int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)) & 0xFFFFFFFF).to_bytes(4, "little")
    capture.release()
    gray = tag in GRAY_FORMATS
    check_depth(path, tag)
    stated = frames if frames > 0 else None
    clip = Clip(path.stem, lambda: _pages(path, gray, stated))
    return Medium("video", lambda: iter([clip]), stated, rate if rate > 0 else None)


def check_depth(path: Path, tag: bytes) -> None:
    """Raise a SourceError for a pixel format that OpenCV would silently truncate to 8 bits. tag: FFmpeg's, 4 bytes."""
    bits = tag[3] if tag[:1] == b"Y" else tag[0] if tag[3:] == b"Y" else 8
    if bits in DEEP_BITS and tag not in GRAY_FORMATS:
        raise SourceError(
            f"{path}: its {bits}-bit pixel format would be truncated to 8 bits; expected 8 bits, or 16-bit gray. "
            "Convert it first: ffmpeg -i IN -pix_fmt gray16le -c:v ffv1 OUT.mkv"
        )


def _capture(path: Path, *, convert: bool) -> cv2.VideoCapture:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # the error below says more than OpenCV's warning
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_CONVERT_RGB, int(convert)])
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise SourceError(f"{path}: not a video that OpenCV can read (unknown codec, truncated, or not a video)")
    return capture


def _pages(path: Path, gray: bool, stated: int | None) -> Iterator[Page]:
    """Decode the frames, (H, W), or (H, W, 3) where the codec has three planes, as for much gray video."""
    capture = _capture(path, convert=not gray)
    try:
        count = 0
        while True:
            found, image = capture.read()
            if not found:
                break
            pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image.copy()
            yield Page(pixels, path.name, round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6))
            count += 1
    finally:
        capture.release()
    if stated and count < stated - 1:  # the count is derived from a duration, and rounding may add one frame
        raise SourceError(f"{path}: truncated or damaged: {count} of {stated} frames could be decoded")


READER = Reader(
    ".avi, .m4v, .mkv, .mov, .mp4, .webm",
    lambda path, _: path.is_file() and path.suffix.lower() in SUFFIXES,
    lambda path, _, __: open_video(path),
)
