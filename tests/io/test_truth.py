"""Every reader of truth against one contract, each with damaged and unusual files, and against real labels."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import truth_files
from strategies import same
from tracks_and_truth import tracks

from irst_stream import FormatError, IrstError, SourceError
from irst_stream.io.media.images import encode_png
from irst_stream.io.truth import READERS, open_truth
from irst_stream.io.truth.mot import encode_mot
from irst_stream.io.truth.truth_set import sequence_name

FORMATS = list(truth_files.FORMATS)
BOXES = [[(4, 6, 3, 3)], [], [(10, 12, 5, 2), (20, 3, 1, 1)]]  # x, y of the first pixel, w, h, in each frame
REAL = Path(__file__).parents[2].parent / "shared" / "real"


def boxes_for(write):
    return [boxes[:1] for boxes in BOXES] if truth_files.FORMATS[write].one else BOXES


def read(path):
    return list(open_truth(path).truths())


@pytest.mark.parametrize("write", FORMATS, ids=lambda w: w.__name__)
def test_contract(write, tmp_path):
    """Each frame's targets, at the boxes' centres, with their sizes, also where there are none; the same if read twice."""
    frames, kind = boxes_for(write), truth_files.FORMATS[write]
    truth = open_truth(write(tmp_path, frames))
    assert truth.kind
    assert truth.by_image == kind.by_image
    got = sorted(truth.truths(), key=lambda t: (t.stamp.sensor, t.stamp.index))
    assert len(got) == 3
    for k, (record, boxes) in enumerate(zip(got, frames, strict=True)):
        named = (record.stamp.sensor, record.stamp.epoch, record.stamp.index)
        assert named == ((f"frame_{k}", 0, 0) if kind.by_image else ("flight", 0, k))
        order = np.argsort(record.xy[:, 0])
        expected = np.array([(x + (w - 1) / 2, y + (h - 1) / 2) for x, y, w, h in boxes]).reshape(-1, 2)
        np.testing.assert_allclose(record.xy[order], expected, atol=1e-9)
        sizes = np.array([box[2:] for box in boxes], float).reshape(-1, 2)
        np.testing.assert_allclose(record.size[order], sizes if kind.boxes else np.full_like(sizes, np.nan), atol=1e-9)
        assert record.frame_size == ((truth_files.WIDTH, truth_files.HEIGHT) if kind.size else (0, 0))
        assert len(set(record.id.tolist())) == len(boxes)
    for first, second in zip(truth.truths(), truth.truths(), strict=True):
        same(first, second)


def attempt(path):
    """The truths of a path, and the message of the error that ended them, "" for none."""
    got = []
    try:
        got.extend(open_truth(path).truths())
    except IrstError as error:
        return got, str(error)
    return got, ""


def victim(path):
    """The file to damage: the last of a folder."""
    return path if path.is_file() else max(p for p in path.rglob("*") if p.is_file())


@pytest.mark.parametrize("write", FORMATS, ids=lambda w: w.__name__)
def test_truncated_files_are_one_line_or_what_they_say(write, tmp_path):
    path = write(tmp_path, boxes_for(write))
    file = victim(path)
    data = file.read_bytes()
    for length in {*range(0, len(data), max(len(data) // 40, 1)), len(data) - 1}:
        file.write_bytes(data[:length])
        _, message = attempt(path)
        assert not message or str(tmp_path) in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "content", [b"\0\xff\xfe" * 100, bytes(range(256)) * 20, b"hello, world\n"], ids=["0", "all", "text"]
)
@pytest.mark.parametrize("write", FORMATS, ids=lambda w: w.__name__)
def test_invalid_content_is_refused_by_name(write, content, tmp_path):
    path = write(tmp_path, boxes_for(write))
    file = victim(path)
    file.write_bytes(content)
    with pytest.raises(IrstError, match=file.name.replace(".", r"\.")) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", FORMATS, ids=lambda w: w.__name__)
def test_an_empty_file_is_refused_or_holds_no_target(write, tmp_path):
    path = write(tmp_path, boxes_for(write))
    file = victim(path)
    file.write_bytes(b"")
    whole = sum(map(len, boxes_for(write)))
    got, message = attempt(path)
    assert file.name in message or sum(map(len, got)) < whole


def test_every_reader_is_in_the_contract():
    assert len(READERS) == 10, "add a writer to tests/truth_files.py"
    assert {r.expects for r in READERS} == {reader.expects for reader in READERS}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "1,2,3\n", r"a\.txt:1: expected x,y,w,h .*, got 3 fields"),
        ("a.txt", "1,2,3,4\n1,2,-3,4\n", r"a\.txt:2: expected a box of finite place and positive size, got -3 x 4 at 1, 2"),
        ("a.txt", "1,2,3,4\nx,2,3,4\n", r"a\.txt:2: expected numbers, got 'x'"),
        ("a.txt", "1,2,3,nan\n", r"a\.txt:1: expected a box of finite place"),
        ("a.csv", "frame,x\n", r"a\.csv:1: expected columns frame,x,y, got no y"),
        ("a.csv", "frame,x,y,w\n", r"a\.csv:1: expected both columns w and h, or neither"),
        ("a.csv", "frame,x,y\n0,1\n", r"a\.csv:2: expected 3 fields, as the header has, got 2"),
        ("a.csv", "frame,x,y\n0,1,\n", r"a\.csv:2: expected x and y, or neither"),
        ("a.csv", "frame,x,y\n-1,1,2\n", r"a\.csv:2: frame: expected a whole number from 0 to 1000000, got '-1'"),
        ("a.csv", "frame,x,y\n1e9,1,2\n", r"a\.csv:2: frame: expected a whole number"),
        ("a.csv", "frame,x,y,id\n0,1,2,b\n", r"a\.csv:2: id: expected a whole number"),
        ("gt.txt", "0,1,1,1,1,1\n", r"gt\.txt:1: frame: expected a whole number from 1"),
        (
            "gt.txt",
            "1,1,1,1,1,1\n1,1,1\n",
            r"gt\.txt:2: expected frame, id, left, top, width, height, \.\.\., got 3 fields",
        ),
        ("a.xml", "<annotation><object/></annotation>", r"a\.xml: object 0: bndbox/xmin: expected a number, got None"),
        ("a.xml", "<!DOCTYPE x><annotation/>", r"a\.xml: declares a document type"),
        ("a.json", '{"images":[],"annotations":[{"image_id":1,"bbox":[1,2,3,4]}]}', r"annotation 0: image_id: no image 1"),
        ("a.json", '{"images":[]}', r"a\.json: not COCO JSON, .* missing required field `annotations`"),
        ("a.mat", "", r"a\.mat: not a MATLAB groundTruth object; expected a little-endian MATLAB file"),
        ("a.bin", "1", r"a\.bin: not a kind of truth that can be read\. Expected JSON lines"),
    ],
)
def test_wrong_entries_are_named_with_their_line(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(IrstError, match=message):
        read(tmp_path / name)


def test_missing_paths_and_folders_without_truth_are_refused(tmp_path):
    with pytest.raises(SourceError, match="nowhere: no such file or folder"):
        open_truth(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="not a kind of truth"):
        open_truth(tmp_path)


def test_a_mat_file_of_something_else_is_refused(tmp_path):
    import scipy.io

    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", {"frames": np.ones((3, 3)), "n": 1}, do_compression=compressed)
        with pytest.raises(FormatError, match=r"a\.mat: no boxes of frames found; expected a MATLAB groundTruth object"):
            read(tmp_path / "a.mat")


def test_compressed_labels_are_read_and_damage_in_them_is_found(tmp_path):
    path = truth_files.matlab(tmp_path, BOXES)
    data = path.read_bytes()
    packed = zlib.compress(data[128:])
    path.write_bytes(data[:128] + struct.pack("<II", 15, len(packed)) + packed)
    assert [len(record) for record in read(path)] == [1, 0, 2]
    path.write_bytes(data[:128] + struct.pack("<II", 15, len(packed)) + packed[:20] + b"\xff\xff" + packed[22:])
    with pytest.raises(FormatError, match=r"flight_LABELS\.mat: (damaged: the element at byte 128|no boxes)"):
        read(path)
    path.write_bytes(data[:-20])
    with pytest.raises(FormatError, match=r"flight_LABELS\.mat: truncated: the element at byte 128 ends behind"):
        read(path)


def test_a_missing_decoder_names_its_extra(tmp_path):
    path = truth_files.matlab(tmp_path, BOXES)
    block = "import sys; sys.modules['mcos_decoder'] = None; from irst_stream.cli import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "found.jsonl").write_text('{"sequence":"flight","index":0,"detections":[]}\n')
    command = [sys.executable, "-c", block, "score", str(tmp_path / "found.jsonl"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    needs = "a MATLAB groundTruth object needs mcos-decoder: pip install 'irst-stream[matlab]'"
    assert done.stderr == f"irst-stream: {path}: {needs}\n"


class TestMasks:
    """Connected components, joined over corners."""

    def test_a_target_is_at_its_centroid_with_its_bounding_box(self, tmp_path):
        mask = np.zeros((9, 12), np.uint8)
        mask[2, 3] = mask[3, 4] = mask[3, 5] = 255  # joined at a corner; another target apart
        mask[7, 10] = 255
        (tmp_path / "a_pixels0.png").write_bytes(encode_png(mask))
        (record,) = read(tmp_path)
        assert record.stamp.sensor == "a"
        np.testing.assert_allclose(record.xy, [[4, 8 / 3], [10, 7]])
        assert record.size.tolist() == [[3, 2], [1, 1]]
        assert record.frame_size == (12, 9)

    def test_masks_in_colour_and_with_smoothed_edges_are_read(self, tmp_path):
        import cv2

        mask = np.zeros((40, 40, 3), np.uint8)
        mask[10:13, 10:13] = 255
        mask[9, 10:13] = 100
        cv2.imwrite(str(tmp_path / "a.bmp"), mask)
        (record,) = read(tmp_path / "a.bmp")
        assert record.xy.tolist() == [[11, 11]]

    def test_frames_are_not_masks(self, tmp_path):
        (tmp_path / "a.png").write_bytes(encode_png(np.arange(400, dtype=np.uint16).reshape(20, 20)))
        with pytest.raises(FormatError, match=r"a\.png: expected a mask of 0 and one other value, got 100% of pixels"):
            read(tmp_path)


class TestYolo:
    """Fractions of an image's size."""

    def test_labels_without_an_image_are_refused(self, tmp_path):
        path = truth_files.yolo(tmp_path, BOXES)
        (tmp_path / "images" / "frame_2.png").unlink()
        with pytest.raises(SourceError, match=r"frame_2\.txt: no image frame_2 in .*labels or .*images; YOLO boxes are"):
            read(path)

    def test_fractions_above_1_are_refused(self, tmp_path):
        path = truth_files.yolo(tmp_path, BOXES)
        (path / "frame_0.txt").write_text("0 0.5 0.5 0.1 12\n")
        with pytest.raises(FormatError, match=r"frame_0\.txt:1: expected class, x, y, width, height"):
            read(path)

    def test_jpeg_images_say_their_size(self, tmp_path):
        import cv2

        cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((20, 30), np.uint8))
        (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        (record,) = read(tmp_path)
        assert record.frame_size == (30, 20)
        np.testing.assert_allclose(record.xy, [[14.5, 9.5]])


class TestMot:
    """Lines of frame, id, left, top, width, height; frames and pixels from 1."""

    def test_tracks_are_written_as_lines_that_read_back(self, tmp_path):
        record = tracks(4, {7: (3.25, 2.5), 8: (6.0, 5.0), 9: (1.0, 1.0)}, tentative=(9,))
        lines = list(encode_mot([record], (5, 3)))
        assert lines[0] == "5,7,2.250,2.500,5,3,1,-1,-1,-1\n"
        (tmp_path / "gt.txt").write_text("".join(lines))
        *before, last = read(tmp_path / "gt.txt")
        assert [len(one) for one in before] == [0] * 4
        assert (last.stamp.index, last.id.tolist()) == (4, [7, 8])
        np.testing.assert_allclose(last.xy, [[3.25, 2.5], [6, 5]])
        assert last.size.tolist() == [[5, 3]] * 2

    def test_rows_that_are_not_to_be_considered_are_left_out(self, tmp_path):
        (tmp_path / "gt.txt").write_text("1,1,1,1,2,2,0\n1,2,1,1,2,2,1\n")
        assert read(tmp_path / "gt.txt")[0].id.tolist() == [2]


def test_a_table_may_hold_several_sequences_and_ids(tmp_path):
    (tmp_path / "a.csv").write_text("frame;x;y;id;sequence\n1;1.5;2;9;p\n0;3;4;;q\n")
    one, two, three = read(tmp_path / "a.csv")
    assert [(t.stamp.sensor, t.stamp.index, t.id.tolist()) for t in (one, two, three)] == [
        ("p", 0, []),
        ("p", 1, [9]),
        ("q", 0, [0]),
    ]


def test_coco_keeps_identities_and_folders(tmp_path):
    text = (
        '{"images":[{"id":1,"file_name":"s/a.png"}],"annotations":[{"image_id":1,"bbox":[0,0,2,2],"track_id":5}],"info":{}}'
    )
    (tmp_path / "a.json").write_text(text)
    (record,) = read(tmp_path / "a.json")
    assert (record.stamp.sensor, record.stamp.source, record.id.tolist()) == ("s/a", "a.png", [5])
    assert record.xy.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("clip_7.boxes.csv", "clip_7"),
        ("IR_1_LABELS.mat", "IR_1"),
        ("clip/gt/gt.txt", "clip"),
        ("clip/groundtruth.txt", "clip"),
        ("a.b.txt", "a.b"),
    ],
)
def test_a_sequence_is_named_after_its_file_or_folder(path, name):
    assert sequence_name(Path("/data") / path) == name


@pytest.mark.skipif(not REAL.is_dir(), reason="real labels are not beside the checkout")
class TestRealLabels:
    """Labels as published, against the tables made from them."""

    @pytest.mark.parametrize("clip", ["IR_AIRPLANE_058", "IR_DRONE_142", "IR_HELICOPTER_049"])
    def test_matlab_labels_boxes_and_centres_agree(self, clip):
        folder = REAL / "drone-ir-cc0"
        labels, boxes, centres = (
            {t.stamp.index: t for t in read(folder / f"{clip}{end}")}
            for end in ("_LABELS.mat", ".boxes.csv", ".truth.jsonl")
        )
        assert {t.stamp.sensor for part in (labels, boxes, centres) for t in part.values()} == {clip}
        for index, truth in boxes.items():
            np.testing.assert_allclose(labels[index].xy, truth.xy, atol=0.011)  # the table has two decimals
            np.testing.assert_allclose(labels[index].size, truth.size, atol=0.0051)
            np.testing.assert_allclose(centres[index].xy, truth.xy, atol=0.011)

    def test_two_targets_a_frame_are_read(self):
        for clip in ("IR_DRONE_143", "IR_BIRD_007"):
            assert [len(t) for t in read(REAL / "drone-ir-cc0" / f"{clip}_LABELS.mat")] == [2] * 301

    def test_labels_begin_with_the_first_frame(self):
        labels = read(REAL / "drone-ir-cc0" / "IR_BIRD_073_LABELS.mat")
        assert [len(t) for t in labels] == [1] * 311  # as many as the clip has frames

    def test_voc_boxes_of_hit_uav(self):
        (record,) = read(REAL / "formats" / "hituav_0_100_30_0_03280.xml")
        assert record.frame_size == (640, 512)
        np.testing.assert_allclose(record.xy[0], [(198 + 233) / 2 - 1, (105 + 136) / 2 - 1])
        assert record.size[0].tolist() == [36, 32]
