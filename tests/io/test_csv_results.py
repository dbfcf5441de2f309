"""Detections and tracks as CSV: lossless in both directions, with precise errors for wrong rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import detections, same, tracks

from irst_stream import Detections, FormatError, SourceError, Tracks
from irst_stream.io.csv_results import csv_kind, csv_rows, read_csv, write_csv

STRATEGIES = {Detections: detections(), Tracks: tracks()}


def key(record):
    return record.stamp.sensor, record.stamp.epoch, record.stamp.index


def storable(record):
    """The record with names that survive the trimming of fields, the sensor's not empty."""
    source, sensor = ("".join(filter(str.isprintable, name)).strip() for name in (record.stamp.source, record.stamp.sensor))
    object.__setattr__(record, "stamp", replace(record.stamp, sensor=sensor or "a", source=source))
    return record


def symmetric(record):
    """The record with exactly symmetric covariances: CSV holds one half of them."""
    lower = np.tril_indices(record.cov.shape[1], -1)
    cov = record.cov.copy()
    cov[:, lower[0], lower[1]] = cov[:, lower[1], lower[0]]
    object.__setattr__(record, "cov", cov)
    return record


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda k: k.__name__)
def test_records_round_trip_without_loss(kind, tmp_path):
    path = tmp_path / "a.csv"

    @settings(max_examples=30)  # each writes and reads a file
    @given(st.lists(STRATEGIES[kind].map(storable).map(symmetric), max_size=3, unique_by=key))
    def check(records):
        assert write_csv(path, records, kind) == sum(max(len(record), 1) for record in records)
        assert csv_kind(path) is (kind if records else Detections) or not records
        back = list(read_csv(path, kind))
        assert len(back) == len(records)
        for before, after in zip(records, back, strict=True):
            same(before, after)

    check()


def test_a_table_of_another_program_needs_few_columns(tmp_path):
    path = tmp_path / "cam.csv"
    path.write_text("frame,x,y,score\n3,1.5,2,0.5\n3,4,5,1\n4,,,\n")
    assert csv_kind(path) is Detections
    first, empty = read_csv(path, Detections)
    assert (first.stamp.sensor, first.stamp.index, first.xy.tolist()) == ("cam", 3, [[1.5, 2], [4, 5]])
    assert np.isnan([*first.amplitude, *first.cov.ravel()]).all()
    assert (empty.stamp.index, len(empty)) == (4, 0)
    path.write_text("frame,id,x,y,score\n0,7,1,2,1\n")
    assert csv_kind(path) is Tracks
    (track,) = read_csv(path, Tracks)
    assert (track.id.tolist(), track.confirmed.tolist(), track.detection.tolist()) == ([7], [True], [-1])
    assert np.isnan(track.state[0, 2:]).all()


def test_an_empty_frame_has_a_row_of_its_stamp_alone():
    from tracks_and_truth import tracks as made

    header, row = csv_rows([made(2, {})], Tracks)
    assert row[:6] == ["a", "0", "2", "20000000", "sensor", ""]
    assert not any(row[6:])
    assert len(row) == len(header)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,x,y\n0,1,2\n", r"a\.csv:2: expected columns frame, x, y, score, got no score"),
        ("frame,x,y,score\n0,1,2\n", r"a\.csv:2: expected 4 fields, as the header has, got 3"),
        ("frame,x,y,score\n0,1,b,1\n", r"a\.csv:2: y: expected a finite number, got 'b'"),
        ("frame,x,y,score\n0,1,inf,1\n", r"a\.csv:2: y: expected a finite number, got 'inf'"),
        ("frame,x,y,score\n0,1,,1\n", r"a\.csv:2: y: expected a finite number, got ''"),
        ("frame,x,y,score\n-1,1,1,1\n", r"a\.csv:2: expected a frame from 0"),
        ("frame,x,y,score\n0.5,1,1,1\n", r"a\.csv:2: frame: expected a whole number, got '0\.5'"),
        ("frame,x,y,score\n99999999999999999999999,1,1,1\n", r"a\.csv:2: frame: expected a whole number"),
        ('frame,x,y,score\n"0,1,1,1\n', r"a\.csv: expected CSV in UTF-8"),
        ("frame,x,y,score,region\n0,1,1,1,x\n", r"a\.csv:2: region: expected a whole number"),
    ],
)
def test_wrong_rows_are_named_with_their_line(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        list(read_csv(tmp_path / "a.csv", Detections))


def test_files_that_are_not_text_or_not_there(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"frame,x,y,score\n\xff\xfe,1,1,1\n")
    with pytest.raises(FormatError, match=r"a\.csv: expected CSV in UTF-8"):
        list(read_csv(tmp_path / "a.csv", Detections))
    with pytest.raises(SourceError, match="No such file"):
        csv_kind(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    assert list(read_csv(tmp_path / "empty.csv", Detections)) == []
