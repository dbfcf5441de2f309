"""Readers of truth, one format per module.

READERS lists them; the first reader that recognises a path opens it. To add a format, write a module with a READER, add it
here, and add a writer to tests/truth_files.py, with which tests/io/test_truth.py checks the contract of all readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from irst_stream.errors import SourceError
from irst_stream.io.faults import named_errors
from irst_stream.io.truth import (
    box_lines,
    coco,
    columns,
    frame_folder,
    json_lines,
    masks,
    matlab,
    mot,
    voc,
    yolo,
)
from irst_stream.io.truth.truth_set import TruthReader, TruthSet
from irst_stream.types import Truth

__all__ = ["READERS", "open_truth"]

READERS: tuple[TruthReader, ...] = (
    json_lines.READER,
    frame_folder.READER,
    mot.READER,
    voc.READER,
    coco.READER,
    matlab.READER,
    yolo.READER,
    masks.READER,
    columns.READER,
    box_lines.READER,
)


def open_truth(path: Path) -> TruthSet:
    """Open the truth of a path; raise a SourceError where no reader recognises it. Reading it may raise a FormatError."""
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    with named_errors(str(path)):
        reader = next((reader for reader in READERS if reader.recognises(path)), None)
        if reader is None:
            *others, last = (reader.expects for reader in READERS)
            raise SourceError(f"{path}: not a kind of truth that can be read. Expected {', '.join(others)} or {last}")
        opened = reader.open(path)

    def truths() -> Iterator[Truth]:
        with named_errors(str(path)):
            yield from opened.truths()

    return opened._replace(truths=truths, name=path.resolve().name)
