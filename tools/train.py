"""Trains DeRefNet with its continuous head; run it with .venv/bin/python tools/train.py configs/train-seqcsist.toml.

Three stages, each of them resumable: `head` learns the continuous head on patches alone, `unfold` single frames' maps,
`whole` trains all of it together. Everything of a run goes to out/train/NAME: checkpoint.pt, curves.json and curves.png,
and, when it is done, engine/ with the weights and the record of how they came about. Run it again to go on where it
stopped. On a GPU, where there is one.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_data import commit, describe_machine
from train_settings import STAGES, Loss, Stage, Training, drawn_ahead, within

from irst_stream.commands.console import positive_float, progress
from irst_stream.errors import IrstError, UsageError
from irst_stream.learn import validation
from irst_stream.learn.data import (
    BatchSource,
    Clips,
    benchmark_batches,
    crop_clips,
    folder_batches,
    linear_guess,
    mixed_batches,
)
from irst_stream.learn.losses import Targets, cell_loss, map_loss, mixture_loss
from irst_stream.learn.network import DeRefNet
from irst_stream.learn.validation import calibrate, validate, validation_sets, with_sensor_planes
from irst_stream.optics import FineGrid
from irst_stream.settings import read_settings
from irst_stream.system.machine import usable_cores
from irst_stream.system.shipped import find_engine
from irst_stream.unmix.engine import LIGHT_UNIT_DN, MIN_PEAK_DN, WINDOW, read_engine, write_engine, write_graphs
from irst_stream.unmix.graph import build_all

ROOT = Path("out/train")
AVERAGE = 0.999  # of the weights: what is kept each step; the average is what is validated and shipped
GUESSED = 20_000  # images that the first guess of Qinit is made from
LONGEST_GRADIENT = 1.0
WEIGHT_DECAY = 1e-5
SAVE_EVERY_S = 30.0


@dataclass
class Run:
    """What a checkpoint holds."""

    network: DeRefNet
    average: DeRefNet
    optimizer: torch.optim.Optimizer
    stage: str = STAGES[0]
    step: int = 0
    spent: float = 0.0  # seconds in this stage
    curves: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a TOML file such as configs/train-seqcsist.toml")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the CPU (default all)")
    parser.add_argument(
        "--seconds", type=positive_float, metavar="S", help="of all stages together (default: as configured)"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that draw batches ahead (default 0)")
    parser.add_argument("--out", type=Path, default=ROOT, help="(default out/train)")
    parser.add_argument(
        "--dry-run", action="store_true", help="a step of each stage, and a small validation: nothing is learnt"
    )
    args = parser.parse_args()
    if args.dry_run:
        validation.TRAJECTORIES = 1
        args.seconds = 1e-3
    torch.set_num_threads(args.threads)
    try:
        config = read_settings(args.config, Training)
        config = within(config, args.seconds) if args.seconds else config
        train(config, args.out / config.name, args.workers)
    except IrstError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"train: interrupted; the same command goes on from {args.out / config.name}", file=sys.stderr)
        return 130
    return 0


def train(config: Training, folder: Path, workers: int = 0) -> None:
    draw = choose_data(config)
    with drawn_ahead(partial(shown, draw, config), workers) as batches:  # before CUDA starts, which no fork may inherit
        run = learn(config, folder, draw, batches)
    ship(run, config, folder)


def learn(config: Training, folder: Path, draw: BatchSource, batches: Any) -> Run:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    run = resume(config, folder, draw, device)
    centres = torch.tensor(grid_of(config).centres, dtype=torch.float32, device=device)
    if config.compile:
        for part in (run.network.unfold, run.network.fuse, run.network.head):
            part.compile()
    for name in STAGES[STAGES.index(run.stage) :]:
        stage: Stage = getattr(config, name)
        if run.stage != name:
            run.stage, run.step, run.spent = name, 0, 0.0
            run.optimizer = optimizer_of(run.network, name)
        steps = stage.windows // stage.batch
        loss_of = {"unfold": unfold_loss, "head": head_loss, "whole": whole_loss}[name]
        seen, losses, saved = 0, [], time.monotonic()
        with progress(f"train {config.name}: {name}", steps, "steps") as done:
            done(run.step)
            first = STAGES.index(name) * 10**6
            drawn = batches(range(first + run.step, first + steps), *clip_shape(config, name, stage))
            while run.step < steps and run.spent < stage.seconds:
                began = time.monotonic()
                share = max(run.step / steps, run.spent / stage.seconds)
                for group in run.optimizer.param_groups:
                    group["lr"] = stage.rate * group["share"] * rate_at(run.step, share)
                clips = next(drawn)
                half = torch.autocast(device.type, torch.bfloat16) if stage.precision == "bf16" else nullcontext()
                with half:
                    loss, parts = loss_of(run.network.train(), clips, config.loss, centres)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(run.network.parameters(), LONGEST_GRADIENT)
                run.optimizer.step()
                run.optimizer.zero_grad(set_to_none=True)
                follow(run.average, run.network, run.step)
                run.step += 1
                run.spent += time.monotonic() - began
                losses.append({key: float(value.detach()) for key, value in parts.items()})
                done(1)
                seen += stage.batch
                last = run.step == steps or run.spent >= stage.seconds
                if seen >= config.validate or last:
                    point = {key: float(np.mean([x[key] for x in losses])) for key in losses[0]}
                    point |= {"stage": name, "windows": run.step * stage.batch, "seconds": round(run.spent)}
                    if name != "unfold" or last:
                        point |= validate(run.average, validation_sets(config.data, config.patch), name)
                    run.curves.append(point)
                    print(json.dumps(point), flush=True)
                    seen, losses = 0, []
                    draw_curves(run.curves, folder)
                if last or time.monotonic() - saved > SAVE_EVERY_S:
                    save(run, config, folder)
                    saved = time.monotonic()
    return run


def choose_data(config: Training) -> BatchSource:
    if config.data == "benchmark":
        if not 0 <= config.still <= 1:
            raise UsageError(f"still: expected a share from 0 to 1, got {config.still}")
        return benchmark_batches(config.seed, config.noise_dn, config.still)
    if config.data == "anything":
        return mixed_batches(config.seed)
    if Path(config.data).is_dir():
        return folder_batches(Path(config.data), config.seed, config.noise_dn)
    raise UsageError(f"data: expected benchmark, anything or a folder, got {config.data}")


def shown(draw: BatchSource, config: Training, number: int, size: int, frames: int) -> Clips:
    """A batch as the network sees it."""
    rng = np.random.default_rng((config.seed, number, 1))
    return crop_clips(draw(number, size, frames), (config.patch, config.patch), rng)


def grid_of(config: Training) -> FineGrid:
    return FineGrid(3, (config.patch, config.patch))


def clip_shape(config: Training, stage_name: str, stage: Stage) -> tuple[int, int]:
    """Clips of a batch, and frames of each."""
    if stage_name == "unfold":
        return stage.batch, 1
    if stage_name == "head":
        return stage.batch, WINDOW
    return max(stage.batch // (config.frames - WINDOW + 1), 1), config.frames


def unfold_loss(network: DeRefNet, clips: Clips, weights: Loss, centres: torch.Tensor) -> Any:
    frames = to(clips.frames[:, 0], centres)  # B h w
    targets = targets_of(clips, slice(0, 1), centres)
    maps, errors = network.maps(frames)  # B H W, B 9 H W
    parts = {"map": map_loss(maps, targets.label, network.scale(frames)), "symmetry": symmetry(errors)}
    return parts["map"] + weights.symmetry * parts["symmetry"], parts


def head_loss(network: DeRefNet, clips: Clips, weights: Loss, centres: torch.Tensor) -> Any:
    patches = to(clips.frames, centres)  # B 5 h w
    scale = network.scale(patches)
    raw = network.predict_claims(with_sensor_planes(network, patches, clips.facts), scale, None)  # B 7 H W
    part = HEAD_LOSSES[weights.head](raw, scale, targets_of(clips, slice(WINDOW // 2, WINDOW // 2 + 1), centres), centres)
    return part, {"head": part}


def whole_loss(network: DeRefNet, clips: Clips, weights: Loss, centres: torch.Tensor) -> Any:
    frames = to(clips.frames, centres)  # B T h w
    maps, errors = network.maps(frames.flatten(0, 1))  # BT H W, BT 9 H W
    maps = maps.view(*frames.shape[:2], *maps.shape[1:])
    windows = maps.unfold(1, WINDOW, 1).movedim(-1, 2).flatten(0, 1)  # B(T-4) 5 H W
    patches = frames.unfold(1, WINDOW, 1).movedim(-1, 2).flatten(0, 1)  # B(T-4) 5 h w
    told = np.repeat(clips.facts, frames.shape[1] - WINDOW + 1, axis=0)  # B(T-4) 4
    found = network.merge(windows, torch.arange(WINDOW), with_sensor_planes(network, patches, told))
    middle = slice(WINDOW // 2, frames.shape[1] - WINDOW // 2)
    targets = targets_of(clips, middle, centres)
    parts = {
        "map": map_loss(found.map, targets.label, found.scale[:, 0]),
        "symmetry": symmetry(errors),
        "alignment": (found.aligned - found.centre[:, None]).abs().mean() / LIGHT_UNIT_DN**2,
        "head": HEAD_LOSSES[weights.head](found.raw, found.scale, targets, centres),
    }
    extra = weights.symmetry * parts["symmetry"] + weights.alignment * parts["alignment"]
    return parts["head"] + 100 * weights.map * (parts["map"] + extra), parts


HEAD_LOSSES = {"mixture": mixture_loss, "cells": cell_loss}


def symmetry(errors: torch.Tensor) -> torch.Tensor:
    return (errors.float() / LIGHT_UNIT_DN).square().mean()


def to(array: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like, non_blocking=True)


def targets_of(clips: Clips, at: slice, centres: torch.Tensor) -> Targets:
    """The truth of some of the clips' frames, one window after the other."""
    xy = clips.xy[:, at].reshape(-1, *clips.xy.shape[2:])  # B K 2
    amplitude = np.repeat(clips.amplitude, clips.xy[:, at].shape[1], axis=0)
    cells = centres.shape[0]
    label = FineGrid(3, (cells // 3, cells // 3)).label(xy, amplitude)
    exists = torch.from_numpy(~np.isnan(xy[..., 0])).to(centres.device)
    return Targets(to(np.nan_to_num(xy), centres), to(amplitude, centres), exists, to(label, centres))


def rate_at(step: int, share: float) -> float:
    """Up within 300 steps, then down along a cosine to a hundredth."""
    return min((step + 1) / 300, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))


def follow(average: DeRefNet, network: DeRefNet, step: int) -> None:
    keep = min(AVERAGE, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)


def optimizer_of(network: DeRefNet, stage: str) -> torch.optim.Optimizer:
    """Of the parameters that learn in this stage; in the last one, slower where much has been learnt before."""
    assert network.head is not None
    if stage != "whole":
        part = network.unfold if stage == "unfold" else network.head
        groups = [{"params": list(part.parameters()), "share": 1.0}]
    else:
        known, joint = list(network.head.parameters()), list(network.head.features.parameters())
        known = [p for p in known if all(p is not q for q in joint)]
        new = [*network.fuse.parameters(), *network.code.parameters(), *joint]
        parts = ((new, 1.0), (list(network.unfold.parameters()), 0.3), (known, 0.1))
        groups = [{"params": params, "share": share} for params, share in parts]
    return torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)


def resume(config: Training, folder: Path, draw: BatchSource, device: torch.device) -> Run:
    """The run as its checkpoint left it, or a new one."""
    torch.manual_seed(config.seed)
    network, average = (
        DeRefNet(grid_of(config), head=True, by_peak=config.by_peak, told=True).to(
            device, memory_format=torch.channels_last
        )
        for _ in "ab"
    )
    run = Run(network, average, optimizer_of(network, STAGES[0]))
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        kept = torch.load(checkpoint, map_location=device, weights_only=True)
        if kept["config"] != as_kept(config):
            raise UsageError(f"{checkpoint}: of a run with another configuration; choose another name, or remove it")
        run.optimizer = optimizer_of(network, kept["stage"])
        network.load_state_dict(kept["network"])
        average.load_state_dict(kept["average"])
        run.optimizer.load_state_dict(kept["optimizer"])
        run.stage, run.step, run.spent, run.curves = kept["stage"], kept["step"], kept["spent"], kept["curves"]
        print(f"going on with {run.stage} after step {run.step}")
    else:
        if config.start:
            begin_from(network, read_engine(find_engine(config.start)).weights)
            if config.head.windows:  # it learns on patches alone, and the trunk's features would come as a surprise
                torch.nn.init.zeros_(network.head.features.weight)
        network.unfold.qinit.copy_(to(first_guess(draw, config), network.unfold.qinit))
        average.load_state_dict(network.state_dict())
    return run


def begin_from(network: DeRefNet, weights: dict[str, np.ndarray]) -> None:
    """Takes over what another engine has learnt; what depends on its patch's size stays this network's own, and what it was
    not told counts for nothing to begin with.
    """
    own = network.state_dict()
    if (seen := weights.get("head.patches.weight")) is not None:
        wanted = own["head.patches.weight"].shape
        untold = np.zeros((wanted[0], wanted[1] - seen.shape[1], *wanted[2:]), np.float32)
        weights = weights | {"head.patches.weight": np.concatenate([seen, untold], axis=1)}
    taken = {name: torch.from_numpy(array.copy()) for name, array in weights.items() if own[name].shape == array.shape}
    network.load_state_dict(own | taken)


def first_guess(draw: BatchSource, config: Training) -> np.ndarray:
    """Qinit (cells, pixels): the linear map from images to labels with the least squared error."""
    clips = shown(draw, config, 0, GUESSED, 1)
    y = clips.frames[:, 0].astype(np.float64)
    if config.by_peak:
        y *= LIGHT_UNIT_DN / np.maximum(y.max((1, 2), keepdims=True), MIN_PEAK_DN)
    return linear_guess(y, grid_of(config).label(clips.xy[:, 0], clips.amplitude))


def as_kept(config: Training) -> dict[str, Any]:
    """As it reads back from a checkpoint or a record."""
    return dataclasses.asdict(config) | {"noise_dn": list(config.noise_dn)}


def save(run: Run, config: Training, folder: Path) -> None:
    part = folder / "checkpoint.part"
    torch.save(
        {
            "network": run.network.state_dict(),
            "average": run.average.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "stage": run.stage,
            "step": run.step,
            "spent": run.spent,
            "curves": run.curves,
            "config": as_kept(config),
            "commit": commit(),
        },
        part,
    )
    part.replace(folder / "checkpoint.pt")


def draw_curves(curves: list[dict[str, Any]], folder: Path) -> None:
    from irst_stream.draw import training_curves

    (folder / "curves.json").write_text(json.dumps(curves, indent=1) + "\n")
    training_curves(folder / "curves.png", curves)


def ship(run: Run, config: Training, folder: Path) -> None:
    device = next(run.average.parameters()).device
    sets = validation_sets(config.data, config.patch)
    stretch = calibrate(run.average, sets)
    result = validate(run.average, sets, "whole")
    print(json.dumps({"stretch": stretch, **result}))
    weights = {name: tensor.float().cpu().numpy() for name, tensor in run.average.state_dict().items()}
    made_by = f"tools/train.py, configuration {config.name}, commit {commit()}"
    scale = "peak" if config.by_peak else "none"
    patch = (config.patch, config.patch)
    write_engine(folder / "engine", weights, made_by=made_by, head="continuous", scale=scale, patch=patch, told=True)
    engine = read_engine(folder / "engine")
    write_graphs(folder / "engine", engine, build_all(engine.manifest, engine.data))
    record = {"config": as_kept(config), "commit": commit(), "machine": machine(device)}
    record |= {"stretch": stretch, "result": result, "curves": run.curves}
    before = find_engine(config.start) / "record.json" if config.start else None
    if before and before.is_file():
        record["started_from"] = json.loads(before.read_text("utf-8"))
    (folder / "engine" / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"engine: {folder / 'engine'}")


def machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return describe_machine() | {"torch": torch.__version__, "cores": usable_cores(), "device": name}


if __name__ == "__main__":
    sys.exit(main())
