"""How good a network is while it learns, and how honest about it: validation sets, scores, calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from irst_stream.errors import UsageError
from irst_stream.fit.region_targets import RegionTargets
from irst_stream.learn.data import Clips, crop, cut
from irst_stream.learn.network import DeRefNet, Head, claims
from irst_stream.resolve.cells import read_cells
from irst_stream.resolve.claims import read_claims
from irst_stream.score import score_detections
from irst_stream.sim import csist100k, mixed, seqcsist
from irst_stream.types import Detections, Floats, Stamp, Truth
from irst_stream.unmix.engine import WINDOW
from irst_stream.unmix.told import told_planes

__all__ = ["Seen", "calibrate", "validate", "validation_sets", "with_told"]

CHI2_95 = (3.841, 5.991)  # of one and of two degrees of freedom
VALIDATED = 40  # trajectories at each level of noise
Read = list[tuple[Detections | None, Truth]]


def validate(network: DeRefNet, sets: dict[str, Clips], stage: str) -> dict[str, float]:
    """CSO-mAP, legacy, of both heads on the validation sets; how often the count and the 95 % ellipses are right, in %."""
    grid, figures = network.unfold.grid, {}
    for name, clips in sets.items():
        rows = list(_answers(network, clips, stage))
        if stage != "head" and not network.by_peak:
            read = _paired(rows, lambda seen: read_cells(seen.map, grid))
            figures[f"map_{name}"] = round(100 * score_detections(read, "legacy").cso_map.map, 2)
        if stage != "unfold":
            read = _paired(rows, lambda seen: read_claims(seen.claims, grid))
            report = score_detections(read, "legacy")
            figures[f"head_{name}"] = round(100 * report.cso_map.map, 2)
            figures[f"count_{name}"] = round(100 * report.errors.count_accuracy, 2)
            if len(places := _misses(read)[0]):
                figures[f"inside_{name}"] = round(100 * float((places < CHI2_95[1]).mean()), 1)
    return figures


def _misses(read: Read) -> tuple[Floats, Floats]:
    """The squared errors of places and of amplitudes, in units of their variances, where the number of targets is right."""
    places, light = [np.zeros(0)], [np.zeros(0)]
    for found, truth in read:
        if found is not None and len(found) == len(truth):
            apart = np.hypot(*np.moveaxis(truth.xy[None] - found.xy[:, None], -1, 0))
            rows, columns = linear_sum_assignment(apart)
            away = truth.xy[columns] - found.xy[rows]
            places.append(np.einsum("ni,nij,nj->n", away, np.linalg.inv(found.cov[rows]), away))
            light.append(((truth.amplitude[columns] - found.amplitude[rows]) / found.amplitude_sd[rows]) ** 2)
    return np.concatenate(places), np.concatenate(light)


def calibrate(network: DeRefNet, sets: dict[str, Clips]) -> dict[str, float]:
    """Stretches the head's deviations so that 95 % of the errors on the middle of three sets are inside the 95 % limits."""
    grid = network.unfold.grid
    rows = _answers(network, list(sets.values())[1], "whole")
    read = _paired(rows, lambda seen: read_claims(seen.claims, grid))
    limits = zip(_misses(read), CHI2_95[::-1], strict=True)
    stretch = [float(np.sqrt(np.quantile(m, 0.95) / limit)) if len(m) else 1.0 for m, limit in limits]
    cells = grid.division**2
    with torch.no_grad():
        bias = _head(network).tail.get_parameter("bias")
        bias[3 * cells : 5 * cells] += math.log(stretch[0])
        bias[6 * cells : 7 * cells] += math.log(stretch[1])
    return {"place": stretch[0], "amplitude": stretch[1]}


def validation_sets(data: str, patch: int) -> dict[str, Clips]:
    """SeqCSIST's trajectories at three levels of noise, DN, and CSIST-100K's images; or every kind in three SNR ranges."""
    if data == "anything":
        ranges = {"faint": (3.0, 10.0), "clear": (10.0, 50.0), "bright": (50.0, 300.0)}
        drawn = {name: mixed(16 * VALIDATED, split="val", snr=snr) for name, snr in ranges.items()}
        clips = {name: Clips(m.frames, m.xy, m.amplitude, told) for name, (m, told) in drawn.items()}
    else:
        levels = {"0": 0.0, "2": 2.0, "5": 5.0}
        made = {name: seqcsist(VALIDATED, split="val", noise=(dn, dn), depth=16) for name, dn in levels.items()}
        clips = {name: cut(m, m.frames.shape[1], np.random.default_rng(0)) for name, m in made.items()}
        clips["still"] = cut(csist100k(16 * VALIDATED, split="val"), WINDOW, np.random.default_rng(0))
    return {name: crop(c, (patch, patch), np.random.default_rng(0)) for name, c in clips.items()}


class Seen(NamedTuple):
    """One window's map (H, W) DN and claims (7, H, W)."""

    map: NDArray[np.float32]
    claims: NDArray[np.float32]


@torch.no_grad()
def _answers(network: DeRefNet, clips: Clips, stage: str) -> Iterator[tuple[Seen, Truth]]:
    """What this stage's part of the network gives for each whole window of the clips, and the truth of its centre frame."""
    network.eval()
    length, middle = clips.frames.shape[1], WINDOW // 2
    for k, frames in enumerate(clips.frames):
        patches = torch.from_numpy(frames).to(network.unfold.phi)
        windows = with_told(network, patches.unfold(0, WINDOW, 1).movedim(-1, 1), clips.told[[k]])
        if stage == "whole":
            found = network.merge(
                network.maps(patches)[0].unfold(0, WINDOW, 1).movedim(-1, 1), torch.arange(WINDOW), windows
            )
            maps, raw, scale = found.map, cast("Tensor", found.raw), cast("Tensor", found.scale)
        else:
            maps, scale = network.maps(patches[middle : length - middle])[0], network.scale(windows[:, :WINDOW])
            raw = network.look(windows, scale, None)
        there, n = clips.amplitude[k] > 0, int((clips.amplitude[k] > 0).sum())
        for t, seen in enumerate(zip(maps.cpu().numpy(), claims(raw, scale).cpu().numpy(), strict=True), middle):
            stamp = Stamp(f"{k}", 0, t, 0)
            yield (
                Seen(*seen),
                Truth(stamp, np.arange(n), np.zeros(n, np.int64), clips.xy[k, t, there], clips.amplitude[k, there]),
            )


def with_told(network: DeRefNet, windows: Tensor, told: Floats) -> Tensor:
    """Windows (B, 5, h, w) DN as the network takes them; told: (B, 4), or (1, 4) of all of them."""
    if network.head is None or network.head.patches.in_channels == WINDOW:
        return windows
    scale = network.scale(windows).flatten().cpu().numpy().astype(np.float64)
    planes = told_planes(np.broadcast_to(told, (len(windows), told.shape[1])), scale, (windows.shape[2], windows.shape[3]))
    return torch.cat([windows, torch.from_numpy(np.ascontiguousarray(planes)).to(windows)], dim=1)


def _paired(rows: Iterable[tuple[Seen, Truth]], read: Callable[[Seen], RegionTargets]) -> Read:
    return [(read(seen).detections(truth.stamp), truth) for seen, truth in rows]


def _head(network: DeRefNet) -> Head:
    if network.head is None:
        raise UsageError("expected a network with a continuous head")
    return network.head
