"""Readers of frame files, one file format per module.

READERS lists them; the first reader that recognises a path opens it. To add a format, write a module with a READER, add it
here, and add a writer to tests/media_files.py, with which tests/io/test_files.py checks the contract of all readers.
"""

import os

# OpenCV and FFmpeg print warnings to stderr. They are silenced, because our errors name the file and what was expected.
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

from irst_stream.io.media import arrays, csist, fits, flir, images, raw, scene, tiff, video
from irst_stream.io.media.medium import Reader

__all__ = ["READERS"]

READERS: tuple[Reader, ...] = (
    scene.READER,
    csist.READER,
    images.FOLDER_READER,
    raw.FOLDER_READER,
    images.FOLDERS_READER,
    tiff.READER,
    fits.READER,
    flir.READER,
    images.READER,
    arrays.READER,
    video.READER,
    raw.READER,
)
