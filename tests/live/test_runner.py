"""Threads and queues around a pipeline: every loss is counted, and the first failure is raised."""

import time
from collections import Counter

import pytest
from echo_pipeline import EchoPipeline, ListSink, ListSource, feed, indices
from local_feeds import LOCAL, collecting, send, sender, small_frame, until

from irst_stream import Detections, Frame, SourceError
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live import runner as runner_module
from irst_stream.live.queues import OTHERS
from irst_stream.live.runner import Runner


def test_every_frame_goes_through_and_is_timed():
    pipeline, source, sink = EchoPipeline(), ListSource(feed(50, clock="unix", time_ns=time.time_ns())), ListSink()
    runner = Runner(pipeline, {"in": source}, {"out": sink}, "lossless")
    runner.run()
    assert indices(sink) == list(range(50))
    assert (source.closed, sink.closed) == (True, 1)
    assert pipeline.steps == [1] * 50, "under lossless one frame is one step, so that a replay gives the same bytes"
    status = runner.status()
    assert status.frames == 50
    assert status.sensors["cam"][:3] == (50, 50, 50)
    assert status.sinks["out"] == (50, 0, 0, "", 0)
    assert (status.dropped, status.unused, status.rejected) == ({}, {}, {})
    assert set(status.stages) == {"transport", "queue", "compute", "publish out", "end to end out"}
    assert all(s.samples == 50 for s in status.stages.values())
    assert all(0 < when <= time.time_ns() for _, when in sink.records)


def test_frames_go_to_the_sinks_that_take_them():
    sink, other = ListSink((Frame, Detections)), ListSink()
    Runner(EchoPipeline(), {"in": ListSource(feed(5))}, {"all": sink, "found": other}, "lossless").run()
    assert sorted(type(r).__name__ for r, _ in sink.records) == ["Detections"] * 5 + ["Frame"] * 5
    assert len(other.records) == 5


def test_latency_counts_from_the_arrival_where_the_sensors_clock_is_its_own():
    runner = Runner(EchoPipeline(), {"in": ListSource(feed(9))}, {"out": ListSink()}, "lossless")
    runner.run()
    stages = runner.status().stages
    assert "transport" not in stages
    assert stages["end to end out"].samples == 9
    assert stages["end to end out"].longest < 20_000


def test_live_empties_a_full_queue_and_counts_the_drops():
    pipeline, sink = EchoPipeline(), ListSink()
    pipeline.gate.clear()
    source = ListSource(feed(11), endless=True)
    runner = Runner(pipeline, {"in": source}, {"out": sink}, "live", depth=4)
    runner.start()
    until(lambda: source.given == 11 and runner.status().waiting <= 4)
    pipeline.gate.set()
    runner.stop()
    assert runner.wait(20)
    dropped = runner.status().dropped["overrun"]
    assert dropped in (4, 8)
    assert len(sink.records) == 11 - dropped
    assert indices(sink)[-1] == 10, "the newest wins"
    gaps = [b - a for a, b in zip(indices(sink), indices(sink)[1:], strict=False)]
    assert set(gaps) <= {1, 5, 9}, "drops are consecutive, so that few windows are lost"


def test_live_takes_one_frame_of_each_sensor_that_has_any():
    pipeline = EchoPipeline()
    pipeline.gate.clear()
    sources = {name: ListSource(feed(3, name), endless=True) for name in "abc"}
    runner = Runner(pipeline, sources, {}, "live")
    runner.start()
    until(lambda: runner.status().frames == 9)
    pipeline.gate.set()
    runner.stop()
    assert runner.wait(20)
    assert max(pipeline.steps) == 3
    assert len(pipeline.seen) == 9
    assert runner.status().stages["end to end"].samples == 9


def test_lossless_makes_the_source_wait():
    pipeline, sink, source = EchoPipeline(), ListSink(), ListSource(feed(40))
    pipeline.gate.clear()
    runner = Runner(pipeline, {"in": source}, {"out": sink}, "lossless", depth=4)
    runner.start()
    until(lambda: runner.status().waiting == 4)
    assert source.given <= 6, "four wait, one is being computed, one waits in put()"
    pipeline.gate.set()
    assert runner.wait(20)
    assert indices(sink) == list(range(40))


def test_a_source_that_fails_loses_nothing_that_came_before():
    sink = ListSink()
    other = ListSource(feed(3, "other"), endless=True)
    runner = Runner(
        EchoPipeline(), {"bad": ListSource(feed(7), SourceError("gone")), "good": other}, {"out": sink}, "lossless"
    )
    with pytest.raises(SourceError, match="gone"):
        runner.run()
    assert sorted(indices(sink)) == sorted([*range(7), *range(3)])
    assert other.stopped.is_set()
    assert other.closed
    assert sink.closed == 1


def test_a_failure_of_the_computation_is_raised_as_itself_and_ends_everything():
    sink, source = ListSink(), ListSource(feed(30), endless=True)
    runner = Runner(EchoPipeline(fails_at=5), {"in": source}, {"out": sink}, "lossless", depth=2)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        runner.run()
    assert indices(sink) == list(range(5))
    assert source.closed


def test_stopping_finishes_what_has_been_received():
    pipeline, sink = EchoPipeline(), ListSink()
    pipeline.gate.clear()
    source = ListSource(feed(10), endless=True)
    runner = Runner(pipeline, {"in": source}, {"out": sink}, "live", depth=100)
    runner.start()
    until(lambda: runner.status().frames == 10)
    runner.stop()
    assert not runner.wait(0)
    pipeline.gate.set()
    assert runner.wait(20)
    assert indices(sink) == list(range(10))


def test_abandon_drops_queued_frames_and_closes_sinks():
    pipeline, sink, source = EchoPipeline(), ListSink((Frame,)), ListSource(feed(10), endless=True)
    pipeline.gate.clear()
    runner = Runner(pipeline, {"in": source}, {"out": sink}, "lossless", depth=4)
    runner.start()
    until(lambda: source.given == 6, "one is being computed, four wait, one waits in put()")
    assert runner.abandon(20) == []
    assert (len(sink.records), sink.closed) == (10, 1), "the frame that waited in put() is written too"
    assert pipeline.seen == []
    assert runner.status().unused == {"unanswered": 9}
    pipeline.gate.set()
    assert runner.wait(20)
    assert len(pipeline.seen) == 1, "the one that was being computed"


def test_sources_are_added_and_removed_while_it_runs():
    pipeline, sink = EchoPipeline(), ListSink()
    first = ListSource(feed(3, "first"), endless=True)
    runner = Runner(pipeline, {"first": first}, {"out": sink}, "live")
    runner.start()
    until(lambda: len(sink.records) == 3)
    second = ZmqSource(ReceiveSettings(LOCAL, bind=True), "lossless")
    runner.remove("first")
    assert first.closed
    runner.add("second", second)
    with pytest.raises(ValueError, match="the name is in use"):
        runner.add("second", second)
    with sender(second.endpoint) as socket:
        socket.send(b"nonsense")
        send(socket, *feed(4, "second"))
        until(lambda: len(sink.records) == 7)
    runner.stop()
    assert runner.wait(20)
    assert runner.status().rejected == {"parts": 1}
    assert {record.stamp.sensor for record, _ in sink.records} == {"first", "second"}
    with pytest.raises(ValueError, match="stopping"):
        runner.add("third", ListSource([]))


def test_more_sensors_than_are_served_are_counted_and_silent_ones_forgotten(monkeypatch):
    monkeypatch.setattr(runner_module, "FORGET_EVERY_S", 0.0)
    pipeline, sink = EchoPipeline(), ListSink()
    source = ListSource([small_frame(0, name) for name in "abcabd"], endless=True)
    runner = Runner(pipeline, {"in": source}, {"out": sink}, "lossless", most_sensors=2, forget_s=1e-9)
    pipeline.gate.clear()
    runner.start()
    until(lambda: source.given == 6)
    pipeline.gate.set()
    until(lambda: set(pipeline.forgotten) == {"a", "b"})
    late = ListSource([small_frame(0, "e")])
    runner.add("late", late)
    until(lambda: "e" in {s.sensor for s in pipeline.seen})
    runner.stop()
    assert runner.wait(20)
    assert runner.status().dropped == {"sensors": 2}


def test_counts_of_forgotten_sensors_move_to_others(monkeypatch):
    monkeypatch.setattr(runner_module, "FORGET_EVERY_S", 0.0)
    pipeline, source = EchoPipeline(), ListSource([small_frame(0, f"s{k}") for k in range(50)], endless=True)
    runner = Runner(pipeline, {"in": source}, {"out": ListSink()}, "lossless", forget_s=1e-9)
    pipeline.events.update({(f"s{k}", "late"): 2 for k in range(50)})
    runner.start()
    until(lambda: len(set(pipeline.forgotten)) == 50)
    until(lambda: set(runner.status().sensors) == {OTHERS})
    runner.stop()
    assert runner.wait(20)
    status = runner.status()
    assert status.sensors[OTHERS][:3] == (50, 50, 50)
    assert status.dropped == {"late": 100}
    assert set(pipeline.events) == {(OTHERS, "late")}


class Busy(Counter):
    """A counter that grows during iteration, as if another thread counted."""

    def items(self):
        for item in super().items():
            self[(*item[0], len(self))] += 1
            yield item


def test_the_status_is_safe_while_other_threads_count():
    quiet, source, pipeline = ListSource([], endless=True), ListSource([], endless=True), EchoPipeline()
    quiet.rejected["crc"], source.rejected, source.links = 1, Busy({("crc",): 1}), Busy({("stalled",): 2})
    pipeline.events = Busy({("cam", "late"): 3})
    with pytest.raises(RuntimeError, match="changed size"):
        Counter("a").update(source.rejected)
    runner = Runner(pipeline, {"quiet": quiet, "in": source}, {}, "live")
    runner.start()
    status = runner.status()
    runner.stop()
    assert runner.wait(20)
    assert (status.links[("stalled",)], status.dropped["late"]) == (2, 3)


def test_without_a_source_it_ends_at_once():
    runner = Runner(EchoPipeline(), {}, {"out": (sink := ListSink())}, "live")
    runner.run()
    assert sink.closed == 1


def test_what_can_wait_begins_once_the_results_are_written(monkeypatch):
    monkeypatch.setattr(runner_module, "SETTLE_S", 20.0)
    pipeline, sink, written = EchoPipeline(), ListSink(), []
    pipeline.get_ahead = lambda: written.append(len(sink.records))
    source = ListSource(feed(3), endless=True)
    runner = Runner(pipeline, {"in": source}, {"out": sink}, "lossless")
    runner.start()
    until(lambda: written and written[-1] == 3)
    runner.stop()
    assert runner.wait(20)


def test_frames_over_a_socket_reach_a_sink():
    with collecting("lossless") as taken, sender(taken.source.endpoint) as socket:
        send(socket, *feed(5))
        until(lambda: len(taken.frames) == 5)
    sink = ListSink()
    Runner(EchoPipeline(), {"again": ListSource(taken.frames)}, {"out": sink}, "lossless").run()
    assert indices(sink) == list(range(5))
