"""The driver: which steps are due, what came of them, and how far a run is.

It holds a few numbers for each recording that is under way and a line for each that is done, and nothing for a frame:
frames and results go between storage and workers. Joins come before pieces and pieces before surveys, so that results
appear early and few recordings are under way at once.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from irst_stream.archive.job import Outcome, Step, Summary
from irst_stream.archive.recordings import folder_name
from irst_stream.archive.workers import Workers
from irst_stream.errors import LossError

__all__ = ["Progress", "run_archive"]

MAX_TRIES = 3  # of a step whose worker ended: the step may be what ended it
SURVEYS_AHEAD = 2  # recordings surveyed ahead for each worker
log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run is. frames: of the recordings surveyed so far that were to compute, and done of them."""

    recordings: int
    finished: int = 0
    surveyed: int = 0
    pieces: int = 0
    pieces_done: int = 0
    frames: int = 0
    frames_done: int = 0
    began_s: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """Time left, s, at the pace so far; None before the first piece. Recordings not seen yet count as the mean."""
        if not self.frames_done or not self.surveyed:
            return None
        total = self.frames * self.recordings / self.surveyed
        return max(total - self.frames_done, 0.0) * (time.monotonic() - self.began_s) / self.frames_done


@dataclass
class _UnderWay:
    """A recording whose pieces are computed: how many are not done, which were missing, and whether one of them failed."""

    left: int
    missing: tuple[int, ...]
    fault: str = ""
    lost: bool = False

    def steps(self, step: Step) -> Iterator[Step]:
        """Yield the steps of its missing pieces, given another step of the recording."""
        return (Step("piece", step.name, step.source, number) for number in self.missing)


def run_archive(
    sources: Iterable[str], count: int, workers: Workers, report: Callable[[Progress], None]
) -> Iterator[Summary]:
    """Take all steps of all recordings; yield what came of each as it is done, in no particular order.

    count: the number of sources; report: is told how far the run is. Raise a LossError where results cannot be written, or
    no worker is left.
    """
    driver = _Driver(sources, Progress(count))
    while driver.submit_to(workers):
        for outcome in workers.outcomes():
            yield from driver.take(outcome)
            report(driver.progress)


class _Driver:
    def __init__(self, sources: Iterable[str], progress: Progress) -> None:
        self.progress = progress
        self._unseen = (Step("survey", folder_name(source), source) for source in sources)
        self._surveys: deque[Step] = deque()
        self._pieces: deque[Step] = deque()
        self._joins: deque[Step] = deque()
        self._taken = 0
        self._under_way: dict[str, _UnderWay] = {}
        self._tries: Counter[Step] = Counter()
        self._notes: set[str] = set()

    def submit_to(self, workers: Workers) -> bool:
        """Give steps to the free workers; return whether any step is under way or due."""
        while workers.free and (step := self._next(workers.count)) is not None:
            self._taken += 1
            workers.submit(step)
        due = self._taken or self._joins or self._pieces or self._surveys
        return bool(due) or self._look_ahead(1)

    def take(self, outcome: Outcome) -> Iterator[Summary]:
        """Take in what a step came to; yield a recording that is done with."""
        self._taken -= 1
        step = outcome.step
        for note in outcome.notes:
            if note not in self._notes:
                self._notes.add(note)
                log.warning("%s", note)
        if outcome.stop:
            raise LossError(outcome.fault)
        if outcome.lost and self._retry(outcome):
            return
        if outcome.fault:
            yield from self._failed(step, outcome.fault, lost=outcome.lost or outcome.bug)
        elif step.what == "survey":
            yield from self._surveyed(outcome)
        elif step.what == "poses":
            self._pieces.extend(self._under_way[step.name].steps(step))
        elif step.what == "piece":
            self._computed(outcome)
            yield from self._end_of_pieces(step)
        elif outcome.summary is not None:
            yield self._done(outcome.summary)

    def _next(self, workers: int) -> Step | None:
        if not (self._joins or self._pieces) and len(self._surveys) < workers:
            self._look_ahead(SURVEYS_AHEAD * workers)
        for due in (self._joins, self._pieces, self._surveys):
            if due:
                return due.popleft()
        return None

    def _look_ahead(self, count: int) -> bool:
        """Take further recordings from the list; return whether there is one to survey."""
        self._surveys.extend(islice(self._unseen, count))
        return bool(self._surveys)

    def _retry(self, outcome: Outcome) -> bool:
        """Give a step whose worker ended to another; False if it has been tried often enough."""
        step = outcome.step
        self._tries[step] += 1
        if self._tries[step] >= MAX_TRIES:
            return False
        where = step.source if step.piece < 0 else f"{step.source}, piece {step.piece}"
        log.warning("%s: %s; another worker takes it", where, outcome.fault)
        {"survey": self._surveys, "join": self._joins}.get(step.what, self._pieces).appendleft(step)
        return True

    def _surveyed(self, outcome: Outcome) -> Iterator[Summary]:
        step = outcome.step
        self.progress.surveyed += 1
        if outcome.summary is not None:  # nothing to do: the results of an earlier run are there
            yield self._done(outcome.summary)
            return
        missing = len(outcome.missing)
        self.progress.pieces += missing
        if not missing:
            self._joins.append(Step("join", step.name, step.source))
            return
        self.progress.frames += outcome.frames
        self._under_way[step.name] = recording = _UnderWay(missing, outcome.missing)
        if outcome.poses:
            self._pieces.append(Step("poses", step.name, step.source))
        else:
            self._pieces.extend(recording.steps(step))

    def _computed(self, outcome: Outcome) -> None:
        self.progress.pieces_done += 1
        self.progress.frames_done += outcome.frames

    def _end_of_pieces(self, step: Step) -> Iterator[Summary]:
        """Count a piece that is over; join a recording without missing pieces, and give up one where a piece failed."""
        recording = self._under_way[step.name]
        recording.left -= 1
        if recording.left:
            return
        del self._under_way[step.name]
        if recording.fault:
            yield self._done(Summary(step.source, step.name, "", fault=recording.fault, lost=recording.lost))
        else:
            self._joins.append(Step("join", step.name, step.source))

    def _failed(self, step: Step, fault: str, *, lost: bool) -> Iterator[Summary]:
        """Take in a step that failed for good: it costs its recording, and no other."""
        if step.what == "piece":
            self.progress.pieces_done += 1
            recording = self._under_way[step.name]
            recording.fault, recording.lost = recording.fault or fault, recording.lost or lost
            yield from self._end_of_pieces(step)
            return
        self._under_way.pop(step.name, None)
        self.progress.surveyed += step.what == "survey"
        yield self._done(Summary(step.source, step.name, "", fault=fault, lost=lost))

    def _done(self, summary: Summary) -> Summary:
        self.progress.finished += 1
        return summary
