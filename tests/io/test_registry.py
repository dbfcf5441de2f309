"""The contract of every registered live source and sink; a new one is tested once it is registered."""

import threading
from collections import Counter

import numpy as np
import pytest

from irst_stream import Detections, Frame, Stamp, Tracks
from irst_stream.io.lines_sink import WriteSettings
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.io.registry import PUBLISHERS, SOURCES, WRITERS, open_live_source, open_publisher, open_writer
from irst_stream.io.zeromq.settings import PublishSettings, ReceiveSettings, link_fault

STAMP = Stamp("cam", 1, 2, 20_000_000)
RECORDS = {
    Frame: Frame(STAMP, np.zeros((11, 11), np.uint16), 4095.0),
    Detections: Detections.bare(STAMP, np.ones((2, 2)), np.ones(2), np.ones(2)),
    Tracks: Tracks(STAMP, np.ones(1, int), np.zeros((1, 4)), np.eye(4)[None], np.ones(1), np.ones(1), [True], [0]),
}
PATIENCE_S = 60


def endpoint(scheme, folder):
    return {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{folder}/socket"}[scheme]


def sinks(folder):
    """Every sink, by what opens it."""
    for scheme in PUBLISHERS:
        yield f"publish {scheme}", lambda scheme=scheme: open_publisher(PublishSettings(endpoint(scheme, folder)), "live")
    for suffix in WRITERS:
        for kind in (Detections, Tracks):
            given = WriteSettings(str(folder / f"{kind.__name__}{suffix}"))
            yield f"write {suffix}, {kind.__name__}", lambda given=given, kind=kind: open_writer(given, kind)
    yield "record", lambda: Recorder(RecordSettings(str(folder / "a.mcap"), keep_free_mb=0.0))


def test_every_sink_keeps_the_contract(tmp_path):
    """It says what it takes, takes that, loses nothing that fits, and may be closed twice."""
    for name, opened in sinks(tmp_path):
        sink = opened()
        assert sink.takes, name
        assert set(sink.takes) <= set(RECORDS), name
        sink.start(lambda: None)
        for kind in sink.takes:
            sink.write(RECORDS[kind], 1)
        sink.idle()
        assert (sink.lost, sink.alarm) == (0, ""), name
        sink.close()
        sink.close()


@pytest.mark.parametrize("scheme", SOURCES)
def test_every_live_source_keeps_the_contract(scheme, tmp_path):
    """It can be stopped from another thread while nothing comes, ends its iteration then, and may be closed twice."""
    settings = ReceiveSettings(endpoint(scheme, tmp_path), bind=True)
    assert link_fault(settings) == ("", "")
    source = open_live_source(settings, "live")
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(source), daemon=True)
    thread.start()
    source.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert taken == []
    assert source.rejected == Counter()
    source.close()
    source.close()


def test_an_endpoint_of_ones_own_scheme_is_not_refused(monkeypatch):
    monkeypatch.setitem(SOURCES, "ticks", object)
    assert link_fault(ReceiveSettings("ticks://3")) == ("", "")
    assert link_fault(ReceiveSettings("tocks://3")) != ("", "")
