"""The published layout: files round-trip, x stays the column, and invalid files raise an error."""

import shutil

import numpy as np
import pytest
from collect_errors import collect_until_error
from hypothesis import given
from hypothesis import strategies as st

from irst_stream import FormatError, SourceError, open_source
from irst_stream.io.media.csist import encode_annotation, read_annotation
from irst_stream.sim import csist100k, seqcsist
from irst_stream.sim.on_disk import patch_set

coordinates = st.lists(st.tuples(*[st.floats(-20, 20)] * 2, st.floats(0, 1e4)), max_size=5)


def generate(folder, dataset="seqcsist", count=3, **options):
    made = patch_set(folder, dataset, count, **options)
    made.claim()
    made.fill(made.missing(), 1, lambda _: None)
    return folder


@given(coordinates)
def test_annotations_round_trip_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("xml") / "COS1.xml"
    values = np.array(rows, float).reshape(-1, 3)
    path.write_bytes(encode_annotation(1, values[:, :2], values[:, 2], (11, 11), 0.5))
    xy, amplitude = read_annotation(path)
    np.testing.assert_array_equal(xy, values[:, :2])
    np.testing.assert_array_equal(amplitude, values[:, 2])


def test_xc_is_the_row_in_the_file_and_y_in_ours(tmp_path):
    path = tmp_path / "COS1.xml"
    path.write_bytes(encode_annotation(1, np.array([[2.0, 7.0]]), np.array([230.0]), (11, 11), 0.5))
    text = path.read_text()
    assert "<xc>7.0</xc>" in text
    assert "<yc>2.0</yc>" in text
    assert "<filename>image_1.png</filename>" in text
    assert "<sigma>0.5</sigma>" in text


def test_seqcsist_reads_as_trajectories_with_their_truth(tmp_path):
    folder = generate(tmp_path / "test", count=3, split="test", seed=4)
    drawn = seqcsist(3, split="test", seed=4, depth=16)
    source = open_source(folder)
    frames, truths = list(source), list(source.truths())
    assert (source.kind, source.frames, source.has_truth) == ("SeqCSIST, test", 60, True)
    assert [(f.stamp.sensor, f.stamp.index) for f in frames] == [(f"test/{k:05d}", t) for k in range(3) for t in range(20)]
    assert [t.stamp for t in truths] == [f.stamp for f in frames]
    for i, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        k, t = divmod(i, 20)
        n = drawn.count[k]
        np.testing.assert_array_equal(frame.pixels, drawn.frames[k, t])
        np.testing.assert_array_equal(truth.xy, drawn.xy[k, t, :n])
        np.testing.assert_array_equal(truth.amplitude, drawn.amplitude[k, :n])
        np.testing.assert_array_equal(truth.id, np.arange(n))
        assert frame.stamp.source == f"image_{i}.png"


def test_csist100k_reads_as_single_images(tmp_path):
    folder = generate(tmp_path / "val", "csist100k", 30, split="val")
    source = open_source(folder)
    frames = list(source)
    assert (source.kind, source.frames) == ("CSIST-100K, val", 30)
    assert [f.stamp.sensor for f in frames][-1] == "val/00029"
    assert {f.stamp.index for f in frames} == {0}
    drawn = csist100k(30, split="val", depth=16)
    np.testing.assert_array_equal(np.stack([f.pixels for f in frames]), drawn.frames[:, 0])
    np.testing.assert_array_equal([len(t) for t in source.truths()], drawn.count)


def test_a_root_opens_all_splits_and_an_image_folder_its_split(tmp_path):
    for split in ("train", "test"):
        generate(tmp_path / split, count=1, split=split)
    assert open_source(tmp_path).kind == "SeqCSIST, train + test"
    assert [f.stamp.sensor for f in open_source(tmp_path)] == ["train/00000"] * 20 + ["test/00000"] * 20
    assert next(iter(open_source(tmp_path / "test" / "image"))).stamp.sensor == "test/00000"


def test_the_kind_is_inferred_without_a_manifest_and_can_be_given(tmp_path):
    sequence, single = generate(tmp_path / "a", count=2), generate(tmp_path / "b", "csist100k", 40)
    for folder in (sequence, single):
        (folder / "manifest.json").unlink()
    assert open_source(sequence).dataset == "seqcsist"
    assert open_source(single).dataset == "csist100k"
    assert open_source(sequence, kind="csist100k").dataset == "csist100k"
    shutil.rmtree(sequence / "annotation")
    bare = open_source(sequence)
    assert (bare.dataset, bare.has_truth, len(list(bare))) == ("seqcsist", False, 40)


def test_the_older_toolkit_names_are_read_too(tmp_path):
    folder = generate(tmp_path / "a", "csist100k", 3)
    (folder / "image").rename(folder / "cso_img")
    (folder / "annotation").rename(folder / "Annotations")
    for path in (folder / "Annotations").iterdir():
        path.rename(path.with_name(path.name.replace("COS", "CSO")))
    (folder / "manifest.json").unlink()
    source = open_source(folder)
    assert len(list(source)) == len(list(source.truths())) == 3


def test_a_missing_image_raises_after_the_frames_before_it(tmp_path):
    folder = generate(tmp_path / "train", count=2)
    (folder / "image" / "image_25.png").unlink()
    frames, message = collect_until_error(open_source(folder), SourceError)
    assert len(frames) == 25
    assert "image_25.png: missing; expected 20 consecutive ids per trajectory" in message


@pytest.mark.parametrize(("dataset", "missing"), [("seqcsist", 20), ("seqcsist", 0), ("csist100k", 1)])
def test_a_missing_first_image_shifts_no_other_sequence(dataset, missing, tmp_path):
    folder = generate(tmp_path / "a", dataset, count=3)
    whole = {f.stamp.source: f.stamp for f in open_source(folder)}
    (folder / "image" / f"image_{missing}.png").unlink()
    try:
        for frame in open_source(folder):
            assert frame.stamp == whole[frame.stamp.source]
    except SourceError as error:
        assert dataset == "seqcsist"
        assert f"image_{missing}.png: missing" in str(error)  # noqa: PT017 - the frames before matter too


def test_two_images_with_the_same_id_are_refused(tmp_path):
    folder = generate(tmp_path / "a", "csist100k", count=3)
    shutil.copy(folder / "image" / "image_1.png", folder / "image" / "image_001.png")
    with pytest.raises(SourceError, match="has the same id as"):
        open_source(folder)


def test_a_missing_annotation_is_named(tmp_path):
    folder = generate(tmp_path / "train", count=1)
    (folder / "annotation" / "COS7.xml").unlink()
    with pytest.raises(SourceError, match=r"COS7\.xml: missing; expected one annotation per image"):
        list(open_source(folder).truths())


ENTITY_BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ENTITY_BOMB.encode(), "declares a document type or entities"),
        (ENTITY_BOMB.encode("utf-16"), "expected UTF-8"),
        (b"<annotation>" + b" " * (1 << 20), "expected an annotation of 1 to 1048576 bytes"),
        (b"", "expected an annotation of 1 to 1048576 bytes, got 0"),
        (b"<annotation><object>", "not well-formed XML"),
        (b"<annotation>\x00</annotation>", "not well-formed XML"),
        (b"<annotation><object></object></annotation>", "object 0: coordinate/xc: expected a finite number, got None"),
        (
            b"<annotation><object><coordinate><xc>1</xc><yc>nan</yc></coordinate></object></annotation>",
            "object 0: coordinate/yc: expected a finite number, got 'nan'",
        ),
    ],
    ids=["entities", "entities-utf16", "huge", "empty", "broken", "nul", "no-coordinate", "nan"],
)
def test_invalid_annotations_are_refused_safely(content, message, tmp_path):
    path = tmp_path / "COS3.xml"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_annotation(path)
    assert "COS3.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_document_type_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "COS3.xml"
    path.write_bytes(b'<?xml version="1.0" encoding="cp037"?>' + ENTITY_BOMB.encode("cp037"))
    with pytest.raises(FormatError):
        read_annotation(path)


def test_names_without_a_number_are_refused(tmp_path):
    folder = generate(tmp_path / "train", count=1)
    (folder / "image" / "cover.png").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"cover\.png: no number in its name"):
        open_source(folder)
