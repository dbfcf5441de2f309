"""A training run: its state, its checkpoint, and the loop that all recipes share."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irst_stream.errors import UsageError
from irst_stream.learn.methods.method import Method, find_method
from irst_stream.learn.methods.shared import Solved
from irst_stream.learn.training.adversary import Adversary
from irst_stream.learn.training.batches import Batch, Draw, fitted_guess, grid_of, label_batches
from irst_stream.learn.training.settings import MethodTraining
from irst_stream.unmix.engine import WINDOW

__all__ = ["Run", "open_run", "train"]

AVERAGE = 0.999  # of the weights, kept each step: the average is what is validated and shipped
LONGEST_GRADIENT = 1.0
WARM_UP = 100  # steps
WEIGHT_DECAY = 1e-5
SAVE_EVERY_S = 60.0
POINTS = 40  # of a whole run's curve
CHECKPOINT = "checkpoint.pt"


@dataclass
class Run:
    """What a checkpoint holds: the network and its average, the optimiser, the adversary if any, and how far it is.

    spent: seconds in training steps, on a CPU of its own time; curves: mean losses so far, about POINTS for each budget.
    """

    settings: MethodTraining
    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    adversary: Adversary | None
    step: int = 0
    spent: float = 0.0
    curves: list[dict[str, float]] = field(default_factory=list)

    @property
    def progress(self) -> float:
        """From 0 to 1, by frames or by minutes, whichever is further."""
        steps = max(self.settings.frames // self.settings.batch, 1)
        return min(max(self.step / steps, self.spent / (60 * self.settings.minutes)), 1.0)

    @property
    def frames(self) -> int:
        """Frames, or windows, shown so far."""
        return self.step * self.settings.batch


def train(run: Run, folder: Path, report: Callable[[Run], None] = lambda _: None) -> None:
    """Train to the end, saving checkpoints into the folder; report is called for each point of the curve."""
    device = next(run.network.parameters()).device
    recipe = find_method(run.settings.method).recipe
    draw = label_batches(run.settings, WINDOW if recipe == "window" else 1, device)
    losses: list[dict[str, float]] = []
    saved, reached = time.monotonic(), run.progress
    for parts in _steps(run, draw, device):
        losses.append(parts)
        if run.progress >= min(reached + 1 / POINTS, 1):
            reached = run.progress
            mean = {key: sum(one[key] for one in losses) / len(losses) for key in losses[0]}
            run.curves.append({"frames": run.frames, "seconds": round(run.spent, 1), **mean})
            losses = []
            report(run)
        if time.monotonic() - saved > SAVE_EVERY_S or run.progress >= 1:
            _save(run, folder)
            saved = time.monotonic()


def _steps(run: Run, draw: Draw, device: torch.device) -> Iterator[dict[str, float]]:
    """Make one step after another until the run is complete; yields the parts of each loss."""
    while run.progress < 1:
        began = _seconds(device)
        for group in run.optimizer.param_groups:
            group["lr"] = run.settings.rate * _rate(run.step, run.progress)
        batch = draw(run.step)
        with _half(run.settings, device):
            loss, parts = _loss(run, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(run.network.parameters(), LONGEST_GRADIENT)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        _follow(run.average, run.network, run.step)
        run.step += 1
        run.spent += _seconds(device) - began
        yield {key: float(value.detach()) for key, value in parts.items()}


def _seconds(device: torch.device) -> float:
    """A clock, s: on a CPU of its time for each thread, so that other work on the machine costs a run nothing."""
    return time.monotonic() if device.type == "cuda" else time.process_time() / torch.get_num_threads()


def _loss(run: Run, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts by name: the squared error, the weighted terms, the adversary's verdict."""
    solved: Solved = run.network.train().solve(batch.light)  # type: ignore[operator]
    maps = [m.float() for m in (*solved.passes, solved.map)]
    parts = {"map": torch.stack([(m - batch.label).square().mean() for m in maps]).mean()}
    weights = run.settings.terms
    terms = dict(solved.terms)
    if "l1" in weights:
        terms["l1"] = (maps[-1] - batch.label).abs().mean()
    if unknown := weights.keys() - terms.keys():
        raise UsageError(
            f"terms: {', '.join(sorted(unknown))}: {run.settings.method} has only l1, {', '.join(solved.terms)}"
        )
    parts |= {name: terms[name] for name in weights}
    loss = parts["map"] + sum(weights[name] * terms[name] for name in weights)
    if run.adversary is not None:
        parts |= run.adversary.step(maps[-1], batch.label)
        loss = loss + run.settings.adversary * parts["verdict"]
    return loss, parts


def open_run(settings: MethodTraining, folder: Path, start: Path | None, device: torch.device) -> Run:
    """Go on from the folder's checkpoint, or begin; start: the checkpoint of the method that the settings start from."""
    method = find_method(settings.method)
    if method.recipe == "none":
        raise UsageError(f"{settings.method}: nothing to train here")
    run = _new_run(settings, method, device)
    path = folder / CHECKPOINT
    if path.exists():
        kept = _read(path, device)
        if _without_budget(kept["settings"]) != _without_budget(_plain(settings)):
            raise UsageError(f"{path}: of a run with other settings; remove it to train with these")
        for name in ("network", "average", "optimizer", "adversary"):
            part = getattr(run, name)
            if part is not None:
                part.load_state_dict(kept[name])
        run.step, run.spent, run.curves = kept["step"], kept["spent"], kept["curves"]
    elif settings.start:
        if start is None or not start.exists():
            raise UsageError(f"{settings.method}: starts from {settings.start}, which is not trained; train it first")
        run.network.load_state_dict(_read(start, device)["average"])
        run.average.load_state_dict(run.network.state_dict())
    return run


def _new_run(settings: MethodTraining, method: Method, device: torch.device) -> Run:
    torch.manual_seed(settings.seed)
    try:
        network = method.build(grid_of(settings), **settings.network)
    except TypeError as error:
        raise UsageError(f"network: {settings.method} does not take these options: {error}") from error
    network.begin(fitted_guess(settings))
    network.to(device, memory_format=torch.channels_last)
    adversary = Adversary.of(settings, device) if method.recipe == "adversarial" else None
    return Run(settings, network, copy.deepcopy(network).eval(), optimizer_of(network, settings.rate), adversary)


def optimizer_of(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices and kernels, but no steps, thresholds, slopes or biases."""
    large = [p for p in network.parameters() if p.ndim > 1]
    small = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": large, "weight_decay": WEIGHT_DECAY}, {"params": small, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate)


def _rate(step: int, progress: float) -> float:
    """Up within WARM_UP steps, then down along a cosine to a hundredth."""
    return min((step + 1) / WARM_UP, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _follow(average: nn.Module, network: nn.Module, step: int) -> None:
    """Move the average towards the network; early on it follows more closely. Buffers are copied."""
    keep = min(AVERAGE, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)
        for own, new in zip(average.buffers(), network.buffers(), strict=True):
            own.copy_(new)


def _half(settings: MethodTraining, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if settings.precision == "bf16" else nullcontext()


def _plain(settings: MethodTraining) -> dict[str, Any]:
    """The settings as they read back from a checkpoint or a record."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return plain


def _without_budget(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run must keep to: it may go on with more frames or minutes than it began with."""
    return {key: value for key, value in settings.items() if key not in ("frames", "minutes")}


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{path}: not a readable checkpoint: {reason}; remove it to begin again") from error
    return kept


def _save(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"settings": _plain(run.settings), "step": run.step, "spent": run.spent, "curves": run.curves}
    for name in ("network", "average", "optimizer", "adversary"):
        part = getattr(run, name)
        kept[name] = None if part is None else part.state_dict()
    part_file = folder / f"{CHECKPOINT}.part"
    torch.save(kept, part_file)
    part_file.replace(folder / CHECKPOINT)
