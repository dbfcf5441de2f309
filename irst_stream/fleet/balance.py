"""Which worker gets a sensor, and which sensor moves: by measured load, in cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Move", "choose_move", "choose_worker"]

UNKNOWN_LOAD = 0.05  # of a sensor where none has been measured yet
BUSY, GAP = 0.7, 0.3  # a sensor moves from a worker busier than this to one with this much less to do


class Move(NamedTuple):
    """A sensor, the worker that it leaves, and the one that it goes to."""

    sensor: str
    origin: str
    target: str


def choose_worker(sensor: str, placed: Mapping[str, Mapping[str, float]], loads: Mapping[str, float]) -> str:
    """The worker with the least to do; of equals the one with fewer sensors, then the first by name.

    placed: by worker, the loads of its sensors, of which those not measured yet are NaN; loads: last measured of any
    sensor. Raise a ValueError without workers.
    """
    if not placed:
        raise ValueError(f"no worker for {sensor}")
    known = [load for sensors in placed.values() for load in sensors.values() if load == load] or list(loads.values())
    guess = sum(known) / len(known) if known else UNKNOWN_LOAD

    def cost(worker: str) -> tuple[float, int, str]:
        sensors = placed[worker]
        total = sum(loads.get(name, guess) if load != load else load for name, load in sensors.items())
        return round(total, 2), len(sensors), worker

    return min(placed, key=cost)


def choose_move(placed: Mapping[str, Mapping[str, float]]) -> Move | None:
    """The move that evens the busiest and the least busy worker best; None if it would not help, or a load is not known.

    placed: by worker, the loads of the sensors that may move, and of all others.
    """
    if len(placed) < 2 or any(load != load for sensors in placed.values() for load in sensors.values()):
        return None
    totals = {worker: sum(sensors.values()) for worker, sensors in placed.items()}
    origin, target = max(totals, key=lambda w: totals[w]), min(totals, key=lambda w: totals[w])
    gap = totals[origin] - totals[target]
    if totals[origin] < BUSY or gap < GAP or len(placed[origin]) < 2:
        return None
    sensor = min(placed[origin], key=lambda name: (abs(gap - 2 * placed[origin][name]), name))
    if abs(gap - 2 * placed[origin][sensor]) > gap - GAP / 2:
        return None
    return Move(sensor, origin, target)
