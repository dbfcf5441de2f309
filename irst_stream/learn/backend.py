"""An engine run by PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.learn.network import DeRefNet
from irst_stream.optics import FineGrid
from irst_stream.unmix.engine import Engine, window_places

__all__ = ["load", "run"]


def load(engine: Engine) -> DeRefNet:
    """The engine's network, ready to be run."""
    manifest = engine.manifest
    network = DeRefNet(FineGrid(manifest.division, manifest.patch), manifest.code_length)
    try:
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in engine.weights.items()})
    except RuntimeError as error:
        raise FormatError(f"the engine's weights are not this network's: {' '.join(str(error).split())[:300]}") from error
    return network.eval()


def run(engine: Engine, patches: NDArray[Any]) -> NDArray[np.float32]:
    """A sequence of patches (frames, h, w) DN to the maps (frames - 4, H, W) of its whole windows' centre frames."""
    network, places = load(engine), torch.from_numpy(window_places(engine.manifest, len(patches)).copy())
    with torch.no_grad():
        maps, _ = network.unfold(torch.from_numpy(np.asarray(patches, np.float32)))
        gates = network.code(places.float()).view(*places.shape, *maps.shape[1:])
        windows = maps.unfold(0, places.shape[1], 1).movedim(-1, 1)
        found: NDArray[np.float32] = network.fuse(windows * gates).map.numpy()
    return found
