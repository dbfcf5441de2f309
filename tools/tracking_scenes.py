"""Groups of targets as a sensor's detector reports them, for comparing trackers: seeded, with truth.

Every group sways about a place of its own, at up to 0.08 px a frame, all on one field; RATE_HZ frames a second.
"formation": its members hold their places in an echelon, each SPACING_PX behind and SPACING_PX beside the one before, so
that none merge. "crossing": each member starts SPACING_PX from the middle on a side of its own, flies straight past the
middle, about 0.1 px beside it, and arrives at the other side with the last frame. All meet at half time and most merge.
"manoeuvring": each member of a formation swings about its place in it, along x and y each, by OWN_SWAY_PX and with a period
of its own, OWN_PERIOD_FRAMES, which is up to 9 px/s; they meet, merge and part many times.

What the detector sees of a group in a frame: its members, those nearer to each other than MERGE_PX, directly or over
others, as one, at the mean weighted by brightness and with the sum of brightness; each of them with probability DETECTED,
with errors of SD_PX and BRIGHTNESS_NOISE; and FALSE_ALARMS beside, anywhere in the PATCH_PX wide patch around the group.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from irst_stream.types import Detections, Floats, Ints, Stamp, Truth

RATE_HZ = 100.0
SD_PX = 0.08
DETECTED = 0.95
MERGE_PX = 0.5
FALSE_ALARMS = 0.05  # a group and frame
PATCH_PX = 11.0
BRIGHTNESS_DN = (220.0, 250.0)
BRIGHTNESS_NOISE = 0.03  # of the brightness
MEMBERS = (2, 5)
LARGER = 0.32  # the chance of each member beyond the second
SPACING_PX = (0.4, 1.2)
SWAY_PX = 4.0  # how far a group strays from its place, along x and y each
PERIOD_FRAMES = (300.0, 600.0)  # of that
OWN_SWAY_PX = (0.4, 1.4)  # of those that manoeuvre
OWN_PERIOD_FRAMES = (100.0, 250.0)
PITCH_PX = 25.0  # from place to place: the nearest two members of two groups stay 11 px apart and more

Kind = Literal["formation", "crossing", "manoeuvring"]
KINDS: tuple[Kind, ...] = ("formation", "crossing", "manoeuvring")
Frames = list[tuple[Detections, Truth]]


@dataclass(frozen=True)
class Flock:
    """Where everyone is: xy (T, N, 2) px, group (N,), brightness (N,) DN."""

    xy: Floats
    group: Ints
    brightness: Floats


def scene(kind: Kind, groups: int, frames: int = 200, seed: int = 0, members: int = 0) -> Frames:
    """Detections and truth of each frame; members: of each group, 0 for 2 to 5, small groups being more frequent."""
    drawn = MEMBERS[0] + np.random.default_rng([seed, groups]).binomial(MEMBERS[1] - MEMBERS[0], LARGER, groups)
    rng = np.random.default_rng([seed, groups, frames, KINDS.index(kind)])
    flock = fly(kind, np.full(groups, members) if members else drawn, frames, rng)
    return [look(flock, t, rng) for t in range(frames)]


def fly(kind: Kind, members: Ints, frames: int, rng: np.random.Generator) -> Flock:
    """Where everyone is; members (G,) of each group."""
    groups = len(members)
    side = int(np.ceil(np.sqrt(groups)))
    parts = []
    for k, count in enumerate(members):
        place = PITCH_PX * (np.array([k % side, k // side]) + 0.5)
        phase, period = rng.uniform(0, 2 * np.pi, 2), rng.uniform(*PERIOD_FRAMES, 2)
        middle = place + SWAY_PX * np.sin(2 * np.pi * np.arange(frames)[:, None] / period + phase)
        offsets = crossing(count, frames, rng) if kind == "crossing" else formation(count, rng)[None]
        if kind == "manoeuvring":
            offsets = offsets + swinging(count, frames, rng)
        parts.append(middle[:, None] + offsets)
    brightness = rng.uniform(*BRIGHTNESS_DN, members.sum())
    return Flock(np.concatenate(parts, axis=1), np.repeat(np.arange(groups), members), brightness)


def formation(members: int, rng: np.random.Generator) -> Floats:
    """(members, 2) px from the middle."""
    steps = rng.uniform(*SPACING_PX, (members - 1, 2))
    places = np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
    turn = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(turn), np.sin(turn)
    return (places - places.mean(axis=0)) @ np.array([[c, s], [-s, c]])


def crossing(members: int, frames: int, rng: np.random.Generator) -> Floats:
    """(frames, members, 2) px from the middle."""
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(members) / members + rng.uniform(-0.3, 0.3, members)
    ahead = np.column_stack([np.cos(angle), np.sin(angle)])
    aside = rng.normal(0, 0.1, (members, 1)) * ahead[:, ::-1] * (1, -1)
    reach = rng.uniform(*SPACING_PX, (members, 1))
    way = np.linspace(1, -1, frames)[:, None, None]
    return way * reach * ahead + aside


def swinging(members: int, frames: int, rng: np.random.Generator) -> Floats:
    """(frames, members, 2) px from each one's place."""
    reach, period = rng.uniform(*OWN_SWAY_PX, (members, 2)), rng.uniform(*OWN_PERIOD_FRAMES, (members, 2))
    phase = rng.uniform(0, 2 * np.pi, (members, 2))
    return reach * np.sin(2 * np.pi * np.arange(frames)[:, None, None] / period + phase)


def look(flock: Flock, t: int, rng: np.random.Generator) -> tuple[Detections, Truth]:
    """What is reported of frame t, and what is true of it."""
    stamp = Stamp("bench", 0, t, round(t * 1e9 / RATE_HZ), clock="sensor")
    xy = flock.xy[t]
    truth = Truth(stamp, np.arange(len(xy)), flock.group, xy, flock.brightness)
    bright = flock.brightness * (1 + BRIGHTNESS_NOISE * rng.standard_normal(len(xy)))
    seen_xy, seen_dn, seen_group = merged(xy, bright, flock.group)
    seen_xy = seen_xy + SD_PX * rng.standard_normal(seen_xy.shape)
    kept = rng.random(len(seen_xy)) < DETECTED
    false = np.repeat(np.arange(flock.group.max() + 1), rng.poisson(FALSE_ALARMS, flock.group.max() + 1))
    middle = np.array([xy[flock.group == g].mean(axis=0) for g in false]).reshape(-1, 2)
    false_xy = middle + rng.uniform(-PATCH_PX / 2, PATCH_PX / 2, middle.shape)
    order = rng.permutation(int(kept.sum()) + len(false))
    return (
        Detections(
            stamp,
            np.vstack([seen_xy[kept], false_xy])[order],
            np.tile(np.eye(2) * SD_PX**2, (len(order), 1, 1)),
            np.concatenate([seen_dn[kept], rng.uniform(*BRIGHTNESS_DN, len(false))])[order],
            np.full(len(order), BRIGHTNESS_NOISE * np.mean(BRIGHTNESS_DN)),
            np.ones(len(order)),
            np.concatenate([seen_group[kept], false])[order],
        ),
        truth,
    )


def merged(xy: Floats, brightness: Floats, group: Ints) -> tuple[Floats, Floats, Ints]:
    """Xy, brightness and group of what can be told apart: members of a group nearer than MERGE_PX are one."""
    near = (np.linalg.norm(xy[:, None] - xy[None], axis=-1) < MERGE_PX) & (group[:, None] == group)
    label = np.arange(len(xy))
    for _ in range(MEMBERS[1]):  # each round hands the smallest number on by one neighbour
        label = np.where(near, label[None], len(xy)).min(axis=1)
    _, one = np.unique(label, return_inverse=True)
    total = np.bincount(one, brightness)
    middle = np.column_stack([np.bincount(one, brightness * axis) / total for axis in xy.T])
    return middle, total, group[np.unique(label)]
