"""Damaged recordings: what they still give, and what recover saves of them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import Writer
from recordings import COMPRESSIONS, all_same, chunks, detection, frame, line, read, record, track
from strategies import same

from irst_stream import Frame, OutputError, SourceError
from irst_stream.io.recording.recorder import Recorder, open_recording
from irst_stream.io.recording.recovery import recover
from irst_stream.io.recording.settings import RecordSettings

CONFIG = 'readout = "fit"  # é\n'


RECORDS = [make(k) for k in range(21) for make in (frame, detection, track)]
FRAMES = RECORDS[::3]
LINES = [line(item) for item in RECORDS if not isinstance(item, Frame)]
RECORDS_PER_CHUNK = 11  # half a second with a record every 50 ms


@pytest.fixture(scope="module", params=COMPRESSIONS)
def recorded(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("r") / "a.mcap"
    record(path, RECORDS, CONFIG, compression=request.param, step_ns=10**8 // 2)
    assert len(chunks(path)) == 63 // RECORDS_PER_CHUNK + 1
    return path


def recovered(path):
    """Recover a file; return the result, frames and lines, checked against the records written."""
    out = path.with_name("out.mcap")
    result = recover(path, out)
    with open_recording(out) as source:
        taken, lines = list(source), list(source.results())
    assert (result.frames, result.detections + result.tracks) == (len(taken), len(lines))
    for item in taken:
        same(item, FRAMES[item.stamp.index])
    assert [f.stamp.index for f in taken] == sorted({f.stamp.index for f in taken})
    remaining = iter(LINES)
    assert all(item in remaining for item in lines)
    return result, taken, lines


@given(data=st.data())
@settings(max_examples=100)
def test_a_truncated_file_gives_all_chunks_before_the_cut(recorded, data):
    whole = recorded.read_bytes()
    size = data.draw(st.integers(200, len(whole) - 1))
    path = recorded.with_name("cut.mcap")
    path.write_bytes(whole[:size])
    before = sum(end <= size for end in chunk_ends(recorded))
    result, taken, lines = recovered(path)
    assert not result.intact
    all_same(taken, FRAMES[: len(taken)])
    assert lines == LINES[: len(lines)]
    assert len(taken) + len(lines) >= min(RECORDS_PER_CHUNK * before, len(RECORDS))
    delivered, fault = read(path)
    assert "irst-stream recover" in fault
    all_same(delivered, FRAMES[: len(delivered)])
    assert len(delivered) >= min(RECORDS_PER_CHUNK * before, len(RECORDS)) // 3


def chunk_ends(path):
    with path.open("rb") as file:
        return [c.chunk_start_offset + c.chunk_length for c in make_reader(file).get_summary().chunk_indexes]


@given(data=st.data())
@settings(max_examples=150)
def test_a_changed_byte_loses_at_most_its_chunk(recorded, data):
    whole = bytearray(recorded.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path = recorded.with_name("changed.mcap")
    path.write_bytes(whole)
    _, taken, lines = recovered(path)
    assert len(taken) >= len(FRAMES) - 4
    assert len(lines) >= len(LINES) - 8
    delivered, _ = read(path)
    all_same(delivered, FRAMES[: len(delivered)])


def test_a_changed_byte_before_the_chunks_loses_no_frame(recorded):
    whole = recorded.read_bytes()
    path = recorded.with_name("changed.mcap")
    for at in range(whole.index(CONFIG.encode()) + 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert len(recovered(path)[1]) >= len(FRAMES) - (4 if at > whole.index(CONFIG.encode()) + 22 else 0)


def test_a_zeroed_range_loses_only_its_chunks(tmp_path):
    path = tmp_path / "a.mcap"
    record(path, FRAMES)
    whole = bytearray(path.read_bytes())
    middle = chunk_ends(path)[0] - 100
    whole[middle : middle + 1200] = bytes(1200)
    path.write_bytes(whole)
    result, taken, _ = recovered(path)
    assert 0 < result.lost_bytes < 5000
    assert taken[0].stamp.index == 0
    assert taken[-1].stamp.index == 20
    assert result.frames >= 21 - 12


def test_an_intact_recording_is_copied(recorded):
    result, taken, lines = recovered(recorded)
    assert (result.frames, result.detections, result.tracks, result.lost_bytes, result.intact) == (21, 21, 21, 0, True)
    assert (len(taken), lines) == (21, LINES)
    out = recorded.with_name("out.mcap")
    assert open_recording(out).config == CONFIG
    assert {c.compression for c in chunks(out)} == {c.compression for c in chunks(recorded)}
    with pytest.raises(OutputError, match="is the recording itself"):
        recover(recorded, recorded)
    assert read(recorded)[1] == ""


def test_a_recording_truncated_before_its_first_chunk_is_empty(tmp_path):
    path = tmp_path / "a.mcap"
    recorder = Recorder(RecordSettings(str(path)), CONFIG)
    recorder.write(frame(0), 0)
    size = path.stat().st_size
    fault = "file was not closed properly; irst-stream recover saves what can be read"
    assert read(path) == ([], f"{path}: byte {size} of {size}: {fault}")
    assert open_recording(path).frames is None
    assert recover(path, tmp_path / "b.mcap").frames == 0
    assert open_recording(tmp_path / "b.mcap").config == CONFIG
    recorder.close()


def write_foreign_mcap(path):
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2")
        writer.add_message(writer.register_channel("/odom", "cdr", 0), 1, b"abc", 1)
        writer.finish()


INVALID = {
    "empty file": lambda path: path.write_bytes(b""),
    "not a recording": lambda path: path.write_bytes(random.Random(3).randbytes(5000)),
    "not a recording ": lambda path: path.write_bytes(b"\x89MCAP0\r\n"),
    "not a recording  ": lambda path: path.write_bytes(b"\x89MCAP0\r\n" + b"\xff" * 500),
    "not a recording   ": lambda path: path.write_bytes(b"\x06" * 100_000),
    "not a recording: expected MCAP profile 'irst-stream', got 'ros2'": write_foreign_mcap,
    "is a folder": lambda path: path.mkdir(),
    "No such file": lambda _: None,
}


@pytest.mark.parametrize("fault", INVALID)
def test_a_file_that_is_not_a_recording_is_refused(fault, tmp_path):
    path = tmp_path / "x.mcap"
    INVALID[fault](path)
    for attempt in (open_recording, lambda path: recover(path, tmp_path / "out.mcap")):
        with pytest.raises(SourceError, match=fault.strip()) as caught:
            attempt(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@given(tail=st.binary(max_size=400))
def test_random_bytes_after_a_valid_start_give_no_frame(tail, tmp_path_factory):
    folder = tmp_path_factory.mktemp("r")
    record(folder / "a.mcap", [])
    path = folder / "x.mcap"
    path.write_bytes((folder / "a.mcap").read_bytes()[:110] + tail)
    assert read(path)[0] == []
    assert recover(path, folder / "out.mcap").frames == 0
