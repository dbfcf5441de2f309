"""Sinks that fail, hang or work again: every loss is counted, and the pipeline goes on."""

import pytest
from echo_pipeline import EchoPipeline, ListSink, ListSource, feed, indices, one_detection
from local_feeds import until

from irst_stream import Detections, Frame, OutputError
from irst_stream.live import outlets, queues
from irst_stream.live.queues import Outbox, QueuedRecord
from irst_stream.live.runner import Runner
from irst_stream.system.latency import Clocks


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), OutputError("no more"), KeyError("x")])
def test_a_sink_that_fails_loses_its_records_and_the_others_continue(failure, caplog):
    good, bad = ListSink(), ListSink(fails_after=3, failure=failure)
    runner = Runner(EchoPipeline(), {"in": ListSource(feed(20))}, {"good": good, "bad": bad}, "lossless")
    runner.run()
    assert indices(good) == list(range(20))
    status = runner.status().sinks["bad"]
    assert (status.written, status.lost) == (3, 17)
    assert str(failure) in status.alarm
    assert caplog.text.count("bad: failed: ") == 1
    assert bad.closed == 1


def test_it_is_said_when_a_sink_is_done_with_a_record_lost_or_not():
    done, sinks = [], {"good": ListSink(), "bad": ListSink(fails_after=3, failure=OSError(5, "no"))}
    runner = Runner(EchoPipeline(), {"in": ListSource(feed(9))}, sinks, "lossless", done=lambda *said: done.append(said))
    runner.run()
    for name in sinks:
        found = [record.stamp.index for sink, record in done if sink == name and isinstance(record, Detections)]
        assert found == list(range(9))


def test_a_sink_that_failed_is_tried_again_and_says_when_it_works(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(outlets.time, "monotonic", lambda: now[0])
    sink = ListSink(fails_after=3, failure=OSError(28, "No space left on device"))
    writer = outlets.SinkWriter("found", sink, "lossless", Clocks())

    def write(count):
        for _ in range(count):
            writer._write(QueuedRecord(one_detection(), 1))

    write(5)
    assert writer.status()[:4] == (3, 0, 2, "[Errno 28] No space left on device")
    sink.fails_after = None
    now[0] = outlets.RETRY_S - 0.01
    write(1)
    assert writer.status().alarm, "not before its time"
    now[0] = outlets.RETRY_S
    write(2)
    assert writer.status()[:4] == (5, 0, 3, "")
    assert caplog.messages == [
        "found: failed: [Errno 28] No space left on device; further records count as lost until it works again",
        "found: works again; 3 records were lost",
    ]


def test_the_pauses_between_tries_grow_to_a_minute(monkeypatch):
    now, tried = [0.0], []
    monkeypatch.setattr(outlets.time, "monotonic", lambda: now[0])

    sink = ListSink()

    def fail(*_):
        tried.append(now[0])
        raise OSError(5, "Input/output error")

    sink.write = fail
    writer = outlets.SinkWriter("found", sink, "lossless", Clocks())
    for second in range(400):
        now[0] = float(second)
        writer._write(QueuedRecord(one_detection(), 1))
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]
    assert writer.status().lost == 400


@pytest.mark.parametrize("policy", ["live", "lossless"])
def test_a_sink_that_hangs_does_not_stop_the_pipeline(policy, monkeypatch):
    monkeypatch.setattr(queues, "STUCK_AFTER_S", 0.05)
    monkeypatch.setattr(outlets, "Outbox", lambda policy: Outbox(policy, depth=8))
    stuck, good, pipeline = ListSink(), ListSink(), EchoPipeline()
    stuck.gate.clear()
    runner = Runner(pipeline, {"in": ListSource(feed(60))}, {"stuck": stuck, "good": good}, policy, depth=100)
    runner.start()
    until(lambda: len(good.records) + runner.status().sinks["good"].lost == 60)
    assert len(pipeline.seen) == 60
    until(lambda: runner.status().sinks["stuck"].lost >= 60 - 9)
    stuck.gate.set()
    assert runner.wait(20)
    status = runner.status().sinks["stuck"]
    assert status.written + status.lost == 60


def test_a_sink_that_cannot_be_closed_in_time_is_named():
    stuck = ListSink((Frame,))
    stuck.gate.clear()
    runner = Runner(EchoPipeline(), {"in": ListSource(feed(3), endless=True)}, {"stuck": stuck, "good": ListSink()}, "live")
    runner.start()
    until(lambda: runner.status().frames == 3)
    assert runner.abandon(0.05) == ["stuck"]
    stuck.gate.set()
    assert runner.wait(20)
