"""Media: files and the interchange format, one medium a file, both directions in it."""

import os

# OpenCV and FFmpeg write warnings of their own to stderr; ours name the file and what was expected instead.
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
