"""Truth and tracks for tests of scores."""

import numpy as np

from irst_stream import Stamp, Tracks, Truth

RATE_HZ = 100


def stamp(index, sequence="a"):
    return Stamp(sequence, 0, index, index * 10**9 // RATE_HZ)


def truth(index, points, sequence="a"):
    """points: {id: (x, y)}."""
    n = len(points)
    xy = np.array(list(points.values()), np.float64).reshape(-1, 2)
    return Truth(stamp(index, sequence), np.array(list(points), np.int64), np.zeros(n, int), xy, np.full(n, 230.0))


def tracks(index, points, sequence="a", tentative=(), velocity=(0.0, 0.0)):
    """points: {id: (x, y)}."""
    n, key = len(points), np.array(list(points), np.int64)
    xy = np.array(list(points.values()), np.float64).reshape(-1, 2)
    return Tracks(
        stamp(index, sequence),
        key,
        np.column_stack([xy, np.tile(velocity, (n, 1)).reshape(n, 2)]),
        np.full((n, 4, 4), np.nan),
        np.full(n, 230.0),
        np.ones(n),
        ~np.isin(key, tentative),
        np.full(n, -1),
    )


def film(truths, found, sequence="a"):
    """Pairs of tracks and truth from lists of {id: (x, y)}, one for each frame; None for a frame without tracks."""
    return [
        (None if f is None else tracks(k, f, sequence), truth(k, t, sequence))
        for k, (t, f) in enumerate(zip(truths, found, strict=True))
    ]


def random_film(seed, frames=40, targets=5, side=4.0, sequence="a", gaps=True):
    """Targets that wander, appear and vanish; tracks of them with errors, breaks, swaps, and false tracks.

    side: px, of the square in which targets start; gaps: targets that reappear, and frames without any target or track.
    """
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, side, (targets, 2)) + np.cumsum(rng.normal(0, 0.15, (frames, targets, 2)), 0)
    alive = _lives(rng, frames, targets)
    follows = np.arange(targets) + 100
    emptied = {int(k): (rng.random() < 0.5) for k in rng.choice(frames, 4)} if gaps else {}
    if gaps:
        alive &= rng.random(alive.shape) > 0.05
    truths, found = [], []
    for t in range(frames):
        if rng.random() < 0.15 and targets > 1:
            a, b = rng.choice(targets, 2, replace=False)
            follows[a], follows[b] = follows[b], follows[a]
        if rng.random() < 0.1:
            follows[rng.integers(targets)] = 1000 + t
        real = {int(k): tuple(places[t, k]) for k in rng.permutation(targets) if alive[t, k]}
        seen = {int(follows[k]): tuple(places[t, k] + rng.normal(0, 0.2, 2)) for k in real if rng.random() < 0.85}
        seen |= {2000 + int(rng.integers(4)): tuple(rng.uniform(0, side, 2)) for _ in range(rng.poisson(0.5))}
        truths.append({} if emptied.get(t) is True else real)
        found.append({} if emptied.get(t) is False else seen)
    return film(truths, found, sequence)


def _lives(rng, frames, targets):
    """Whether each target is alive in each frame (frames, targets): from a random first to a random last frame."""
    first, last = rng.integers(0, frames // 3, targets), rng.integers(frames // 2, frames, targets)
    t = np.arange(frames)[:, None]
    return (t >= first) & (t <= last)
