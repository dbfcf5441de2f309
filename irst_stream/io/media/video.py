"""Video files by OpenCV: gray, 8 bits of any codec, 16 bits where the codec has it (FFV1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from irst_stream.errors import SourceError
from irst_stream.io.media.medium import Clip, Medium, Page

__all__ = ["SUFFIXES", "check_depth", "open_video"]

SUFFIXES = {".avi", ".mkv", ".mov", ".mp4"}
GRAY_FORMATS = (b"Y800", b"Y1\x00\x10")  # FFmpeg's tags of gray and gray16le, which OpenCV hands over as they are
DEEP = range(9, 17)  # bits that stand in the tags of its other deep formats, and which OpenCV would cut to 8
COLOUR_NOISE = 24  # DN by which the channels of gray may differ after a lossy codec of three planes


def open_video(path: Path) -> Medium:
    """A video as one sequence, its times from the container."""
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
    """Refuses what OpenCV would cut to 8 bits without a word."""
    bits = tag[3] if tag[:1] == b"Y" else tag[0] if tag[3:] == b"Y" else 8
    if bits in DEEP and tag not in GRAY_FORMATS:
        raise SourceError(
            f"{path}: its {bits}-bit pixel format would be cut to 8 bits; expected 8 bits, or 16-bit gray. "
            "Convert it first: ffmpeg -i IN -pix_fmt gray16le -c:v ffv1 OUT.mkv"
        )


def _capture(path: Path, *, convert: bool) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_CONVERT_RGB, int(convert)])
    if not capture.isOpened():
        raise SourceError(f"{path}: not a video that OpenCV can read (no known codec, truncated, or not a video)")
    return capture


def _pages(path: Path, gray: bool, stated: int | None) -> Iterator[Page]:
    """A codec of three planes that carries gray decodes to three all but equal channels, which become one."""
    capture = _capture(path, convert=not gray)
    try:
        count = 0
        while True:
            found, image = capture.read()
            if not found:
                break
            if image.ndim == 3 and (image.max(axis=2) - image.min(axis=2)).max() <= COLOUR_NOISE:
                image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            yield Page(image.copy(), path.name, round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6))
            count += 1
    finally:
        capture.release()
    if stated and count < stated - 1:  # containers state a duration, which may round to one more
        raise SourceError(f"{path}: truncated or damaged: {count} of {stated} frames could be decoded")
