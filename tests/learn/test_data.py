"""Training batches: their content, and that they are reproducible."""

import numpy as np
import pytest

from irst_stream.cli import main
from irst_stream.errors import SourceError
from irst_stream.learn.data import benchmark_batches, crop_clips, folder_batches
from irst_stream.optics import render


def frames_match_truth(clips, tolerance):
    """Whether every unsaturated pixel equals the light of the clip's targets within the tolerance, DN."""
    light = render(np.nan_to_num(clips.xy), clips.amplitude[:, None], clips.frames.shape[2:])
    unclipped = light < 250
    return np.abs(clips.frames - light)[unclipped].max() < tolerance


def test_a_batch_is_reproducible_and_differs_from_others():
    draw, other_source = benchmark_batches(3, (0.0, 5.0), 0.15), benchmark_batches(3, (0.0, 5.0), 0.15)
    second = draw(1, 16, 5)
    draw(9, 16, 5)
    np.testing.assert_array_equal(draw(1, 16, 5).frames, second.frames)
    np.testing.assert_array_equal(other_source(1, 16, 5).frames, second.frames)
    assert (other_source(2, 16, 5).frames != second.frames).any()


def test_batches_hold_moving_and_stationary_groups_at_16_and_8_bits():
    clips = [benchmark_batches(1, (0.0, 0.0), 0.15)(k, 64, 5) for k in range(2)]
    frames = np.concatenate([c.frames for c in clips])
    stationary = (frames == frames[:, :1]).all((1, 2, 3))
    assert 0.05 < stationary.mean() < 0.3
    peak = frames.max((1, 2, 3))
    assert (peak == 255).any()
    assert (peak > 255).any()
    assert all(frames_match_truth(c, 0.51) for c in clips)


def test_cropped_clips_keep_their_truth():
    rng = np.random.default_rng(0)
    clips = crop_clips(benchmark_batches(1, (0.0, 0.0), 0.15)(0, 64, 8), (7, 7), rng)
    assert clips.frames.shape == (64, 8, 7, 7)
    assert frames_match_truth(clips, 0.51)
    assert np.nanmin(clips.xy) > 0.3
    assert np.nanmax(clips.xy) < 5.7
    whole = benchmark_batches(1, (0.0, 0.0), 0.15)(0, 4, 5)
    assert crop_clips(whole, (11, 11), rng) is whole


@pytest.mark.parametrize(("kind", "option"), [("seqcsist", "--trajectories"), ("csist100k", "--images")])
def test_folder_batches_keep_their_truth(kind, option, tmp_path):
    assert main(["simulate", kind, str(tmp_path / "d"), option, "6", "--split", "val", "--depth", "16"]) == 0
    clips = folder_batches(tmp_path / "d" / "val", 0, (0.0, 0.0))(0, 32, 5)
    assert clips.frames.shape == (32, 5, 11, 11)
    assert frames_match_truth(clips, 0.51)
    noisy = folder_batches(tmp_path / "d" / "val", 0, (3.0, 3.0))(0, 32, 5)
    assert 2.5 < np.std(noisy.frames - clips.frames) < 3.5


def test_a_folder_without_truth_is_refused(tmp_path):
    np.save(tmp_path / "frames.npy", np.zeros((20, 11, 11), np.uint16))
    with pytest.raises(SourceError, match="without truth; expected a split with annotations"):
        folder_batches(tmp_path / "frames.npy", 0, (0.0, 0.0))
