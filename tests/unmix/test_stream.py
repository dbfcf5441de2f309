"""Streams of patches: windows share maps, and the network's crop follows the light."""

import numpy as np
import pytest
from random_networks import BySensor, random_engine

from irst_stream import Stamp, UsageError
from irst_stream.sim import seqcsist
from irst_stream.types import Unmixed, Window, at_rest
from irst_stream.unmix.engine import WINDOW
from irst_stream.unmix.numpy import NumpyUnmixer
from irst_stream.unmix.onnx import OnnxUnmixer
from irst_stream.unmix.stream import MapStream, NetworkInput, light_centre, run, run_sequence


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("engine"), head=True, side=7)


def run_one(unmixer, stream, patches, numbers):
    """The output for one region's window alone."""
    return run(unmixer, [NetworkInput(stream, patches, numbers)])[0]


class Counting(NumpyUnmixer):
    """Counts the unfolded frames; its outputs are 0."""

    unfolded = 0

    def unfold(self, patches):
        self.unfolded += len(patches)
        return np.zeros((len(patches), 21, 21), np.float32)

    def fuse(self, maps, *_):
        return Unmixed(np.zeros((len(maps), 21, 21), np.float32), np.zeros((len(maps), 7, 21, 21), np.float32))


def spots(*columns, row=5):
    """Frames of one bright pixel each."""
    frames = np.zeros((len(columns), 11, 11), np.float32)
    frames[np.arange(len(columns)), row, columns] = 100
    return frames


def test_streamed_output_equals_that_of_whole_windows(engine):
    patches = seqcsist(1, seed=5, noise=(2.0, 2.0)).frames[0, :9]
    unmixer = OnnxUnmixer(engine, threads=1)
    stream = MapStream(engine.manifest)
    for k in range(5):
        window = patches[k : k + WINDOW]
        seen, (x, y) = run_one(unmixer, stream, window, range(k, k + WINDOW))
        part = np.ascontiguousarray(window[:, y : y + 7, x : x + 7])
        whole = unmixer.fuse(unmixer.unfold(part)[None], part[None], np.arange(WINDOW)[None])
        np.testing.assert_allclose(seen.map, whole.map, atol=1e-4 * np.ptp(whole.map))
        np.testing.assert_allclose(seen.claims, whole.claims, atol=1e-4 * np.ptp(whole.claims))


def test_each_frame_is_unfolded_once_while_the_light_stays(engine):
    unmixer = Counting(engine)
    run_sequence([unmixer], engine.manifest, spots(5, 5, 6, 6, 5, 4, 4, 5))
    assert unmixer.unfolded == 8


def test_many_threads_give_what_one_gives_and_what_a_stream_gives(engine):
    patches = seqcsist(1, seed=5, noise=(2.0, 2.0)).frames[0]
    one, many = (run_sequence([OnnxUnmixer(engine, 1) for _ in range(n)], engine.manifest, patches) for n in (1, 3))
    np.testing.assert_array_equal(one.claims, many.claims)
    unmixer, stream = OnnxUnmixer(engine, 1), MapStream(engine.manifest)
    for k in range(16):
        seen, (x, y) = run_one(unmixer, stream, patches[k : k + WINDOW], range(k, k + WINDOW))
        np.testing.assert_allclose(one.map[k, 3 * y : 3 * y + 21, 3 * x : 3 * x + 21], seen.map[0], atol=1e-3)


def test_when_the_crop_moves_all_frames_are_unfolded_again(engine):
    unmixer = Counting(engine)
    stream = MapStream(engine.manifest)
    assert run_one(unmixer, stream, spots(4, 4, 4, 4, 4), range(5)).corner.tolist() == [1, 2]
    assert run_one(unmixer, stream, spots(4, 4, 4, 4, 5), range(1, 6)).corner.tolist() == [1, 2]
    assert unmixer.unfolded == 6
    assert run_one(unmixer, stream, spots(6, 6, 6, 6, 6), range(2, 7)).corner.tolist() == [3, 2]
    assert unmixer.unfolded == 6 + 5


def test_at_the_border_the_crop_stays_inside_the_patch(engine):
    seen = run_one(Counting(engine), MapStream(engine.manifest), spots(0, 0, 1, 1, 0, row=10), range(5))
    assert seen.corner.tolist() == [0, 4]


def window(index, frames=5, sensor="a", epoch=0, regions=1, first=0):
    patches = np.repeat(spots(*[5] * frames)[None], regions, axis=0)
    region = first + np.arange(regions)
    unknown, ceiling = np.full(regions, np.nan), np.full(regions, np.inf)
    return Window(
        Stamp(sensor, epoch, index, 0), np.zeros((regions, 2)), patches, *at_rest(regions, frames), region, unknown, ceiling
    )


def test_windows_of_several_sensors_do_not_mix(engine):
    unmixer = Counting(engine)
    unmix = BySensor(unmixer, engine.manifest)
    for index in (2, 3, 4):
        for sensor in "ab":
            assert len(unmix([window(index, sensor=sensor)])[0]) == 1
    assert unmixer.unfolded == 2 * (5 + 1 + 1)
    unmix([window(4, sensor="a", epoch=1)])
    assert unmixer.unfolded == 14 + 5, "a restarted sensor has no maps"
    unmix.maps.pop("b")
    unmix([window(5, sensor="b")])
    assert unmixer.unfolded == 19 + 5


def test_each_region_has_its_own_maps_and_a_gap_drops_old_ones(engine):
    unmixer = Counting(engine)
    unmix = BySensor(unmixer, engine.manifest)
    assert len(unmix([window(2, regions=3)])[0]) == 3
    assert unmixer.unfolded == 15
    unmix([window(9, regions=3)])
    assert unmixer.unfolded == 30


def test_a_region_keeps_its_maps_while_others_come_and_go(engine):
    unmixer = Counting(engine)
    unmix = BySensor(unmixer, engine.manifest)
    unmix([window(2, regions=2)])
    unmix([window(3, regions=2, first=1)])
    assert unmixer.unfolded == 10 + 1 + 5
    unmix([window(4, regions=3)])
    assert unmixer.unfolded == 16 + 5 + 1 + 1, "the first region left, and returned without maps"


def test_windows_of_all_sensors_go_through_the_network_together(engine):
    patches = seqcsist(3, seed=6, noise=(2.0, 2.0)).frames[:, :6]
    together, alone = (BySensor(OnnxUnmixer(engine, 1), engine.manifest) for _ in range(2))
    one = np.zeros(1, np.int64)
    for t in range(2):
        windows = [
            Window(
                Stamp(f"{k}", 0, t + 2, 0),
                np.zeros((1, 2)),
                p[None, t : t + 5],
                *at_rest(1, 5),
                one,
                np.ones(1),
                np.ones(1),
            )
            for k, p in enumerate(patches.astype(np.float32))
        ]
        for window_, answers in zip(windows, together(windows), strict=True):
            (expected,), (answer,) = alone([window_])[0], answers
            np.testing.assert_allclose(answer.unmixed.claims, expected.unmixed.claims, atol=1e-4)
            assert answer.corner.tolist() == expected.corner.tolist()
    assert together([]) == []


def test_a_clips_time_code_ends_with_its_clip(tmp_path):
    by_clip = random_engine(tmp_path, exported=False, code_length=20)
    unmix = BySensor(NumpyUnmixer(by_clip), by_clip.manifest)
    assert len(unmix([window(17)])) == 1
    with pytest.raises(UsageError, match="frame 20: this engine's time code covers clips of at most 20 frames"):
        unmix([window(18)])


def test_a_single_frame_is_treated_as_a_static_scene(engine):
    unmixer = Counting(engine)
    unmix = BySensor(unmixer, engine.manifest)
    unmix([window(0, frames=1)])
    unmix([window(1, frames=1)])
    assert unmixer.unfolded == 2
    with pytest.raises(UsageError, match="needs 5 frames, or 1, got 3"):
        unmix([window(1, frames=3)])


def test_pixels_that_are_not_finite_count_as_zero(engine):
    patches = seqcsist(1, seed=5).frames[0, :5].copy()
    patches[2, 0, 0], patches[3, 10, 10] = np.nan, np.inf
    assert np.isfinite(run_sequence([NumpyUnmixer(engine)], engine.manifest, patches).claims).all()


def test_the_output_is_zero_outside_the_crop(engine):
    seen = run_sequence([OnnxUnmixer(engine)], engine.manifest, spots(2, 2, 2, 2, 2, row=2))
    assert seen.map.shape == (1, 33, 33)
    assert seen.claims.shape == (1, 7, 33, 33)
    assert (seen.map[0, 21:] == 0).all()
    assert (seen.map[0, :21, :21] != 0).any()


def test_the_centre_of_light(engine):
    np.testing.assert_allclose(light_centre(spots(3, 8, row=2)), [[3, 2], [8, 2]], atol=1e-6)
    np.testing.assert_allclose(light_centre(np.full((1, 5, 7), 3.0)), [[3, 2]])
    with pytest.raises(UsageError, match="patches of 5 x 5 px; this engine needs at least 7 x 7"):
        run_one(NumpyUnmixer(engine), MapStream(engine.manifest), np.zeros((5, 5, 5)), range(5))
