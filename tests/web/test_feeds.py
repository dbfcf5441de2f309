"""What the page is sent: frames losslessly, kept frames, recordings by position; and what a client cannot do."""

import http.client
import json
import os
import sys
import threading
import time
import zlib

import cv2
import msgspec
import numpy as np
import pytest
from local_feeds import small_frame, until
from page_scene import PERIOD_NS, LiveScene, live_scene, places, scene_frame, scene_results

from irst_stream import Detections, Frame, Stamp, Truth, UsageError
from irst_stream.config import read_config
from irst_stream.errors import FormatError
from irst_stream.http_settings import ViewSettings
from irst_stream.io.files import open_source
from irst_stream.io.media.raw import write_raw
from irst_stream.io.recording.random_access import RandomAccess
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.live.http_server import Request
from irst_stream.web.background import NICENESS, LowPriority
from irst_stream.web.history import RECORD_BYTES, History
from irst_stream.web.playback import FileFrames, Playback, RecordedFrames, Results
from irst_stream.web.routes import feed_handlers
from irst_stream.web.serve import read_token
from irst_stream.web.views import View, encode_view


def split(body):
    """The head and the pixels of a body."""
    size = int.from_bytes(body[:4], "little")
    return msgspec.json.decode(body[4 : 4 + size]), body[4 + size :]


def asked(scene, path, method="GET", **headers):
    """Status and body of the answer to a request."""
    link = http.client.HTTPConnection("127.0.0.1", scene.server.port, timeout=20)
    try:
        link.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = link.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        link.close()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_travel_losslessly(dtype):
    pixels = np.random.default_rng(1).integers(0, 200, (7, 9)).astype(dtype)
    frame = Frame(Stamp("cam", -(2**62), 5, 2**62, "", "unix"), pixels)
    head, data = split(encode_view(View(3, frame), "cam", "full", LowPriority()))
    received = np.frombuffer(zlib.decompress(data), {"u1": "u1", "u2": "<u2", "f4": "<f4"}[head["type"]]).reshape(7, 9)
    assert np.array_equal(received, pixels)
    assert (head["position"], head["width"], head["height"], head["time_ns"]) == (3, 9, 7, str(2**62))
    assert head["tracks"] is None
    assert head["latency_ms"] is None


def test_marks_travel_with_the_frame():
    found, tracks = scene_results(4)
    truth = Truth(found.stamp, np.array([3]), np.array([0]), np.array([[1.0, 2.0]]), np.array([5.0]))
    view = View(4, scene_frame(4), {"a": found}, tracks, truth, {7: [(1.0, 2.0)]}, 12.5)
    head, _ = split(encode_view(view, "cam", "full", LowPriority()))
    assert head["detections"][0]["name"] == "a"
    assert head["detections"][0]["xy"][0] == pytest.approx(places(4)[7])
    assert head["detections"][0]["cov"][0] == [0.04, 0.01, 0.02]
    assert head["tracks"]["id"] == ["7", "8", "9", "12"]
    assert head["tracks"]["coasting"] == [False, False, False, True]
    assert head["tracks"]["tail"][0] == [[1.0, 2.0]]
    assert head["truth"] == {"count": 1, "id": ["3"], "xy": [[1.0, 2.0]], "size": [[None, None]]}


@pytest.mark.parametrize("shape", [(48, 64), (47, 63), (1, 5), (11, 11)])
def test_a_preview_keeps_the_brightest_of_four_pixels(shape):
    pixels = np.full(shape, 100, np.uint16) + np.random.default_rng(1).integers(0, 10, shape).astype(np.uint16)
    y, x = shape[0] // 2, shape[1] // 2
    pixels[y, x] = 400
    head, data = split(encode_view(View(0, Frame(Stamp("a", 0, 0, 0), pixels)), "a", "preview", LowPriority()))
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    side = 2 if min(shape) > 1 else 1
    assert grey.shape == (shape[0] // side, shape[1] // side)
    assert grey[min(y // side, grey.shape[0] - 1), min(x // side, grey.shape[1] - 1)] > 200
    assert head["low"] < 110 < head["high"] < 400


def test_frames_that_hold_no_number_have_a_preview():
    frame = Frame(Stamp("a", 0, 0, 0), np.full((4, 4), np.nan, np.float32))
    assert split(encode_view(View(0, frame), "a", "preview", LowPriority()))[0]["picture"] == "jpeg"


def filled(history, indices, sensor="cam"):
    for index in indices:
        for record in (scene_frame(index, sensor), *scene_results(index, sensor)):
            history.write(record, 10**18 + index * PERIOD_NS)


def test_the_history_keeps_the_last_frames_within_its_limit():
    frame = scene_frame(0)
    history = History(10 * (frame.pixels.nbytes + RECORD_BYTES))
    filled(history, range(25), "a")
    filled(history, range(4), "b")
    assert [(s.name, s.first, s.last) for s in history.sensors()] == [("a", 19, 24), ("b", 0, 3)]
    assert history.at("a", 3).position == 19
    assert history.at("a", 99).position == 24
    assert history.at("c", 0) is None
    filled(history, range(10), "c")
    assert [s.name for s in history.sensors()] == ["c"]


def test_the_newest_answered_frame_is_waited_for():
    history = History(10**7)
    filled(history, range(3))
    history.write(scene_frame(3), 0)
    assert history.newest("cam", -1, 1.0).position == 2  # frame 3 has no results yet
    assert history.newest("cam", 2, 0.01) is None
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(history.newest("cam", 2, 20.0)))
    waiting.start()
    for record in scene_results(3):
        history.write(record, 0)
    waiting.join(20)
    assert taken[0].position == 3
    for index in range(4, 50):
        history.write(scene_frame(index), 0)
    assert history.newest("cam", 3, 1.0).position == 49  # nobody answers: the frames alone
    assert history.newest("cam", 49, 0.01) is None
    assert history.newest("cam", 10**6, 1.0).position == 49  # a page from before a restart


def test_tails_latency_and_series_follow_the_tracks():
    history = History(10**7)
    filled(history, range(60))
    view = history.newest("cam", -1, 1.0)
    tail = view.tails[12]
    assert tail[-1] == pytest.approx(places(59)[12], abs=0.01)
    assert 10 <= len(tail) <= 20
    assert tail[0][0] < tail[-1][0] - 3
    assert view.latency_ms == 0.0
    rows = history.series("cam", 57)
    assert [(row[0], row[3], row[4]) for row in rows] == [(58, 4, 4), (59, 4, 4)]
    assert len(history.series("cam", -1)) == 60
    assert history.series("nobody", -1) == []


def test_a_sensor_that_counts_anew_in_its_epoch_goes_on():
    history = History(10**7)
    filled(history, range(5))
    filled(history, range(2))
    assert history.newest("cam", -1, 1.0).position == 6
    assert history.newest("cam", -1, 1.0).frame.stamp.index == 1


def test_encoding_is_shared_and_paced():
    """Twenty impatient clients get no more frames than the rate allows."""
    history = History(10**7)
    scene = LiveScene()
    scene.server.close()
    scene.history, scene.feed._history = history, history
    handler = feed_handlers(scene.feed, 20.0)["/api/next"]
    filled(history, range(2))
    stop, seen = threading.Event(), [set() for _ in range(20)]

    def client(mine):
        after = -1
        while not stop.is_set():
            answer = handler(ask("/api/next", sensor="cam", after=after))
            if answer.status == 200:
                after = split(answer.body)[0]["position"]
                mine.add(after)

    clients = [threading.Thread(target=client, args=(mine,)) for mine in seen]
    began = time.monotonic()
    for one in clients:
        one.start()
    index = 2
    while time.monotonic() - began < 0.5:
        filled(history, [index])
        index += 1
        threading.Event().wait(0.002)
    elapsed = time.monotonic() - began
    stop.set()
    filled(history, range(index, index + 3))
    history.close()
    for one in clients:
        one.join(20)
    assert len(set().union(*seen)) <= elapsed * 20 + 4


def ask(path, **query):
    return Request(path, {name: str(value) for name, value in query.items()})


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/next?sensor=nobody", b"sensor: expected one of 1 that are known, got 'nobody'"),
        ("/api/next", b"sensor: expected one of 1"),
        ("/api/frame?sensor=cam&position=x", b"position: expected a whole number, got 'x'"),
        ("/api/frame?sensor=cam&position=" + "9" * 50, b"position: expected a whole number"),
        ("/api/frame?sensor=cam&picture=gif", b"picture: expected full or preview, got 'gif'"),
        ("/api/status?series_after=1.5", b"series_after: expected a whole number, got '1.5'"),
    ],
)
def test_a_wrong_question_gets_one_line(path, says):
    with live_scene() as scene:
        scene.push(range(2))
        status, body, _ = asked(scene, path)
        assert (status, body.count(b"\n")) == (400, 1)
        assert body.startswith(says)


def test_other_sites_and_hosts_are_refused():
    with live_scene() as scene:
        scene.push(range(1))
        here = f"127.0.0.1:{scene.server.port}"
        assert asked(scene, "/api/about")[0] == 200
        assert asked(scene, "/api/about", Origin=f"http://{here}")[0] == 200
        assert asked(scene, "/api/about", Host="localhost:9", Origin="http://localhost:9")[0] == 200  # through a tunnel
        assert asked(scene, "/api/about", Host="evil.example")[0] == 421
        assert asked(scene, "/api/about", Origin="http://evil.example")[0] == 403
        assert asked(scene, "/api/about", Origin="null")[0] == 403
        assert asked(scene, "/api/about", Host="localhost:9", Origin=f"http://{here}")[0] == 403
        assert asked(scene, "/api/about", Sec_Fetch_Site="cross-site")[0] == 403
        assert asked(scene, "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link to the page
        assert asked(scene, "/api/about", method="POST")[0] == 501
        _, _, headers = asked(scene, "/")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_token_is_needed_for_all_but_the_pages_own_files(tmp_path):
    path = tmp_path / "token"
    with live_scene(token_file=str(path)) as scene:
        token = path.read_text().strip()
        for file in ("/", "/main.js", "/page.css"):
            assert asked(scene, file)[0] == 200
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            assert asked(scene, "/api/about", **given)[0] == 401
            assert asked(scene, "/nothing", **given)[0] == 401
        assert asked(scene, "/api/about", Authorization=f"Bearer {token}")[0] == 200


def test_a_token_file_that_others_can_read_or_that_is_too_short_is_refused(tmp_path):
    path = tmp_path / "token"
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="expected 16 to 512 characters"):
        read_token(str(path))
    path.write_text("long enough for a token")
    with pytest.raises(UsageError, match="without spaces"):
        read_token(str(path))
    path.chmod(0o644)
    with pytest.raises(UsageError, match="can be read by others; expected mode 600"):
        read_token(str(path))
    with pytest.raises(UsageError, match="No such file or directory"):
        read_token(str(tmp_path / "nowhere" / "token"))
    assert read_token("") == ""


def test_the_network_is_opened_only_on_purpose(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[view]\nport = 8600\nhost = "0.0.0.0"\n')
    with pytest.raises(FormatError) as caught:
        read_config(path)
    assert "view.token_file: missing; 0.0.0.0 can be reached from other machines" in str(caught.value)
    assert "view.host: 0.0.0.0 can be reached from other machines without encryption" in str(caught.value)
    path.write_text('[view]\nport = 8600\nhost = "0.0.0.0"\ntoken_file = "t"\nunencrypted_on_the_network = true\n')
    assert read_config(path).view == ViewSettings(8600, "0.0.0.0", "t", unencrypted_on_the_network=True)
    path.write_text("[view]\nport = 8600\n[metrics]\nport = 8600\n")
    with pytest.raises(FormatError, match=r"metrics.port: 8600 is the page's \(view.port\), which serves /metrics too"):
        read_config(path)


def test_status_has_alarms_log_and_counts():
    with live_scene() as scene:
        scene.push(range(3))
        scene.say("one")
        scene.say("two")
        answer = json.loads(asked(scene, "/api/status?sensor=cam&series_after=0&log_after=1")[1])
        assert [line["text"] for line in answer["log"]] == ["two"]
        assert [row[0] for row in answer["series"]] == [1, 2]
        assert answer["sensors"][0]["name"] == "cam"
        assert answer["alarms"] == []
        again = json.loads(asked(scene, "/api/status?log_after=99")[1])  # a page from before a restart
        assert [line["number"] for line in again["log"]] == [1, 2]


def recorded(path, frames=12, **options):
    recorder = Recorder(RecordSettings(str(path), keep_free_mb=0, **options))
    for index in range(frames):
        for sensor in ("a", "b"):
            recorder.write(scene_frame(index, sensor), index * PERIOD_NS)
            for record in scene_results(index - 2, sensor) if index >= 2 else ():
                recorder.write(record, index * PERIOD_NS)
    recorder.close()
    return path


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_a_recording_is_read_at_any_position(tmp_path, compression):
    with RandomAccess(recorded(tmp_path / "a.mcap", compression=compression)) as recording:
        assert recording.frames == {"a": 12, "b": 12}
        assert recording.rate_hz("a") == pytest.approx(50)
        for position in (7, 0, 11, 3):
            assert np.array_equal(recording.frame("b", position).pixels, scene_frame(position, "b").pixels)
            found, tracks = recording.detections("b", position), recording.tracks("b", position)
            if position == 11:
                assert (found, tracks) == (None, None)  # the last two frames were not answered
            else:
                assert (found.stamp.index, tracks.stamp.index) == (position, position)


def test_a_recording_that_was_cut_off_shows_what_it_holds(tmp_path):
    path = recorded(tmp_path / "a.mcap", frames=200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with RandomAccess(path) as recording:
        count = recording.frames["a"]
        assert 50 < count < 150
        assert recording.frame("a", count - 1).stamp.index == count - 1


def test_playback_of_a_recording_has_results_and_tails(tmp_path):
    with RandomAccess(recorded(tmp_path / "a.mcap")) as recording:
        feed = Playback(RecordedFrames(recording), Results(), "a")
        view = feed.at("a", 8)
        assert view.detections["recorded"].stamp.index == 8
        assert [x for x, _ in view.tails[12]] == pytest.approx([places(k)[12][0] for k in (3, 8)])
        assert feed.at("a", 99).position == 11
        assert feed.newest("a", 0, 0.0) is None


def test_playback_of_files_reads_any_position_and_counts(tmp_path):
    path = tmp_path / "clip.raw"
    write_raw(path, (scene_frame(k).pixels for k in range(30)), rate_hz=50.0, bits=12)
    source = open_source(path)
    found = {("clip", 0, 7): Detections.bare(Stamp("clip", 0, 7, 0), np.ones((1, 2)), np.ones(1), np.ones(1))}
    feed = Playback(FileFrames(source), Results(detections={"x": found}), "clip")
    for position in (7, 2, 29, 0):
        assert np.array_equal(feed.at("clip", position).frame.pixels, scene_frame(position).pixels)
    assert len(feed.at("clip", 7).detections["x"]) == 1
    assert feed.at("clip", 8).detections == {}
    until(lambda: feed.sensors()[0].is_complete, "the frames are counted")
    assert feed.sensors()[0].last == 29
    assert feed.at("clip", 500).position == 29


def test_results_without_frames_are_dropped():
    history = History(10**6)
    history.write(scene_results(0)[1], 0)
    assert history.sensors() == []
    history.write(small_frame(0), 0)
    assert [s.name for s in history.sensors()] == ["cam"]


def test_frames_by_position_are_paced_too():
    """However many clients hammer: three for each new frame that may be shown."""
    with live_scene() as scene:
        scene.push(range(5))
        handler = feed_handlers(scene.feed, 10.0)["/api/frame"]
        answered, stop = [], threading.Event()

        def client():
            while not stop.is_set():
                answered.append(handler(ask("/api/frame", sensor="cam", position=3)).status)

        clients = [threading.Thread(target=client) for _ in range(8)]
        began = time.monotonic()
        for one in clients:
            one.start()
        stop.wait(0.4)
        stop.set()
        for one in clients:
            one.join(20)
        assert set(answered) == {200}
        assert len(answered) <= (time.monotonic() - began) * 30 + 2


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux a thread has a priority of its own")
def test_pixels_are_compressed_at_low_priority():
    def priority():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    worker = LowPriority()
    assert worker(priority) == min(before + NICENESS, 19)
    assert priority() == before
    with pytest.raises(ZeroDivisionError):
        worker(lambda: 1 / 0)
