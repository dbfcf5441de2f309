"""Validate a network during training: validation sets, scores, and calibration of its stated uncertainties."""

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
from irst_stream.learn.data import Clips, crop_clips, cut_clips
from irst_stream.learn.network import DeRefNet, Head, decode_claims
from irst_stream.resolve.cells import read_cells
from irst_stream.resolve.claims import read_claims
from irst_stream.score import score_detections
from irst_stream.score.report import ScoredFrames
from irst_stream.sim import csist100k, mixed, seqcsist
from irst_stream.types import Floats, Stamp, Truth
from irst_stream.unmix.engine import WINDOW
from irst_stream.unmix.told import sensor_planes

__all__ = ["WindowOutput", "calibrate", "validate", "validation_sets", "with_sensor_planes"]

CHI2_95 = (3.841, 5.991)  # 95 % quantiles for one and for two degrees of freedom
TRAJECTORIES = 40  # in the validation set of each noise level


def validate(network: DeRefNet, sets: dict[str, Clips], stage: str) -> dict[str, float]:
    """Score the heads that this stage trains on the validation sets, in %.

    For each set: map_, head_: legacy CSO-mAP of the plain and of the continuous head; count_: share of frames in which the
    continuous head finds the right number of targets; inside_: share of its 95 % ellipses that contain the true position.
    """
    grid, scores = network.unfold.grid, {}
    for name, clips in sets.items():
        outputs = list(_window_outputs(network, clips, stage))
        if stage != "head" and not network.by_peak:
            frames = _detect(outputs, lambda output: read_cells(output.map, grid))
            scores[f"map_{name}"] = round(100 * score_detections(frames, "legacy").cso_map.map, 2)
        if stage != "unfold":
            frames = _detect(outputs, lambda output: read_claims(output.claims, grid))
            report = score_detections(frames, "legacy")
            scores[f"head_{name}"] = round(100 * report.cso_map.map, 2)
            scores[f"count_{name}"] = round(100 * report.errors.count_accuracy, 2)
            if len(position_errors := _squared_errors(frames)[0]):
                scores[f"inside_{name}"] = round(100 * float((position_errors < CHI2_95[1]).mean()), 1)
    return scores


def _squared_errors(frames: ScoredFrames) -> tuple[Floats, Floats]:
    """Normalised squared errors of positions and of amplitudes, over frames with the right number of targets.

    Each error is divided by its stated covariance or standard deviation; both arrays are (targets,).
    """
    positions, amplitudes = [np.zeros(0)], [np.zeros(0)]
    for found, truth in frames:
        if found is not None and len(found) == len(truth):
            distance = np.hypot(*np.moveaxis(truth.xy[None] - found.xy[:, None], -1, 0))
            rows, columns = linear_sum_assignment(distance)
            error = truth.xy[columns] - found.xy[rows]
            positions.append(np.einsum("ni,nij,nj->n", error, np.linalg.inv(found.cov[rows]), error))
            amplitudes.append(((truth.amplitude[columns] - found.amplitude[rows]) / found.amplitude_sd[rows]) ** 2)
    return np.concatenate(positions), np.concatenate(amplitudes)


def calibrate(network: DeRefNet, sets: dict[str, Clips]) -> dict[str, float]:
    """Scale the head's standard deviations so that 95 % of the second set's errors lie inside the 95 % limits.

    Changes the network's weights; returns the factors of the position's ("place") and the amplitude's deviations, 1 for
    one without any error to measure.
    """
    grid = network.unfold.grid
    outputs = _window_outputs(network, list(sets.values())[1], "whole")
    frames = _detect(outputs, lambda output: read_claims(output.claims, grid))
    limits = zip(_squared_errors(frames), CHI2_95[::-1], strict=True)
    factors = [float(np.sqrt(np.quantile(e, 0.95) / limit)) if len(e) else 1.0 for e, limit in limits]
    cells = grid.division**2
    with torch.no_grad():
        bias = _continuous_head(network).tail.get_parameter("bias")
        bias[3 * cells : 5 * cells] += math.log(factors[0])
        bias[6 * cells : 7 * cells] += math.log(factors[1])
    return {"place": factors[0], "amplitude": factors[1]}


def validation_sets(data: str, patch: int) -> dict[str, Clips]:
    """Draw the validation sets, cropped to `patch` px a side.

    For data "anything": mixed groups in three SNR ranges. Else SeqCSIST's trajectories at three noise levels, named by
    their DN, and CSIST-100K's images.
    """
    if data == "anything":
        ranges = {"faint": (3.0, 10.0), "clear": (10.0, 50.0), "bright": (50.0, 300.0)}
        drawn = {name: mixed(16 * TRAJECTORIES, split="val", snr=snr) for name, snr in ranges.items()}
        clips = {name: Clips(g.frames, g.xy, g.amplitude, facts) for name, (g, facts) in drawn.items()}
    else:
        levels = {"0": 0.0, "2": 2.0, "5": 5.0}
        patches = {name: seqcsist(TRAJECTORIES, split="val", noise=(dn, dn), depth=16) for name, dn in levels.items()}
        clips = {name: cut_clips(p, p.frames.shape[1], np.random.default_rng(0)) for name, p in patches.items()}
        clips["still"] = cut_clips(csist100k(16 * TRAJECTORIES, split="val"), WINDOW, np.random.default_rng(0))
    return {name: crop_clips(c, (patch, patch), np.random.default_rng(0)) for name, c in clips.items()}


class WindowOutput(NamedTuple):
    """The network's map (H, W) DN and claims (7, H, W), see types.Unmixed, for one window."""

    map: NDArray[np.float32]
    claims: NDArray[np.float32]


@torch.no_grad()
def _window_outputs(network: DeRefNet, clips: Clips, stage: str) -> Iterator[tuple[WindowOutput, Truth]]:
    """Yield the output of this stage's part of the network for each whole window, and its centre frame's truth."""
    network.eval()
    length, middle = clips.frames.shape[1], WINDOW // 2
    for k, frames in enumerate(clips.frames):
        patches = torch.from_numpy(frames).to(network.unfold.phi)
        windows = with_sensor_planes(network, patches.unfold(0, WINDOW, 1).movedim(-1, 1), clips.facts[[k]])
        if stage == "whole":
            fused = network.merge(
                network.maps(patches)[0].unfold(0, WINDOW, 1).movedim(-1, 1), torch.arange(WINDOW), windows
            )
            maps, raw, scale = fused.map, cast("Tensor", fused.raw), cast("Tensor", fused.scale)
        else:
            maps, scale = network.maps(patches[middle : length - middle])[0], network.scale(windows[:, :WINDOW])
            raw = network.predict_claims(windows, scale, None)
        exists, n = clips.amplitude[k] > 0, int((clips.amplitude[k] > 0).sum())
        claims = decode_claims(raw, scale).cpu().numpy()
        for t, output in enumerate(zip(maps.cpu().numpy(), claims, strict=True), middle):
            stamp = Stamp(f"{k}", 0, t, 0)
            yield (
                WindowOutput(*output),
                Truth(stamp, np.arange(n), np.zeros(n, np.int64), clips.xy[k, t, exists], clips.amplitude[k, exists]),
            )


def with_sensor_planes(network: DeRefNet, windows: Tensor, facts: Floats) -> Tensor:
    """Append to windows (B, 5, h, w) DN the planes of unmix.told, if the network takes them.

    facts (B, 4) about each window's sensor, or (1, 4) for all.
    """
    if network.head is None or network.head.patches.in_channels == WINDOW:
        return windows
    scale = network.scale(windows).flatten().cpu().numpy().astype(np.float64)
    planes = sensor_planes(
        np.broadcast_to(facts, (len(windows), facts.shape[1])), scale, (windows.shape[2], windows.shape[3])
    )
    return torch.cat([windows, torch.from_numpy(np.ascontiguousarray(planes)).to(windows)], dim=1)


def _detect(outputs: Iterable[tuple[WindowOutput, Truth]], read: Callable[[WindowOutput], RegionTargets]) -> ScoredFrames:
    """Read detections from each output; return them with its truth."""
    return [(read(output).detections(truth.stamp), truth) for output, truth in outputs]


def _continuous_head(network: DeRefNet) -> Head:
    if network.head is None:
        raise UsageError("expected a network with a continuous head, got one without")
    return network.head
