"""Series of output files: names, rotation, retention, and lines that are whole whatever happens."""

import errno
import os
import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from irst_stream import Detections, OutputError, Stamp
from irst_stream.io import file_series, lines_sink
from irst_stream.io.file_series import FileSeries, SeriesSettings, series_fault
from irst_stream.io.lines_sink import LinesSink, WriteSettings


def begun(folder, name="a.jsonl", **limits):
    """The name of the next file of a series, which is then there."""

    def open_new(path):
        path.open("x").close()
        return path.name

    return FileSeries(SeriesSettings(str(folder / name), **limits)).open_next(open_new)


def detection(index):
    return Detections.bare(Stamp("cam", 1, index, index), np.ones((1, 2)), np.ones(1), np.ones(1))


def sink(path, **limits):
    return LinesSink(WriteSettings(str(path), **limits), Detections)


def test_the_number_after_the_highest_is_taken(tmp_path):
    assert [begun(tmp_path) for _ in range(3)] == ["a.jsonl", "a-0002.jsonl", "a-0003.jsonl"]
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a-0002.jsonl").unlink()
    (tmp_path / "a-1.jsonl").touch()
    (tmp_path / "ba-0050.jsonl").touch()
    assert begun(tmp_path) == "a-0004.jsonl", "the order of names is the order of time"


def test_a_name_may_hold_the_time_at_which_the_file_begins(tmp_path):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    names = [begun(tmp_path, "cam {start} x.mcap") for _ in range(2)]
    times = [re.match(r"cam (\d{8}T\d{6}Z) x(-\d{4})?\.mcap", name)[1] for name in names]
    for text in times:
        assert (
            before <= datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc) <= datetime.now(timezone.utc)
        )
    assert re.fullmatch(r"\d{4}-\d{3}\.x", begun(tmp_path, "{start:%Y-%j}.x"))
    assert re.fullmatch(r"\d{4}-\d{3}-0002\.x", begun(tmp_path, "{start:%Y-%j}.x"))


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("{start:%Y}/a.jsonl", "in the file's name only"),
        ("a{begin}.jsonl", "expected {start}, or {start:FORMAT} with %Y %m %d"),
        ("a{start:%c}.jsonl", "expected {start}, or {start:FORMAT}"),
        ("a{start.jsonl", "expected {start}, or"),
        ("out/", "expected a file's name"),
        ("out.d/{start:%Y%m%d}-{start:%H}.jsonl", ""),
    ],
)
def test_templates_are_checked(path, fault):
    assert fault in series_fault(path)
    assert bool(fault) == bool(series_fault(path))


def test_old_files_of_the_series_are_deleted_and_nothing_else(tmp_path):
    kept = ["notes.jsonl", "cam-20250101T000000Z.txt", "cam-2025.jsonl", "precam-20250101T000000Z.jsonl"]
    old = [f"cam-2025010{k}T000000Z.jsonl" for k in range(1, 7)] + ["cam-20250101T000000Z-0002.jsonl"]
    for age, name in enumerate([*kept, *old]):
        (tmp_path / name).write_bytes(bytes(1_000_000))
        os.utime(tmp_path / name, (0, 86_400 * (100 - age)))
    (tmp_path / "cam-20250107T000000Z.jsonl").symlink_to("notes.jsonl")
    name = begun(tmp_path, "cam-{start}.jsonl", keep_mb=3)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {*kept, *old[:3], "cam-20250107T000000Z.jsonl", name}, "the latest 3 MB"
    second = begun(tmp_path, "cam-{start}.jsonl", keep_hours=1)
    assert {p.name for p in tmp_path.iterdir()} == {*kept, "cam-20250107T000000Z.jsonl", name, second}


def test_lines_roll_by_size_and_by_time_and_after_a_restart(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(file_series.time, "monotonic", lambda: now[0])
    for start in (0, 10):
        written = sink(tmp_path / "found.jsonl", rotate_mb=0.0005, rotate_s=100)
        for k in range(start, start + 4):
            written.write(detection(k), 0)
        now[0] += 100
        written.write(detection(start + 4), 0)
        written.close()
    files = sorted(tmp_path.iterdir(), key=lambda p: (len(p.name), p.name))
    texts = [p.read_text().splitlines() for p in files]
    assert len(files) > 4
    assert [len(lines) > 0 for lines in texts] == [True] * len(files)
    found = [int(re.search(r'"index":(\d+)', line)[1]) for lines in texts for line in lines]
    assert found == [*range(5), *range(10, 15)]
    assert all(p.stat().st_size <= 500 for p in files)


def test_a_line_that_does_not_fit_leaves_no_part_and_the_next_ones_follow(tmp_path, monkeypatch):
    written, real = sink(tmp_path / "found.jsonl"), os.write

    def full(handle, data):
        if len(data) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:50])

    written.write(detection(0), 0)
    with monkeypatch.context() as patched:
        patched.setattr(lines_sink.os, "write", full)
        with pytest.raises(OutputError, match=r"found\.jsonl: cannot be written: No space left on device"):
            written.write(detection(1), 0)
    written.write(detection(2), 0)
    written.close()
    assert re.findall(r'"index":(\d+)', (tmp_path / "found.jsonl").read_text()) == ["0", "2"]
    assert (tmp_path / "found.jsonl").read_text().count("\n") == 2


def test_lines_are_forced_to_the_disk_within_half_a_second_if_asked(tmp_path, monkeypatch):
    now, synced = [10.0], []
    monkeypatch.setattr(lines_sink.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(lines_sink.os, "fsync", lambda _: synced.append(now[0]))
    written = sink(tmp_path / "found.jsonl", fsync=True)
    synced.clear()  # of the folder
    for k in range(10):
        written.write(detection(k), 0)
        now[0] += 0.125
    now[0] += 0.5
    for _ in range(3):
        written.idle()
    assert synced == [10.0, 10.5, 11.0, 11.75]
    written.close()
    assert len(synced) == 4, "nothing is left"
    sink(tmp_path / "other.jsonl").write(detection(0), 0)
    assert len(synced) == 4


def test_a_device_is_written_as_it_is():
    full = sink(Path("/dev/full"))
    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device"):
        full.write(detection(0), 0)
    full.close()
    assert Path("/dev/full").is_char_device()
