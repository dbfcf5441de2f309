"""Networks that see single frames, and networks that run by their graphs alone, in NumPy."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError, MissingPackageError
from irst_stream.protocols import WindowMaps
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.engine import WEIGHTS, WINDOW, Engine
from irst_stream.unmix.numpy import sample_bilinear

__all__ = ["GraphUnmixer", "middle_maps"]

FORM = "portable"


def middle_maps(maps: WindowMaps) -> Unmixed:
    """The output of a network for single frames: of each window (B, 5, H, W) the middle frame's map."""
    return Unmixed.plain(np.asarray([window[WINDOW // 2] for window in maps], np.float32))


class GraphUnmixer:
    """Runs an engine's graphs in NumPy, by ONNX's reference implementation: slow; a protocols.Unmixer."""

    def __init__(self, engine: Engine) -> None:
        """Raises a FormatError if the engine has no graphs, a MissingPackageError without the package onnx."""
        try:
            import onnx
            from onnx.reference import ReferenceEvaluator
            from onnx.reference.op_run import OpRun
        except ImportError as error:
            raise MissingPackageError("onnx", "onnx", f"{engine.manifest.network} by the NumPy backend") from error

        class GridSample(OpRun):
            """Bilinear, zeros outside, corners aligned, as the graphs have it; the reference knows only its later name."""

            op_domain = ""

            def _run(self, image: Any, grid: Any, **_: Any) -> tuple[Any]:
                (height, width), (columns, rows) = image.shape[2:], np.moveaxis(grid, -1, 0)
                return (sample_bilinear(image, (rows + 1) / 2 * (height - 1), (columns + 1) / 2 * (width - 1)),)

        graphs = engine.graphs(FORM)
        if missing := [part for part in engine.manifest.parts if part not in graphs]:
            raise FormatError(f"{engine.folder}: no graph {missing[0]}; make it with irst-stream engine export")
        with TemporaryDirectory() as folder:  # private, so that the verified bytes are the ones that are read
            Path(folder, WEIGHTS).write_bytes(engine.data)
            for name, graph in graphs.items():
                Path(folder, f"{name}.onnx").write_bytes(graph)
            models: dict[str, Any] = {part: onnx.load(Path(folder, f"{part}.onnx")) for part in engine.manifest.parts}
        self._graphs: dict[str, Any] = {
            part: ReferenceEvaluator(model, new_ops=[GridSample]) for part, model in models.items()
        }

    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn patches (B, h, w) DN of single frames into maps (B, H, W) DN."""
        maps: NDArray[np.float32] = self._graphs["unfold"].run(None, {"patches": patches})[0]
        return maps

    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:  # noqa: ARG002
        """Fuse the maps (B, 5, ...) of windows; patches and places say nothing to these networks."""
        if "fuse" not in self._graphs:
            return middle_maps(maps)
        return Unmixed.plain(self._graphs["fuse"].run(None, {"maps": np.asarray(maps, np.float32)})[0])
