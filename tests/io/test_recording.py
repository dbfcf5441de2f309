"""Recordings: records come back in order and byte for byte, despite killed writers, full disks and damaged files."""

import json
import random
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.records import Footer
from mcap.stream_reader import StreamReader, breakup_chunk
from recordings import COMPRESSIONS, STEP_NS, all_same, chunks, detection, frame, line, record, track
from strategies import detections, frames, tracks

from irst_stream import Detections, FormatError, Frame, OutputError, Tracks, WireError
from irst_stream.io.recording.chunk_writer import CHUNK_BYTES, CHUNK_NS
from irst_stream.io.recording.recorder import FLUSH_S, RESUME_BYTES, RETRY_S, Recorder, open_recording
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.live.outlets import IDLE_S
from irst_stream.settings import parse_settings

CONFIG = 'readout = "fit"  # é\n'
records = st.one_of(frames(), detections(sensor=True), tracks(sensor=True))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@given(items=st.lists(records, max_size=12), step=st.integers(0, 10**9))
@settings(max_examples=40)
def test_records_round_trip(compression, items, step, tmp_path_factory):
    path = tmp_path_factory.mktemp("r") / "a.mcap"
    recorder = record(path, items, CONFIG, step_ns=step, compression=compression)
    assert (recorder.alarm, recorder.lost, recorder.kept) == ("", 0, len(items))
    recorded_frames = [item for item in items if isinstance(item, Frame)]
    with open_recording(path) as source:
        assert (source.config, source.frames) == (CONFIG, len(recorded_frames))
        all_same(source, recorded_frames)
        all_same(source, recorded_frames)  # from the beginning each time
        assert list(source.results()) == [line(item) for item in items if not isinstance(item, Frame)]
    assert all(f.pixels.flags.aligned for f in source)


def test_the_order_of_two_sensors_is_kept(tmp_path):
    order = list(enumerate(random.Random(1).choices("ab", k=60)))
    record(tmp_path / "a.mcap", [frame(k, sensor) for k, sensor in order], step_ns=30_000_000)
    assert [(f.stamp.index, f.stamp.sensor) for f in open_recording(tmp_path / "a.mcap")] == order


def test_the_mcap_package_reads_recordings(tmp_path):
    path = tmp_path / "a.mcap"
    record(path, [frame(0, clock="unix"), detection(0), track(0), frame(1), *map(detection, range(1, 30))], CONFIG)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "irst-stream"
        assert [(a.name, a.media_type, a.data.decode()) for a in reader.iter_attachments()] == [
            ("config", "application/toml", CONFIG)
        ]
        lines = list(reader.iter_messages(topics=["detections/cam"]))
        assert [m.sequence for _, _, m in lines] == list(range(30))
        schema, channel, message = lines[0]
        assert (schema.name, schema.encoding, channel.message_encoding) == ("irst_stream.Detections", "jsonschema", "json")
        assert json.loads(schema.data)["type"] == "object"
        assert json.loads(message.data)["detections"][0]["x"] == 0.1
        messages = [m for _, _, m in reader.iter_messages(topics=["frame/cam"])]
        assert [(m.log_time, m.publish_time) for m in messages] == [(0, 10**18), (3 * STEP_NS, 3 * STEP_NS)]
        assert reader.get_summary().statistics.message_count == 33
    with path.open("rb") as file:
        *_, footer = StreamReader(file, validate_crcs=True).records
    assert isinstance(footer, Footer)
    assert zlib.crc32(path.read_bytes()[footer.summary_start : -12]) == footer.summary_crc


def test_a_frame_message_has_the_documented_layout(tmp_path):
    original = frame(7)
    record(tmp_path / "a.mcap", [original])
    data = breakup_chunk(chunks(tmp_path / "a.mcap")[0])[-1].data
    assert data[:3] == b"\xc2\xa9\x07"  # field 15000, of some length
    size, start = data[3], 4  # a length below 128 takes one byte
    assert size < 0x80
    assert zlib.crc32(data[start + 4 : start + size]) == int.from_bytes(data[start : start + 4], "little")
    assert data.endswith(original.pixels.tobytes())


@given(steps=st.lists(st.integers(-(10**8), 4 * 10**8), min_size=1, max_size=40))
def test_no_chunk_is_longer_than_half_a_second(steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("r") / "a.mcap"
    recorder = Recorder(RecordSettings(str(path)))
    for k, at in enumerate(np.cumsum([10**9, *steps]).tolist()):
        recorder.write(frame(k), at)
    recorder.close()
    for chunk in chunks(path):
        times = [r.log_time for r in breakup_chunk(chunk, validate_crc=True) if hasattr(r, "log_time")]
        assert (chunk.message_start_time, chunk.message_end_time) == (min(times), max(times))
        assert max(times) - min(times) <= CHUNK_NS
    assert [f.stamp.index for f in open_recording(path)] == list(range(len(steps) + 1))


def test_chunks_are_written_by_age_and_by_size(tmp_path):
    recorder = Recorder(RecordSettings(str(tmp_path / "a.mcap")))
    recorder.write(frame(0), 0)
    assert recorder.kept == 0
    recorder.write(frame(1), CHUNK_NS + 1)
    assert recorder.kept == 1
    for k in range(2, 6):
        assert recorder.kept == 1
        recorder.write(frame(k, shape=(256, 512)), CHUNK_NS + 1)
    assert recorder.kept == 6  # the last of four frames of 256 KiB fills the chunk
    recorder.close()
    recorder.close()
    assert max(len(chunk.data) for chunk in chunks(tmp_path / "a.mcap")) < CHUNK_BYTES + 2**18 + 1000


@pytest.mark.parametrize(("limits", "files"), [({"rotate_s": 2.0}, 4), ({"rotate_mb": 0.1}, 6), ({}, 1)])
def test_it_rotates_by_time_and_by_size(limits, files, tmp_path):
    items = [frame(k, shape=(64, 64)) for k in range(70)]
    recorder = record(tmp_path / "a.mcap", items, CONFIG, **limits)
    assert recorder.kept == 70
    paths = sorted(tmp_path.iterdir(), key=lambda path: (len(path.name), path.name))
    assert [p.name for p in paths] == ["a.mcap", *(f"a-{n:04d}.mcap" for n in range(2, files + 1))]
    all_same([f for path in paths for f in open_recording(path)], items)
    assert {open_recording(path).config for path in paths} == {CONFIG}
    if "rotate_s" in limits:
        spans = [chunks(p)[0].message_start_time for p in paths]
        assert all(b - a == 2 * 10**9 for a, b in pairwise(spans))


def test_results_without_frames(tmp_path):
    path = tmp_path / "a.mcap"
    recorder = Recorder(RecordSettings(str(path), frames=False))
    assert recorder.takes == (Detections, Tracks)
    recorder.write(detection(1), 5)
    recorder.close()
    assert list(open_recording(path).results()) == [line(detection(1))]
    assert (list(open_recording(path)), open_recording(path).frames) == ([], 0)


def test_it_stops_before_the_disk_is_full(tmp_path):
    left = iter([200e6, 150e6, 101e6, 1e12])
    recorder = record(tmp_path / "a.mcap", map(frame, range(20)), free=lambda _: next(left), keep_free_mb=100)
    assert recorder.alarm == (
        f"{tmp_path / 'a.mcap'}: recording stopped: 101 MB left on the disk, of which 100 MB must stay free"
    )
    assert (recorder.kept, recorder.lost) == (12, 8)
    all_same(open_recording(tmp_path / "a.mcap"), map(frame, range(12)))


def test_files_that_exist_are_never_overwritten_and_stop_nothing(tmp_path):
    for name in ("a.mcap", "a-0007.mcap", "a-0003.jsonl", "ba-0099.mcap"):
        (tmp_path / name).write_bytes(b"precious")
    recorder = Recorder(RecordSettings(str(tmp_path / "a.mcap"), rotate_s=1))
    (tmp_path / "a-0009.mcap").write_bytes(b"precious")
    for k in range(20):
        recorder.write(frame(k), k * STEP_NS)
    recorder.close()
    assert (recorder.alarm, recorder.kept, recorder.lost) == ("", 20, 0)
    taken = [f for name in ("a-0008.mcap", "a-0010.mcap") for f in open_recording(tmp_path / name)]
    all_same(taken, map(frame, range(20)))
    assert sum(p.read_bytes() == b"precious" for p in tmp_path.iterdir()) == 5
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        Recorder(RecordSettings(str(tmp_path / "nowhere" / "a.mcap")))


class Clock:
    """A steady clock that a test sets, s."""

    now = 0.0

    def __call__(self):
        return self.now


def test_a_chunk_is_written_within_half_a_second_of_its_first_record(tmp_path):
    clock = Clock()
    recorder = Recorder(RecordSettings(str(tmp_path / "a.mcap")), clock=clock)
    recorder.write(frame(0), 0)
    recorder.idle()
    assert recorder.kept == 0, "not each record by itself"
    clock.now = FLUSH_S
    recorder.idle()
    assert recorder.kept == 1, "without a further record"
    recorder.write(frame(1), 1)
    clock.now = 2 * FLUSH_S
    recorder.write(frame(2), 2)
    assert recorder.kept == 3, "however little log time has passed"
    assert FLUSH_S + 2 * IDLE_S <= 0.5
    recorder.close()


def test_recording_goes_on_in_a_new_file_once_there_is_room(tmp_path, caplog):
    clock, free = Clock(), [1e9]
    settings = RecordSettings(str(tmp_path / "a.mcap"), keep_free_mb=100)
    recorder = Recorder(settings, free=lambda _: free[0], clock=clock)

    def write(*numbers):
        for k in numbers:
            recorder.write(frame(k), k * STEP_NS)

    write(*range(6))
    free[0] = 100e6
    write(*range(6, 20))
    assert recorder.alarm.startswith(f"{tmp_path / 'a.mcap'}: recording stopped: 100 MB left")
    kept = recorder.kept
    assert recorder.lost == 20 - kept > 0
    free[0] = 100e6 + RESUME_BYTES - 1
    clock.now += RETRY_S
    write(20)
    assert recorder.alarm, "no file for a few chunks"
    free[0] = 1e9
    write(21)
    assert recorder.alarm, "the second try is later"
    clock.now += 2 * RETRY_S
    write(*range(22, 30))
    assert recorder.alarm == ""
    recorder.close()
    assert (recorder.kept, recorder.lost) == (kept + 8, 22 - kept)
    assert f"{tmp_path / 'a-0002.mcap'}: recording again; {22 - kept} records were lost" in caplog.text
    all_same(open_recording(tmp_path / "a.mcap"), map(frame, range(kept)))
    all_same(open_recording(tmp_path / "a-0002.mcap"), map(frame, range(22, 30)))


def test_a_record_of_a_chunk_that_was_not_written_is_lost_with_its_marks(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    clock = Clock()
    recorder = Recorder(RecordSettings(str(tmp_path / "a.mcap"), annotations=True), free=lambda _: 10**12, clock=clock)
    recorder.write(detection(0), 0)
    clock.now = FLUSH_S
    with monkeypatch.context() as patched:
        patched.setattr("irst_stream.io.recording.chunk_writer._write_all", full)
        recorder.idle()
    assert (recorder.kept, recorder.lost) == (0, 1)
    clock.now += RETRY_S
    recorder.write(detection(1), STEP_NS)
    recorder.close()
    assert (recorder.alarm, recorder.kept, recorder.lost) == ("", 1, 1)
    assert list(open_recording(tmp_path / "a-0002.mcap").results()) == [line(detection(1))]


def test_a_file_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("irst_stream.io.recording.chunk_writer._write_all", full)
        with pytest.raises(OutputError, match=r"a\.mcap: cannot be written: No space left on device"):
            Recorder(RecordSettings(str(tmp_path / "a.mcap")))
    assert list(tmp_path.iterdir()) == []
    record(tmp_path / "a.mcap", [frame(0)])
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]


def test_an_invalid_sensor_name_is_refused(tmp_path):
    recorder = Recorder(RecordSettings(str(tmp_path / "a.mcap")))
    with pytest.raises(WireError, match="test/00000"):
        recorder.write(frame(0, "test/00000"), 0)
    recorder.close()


def test_settings_are_checked():
    assert parse_settings('path = "a.mcap"\nrotate_mb = 2', "here", RecordSettings) == RecordSettings("a.mcap", rotate_mb=2)
    with pytest.raises(FormatError, match=r"rotate_s.*compression"):
        parse_settings('path = "a.mcap"\nrotate_s = -1\ncompression = "zip"', "here", RecordSettings)


def test_the_attributes_of_a_recording(tmp_path):
    record(tmp_path / "a.mcap", [item for k in range(11) for item in (frame(k, "a"), frame(k, "b"))], step_ns=5 * 10**7)
    source = open_recording(str(tmp_path / "a.mcap"))
    assert (source.kind, source.dataset, source.has_truth, source.full_scale) == ("recording", "", False, None)
    assert (source.frames, source.rate_hz, source.config, source.rejected) == (22, pytest.approx(10, rel=0.06), "", {})
    taken = iter(source)
    next(taken)
    source.stop()
    assert list(taken) == []
