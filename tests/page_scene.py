"""A scene of known frames, detections and tracks for tests of the page, and the servers that show it."""

import logging
import time
from contextlib import contextmanager

import numpy as np

from irst_stream import Detections, Frame, Stamp, Tracks
from irst_stream.http_settings import ViewSettings
from irst_stream.live.log_lines import LogLines
from irst_stream.live.runner import Runner
from irst_stream.live.sequence_monitor import SequenceMonitor
from irst_stream.web.history import History
from irst_stream.web.live_feed import LiveFeed
from irst_stream.web.routes import feed_handlers
from irst_stream.web.serve import serve_page

WIDTH, HEIGHT = 64, 48
PERIOD_NS = 20_000_000
GROUP = {7: (20.0, 12.0), 8: (20.6, 12.4), 9: (21.1, 11.8)}  # three targets within a pixel or so
SINGLE = {12: (50.0, 30.0)}
PLACES = GROUP | SINGLE


def places(index):
    """The targets' places at a frame: they move a tenth of a pixel a frame along x, and start anew after 100 frames."""
    return {key: (x + 0.1 * (index % 100), y) for key, (x, y) in PLACES.items()}


def scene_frame(index, sensor="cam"):
    """A flat frame with noise of 5 DN, and 1000 DN at the pixel nearest to each target."""
    pixels = np.random.default_rng(index).normal(100, 5, (HEIGHT, WIDTH)).astype(np.uint16)
    for x, y in places(index).values():
        pixels[round(y), round(x)] = 1000
    return Frame(Stamp(sensor, 1, index, index * PERIOD_NS), pixels, 4095.0)


def scene_results(index, sensor="cam"):
    """Detections and tracks of a frame, both exactly where the targets are."""
    stamp = Stamp(sensor, 1, index, index * PERIOD_NS)
    xy = np.array(list(places(index).values()))
    n = len(xy)
    cov = np.tile([[0.04, 0.01], [0.01, 0.02]], (n, 1, 1))
    found = Detections(stamp, xy, cov, np.full(n, 900.0), np.full(n, 9.0), np.full(n, 0.9), np.zeros(n, np.int64))
    state = np.column_stack([xy, np.full(n, 5.0), np.zeros(n)])
    confirmed, seen = np.ones(n, bool), np.arange(n)
    seen[-1] = -1  # the single one coasts
    tracks = Tracks(
        stamp,
        np.array(list(PLACES)),
        state,
        np.tile(np.eye(4) * 0.01, (n, 1, 1)),
        found.amplitude,
        found.score,
        confirmed,
        seen,
    )
    return found, tracks


class LiveScene:
    """A history that a test fills frame by frame, and the server of its page."""

    def __init__(self, port=0, token_file="", max_bytes=10**7, sinks=None):
        self.history, self.lines = History(max_bytes), LogLines()
        self.began_ns = time.time_ns()
        self.runner = Runner(SequenceMonitor(), {}, sinks or {})
        self.feed = LiveFeed(self.runner, self.history, self.lines, "test")
        view = ViewSettings(port=port, token_file=token_file)
        self.server = serve_page(feed_handlers(self.feed, 60.0), view)

    def push(self, indices, sensor="cam"):
        """Add frames with their results."""
        for index in indices:
            for record in (scene_frame(index, sensor), *scene_results(index, sensor)):
                self.history.write(record, self.began_ns + index * PERIOD_NS)

    def say(self, text, level=logging.WARNING):
        """Add a line to the log."""
        self.lines.handle(logging.LogRecord("test", level, "", 0, text, (), None))


@contextmanager
def live_scene(**options):
    """A LiveScene that is served until the block ends."""
    scene = LiveScene(**options)
    try:
        yield scene
    finally:
        scene.server.close()
