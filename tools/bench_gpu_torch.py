"""The part `torch` of bench_gpu.py: the network by PyTorch, with CUDA graphs and with torch.compile, under those names."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_timing import REGIONS, WARM_UP, Results, latency, told

from irst_stream.commands.trials import calibration_windows
from irst_stream.errors import DeviceError
from irst_stream.learn.backend import load
from irst_stream.unmix.engine import WINDOW, Engine

AT_ONCE = 512  # windows, of which the rate is taken
LATENCIES = (1, REGIONS)  # windows at once, of which the latency is taken

Work = Callable[[], Any]


def measure(results: Results, engine: Engine, seconds: float, dry: bool) -> None:
    """Rates and latencies of each way to run it; dry: on the CPU, without graphs, so that the figures are the CPU's."""
    device, kind, warm_up = ("cpu", "bf16, on the CPU", 1) if dry else ("cuda", "fp16", WARM_UP)
    if not (dry or torch.cuda.is_available()):
        raise DeviceError("this PyTorch sees no GPU")
    results.add("the network as the reference writes it", lambda: reference(seconds, device))
    ways: dict[str, Callable[[Work], Work]] = {"": lambda work: work}
    if not dry:
        ways |= {", CUDA graph": captured, ", torch.compile": torch.compile}
    for name, way in ways.items():
        title, count = f"PyTorch, {kind}{name}", 8 if dry else AT_ONCE
        what = f"{title}, {count} at once"
        found = results.add(what, lambda way=way, count=count: rate(way(newest(engine, count, device)), count, seconds))
        if isinstance(found, dict):
            print(f"{what}: {found['windows_s']:.0f} windows/s")
        for size in LATENCIES[:1] if dry else LATENCIES:
            what = f"{title}, {size} at once, host to host"
            found = results.add(
                what, lambda way=way, size=size: latency(host_to_host(engine, size, device, way), seconds, warm_up)
            )
            if isinstance(found, dict):
                print(f"{what}: {told(found)}")


def newest(engine: Engine, size: int, device: str) -> Work:
    """The network on a window of which one frame is new: its map, and the fusion of five."""
    network = load(engine).to(device)
    frames = torch.from_numpy(calibration_windows(engine.manifest, size)).to(device)
    places, half = torch.arange(WINDOW).to(device), torch.float16 if device == "cuda" else torch.bfloat16

    @torch.no_grad()
    def windows() -> Any:
        with torch.autocast(device, half):
            made = network.maps(frames[:, WINDOW - 1])[0]
            return network.merge(made[:, None].expand(-1, WINDOW, -1, -1), places, frames).raw

    windows.frames = frames  # type: ignore[attr-defined]
    return windows


def captured(work: Work) -> Work:
    """Work as a CUDA graph."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = work()

    def replay() -> Any:
        graph.replay()
        return output

    return replay


def host_to_host(engine: Engine, size: int, device: str, way: Callable[[Work], Work]) -> Work:
    """Upload of a window, computation, and download of the claims."""
    plain = newest(engine, size, device)
    frames: torch.Tensor = plain.frames  # type: ignore[attr-defined]
    work, host = way(plain), frames.cpu()
    host = host.pin_memory() if device == "cuda" else host

    def step() -> np.ndarray:
        frames.copy_(host, non_blocking=True)
        return work().float().cpu().numpy()

    return step


def rate(work: Work, size: int, seconds: float) -> dict[str, float]:
    """Windows a second."""
    return {"windows_s": per_second(lambda: (work(), size)[1], seconds)}


def per_second(work: Callable[[], int], seconds: float) -> float:
    """How much of what work() counts is done a second."""
    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(3):
        work()
    finish()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += work()
        finish()
    return count / (time.perf_counter() - began)


def reference(seconds: float, device: str) -> dict[str, float]:
    """Output frames a second of the network as the reference writes it, one trajectory a batch."""
    from bench_speed import Reference

    from irst_stream.learn.network import DeRefNet
    from irst_stream.sim import seqcsist

    run, patches = Reference(DeRefNet(), device), seqcsist(1, seed=3).frames[0].astype(np.float32)
    found = per_second(lambda: run(patches), seconds)
    print(f"the network as the reference writes it, PyTorch {torch.__version__}: {found:.0f} output frames/s")
    return {"frames_s": found}
