"""Truth whose sequences have other names than those of the frames."""

import pytest
import truth_files

from irst_stream import Stamp
from irst_stream.io.truth import open_truth
from irst_stream.io.truth.pairing import align_truth

BOXES = [[(4, 6, 3, 3)], [], [(10, 12, 5, 2), (20, 3, 1, 1)]]  # x, y of the first pixel, w, h, in each frame


class TestPairing:
    """Frames found and truth under different names."""

    def stamps(self, *frames):
        return [Stamp(sensor, 0, index, 10 * index, source) for sensor, index, source in frames]

    def where(self, truths):
        return [(t.stamp.sensor, t.stamp.index, len(t)) for t in truths]

    def test_equal_names_need_no_pairing(self, tmp_path):
        truth = open_truth(truth_files.box_table(tmp_path, BOXES))
        got, note = align_truth(self.stamps(("flight", 0, "")), truth)
        assert note == ""
        assert self.where(got) == [("flight", 0, 1), ("flight", 1, 0), ("flight", 2, 1)]

    def test_the_only_sequences_are_paired_whatever_their_names(self, tmp_path):
        truth = open_truth(truth_files.box_table(tmp_path, BOXES))
        got, note = align_truth(self.stamps(("cam", 0, ""), ("cam", 2, "")), truth)
        assert note == "paired: sequence 'cam' with truth 'flight'"
        assert self.where(got) == [("cam", 0, 1), ("cam", 1, 0), ("cam", 2, 1)]
        assert [t.stamp.time_ns for t in got] == [0, 10, 20]

    def test_several_sequences_are_not_guessed(self, tmp_path):
        truth = open_truth(truth_files.box_table(tmp_path, BOXES))
        got, note = align_truth(self.stamps(("cam", 0, ""), ("eye", 0, "")), truth)
        assert (note, got[0].stamp.sensor) == ("", "flight")

    def test_images_are_paired_by_sequence_or_by_source(self, tmp_path):
        truth = open_truth(truth_files.masks(tmp_path, BOXES))
        exact, note = align_truth(self.stamps(("frame_0", 0, ""), ("frame_2", 0, "")), truth)
        assert (note, self.where(exact)[0]) == ("", ("frame_0", 0, 1))
        got, note = align_truth(self.stamps(("folder", 0, "frame_0.png"), ("folder", 5, "frame_2.png")), truth)
        assert note == "paired by the names of images: 2 of 3"
        assert sorted(self.where(got)) == [("folder", 0, 1), ("folder", 5, 2), ("frame_1", 0, 0)]

    def test_images_without_results_belong_to_the_sequence_of_the_others(self, tmp_path):
        truth = open_truth(truth_files.masks(tmp_path, [*BOXES, *BOXES]))
        got, note = align_truth(self.stamps(("film", 3, "frame_1.png"), ("film", 6, "frame_4.png")), truth)
        assert note == "paired by the names of images: 2 of 6"
        assert self.where(got) == [("film", k + 2, len(boxes)) for k, boxes in enumerate([*BOXES, *BOXES])]
        singles, _ = align_truth(self.stamps(("frame_1", 0, "frame_1.png"), ("frame_4", 0, "frame_4.png")), truth)
        assert {stamp for stamp, *_ in self.where(singles)} == {f"frame_{k}" for k in range(6)}

    def test_images_of_the_same_name_are_told_apart_by_their_folders(self, tmp_path):
        for name, frames in (("a", BOXES), ("b", BOXES[::-1])):
            (tmp_path / name).mkdir()
            truth_files.masks(tmp_path / name, frames)
        found = self.stamps(("a", 0, "frame_0.png"), ("b", 0, "frame_0.png"))
        got, _ = align_truth(found, open_truth(tmp_path))
        assert {("a", 0, 1), ("b", 0, 2)} <= set(self.where(got))

    @pytest.mark.parametrize(
        ("write", "name"), [(truth_files.voc, "here"), (truth_files.yolo, "labels"), (truth_files.coco, "set.json")]
    )
    def test_images_in_no_folder_are_called_by_what_was_opened(self, write, name, tmp_path):
        (tmp_path / "here").mkdir()
        truth = open_truth(write(tmp_path / "here", BOXES))
        _, note = align_truth(self.stamps(("clip", 0, "clip.mp4"), ("clip", 2, "clip.mp4")), truth)
        assert note == f"paired: sequence 'clip' with truth {name!r}"

    def test_images_without_a_common_name_are_the_frames_of_the_only_sequence(self, tmp_path):
        (tmp_path / "sky_masks").mkdir()
        truth = open_truth(truth_files.masks(tmp_path / "sky_masks", BOXES))
        got, note = align_truth(self.stamps(("clip", 0, "clip.mp4"), ("clip", 2, "clip.mp4")), truth)
        assert note == "paired: sequence 'clip' with truth 'sky_masks'"
        assert self.where(got) == [("clip", 0, 1), ("clip", 1, 0), ("clip", 2, 2)]

    def test_frames_beyond_a_sparse_table_hold_no_target(self, tmp_path):
        truth = open_truth(truth_files.points(tmp_path, BOXES))
        got, _ = align_truth(self.stamps(("flight", 2, ""), ("flight", 7, "")), truth)
        assert self.where(got)[-1] == ("flight", 7, 0)
        (tmp_path / "none.csv").write_text("frame,x,y\n")
        got, _ = align_truth(self.stamps(("clip", 3, "")), open_truth(tmp_path / "none.csv"))
        assert self.where(got) == [("clip", 3, 0)]
