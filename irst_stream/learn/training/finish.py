"""The end of a training run: thresholds chosen and figures taken on validation draws, and the engine with its record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from irst_stream.learn.data import Clips, crop_clips, cut_clips
from irst_stream.learn.export import method_graphs
from irst_stream.learn.methods.method import find_method
from irst_stream.learn.training.batches import grid_of
from irst_stream.learn.training.run import Run
from irst_stream.learn.training.settings import MethodTraining
from irst_stream.resolve.cells import read_cells
from irst_stream.score import score_detections
from irst_stream.score.report import ScoredFrames
from irst_stream.sim import csist100k, seqcsist
from irst_stream.types import Stamp, Truth
from irst_stream.unmix.engine import WINDOW, read_engine, write_engine, write_graphs

__all__ = ["cost", "finish"]

PUBLISHED_THRESHOLDS = {"seqcsist": 70.0, "csist100k": 50.0}  # DN
TRIED_THRESHOLDS = tuple(float(dn) for dn in range(10, 121, 10))
TRAJECTORIES, IMAGES = 15, 250  # of the validation sets
AT_ONCE = 64  # frames or windows
Maps = Callable[[np.ndarray], np.ndarray]


def finish(run: Run, folder: Path, made_by: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the engine, its graphs and its record into folder/engine, and the curve beside it; returns the record.

    made_by: for the manifest; facts: what the record also says, of the commit and the machine.
    """
    settings = run.settings
    recipe = find_method(settings.method).recipe
    validation = validate(run.average, settings, windows=recipe == "window")
    weights = {name: tensor.float().cpu().numpy() for name, tensor in run.average.state_dict().items()}
    out = folder / "engine"
    write_engine(
        out,
        weights,
        made_by=made_by,
        network=settings.method,
        options=settings.network,
        window=WINDOW if recipe == "window" else 1,
        division=settings.division,
        patch=(settings.patch, settings.patch),
    )
    engine = read_engine(out)
    write_graphs(out, engine, method_graphs(run.average.cpu(), engine.manifest, engine.data))
    record = {
        "settings": dataclasses.asdict(settings),
        **facts,
        "frames": run.frames,
        "minutes": round(run.spent / 60, 2),
        **cost(run.average, settings, windows=recipe == "window"),
        "validation": validation,
        "curves": run.curves,
    }
    (folder / "curves.json").write_text(json.dumps(run.curves, indent=1) + "\n")
    (out / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


@torch.no_grad()
def cost(network: nn.Module, settings: MethodTraining, *, windows: bool) -> dict[str, int]:
    """A network's parameters, and its multiply-adds for a frame (a window, of a multi-frame method), by running it once."""
    shape = (1, WINDOW, settings.patch, settings.patch) if windows else (1, settings.patch, settings.patch)
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(shape, device=next(network.parameters()).device))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() // 2}


@torch.no_grad()
def validate(network: nn.Module, settings: MethodTraining, *, windows: bool) -> dict[str, dict[str, float]]:
    """Legacy CSO-mAP in % of a network's maps read at cell centres, on the validation draws of both sets.

    For each set: "published", at the published threshold; "best", at the best of TRIED_THRESHOLDS; "threshold", which that
    is, DN.
    """
    device = next(network.parameters()).device

    def maps(patches: np.ndarray) -> np.ndarray:
        parts = np.array_split(patches, -(-len(patches) // AT_ONCE))
        return np.concatenate([network(torch.from_numpy(part).to(device)).cpu().numpy() for part in parts])

    network.eval()
    found = {}
    for name, clips in _validation_clips(settings.patch).items():
        truths, outputs = _maps_and_truths(maps, clips, windows=windows)
        scores = {}
        for threshold in sorted({*TRIED_THRESHOLDS, PUBLISHED_THRESHOLDS[name]}):
            grid = grid_of(settings)
            frames: ScoredFrames = [
                (read_cells(output, grid, threshold).detections(truth.stamp), truth)
                for output, truth in zip(outputs, truths, strict=True)
            ]
            scores[threshold] = round(100 * score_detections(frames, "legacy").cso_map.map, 2)
        best = max(scores, key=lambda t: scores[t])
        found[name] = {"published": scores[PUBLISHED_THRESHOLDS[name]], "best": scores[best], "threshold": best}
    return found


def _validation_clips(patch: int) -> dict[str, Clips]:
    """The validation draws of both sets without noise, cut around their light to `patch` px a side."""
    drawn = {
        "seqcsist": seqcsist(TRAJECTORIES, split="val", depth=16),
        "csist100k": csist100k(IMAGES, split="val", depth=16),
    }
    rng = np.random.default_rng(0)
    cut = {name: cut_clips(p, max(p.frames.shape[1], WINDOW), rng) for name, p in drawn.items()}
    return {name: crop_clips(clips, (patch, patch), rng) for name, clips in cut.items()}


def _maps_and_truths(maps: Maps, clips: Clips, *, windows: bool) -> tuple[list[Truth], np.ndarray]:
    """The maps of all frames with two neighbours on either side, and their truths."""
    reach = WINDOW // 2
    n, length = clips.frames.shape[:2]
    middles = range(reach, length - reach)
    if windows:
        patches = np.stack([clips.frames[:, t - reach : t + reach + 1] for t in middles], axis=1)
    else:
        patches = clips.frames[:, reach : length - reach]
    outputs = maps(np.ascontiguousarray(patches.reshape(-1, *patches.shape[2:])))
    truths = []
    for k in range(n):
        exists = clips.amplitude[k] > 0
        count = int(exists.sum())
        for t in middles:
            where = Stamp(f"{k}", 0, t, 0), np.arange(count), np.zeros(count, np.int64)
            truths.append(Truth(*where, clips.xy[k, t, exists], clips.amplitude[k, exists]))
    return truths, outputs
