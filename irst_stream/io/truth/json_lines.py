"""Truth as JSON lines: the interchange format."""

from __future__ import annotations

from pathlib import Path

from irst_stream.io import jsonl
from irst_stream.io.truth.truth_set import TruthReader, TruthSet
from irst_stream.types import Truth

__all__ = ["READER"]


def _open(path: Path) -> TruthSet:
    return TruthSet("JSON lines", lambda: jsonl.read(path, Truth))


READER = TruthReader("JSON lines (.jsonl)", lambda path: path.is_file() and path.suffix.lower() == ".jsonl", _open)
