"""What the table of methods says of each: scores of its maps at cell centres and in the fit, its size, its speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from irst_stream.commands.contenders import Contender, NetworkContender, Scene, WholeContender, published_threshold
from irst_stream.score import score_detections
from irst_stream.types import Detections, Truth
from irst_stream.unmix.engine import WINDOW

__all__ = ["Figures", "Result", "compare", "shown_columns"]

RATE_SECONDS = 0.4  # that a network's speed is measured for
RATE_BATCH = 64  # windows
MANY = 10**9
Pairs = list[tuple[Detections, Truth]]


@dataclass(frozen=True, slots=True)
class Figures:
    """Scores in %: legacy CSO-mAP, its five APs, share of windows with the right number; GOSPA in px."""

    cso_map: float
    ap: tuple[float, ...]
    count: float
    gospa: float

    @classmethod
    def of(cls, pairs: Pairs) -> Figures:
        """Score detections with their truths."""
        report = score_detections(list(pairs), "legacy")
        ap = tuple(round(100 * float(a), 2) for a in report.cso_map.ap)
        return cls(
            round(100 * report.cso_map.map, 2),
            ap,
            round(100 * report.errors.count_accuracy, 2),
            round(report.gospa.total, 4),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A method's row: cells, at the published threshold; best, at the one chosen in validation; fit, with its map as start.

    Figures that a method does not have are None. rate, fit_rate: windows a second of one core, of the network alone and of
    the fit alone.
    """

    name: str
    cells: Figures | None = None
    best: Figures | None = None
    fit: Figures | None = None
    rate: float | None = None
    fit_rate: float | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The row as plain values for JSON, without the record."""
        return {key: value for key, value in asdict(self).items() if key != "record"}


def compare(
    contender: Contender, scene: Scene, *, with_fit: bool = True, fit_windows: int = MANY
) -> tuple[Result, dict[str, Pairs]]:
    """Run one contender over a scene; returns its row, and its detections by the way in which they are read.

    fit_windows: how many windows, from the first on, are fitted at most.
    """
    if isinstance(contender, WholeContender):
        scene = scene if contender.name == "labels" else scene.of_windows(fit_windows)
        if contender.name != "labels":
            contender.detections(scene.of_windows(1))  # loads the compiled fit
        began = time.process_time()
        pairs = contender.detections(scene)
        rate = None if contender.name == "labels" else len(pairs) / max(time.process_time() - began, 1e-9)
        figures = Figures.of(pairs)
        at_cells = contender.name == "labels"
        return (
            Result(contender.name, cells=figures if at_cells else None, fit=None if at_cells else figures, fit_rate=rate),
            {"cells" if at_cells else "fit": pairs},
        )
    maps, corners = contender.maps(scene)
    threshold = published_threshold(scene.dataset)
    read = {"cells": contender.at_cells(scene, maps, corners, threshold)}
    chosen = contender.thresholds.get(scene.dataset, contender.thresholds.get("", threshold))
    best = contender.at_cells(scene, maps, corners, chosen)
    fit_rate = None
    if with_fit:
        fitted = scene.of_windows(fit_windows)
        count = len(fitted.windows)
        next(contender.into_fit(scene.of_windows(1), maps[:1], corners[:1]))  # loads the compiled fit
        began = time.process_time()
        read["fit"] = list(contender.into_fit(fitted, maps[:count], corners[:count]))
        fit_rate = count / max(time.process_time() - began, 1e-9)
    result = Result(
        contender.name,
        Figures.of(read["cells"]),
        Figures.of(best),
        Figures.of(read["fit"]) if with_fit else None,
        measure_rate(network_work(contender)),
        fit_rate,
        contender.record.get("parameters"),
        contender.record.get("multiply_adds"),
        contender.record,
    )
    return result, read


def network_work(contender: NetworkContender) -> Callable[[], int]:
    """What runs a network once as a stream does, each frame unfolded once; it returns the number of windows."""
    manifest, unmixer = contender.manifest, contender.unmixer
    patches = np.random.default_rng(0).uniform(0, 200, (RATE_BATCH, *manifest.patch)).astype(np.float32)
    planes = np.zeros((RATE_BATCH, manifest.input_planes, *manifest.patch), np.float32)
    places = np.tile(np.arange(WINDOW), (RATE_BATCH, 1))

    def work() -> int:
        maps = list(unmixer.unfold(patches))
        if manifest.window > 1:
            unmixer.fuse([[one] * WINDOW for one in maps], planes, places)
        return RATE_BATCH

    return work


def measure_rate(work: Callable[[], int], seconds: float = RATE_SECONDS) -> float:
    """Windows a second of processor time: the best of the runs within `seconds`, after one to warm up."""
    work()
    rates: list[float] = []
    began = time.process_time()
    while not rates or time.process_time() - began < seconds:
        start = time.process_time()
        rates.append(work() / max(time.process_time() - start, 1e-9))
    return max(rates)


def shown_columns(results: Iterable[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table that is printed."""
    headings = (
        "method", "CSO-mAP", "AP05", "AP10", "AP15", "AP20", "AP25", "right number",
        "in the fit", "right number", "parameters", "multiply-adds", "windows/s", "fits/s",
    )  # fmt: skip
    return headings, [_row(result) for result in results]


def _row(result: Result) -> tuple[str, ...]:
    cells = result.cells
    at_cells = ("",) * 7 if cells is None else (
        f"{cells.cso_map:.2f}", *(f"{ap:.1f}" for ap in cells.ap), f"{cells.count:.1f} %"
    )  # fmt: skip
    fitted = ("", "") if result.fit is None else (f"{result.fit.cso_map:.2f}", f"{result.fit.count:.1f} %")
    rates = ("" if rate is None else f"{rate:,.0f}" for rate in (result.rate, result.fit_rate))
    return (result.name, *at_cells, *fitted, _count(result.parameters), _count(result.multiply_adds), *rates)


def _count(number: int | None) -> str:
    """A count with three digits and its unit."""
    if number is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
