"""Hypothesis strategies shared by the tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from irst_stream import Detections, Frame, Pose, Stamp, Tracks, Truth
from irst_stream.types import PIXEL_TYPES

finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
clocks = st.sampled_from(["sensor", "unix", "monotonic"])
ids = st.integers(-(2**53), 2**53)


def columns(shape, elements=finite, dtype=np.float64):
    return arrays.arrays(dtype, shape, elements=elements)


def same(a, b):
    """Asserts that two records of the vocabulary are equal, arrays with their types."""
    for name in a.__slots__:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
        else:
            assert left == right


@st.composite
def stamps(draw, sensor=False):
    """sensor: of a live one, whose name is plain and whose frames come from no file."""
    text = st.text(st.characters(codec="utf-8"), max_size=12)
    if sensor:
        name = st.from_regex(r"[A-Za-z0-9_.:-]{1,64}", fullmatch=True)
        return Stamp(draw(name), draw(ids), draw(st.integers(0, 2**62)), draw(ids), "", draw(clocks))
    return Stamp(draw(text), draw(st.integers(0, 9)), draw(st.integers(0, 2**40)), draw(ids), draw(text), draw(clocks))


@st.composite
def covariances(draw, n, size):
    """(n, size, size), symmetric and positive definite, or NaN for a method that gives none."""
    factor = draw(columns((n, size, size), st.floats(-10, 10)))
    cov = factor @ np.swapaxes(factor, 1, 2) + np.eye(size)
    cov[draw(columns((n,), st.booleans(), np.bool_))] = np.nan
    return cov


@st.composite
def frames(draw):
    """As a live sensor sends them."""
    shape = st.tuples(st.integers(1, 12), st.integers(1, 12))
    pixels = draw(st.sampled_from(PIXEL_TYPES).flatmap(lambda dtype: arrays.arrays(dtype, shape)))
    metadata = draw(st.sampled_from([b"", b"\x81\xa1a\x02"]))
    return Frame(draw(stamps(sensor=True)), pixels, draw(st.sampled_from([np.inf, 255.0, 16383.0])), metadata)


@st.composite
def detections(draw, sensor=False):
    n = draw(st.integers(0, 5))
    amplitude = draw(columns((n,), st.one_of(finite, st.just(np.nan))))
    sd = draw(columns((n,), st.one_of(positive, st.just(np.nan))))
    cov = draw(covariances(n, 2))
    region, score = draw(columns((n,), st.integers(-9, 99), np.int64)), draw(columns((n,)))
    size = draw(columns((n, 2), st.one_of(positive, st.just(0.0))))
    return Detections(draw(stamps(sensor=sensor)), draw(columns((n, 2))), cov, amplitude, sd, score, region, size=size)


@st.composite
def tracks(draw, sensor=False):
    n = draw(st.integers(0, 5))
    cov, confirmed = draw(covariances(n, 4)), draw(columns((n,), st.booleans(), np.bool_))
    row = draw(columns((n,), st.integers(-1, 9), np.int64))
    key, state = draw(columns((n,), ids, np.int64)), draw(columns((n, 4)))
    return Tracks(draw(stamps(sensor=sensor)), key, state, cov, draw(columns((n,))), draw(columns((n,))), confirmed, row)


@st.composite
def truths(draw):
    n = draw(st.integers(0, 5))
    key, group = (draw(columns((n,), ids, np.int64)) for _ in range(2))
    amplitude = draw(columns((n,), st.one_of(finite, st.just(np.nan))))
    size = draw(columns((n, 2), positive))
    size[draw(columns((n,), st.booleans(), np.bool_))] = np.nan  # points
    frame_size = draw(st.sampled_from([(0, 0), (640, 512)]))
    return Truth(draw(stamps()), key, group, draw(columns((n, 2))), amplitude, size, frame_size)


@st.composite
def poses(draw):
    return Pose(draw(stamps()), draw(finite), draw(finite), draw(finite))


@st.composite
def scored_images(draw, tied_scores=False):
    """Images of up to 6 detections (m, 3) and up to 4 truths (n, 2), close enough to quarrel over each other."""
    score = st.integers(0, 3).map(float) if tied_scores else st.floats(0, 1)
    found, real = [], []
    for _ in range(draw(st.integers(1, 6))):
        m, n = draw(st.integers(0, 6)), draw(st.integers(0, 4))
        xy = draw(columns((m, 2), st.floats(0, 0.5)))
        found.append(np.column_stack([xy, draw(columns((m,), score))]))
        real.append(draw(columns((n, 2), st.floats(0, 0.5))))
    return found, real
