"""The parts of a fleet by themselves: who gets a sensor, start numbers, what is counted as lost, sums."""

import math
import socket

import numpy as np
import pytest
from local_feeds import small_frame

from irst_stream import Detections, OutputError, Stamp
from irst_stream.cli import main
from irst_stream.fleet.balance import Move, choose_move, choose_worker
from irst_stream.fleet.journal import FORM, Journal, Position
from irst_stream.fleet.ledger import Ledger
from irst_stream.fleet.orders import StationReport
from irst_stream.fleet.tally import Tally
from irst_stream.live.health import alarms, health_of
from irst_stream.live.memory_file import MemoryFile
from irst_stream.live.queues import OTHERS
from irst_stream.live.status import SensorStatus, SinkStatus, Status
from irst_stream.system.latency import Clocks, Histogram


def test_the_worker_with_the_least_to_do_gets_a_sensor():
    placed = {"a": {"x": 0.5}, "b": {"y": 0.2, "z": 0.2}, "c": {"w": 0.45}}
    assert choose_worker("new", placed, {}) == "b"
    assert choose_worker("new", {"a": {"x": 0.3}, "b": {}}, {}) == "b"
    assert choose_worker("new", {"b": {}, "a": {}}, {}) == "a"
    with pytest.raises(ValueError, match="no worker for new"):
        choose_worker("new", {}, {})


def test_a_load_that_is_not_known_counts_as_the_others():
    placed = {"a": {"x": math.nan}, "b": {"y": 0.3}, "c": {"z": math.nan, "w": math.nan}}
    assert choose_worker("new", placed, {}) == "a"
    assert choose_worker("new", placed, {"x": 0.9}) == "b", "as it was measured before"


def test_a_move_evens_the_load_or_is_none():
    assert choose_move({"a": {"x": 0.5, "y": 0.4}, "b": {"z": 0.1}}) == Move("y", "a", "b")
    assert choose_move({"a": {"x": 0.9}, "b": {}}) is None, "one sensor cannot be shared"
    assert choose_move({"a": {"x": 0.3, "y": 0.2}, "b": {}}) is None, "nobody is busy"
    assert choose_move({"a": {"x": 0.95, "y": 0.01}, "b": {"z": 0.1}}) is None, "no move would help"
    assert choose_move({"a": {"x": math.nan, "y": 0.9}, "b": {}}) is None
    assert choose_move({"a": {"x": 1.0, "y": 1.0}}) is None


def test_no_two_starts_share_a_number(tmp_path):
    first = Ledger(tmp_path / "state")
    assert [first.next_start(name) for name in ("a", "a", "b")] == [1, 2, 1]
    with pytest.raises(OutputError, match="another fleet keeps it"):
        Ledger(tmp_path / "state")
    first.close()
    again = Ledger(tmp_path / "state")
    assert again.next_start("a") == 3
    again.close()


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"version":1,"starts":{"a":"x"}}', b'{"version":9,"starts":{}}', b"\xff" * 99]
)
def test_a_damaged_ledger_is_set_aside_and_numbers_go_on_from_the_time(tmp_path, data):
    (tmp_path / "fleet.json").write_bytes(data)
    ledger = Ledger(tmp_path)
    assert ledger.next_start("a") > 29_000_000, "minutes since 1970"
    assert (tmp_path / "fleet.json.damaged").read_bytes() == data
    ledger.close()


def test_a_ledger_in_no_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^fleet.state: .*file/state: Not a directory$"):
        Ledger(tmp_path / "file" / "state")


def found(index, epoch=1):
    return Detections.bare(Stamp("cam", epoch, index, 0), np.zeros((0, 2)), np.zeros(0), np.zeros(0))


def journal_after(path, indices, before=None, epoch=1):
    journal = Journal(path, before)
    journal.open()
    for index in indices:
        journal.note("found.jsonl", found(index, epoch))
    journal.close()
    return journal


def test_frames_between_two_runs_are_counted(tmp_path):
    path = tmp_path / "cam.position"
    assert journal_after(path, range(5)).unanswered == 0
    assert journal_after(path, range(9, 12)).unanswered == 4
    assert journal_after(path, [13]).unanswered == 1
    assert journal_after(path, [3], epoch=2).unanswered == 0, "the sensor was restarted"
    assert journal_after(path, [20], Position(2, 15), epoch=2).unanswered == 4, "the supervisor knows more"
    assert journal_after(tmp_path / "other.position", [20], Position(1, 15)).unanswered == 4, "on another disk"
    journal = journal_after(path, [25], epoch=2)
    journal.discard()
    journal.discard()
    assert journal_after(path, [99], epoch=2).unanswered == 0, "after an end that was meant"


def test_a_frame_has_its_results_once_every_sink_is_done_with_them(tmp_path):
    path = tmp_path / "cam.position"
    journal = Journal(path)
    journal.open()
    for index in range(9):
        journal.note("quick.jsonl", found(index))
    for index in range(4):
        journal.note("slow.jsonl", found(index))
    assert journal.last == Position(1, 3)
    journal.note("slow.jsonl", frame := small_frame(8))
    assert journal.last == Position(1, 3), f"{type(frame).__name__}s are no results"
    assert journal_after(path, [9]).unanswered == 5, "a worker that dies takes along what the slow sink had to write"


def test_a_journal_that_cannot_be_kept_costs_the_count_alone(tmp_path, caplog):
    (tmp_path / "cam.position").mkdir()
    journal = journal_after(tmp_path / "cam.position", range(5, 8), Position(1, 2))
    assert (journal.last, journal.unanswered) == (Position(1, 7), 2), "the supervisor knows the last one too"
    assert "cam.position: Is a directory; " in caplog.text


@pytest.mark.parametrize("data", [b"", b"\x00", FORM.pack(1, 4)[:-1], FORM.pack(1, 4) + b"more"])
def test_a_damaged_journal_costs_the_count_alone(tmp_path, data):
    path = tmp_path / "cam.position"
    path.write_bytes(data)
    journal = journal_after(path, [9])
    assert journal.unanswered == (4 if len(data) > FORM.size else 0)
    assert journal.last == Position(1, 9)


def test_ids_begin_at_the_least_that_is_asked_for(tmp_path):
    first = MemoryFile(tmp_path / "m.json", 5000)
    assert first.first_id == 5000
    first.close()
    assert MemoryFile(tmp_path / "n.json").first_id == 1


def status_of(frames=10, alarm="", missing=2):
    sensors = {"cam": SensorStatus(frames, frames - 4, 7, 1, 0.5)}
    sinks = {"out": SinkStatus(frames, 0, 1, alarm), "(page)": SinkStatus(3, 0, 0, "")}
    return Status(1.0, sensors, sinks, {"missing": missing}, {"format": 1}, {"connected": 1}, {}, 0)


def test_what_ended_pipelines_did_is_counted_with_the_rest():
    clocks = Clocks()
    for stage in ("resolve", "publish out", "publish (page)", "end to end other"):
        clocks.add(stage, 2_000_000)
    stages = {name: histogram.durations() for name, histogram in clocks.stages.items()}
    first, both = Tally(), Tally()
    first.add(StationReport(1, "ended", status=status_of(), stages=stages, unanswered=0))
    first.add(StationReport(2, "starting"))
    both.merge(first)
    both.add(StationReport(3, "running", status=status_of(20, missing=0), stages=stages, unanswered=5))
    assert both.sensor("cam", 2, 0.1, 1.0, "")[:4] == (30, 22, 14, 2)
    assert both.sink("out", 3, "full") == SinkStatus(30, 3, 2, "full")
    assert both.of("dropped") == {"missing": 2, "worker": 5}
    assert {name: sum(h.buckets) for name, h in both.stages.items()} == {"resolve": 2, "publish": 2, "end to end": 2}
    assert both.of("sink written") == {"out": 30}
    assert both.others({"cam"}) is None
    assert both.others({"new"})[:5] == (30, 22, 14, 0, 0.0), "a removed sensor"


def test_merged_histograms_hold_all_durations():
    one, two, both = Histogram(), Histogram(), Histogram()
    for ns in (1_000, 5_000_000, 10**13):
        one.add(ns)
        both.add(ns)
    two.add(7_000)
    both.add(7_000)
    two.merge(one.durations())
    assert two.buckets == both.buckets
    assert two.summary() == both.summary()


def test_a_sensor_that_never_sent_makes_no_fleet_ready():
    silent = Status(1.0, {"cam": SensorStatus(0, 0, 0, 0, 1.0)}, {}, {}, {}, {}, {}, 0, faults=("fleet: 1 of 2 workers",))
    assert not health_of(silent, is_running=True).ready
    assert alarms(silent) == ("fleet: 1 of 2 workers",)
    gone = Status(1.0, {OTHERS: SensorStatus(9, 9, 0, 0, 0.0)}, {}, {}, {}, {}, {}, 0)
    assert not health_of(gone, is_running=True).ready, "nor does one that is there no more"


def test_a_port_in_use_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = '[fleet]\nconfig = "camera"\n[[sensor]]\nname = "a"\nreceive = { endpoint = "tcp://127.0.0.1:5555" }\n'
        (tmp_path / "f.toml").write_text(f"{text}publish = []\n[view]\nport = {port}\n")
        assert main(["fleet", "f.toml"]) == 2
        assert capsys.readouterr().err.endswith(f"view: 127.0.0.1:{port} cannot be bound: Address already in use\n")
    assert main(["fleet", "f.toml", "--on", "nowhere"]) == 2
    assert "expected ray://HOST:PORT" in capsys.readouterr().err
