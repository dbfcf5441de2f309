"""Files of arrays: several in one, and one larger than memory should be."""

import itertools

import h5py
import media_files as media
import numpy as np
import pytest
import scipy.io
from media_files import make_frames

from irst_stream import SourceError, UsageError, open_source


def test_an_array_must_be_chosen_if_there_are_several(tmp_path):
    frames = make_frames(np.uint16)
    np.savez(tmp_path / "a.npz", night=frames, day=frames[:3])
    scipy.io.savemat(tmp_path / "a.mat", {"night": frames.transpose(1, 2, 0), "day": frames[:3].transpose(1, 2, 0)})
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file["night"], file["day"] = frames.transpose(0, 2, 1), frames[:3].transpose(0, 2, 1)
    for name in ("a.npz", "a.mat", "b.mat"):
        with pytest.raises(
            SourceError, match=r"several arrays; choose one with --variable. Arrays in the file: day .*, night "
        ):
            open_source(tmp_path / name)
        with pytest.raises(SourceError, match="no array 'dawn'"):
            open_source(tmp_path / name, variable="dawn")
        got = list(open_source(tmp_path / name, variable="day"))
        assert len(got) == 3
        np.testing.assert_array_equal(got[2].pixels, frames[2])


@pytest.mark.parametrize("name", ["a.npy", "folder", "a.mcap"])
def test_an_array_is_chosen_only_where_arrays_have_names(name, tmp_path):
    np.save(tmp_path / "a.npy", make_frames(np.uint16))
    media.png_folder(tmp_path / "folder", make_frames(np.uint16))
    with pytest.raises(UsageError, match=rf"--variable: .*{name} holds no named arrays; expected"):
        open_source(tmp_path / name, variable="day")


def test_a_stack_is_memory_mapped_not_loaded(tmp_path):
    path = tmp_path / "large.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(3000, 512, 640))  # 2 GB, sparse
    array[3] = 7
    del array
    first = list(itertools.islice(open_source(path), 4))
    assert first[3].pixels.max() == 7
