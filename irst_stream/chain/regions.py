"""The regions of full frames: found in a window's centre frame, cut out of all its frames, and followed.

A region is a patch of the size that the network and the fit take. It keeps its place and number while its group stays near
its centre.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from irst_stream.chain.platform import is_known
from irst_stream.optics import PATCH
from irst_stream.propose.large_lights import LargeLights
from irst_stream.propose.prepared_frame import PreparedFrame, cut_regions, region_corners
from irst_stream.propose.proposer import Proposals, Proposer
from irst_stream.resolve.residuals import probability_of
from irst_stream.types import Detections, Floats, Frame, Ints, Stamp, Window, at_rest

__all__ = ["Cutter", "RegionPlaces"]

MAX_OFFSET_PX = 2.0  # along each axis: a group farther from its region's centre gets a new region


class Cutter:
    """Finds the regions in the centre frame of a window of full frames, and cuts them out of all its frames."""

    def __init__(self, proposer: Proposer, shape: tuple[int, int], length: int, lag: int, helper: Executor | None) -> None:
        """shape: rows, columns of the frames; length, lag: of windows, see WindowBuilder; helper: searches one frame in a
        thread of its own while another is prepared, None for one after the other.
        """
        self._helper = helper if proposer.clutter is None else None
        self.proposer, self.regions, self.shape = proposer, RegionPlaces(shape), shape
        self._length, self._lag, self._centre = length, lag, length - 1 - lag
        averaged = min(proposer.settings.average, length)
        first = min(max(self._centre - averaged // 2, 0), length - averaged)
        self._averaged = range(first, first + averaged)  # frames of a window that the search averages
        self._prepared: deque[PreparedFrame] = deque(maxlen=length)
        self._ahead: Proposals | None = None  # of the next window
        self._has_poses = False

    def prepare(self, frame: Frame) -> None:
        """Prepare the next frame; the search follows the platform by whole pixels."""
        pose = frame.pose if is_known(frame.pose) else None
        self._prepared.append(self.proposer.prepare(frame.pixels, self._place(frame), frame.step_dn, pose))

    def _place(self, frame: Frame) -> tuple[int, int] | None:
        """Return by how many px along x, y the scene has moved since the first pose; None where only others have a pose."""
        if is_known(frame.pose):
            self._has_poses = True
            return round(frame.pose.x), round(frame.pose.y)
        return None if self._has_poses else (0, 0)

    def clear(self) -> None:
        """Drop the prepared frames; keep the regions and the bad pixels."""
        self._prepared.clear()
        self._ahead = None

    def take(self, frame: Frame) -> None:
        """Prepare the next frame; if that was not done ahead, search the next window's centre frame before or meanwhile.

        Not after it, because the frame changes what is known of the clutter: results do not depend on who looked ahead.
        """
        if self._helper is None or not self._can_search:
            self.search_ahead()
            self.prepare(frame)
            return
        searching = self._helper.submit(self._search, [*self._prepared][1:])
        self.prepare(frame)
        self._ahead = searching.result()

    def search_ahead(self) -> None:
        """Search the next window's centre frame, if no frame that is yet to come is averaged with it."""
        if self._can_search:
            self._ahead = self._search([*self._prepared][1:])

    @property
    def _can_search(self) -> bool:
        """Whether the next window's centre frame can be searched, and has not been."""
        return self._ahead is None and self._averaged[-1] < self._length - 1 == len(self._prepared) - 1

    def _search(self, prepared: Sequence[PreparedFrame]) -> Proposals:
        """Find the regions of a window's centre frame; prepared: its frames, from the first on."""
        neighbours = [prepared[k] for k in self._averaged if k != self._centre]
        return self.proposer.propose(prepared[self._centre], neighbours)

    def cut(self, frames: deque[Frame]) -> tuple[Window, dict[str, int]]:
        """Return the window of these frames, and how many regions and peaks were left out.

        Saturated pixels get their region's ceiling.
        """
        found, self._ahead = self._ahead or self._search(self._prepared), None
        centre = self._centre
        corners, numbers = self.regions.follow(found.centres)
        ceiling = frames[centre].full_scale - found.background
        patches = cut_regions(frames, [ready.light for ready in self._prepared], corners, ceiling)
        still = at_rest(len(corners), len(frames), self._lag)
        stamp = frames[centre].stamp
        seen = corners.astype(float), patches, *still, numbers, found.noise, ceiling, found.strength
        window = Window(stamp, *seen, _to_detections(stamp, found.large))
        return window, {"regions": found.left_out, "peaks": found.left_peaks}


def _to_detections(stamp: Stamp, large: LargeLights) -> Detections | None:
    """Return the detections of a frame's large lights, None without any; each has a region of its own, numbered below 0."""
    if not len(large.xy):
        return None
    score = np.array([1.0 if math.isnan(strength) else probability_of(strength) for strength in large.strength.tolist()])
    numbers, light = -1 - np.arange(len(score)), (large.amplitude, large.amplitude_sd)
    return Detections(stamp, large.xy, large.cov, *light, score, numbers, size=large.size)


class RegionPlaces:
    """Where a sensor's regions are: a region keeps its place and number while its group stays near the region's centre.

    A group that leaves it gets a region with a new number, moved by whole pixels.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        """shape: rows, columns of the frame."""
        self._shape, self._next_number = shape, 0
        self._corners, self._numbers = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)

    def follow(self, centres: Floats) -> tuple[Ints, Ints]:
        """Return the corners (N, 2) x, y and numbers (N,) of the regions of the next frame's groups, at centres (N, 2)."""
        fresh = region_corners(centres, self._shape)
        offset = np.abs(centres[:, None] - self._corners[None] - (np.array(PATCH[::-1]) - 1) / 2).max(-1)  # N M
        corners, numbers, taken = fresh.copy(), np.full(len(centres), -1), np.zeros(len(self._corners), bool)
        for k in np.argsort(offset.min(1, initial=np.inf), kind="stable"):
            held = int(np.where(taken, np.inf, offset[k]).argmin()) if len(taken) else -1
            if held >= 0 and not taken[held] and self._stays(offset[k, held], fresh[k], self._corners[held]):
                corners[k], numbers[k], taken[held] = self._corners[held], self._numbers[held], True
        new = np.flatnonzero(numbers < 0)
        numbers[new] = self._next_number + np.arange(len(new))
        self._next_number += len(new)
        self._corners, self._numbers = corners, numbers
        return corners, numbers

    @staticmethod
    def _stays(offset: float, fresh: Ints, held: Ints) -> bool:
        """Tell whether a group keeps its region: near its centre, or at the frame's border, where no region fits better.

        offset: px from the region's centre; fresh and held (2,): corners of the region it would get, and of the old one.
        """
        return bool(offset <= MAX_OFFSET_PX or (fresh == held).all())
