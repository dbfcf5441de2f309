"""JSON lines: lossless in both directions, with precise errors for invalid lines."""

import json
import re

import numpy as np
import pytest
from collect_errors import collect_until_error
from hypothesis import given
from hypothesis import strategies as st
from strategies import detections, poses, same, tracks, truths

from irst_stream import Detections, FormatError, OutputError, Pose, SourceError, Stamp, Tracks, Truth
from irst_stream.io import jsonl

STRATEGIES = {Detections: detections(), Tracks: tracks(), Truth: truths(), Pose: poses()}


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda k: k.__name__)
def test_every_kind_round_trips_without_loss(kind, tmp_path):
    path = tmp_path / "a.jsonl"

    @given(st.lists(STRATEGIES[kind], max_size=3))
    def check(records):
        assert jsonl.write(path, records) == len(records)
        back = list(jsonl.read(path, kind))
        assert len(back) == len(records)
        for before, after in zip(records, back, strict=True):
            same(before, after)

    check()


def test_a_line_has_the_documented_keys(tmp_path):
    path = tmp_path / "a.jsonl"
    xy, cov = np.array([[1.5, 2.5]]), np.array([[[0.25, 0.0], [0.0, 0.5]]])
    record = Detections(
        Stamp("s", 0, 3, 60, "f.png"), xy, cov, np.array([230.0]), np.array([np.nan]), np.ones(1), np.zeros(1)
    )
    jsonl.write(path, [record])
    assert json.loads(path.read_text()) == {
        "sequence": "s",
        "index": 3,
        "time_ns": 60,
        "source": "f.png",
        "detections": [{"x": 1.5, "y": 2.5, "amplitude": 230.0, "score": 1.0, "cov": [[0.25, 0.0], [0.0, 0.5]]}],
    }


def test_a_method_without_covariances_writes_null():
    record = Detections.bare(Stamp("s", 0, 0, 0), np.zeros((1, 2)), np.array([np.nan]), np.ones(1))
    assert json.loads(jsonl.encode(record))["detections"] == [
        {"x": 0.0, "y": 0.0, "amplitude": None, "score": 1.0, "cov": None}
    ]


def bare(**columns):
    given = {"xy": np.zeros((1, 2)), "cov": np.full((1, 2, 2), np.nan), "amplitude": np.ones(1), "amplitude_sd": np.ones(1)}
    given |= {"score": np.ones(1), "region": np.zeros(1, int), **columns}
    return Detections(Stamp("s", 0, 0, 0), *given.values())


@pytest.mark.parametrize(
    "columns",
    [
        {"xy": np.array([[np.nan, 0.0]])},
        {"score": np.array([np.inf])},
        {"amplitude": np.array([np.inf])},
        {"amplitude_sd": np.array([np.inf])},
        {"cov": np.array([[[1.0, np.nan], [np.nan, 1.0]]])},
        {"cov": np.array([[[1.0, 5.0], [5.0, 1.0]]])},
        {"cov": np.zeros((1, 2, 2))},
    ],
    ids=str,
)
def test_values_that_the_format_cannot_express_are_refused(columns):
    assert jsonl.encode(bare())
    with pytest.raises(ValueError, match=f"{next(iter(columns))}: expected"):
        jsonl.encode(bare(**columns))


def test_a_byte_order_mark_is_ignored(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n")
    assert len(list(jsonl.read(tmp_path / "a.jsonl", Detections))) == 1


def test_integers_beyond_64_bits_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"sequence":"s","index":0,"truth":[{"id":9223372036854775808,"x":1,"y":1,"amplitude":1}]}'
    )
    with pytest.raises(FormatError, match=r"a\.jsonl:1: .*id"):
        list(jsonl.read(tmp_path / "a.jsonl", Truth))


def test_a_line_with_only_the_required_keys_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"sequence": "s", "index": 0, "detections": [{"x": 1, "y": 2, "amplitude": null, "score": 3}]}\n\n')
    (record,) = jsonl.read(path, Detections)
    assert record.stamp == Stamp("s", 0, 0, 0)
    assert record.xy.tolist() == [[1, 2]]
    assert np.isnan(record.cov).all()


GOOD = '{"sequence":"s","index":0,"detections":[]}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Input data was truncated"),
        ("10,20,5,5", r"not a line of detections, which are JSON lines: one object \{...\} a frame; got '10,20,5,5'$"),
        ('{"index":0,"detections":[]}', "Object missing required field `sequence`"),
        ('{"sequence":"s","index":-1,"detections":[]}', r"Expected `int` >= 0 - at `\$.index`"),
        ('{"sequence":"s","index":0,"truth":[]}', "unknown field `truth`"),
        (
            '{"sequence":"s","index":0,"detections":[{"x":"1","y":2,"amplitude":1,"score":3}]}',
            r"Expected `float`, got `str` - at `\$.detections\[0\].x`",
        ),
        (
            '{"sequence":"s","index":0,"detections":[{"x":1,"y":2,"amplitude":1}]}',
            r"missing required field `score` - at `\$.detections\[0\]`",
        ),
        (
            '{"sequence":"s","index":0,"detections":[{"x":1,"y":2,"amplitude":1,"score":3,"cov":[[1,2],[3,1]]}]}',
            r"symmetric, positive definite matrix - at `\$.detections\[0\].cov`",
        ),
        (
            '{"sequence":"s","index":0,"detections":[{"x":1,"y":2,"amplitude":1,"score":3,"cov":[[1]]}]}',
            r"Expected `array` of length 2.* - at `\$.detections\[0\].cov",
        ),
        ('{"sequence":"s","index":0,"detections":[{"x":NaN,"y":2,"amplitude":1,"score":3}]}', "JSON is malformed"),
        ('{"sequence":"s","index":0,"detections":[{"x":1e999,"y":2,"amplitude":1,"score":3}]}', "out of range"),
    ],
)
def test_an_invalid_line_is_named_with_its_field_after_the_lines_before_it(line, message, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{GOOD}\n{GOOD.replace('0', '1', 1)}\n{line}\n{GOOD}\n")
    records, text = collect_until_error(jsonl.read(path, Detections), FormatError)
    assert len(records) == 2
    assert text.startswith(f"{path}:3: ")
    assert re.search(message, text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"truth":[{"id":0,"x":1,"y":1,"amplitude":1,"w":3}]', r"expected both w and h, or neither - at `\$.truth\[0\]`"),
        ('"truth":[{"id":0,"x":1,"y":1,"amplitude":1,"w":0,"h":3}]', r"Expected `float` > 0.0 - at `\$.truth\[0\].w`"),
        ('"width":320,"truth":[]', "expected both width and height, or neither"),
    ],
)
def test_half_a_box_and_half_a_frame_are_refused(line, message, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"sequence":"s","index":0,' + line + "}\n")
    with pytest.raises(FormatError, match=message):
        list(jsonl.read(tmp_path / "a.jsonl", Truth))


def test_truth_without_boxes_is_written_as_before():
    record = Truth(Stamp("s", 0, 0, 0), np.zeros(1), np.zeros(1), np.ones((1, 2)), np.ones(1))
    assert json.loads(jsonl.encode(record))["truth"] == [{"id": 0, "x": 1.0, "y": 1.0, "amplitude": 1.0, "group": 0}]
    with pytest.raises(ValueError, match="size: expected positive"):
        jsonl.encode(Truth(*(getattr(record, name) for name in record.__slots__[:5]), np.array([[1.0, np.nan]])))


def test_an_undecodable_line_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(FormatError, match=r"a\.jsonl:1: "):
        list(jsonl.read(path, Detections))


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        list(jsonl.read(tmp_path / "none.jsonl", Truth))
    with pytest.raises(OutputError, match="cannot be written"):
        jsonl.write(tmp_path / "no" / "folder.jsonl", [])


def test_every_field_of_the_schema_is_documented():
    defined = jsonl.schema()["$defs"]
    text = (jsonl.Path(jsonl.__file__).parent / "INTERCHANGE.md").read_text()
    rows = ("DetectionRow", "TrackRow", "TruthRow", "PoseRow", "DetectionLine", "TruthLine")
    for row in rows:
        for field in defined[row]["properties"]:
            assert f"`{field}`" in text, f"{row}.{field} is not documented"


def test_the_documented_examples_can_be_read(tmp_path):
    text = (jsonl.Path(jsonl.__file__).parent / "INTERCHANGE.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith('{"sequence"')]
    kinds = {"detections": Detections, "tracks": Tracks, "truth": Truth, "pose": Pose}
    seen = set()
    for line in lines:
        key = next(k for k in kinds if k in json.loads(line))
        path = tmp_path / "a.jsonl"
        path.write_text(line)
        assert len(list(jsonl.read(path, kinds[key]))) == 1
        seen.add(key)
    assert seen == set(kinds)
