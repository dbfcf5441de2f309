"""Truth inside a folder of frames: SeqCSIST, CSIST-100K and generated scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from irst_stream.errors import IrstError, UsageError
from irst_stream.io.files import FileSource, open_source
from irst_stream.io.media import csist, scene
from irst_stream.io.media.sidecar import Sidecar
from irst_stream.io.truth.truth_set import TruthReader, TruthSet
from irst_stream.types import Truth

__all__ = ["READER"]


def _open(path: Path) -> TruthSet:
    source = open_source(path)
    if not isinstance(source, FileSource) or not source.has_truth:
        raise UsageError(f"{path}: {source.kind}, without truth; expected JSON lines, or a folder with annotations")
    # Two frames at either end of a SeqCSIST sequence have no whole window of five.
    return TruthSet(source.kind, lambda: _truths(source), frames="2:-2" if source.dataset == "seqcsist" else "all")


def _truths(source: FileSource) -> Iterator[Truth]:
    """Yield the truth of every frame with the size of the first frame, if that can be read."""
    try:
        height, width = next(iter(source)).pixels.shape
    except IrstError:
        width = height = 0
    return (replace(truth, frame_size=(width, height)) for truth in source.truths())


def _recognises(path: Path) -> bool:
    return path.is_dir() and any(reader.recognises(path, Sidecar()) for reader in (scene.READER, csist.READER))


READER = TruthReader("a SeqCSIST, CSIST-100K or scene folder", _recognises, _open)
