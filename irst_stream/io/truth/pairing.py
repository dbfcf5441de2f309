"""Which frame of the results each frame of truth belongs to, where the two are named differently."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from irst_stream.io.media.medium import natural_key
from irst_stream.io.truth.truth_set import TruthSet
from irst_stream.types import Stamp, Truth

__all__ = ["RULES", "align_truth"]

RULES = """\
A frame's truth has the sequence and index of the frame. Names of single images are compared without suffix: an image
belongs to the sequence of that name with index 0, or to the frame whose source is that image. Where FOUND and TRUTH
hold one sequence each, the two are paired whatever their names (images of TRUTH in natural order). A line says which
were paired."""

FrameKey = tuple[str, int, int]


def align_truth(found: Sequence[Stamp], truth: TruthSet) -> tuple[list[Truth], str]:
    """Read truth and give it the stamps of the frames it belongs to, and say in one line what was paired, "" if nothing.

    found: the stamps of the results or frames; truth that belongs to none of them keeps its stamp. In sparse truth, frames
    without an entry become frames without targets. Truth without times takes those found. See RULES.
    """
    truths, note = list(truth.truths()), ""
    if not {_key(stamp) for stamp in found} <= {_key(one.stamp) for one in truths}:
        if truth.by_image:
            truths, note = _pair_images(found, truths)
        if not note:
            truths, note = _pair_sequences(found, truths, truth.name)
    if truth.sparse:
        truths += _empty_frames(found, truths)
    return _with_times(found, truths), note


def _pair_images(found: Sequence[Stamp], truths: list[Truth]) -> tuple[list[Truth], str]:
    """Give truth of single images the stamps of the frames of that name; without any, number them within their folders."""
    by_name = _unambiguous((name, k) for k, truth in enumerate(truths) for name in _names(truth.stamp))
    stamps: dict[int, Stamp] = {}
    for stamp in found:
        number = next((by_name[name] for name in _names(stamp) if name in by_name), None)
        if number is not None:
            stamps.setdefault(number, stamp)
    if stamps:
        note = f"paired by the names of images: {len(stamps)} of {len(truths)}"
        stamps |= _between(truths, stamps)
        return [replace(truth, stamp=stamps.get(k, truth.stamp)) for k, truth in enumerate(truths)], note
    counts: Counter[str] = Counter()
    numbered = []
    for truth in sorted(truths, key=lambda truth: natural_key(Path(truth.stamp.sensor))):
        folder = PurePosixPath(truth.stamp.sensor).parent.as_posix()
        numbered.append(replace(truth, stamp=replace(truth.stamp, sensor=folder, index=counts[folder])))
        counts[folder] += 1
    return numbered, ""


def _between(truths: list[Truth], stamps: dict[int, Stamp]) -> dict[int, Stamp]:
    """Return the stamps of images without results that belong to a sequence: those of its folder, by their natural order.

    stamps: of the images that have results, by their rows in truths. Only where all of a folder are frames of one sequence,
    numbered without gaps.
    """
    folders: dict[str, list[int]] = defaultdict(list)
    for k in sorted(range(len(truths)), key=lambda k: natural_key(Path(truths[k].stamp.sensor))):
        folders[PurePosixPath(truths[k].stamp.sensor).parent.as_posix()].append(k)
    found: dict[int, Stamp] = {}
    for rows in folders.values():
        known = [(place, stamps[k]) for place, k in enumerate(rows) if k in stamps]
        if len(known) > 1 and len({(stamp.sensor, stamp.epoch, stamp.index - place) for place, stamp in known}) == 1:
            (place, first), *_ = known
            shift = first.index - place
            found |= {
                k: replace(truths[k].stamp, sensor=first.sensor, epoch=first.epoch, index=place + shift)
                for place, k in enumerate(rows)
                if k not in stamps and place + shift >= 0
            }
    return found


def _names(stamp: Stamp) -> list[str]:
    """Names under which an image may be known, the most telling first."""
    source, sensor = PurePosixPath(stamp.source).stem, stamp.sensor
    names = [f"{sensor}/{source}", source] if source else []
    return names + ([sensor, PurePosixPath(sensor).name] if stamp.index == 0 else [])


def _unambiguous(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The number of each name that only one number has."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for name, number in pairs:
        numbers[name].add(number)
    return {name: min(known) for name, known in numbers.items() if len(known) == 1}


def _pair_sequences(found: Sequence[Stamp], truths: list[Truth], source: str) -> tuple[list[Truth], str]:
    """Give the only sequence of truth the name of the only sequence found; source: the name of what holds the truth."""
    theirs = {(stamp.sensor, stamp.epoch) for stamp in found}
    ours = {(truth.stamp.sensor, truth.stamp.epoch) for truth in truths}
    if len(theirs) != 1 or len(ours) != 1 or theirs == ours:
        return truths, ""
    ((sensor, epoch),), ((name, _),) = theirs, ours
    renamed = [replace(truth, stamp=replace(truth.stamp, sensor=sensor, epoch=epoch)) for truth in truths]
    return renamed, f"paired: sequence {sensor!r} with truth {(source if name == '.' else name)!r}"  # images in no folder


def _with_times(found: Sequence[Stamp], truths: list[Truth]) -> list[Truth]:
    """Give the sequences of truth whose times are all 0 the times found, at a constant rate where a frame was not found."""
    known: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
    for stamp in found:
        known[stamp.sensor, stamp.epoch][stamp.index] = stamp.time_ns
    timed = {(truth.stamp.sensor, truth.stamp.epoch) for truth in truths if truth.stamp.time_ns}
    lines = {key: _times(times) for key, times in known.items() if key not in timed and any(times.values())}
    return [
        replace(truth, stamp=replace(truth.stamp, time_ns=lines[key](truth.stamp.index)))
        if (key := (truth.stamp.sensor, truth.stamp.epoch)) in lines
        else truth
        for truth in truths
    ]


def _times(known: dict[int, int]) -> Callable[[int], int]:
    """The time of each index, ns: the one known, or that of the nearest known at the median rate."""
    index, time_ns = (np.array(values, np.int64) for values in zip(*sorted(known.items()), strict=True))
    period = float(np.median(np.diff(time_ns) / np.diff(index))) if len(index) > 1 else 0.0

    def time_of(number: int) -> int:
        nearest = int(np.abs(index - number).argmin())
        return int(time_ns[nearest]) + round(period * (number - int(index[nearest])))

    return time_of


def _empty_frames(found: Sequence[Stamp], truths: list[Truth]) -> list[Truth]:
    """Truth without targets for the frames found that have none, in sequences that have truth."""
    known, sequences = {_key(truth.stamp) for truth in truths}, {truth.stamp.sensor for truth in truths}
    size = truths[0].frame_size if truths else (0, 0)
    nobody, nothing = np.zeros(0, np.int64), np.zeros((0, 2))
    sequences = sequences or {stamp.sensor for stamp in found}  # a table without a row: no targets anywhere
    missing = {_key(stamp): stamp for stamp in found if stamp.sensor in sequences and _key(stamp) not in known}
    return [Truth(stamp, nobody, nobody, nothing, np.zeros(0), nothing, size) for stamp in missing.values()]


def _key(stamp: Stamp) -> FrameKey:
    return stamp.sensor, stamp.epoch, stamp.index
