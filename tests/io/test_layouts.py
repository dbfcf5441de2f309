"""Every legal layout of an array gives the same frames and the same answers."""

import h5py
import numpy as np
import pytest
import scipy.io

from irst_stream import Frame, Stamp, open_pipeline, open_source
from irst_stream.types import PIXEL_TYPES

FILM = (np.arange(7 * 13 * 12).reshape(7, 13, 12) * 37 % 251).astype(np.uint8)


def strided(array):
    """The same values in every other column of a wider array."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def unaligned(array):
    """The same values, beginning at an odd address."""
    buffer = np.zeros(array.nbytes + 1, np.uint8)
    shifted = buffer[1:].view(array.dtype) if array.itemsize == 1 else np.frombuffer(buffer, array.dtype, array.size, 1)
    shifted = shifted.reshape(array.shape)
    shifted[...] = array
    return shifted


LAYOUTS = {
    "row order": np.ascontiguousarray,
    "column order": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "big-endian, column order": lambda a: np.asfortranarray(a.astype(a.dtype.newbyteorder(">"))),
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "transposed": lambda a: np.ascontiguousarray(np.swapaxes(a, -1, -2)).swapaxes(-1, -2),
    "strided": strided,
    "unaligned": unaligned,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


def npy(path, film):
    np.save(path / "a.npy", film)
    return path / "a.npy"


def npz(path, film):
    np.savez(path / "a.npz", film)
    return path / "a.npz"


def npz_compressed(path, film):
    np.savez_compressed(path / "a.npz", film)
    return path / "a.npz"


def mat5(path, film):
    scipy.io.savemat(path / "a.mat", {"film": np.moveaxis(film, 0, 2)})
    return path / "a.mat"


def mat73(path, film):
    with h5py.File(path / "a.mat", "w") as file:
        file["film"] = np.swapaxes(film, 1, 2)
    return path / "a.mat"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("write", [npy, npz, npz_compressed, mat5, mat73])
def test_every_array_reader_takes_every_layout_and_type(write, layout, dtype, tmp_path):
    film = LAYOUTS[layout](FILM.astype(dtype))
    frames = list(open_source(write(tmp_path, film)))
    assert len(frames) == len(FILM)
    for frame, expected in zip(frames, FILM, strict=True):
        assert (frame.pixels == expected).all()
        assert frame.pixels.dtype in PIXEL_TYPES
        assert frame.pixels.flags.c_contiguous
        assert frame.pixels.flags.aligned


def answers(frames):
    found = list(open_pipeline("live-patches").run(frames))
    return [(record.xy.tobytes(), record.cov.tobytes(), record.score.tobytes()) for record in found]


@pytest.mark.parametrize(
    ("dtype", "shape"), [("uint8", (11, 11)), ("uint16", (11, 11)), ("float32", (11, 11)), ("uint16", (80, 96))]
)
def test_a_pipeline_gives_the_same_answer_for_every_layout(dtype, shape):
    rng = np.random.default_rng(1)
    film = rng.normal(20, 2, (7, *shape))
    y, x = np.indices(shape)
    film += 150 * np.exp(-((x - 5.3) ** 2 + (y - 5.8) ** 2))
    film = film.astype(dtype)

    def frames(layout):
        return (Frame(Stamp("cam", 0, k, k * 10**7), layout(film[k]), 255.0) for k in range(len(film)))

    expected = answers(frames(np.ascontiguousarray))
    assert sum(len(xy) for xy, _, _ in expected) > 0
    for name, layout in LAYOUTS.items():
        assert answers(frames(layout)) == expected, name


def test_a_frame_in_row_order_is_not_copied():
    pixels = np.zeros((9, 9), np.uint16)
    assert np.shares_memory(Frame(Stamp("cam", 0, 0, 0), pixels).pixels, pixels)
