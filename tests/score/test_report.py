import numpy as np
import pytest

from irst_stream import Detections, FormatError, Stamp, Truth, UsageError
from irst_stream.optics import FineGrid
from irst_stream.resolve.cells import read_cells
from irst_stream.score import MismatchError, cso_map, frame_range, pair_frames, score_detections, scored_truths
from irst_stream.sim import SeqCsistRules, csist100k, seqcsist


def truth(index, sequence="a", xy=((1.0, 2.0),)):
    n = len(xy)
    return Truth(
        Stamp(sequence, 0, index, 0), np.arange(n), np.zeros(n, int), np.array(xy).reshape(-1, 2), np.full(n, 230.0)
    )


def detections(index, sequence="a", xy=((1.0, 2.0),)):
    n = len(xy)
    return Detections.bare(Stamp(sequence, 0, index, 0), np.array(xy).reshape(-1, 2), np.full(n, 230.0), np.ones(n))


def test_frames_are_paired_by_sequence_and_index_in_any_order():
    truths = [truth(i, s) for s in "ab" for i in range(3)]
    pairs = pair_frames([detections(i, s) for s in "ba" for i in (2, 0, 1)], truths)
    assert [(d.stamp.sensor, d.stamp.index) for d, _ in pairs] == [(t.stamp.sensor, t.stamp.index) for t in truths]


def test_a_frame_without_detections_line_counts_as_empty():
    report = score_detections(pair_frames([detections(0)], [truth(0), truth(1)]))
    assert report.unanswered == 1
    assert report.errors.recall == 0.5


def test_ranges_count_within_each_sequence():
    truths = [truth(i, s) for s, n in (("a", 20), ("b", 6)) for i in range(n)]
    kept = scored_truths(truths, frame_range("2:-2"))
    assert [i for s, _, i in kept if s == "a"] == list(range(2, 18))
    assert [i for s, _, i in kept if s == "b"] == [2, 3]
    assert len(scored_truths(truths, frame_range("all"))) == 26


@pytest.mark.parametrize("text", ["5", "a:b", "1:2:3", ""])
def test_invalid_ranges_are_refused(text):
    with pytest.raises(UsageError, match="expected FIRST:LAST"):
        frame_range(text)


def test_errors_name_unknown_and_duplicate_frames():
    with pytest.raises(FormatError, match="sequence 'z' index 0 is not in the truth, which starts at sequence 'a' index 0"):
        pair_frames([detections(0, "z")], [truth(0)])
    with pytest.raises(FormatError, match="two lines for sequence 'a' index 0"):
        pair_frames([detections(0), detections(0)], [truth(0)])
    with pytest.raises(FormatError, match="two lines"):
        pair_frames([], [truth(0), truth(0)])


def test_results_beyond_the_truth_are_refused_unless_they_are_not_scored():
    found, truths = [detections(i) for i in range(9)], [truth(i) for i in range(2, 6)]
    for frames in ("all", "2:-2", "-7:-2", "1:6"):
        with pytest.raises(MismatchError, match="is not in the truth, which has index 2 to 5 of that sequence") as refused:
            pair_frames(found, truths, frame_range(frames))
        assert refused.value.covered == (2, 5)
    assert [d.stamp.index for d, _ in pair_frames(found, truths, frame_range("3:6"))] == [3, 4, 5]
    with pytest.raises(MismatchError, match="'b' index 8 is not in the truth, which starts at sequence 'a' index 2"):
        pair_frames([detections(8, "b")], truths, frame_range("2:6"))
    with pytest.raises(MismatchError, match="index 4 is not in the truth") as refused:
        pair_frames(found, [truth(3), truth(5)], frame_range("3:6"))
    assert refused.value.covered is None


def test_nan_becomes_none_in_the_plain_report():
    plain = score_detections(pair_frames([detections(0, xy=())], [truth(0, xy=())])).as_dict()
    assert plain["cso_map"] is None
    assert plain["gospa"]["total"] == 0


def cell_centre_scores(patches, frames):
    grid = FineGrid()
    found, real = [], []
    for k in range(len(patches)):
        n = patches.count[k]
        for t in frames:
            xy, amplitude = patches.xy[k, t, :n], patches.amplitude[k, :n]
            read = read_cells(grid.label(xy, amplitude), grid).detections(Stamp("", 0, t, 0))
            found.append(np.column_stack([read.xy, read.score]))
            real.append(xy)
    return cso_map(found, real, mode="legacy")


@pytest.mark.parametrize(("start", "known"), [("lattice", 52.2), ("columns", 47.5), ("anywhere", 48.1)])
def test_perfect_labels_read_at_cell_centres_score_as_known_on_seqcsist(start, known):
    """Lattice starts score as a replica of the originals does; free starts score lower, being farther from cell centres."""
    got = cell_centre_scores(seqcsist(750, split="test", rules=SeqCsistRules(start=start)), range(2, 18))
    assert 100 * got.map == pytest.approx(known, abs=1)
    assert 100 * got.ap[-1] > 99


def test_perfect_labels_read_at_cell_centres_score_as_known_on_csist100k():
    got = cell_centre_scores(csist100k(10_000, split="test"), range(1))
    assert 100 * got.map == pytest.approx(46.3, abs=1)
    assert 100 * got.ap == pytest.approx([0.5, 5.8, 36.4, 88.9, 100], abs=2)
