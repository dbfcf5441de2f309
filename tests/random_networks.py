"""Networks for tests: random, but with alignment, time and features that matter; and engines of them."""

import torch

from irst_stream.learn.network import DeRefNet
from irst_stream.optics import FineGrid
from irst_stream.unmix.engine import WINDOW, read_engine, write_engine, write_graphs
from irst_stream.unmix.graph import build_all
from irst_stream.unmix.stream import WindowUnmixer

ENGINES = {
    "plain": {},
    "imported": {"code_length": 20},
    "continuous": {"head": True},
    "any brightness": {"head": True, "by_peak": True, "side": 7},
    "told of the sensor": {"head": True, "by_peak": True, "side": 7, "told": True},
}


def random_network(seed, dtype=torch.float32, *, code_length=WINDOW, side=11, **parts):
    torch.manual_seed(seed)
    made = DeRefNet(FineGrid(3, (side, side)), code_length, **parts).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "conv_offset" in name or "head.features" in name:
                parameter.normal_(0, 0.05)
            elif name.endswith("slope"):
                parameter.normal_(0, 1)
    return made


def random_engine(folder, seed=0, *, exported=True, **kind):
    """An engine of a random network, with its graphs."""
    weights = {name: tensor.numpy() for name, tensor in random_network(seed, **kind).state_dict().items()}
    side, length = kind.get("side", 11), kind.get("code_length", WINDOW)
    facts = {
        "head": "continuous" if kind.get("head") else "map",
        "scale": "peak" if kind.get("by_peak") else "none",
        "time_code": "window" if length == WINDOW else "clip",
        "code_length": length,
        "told": kind.get("told", False),
        "patch": (side, side),
    }
    write_engine(folder, weights, made_by="test", **facts)
    engine = read_engine(folder)
    if exported:
        write_graphs(folder, engine, build_all(engine.manifest, engine.data))
    return read_engine(folder)


class BySensor:
    """A network over windows of any sensors, each with maps of its own, as a pipeline has it."""

    def __init__(self, unmixer, manifest, fallbacks=(), **named):
        self.unmix, self.maps = WindowUnmixer(unmixer, manifest, fallbacks, **named), {}

    @property
    def alarm(self):
        return self.unmix.alarm

    def __call__(self, windows):
        for window in windows:
            if window.stamp.sensor not in self.maps:
                self.maps[window.stamp.sensor] = self.unmix.new_maps()
        return self.unmix([(window, self.maps[window.stamp.sensor]) for window in windows])
