"""Run an engine with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irst_stream.errors import FormatError
from irst_stream.learn.methods.method import find_method
from irst_stream.learn.network import DeRefNet, decode_claims
from irst_stream.optics import FineGrid
from irst_stream.protocols import WindowMaps
from irst_stream.types import Ints, Unmixed
from irst_stream.unmix.engine import DEREFNET, Engine
from irst_stream.unmix.single_frame import middle_maps

__all__ = ["TorchUnmixer", "load"]


def load(engine: Engine) -> Any:
    """Build the engine's network with its weights, in evaluation mode."""
    m = engine.manifest
    grid = FineGrid(m.division, m.patch)
    if m.network == DEREFNET:
        network = DeRefNet(grid, m.code_length, head=m.head == "continuous", by_peak=m.scale == "peak", told=m.told)
    else:
        network = find_method(m.network).build(grid, **m.options)
    try:
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in engine.weights.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"the engine's weights do not fit the network that its manifest describes: {reason}") from error
    return network.eval()


class TorchUnmixer:
    """Run an engine with PyTorch on the CPU; implements protocols.Unmixer."""

    def __init__(self, engine: Engine) -> None:
        self.network, self._manifest = load(engine), engine.manifest

    @torch.no_grad()
    def unfold(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unfold patches (B, h, w) DN, each independently, to maps (B, H, W) DN."""
        light = torch.from_numpy(patches)
        if self._manifest.network == DEREFNET:
            maps = self.network.maps(light)[0]
        else:
            maps = self.network(light) if self._manifest.window == 1 else self.network.unfold(light)
        unfolded: NDArray[np.float32] = maps.numpy()
        return unfolded

    @torch.no_grad()
    def fuse(self, maps: WindowMaps, patches: NDArray[np.float32], places: Ints) -> Unmixed:
        """Fuse windows: maps (B, 5, H, W) and patches (B, 5, h, w) DN, and the frames' places in time (B, 5)."""
        if self._manifest.window == 1:
            return middle_maps(maps)
        if self._manifest.network != DEREFNET:
            return Unmixed.plain(self.network.fuse(torch.from_numpy(np.array(maps))).numpy())
        found = self.network.merge(*(torch.from_numpy(np.array(a)) for a in (maps, places, patches)))
        if found.raw is None or found.scale is None:
            return Unmixed.plain(found.map.numpy())
        return Unmixed(found.map.numpy(), decode_claims(found.raw, found.scale).numpy())
