"""A viewer of the live page for tools/bench_live.py: a process of its own that takes frames as a browser does."""

import http.client
import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager

from irst_stream.http_settings import ViewSettings
from irst_stream.live.http_server import HttpServer
from irst_stream.live.log_lines import LogLines
from irst_stream.live.runner import Runner
from irst_stream.web.history import History
from irst_stream.web.live_feed import LiveFeed
from irst_stream.web.routes import feed_handlers
from irst_stream.web.serve import serve_page


class Watched:
    """Serves the page of a pipeline, and counts the frames that a client process takes."""

    def __init__(self, history: History, looking: bool) -> None:
        self.frames, self._history, self._looking = 0, history, looking
        self._server: HttpServer | None = None
        self._client: subprocess.Popen[str] | None = None

    def serve(self, runner: Runner) -> None:
        """Start the server, and the client if somebody looks."""
        feed = LiveFeed(runner, self._history, LogLines(), "bench")
        self._server = serve_page(feed_handlers(feed, 10.0), ViewSettings())
        if self._looking:
            command = [sys.executable, __file__, str(self._server.port)]
            self._client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        """End the client, which says how many frames it took, and the server."""
        if self._client:
            self.frames = int(self._client.communicate("end\n")[0])
        if self._server:
            self._server.close()


@contextmanager
def watched(history: History, looking: bool) -> Iterator[Watched]:
    """What serves a history's page while a block runs."""
    with closing(Watched(history, looking)) as watching:
        yield watching


def look_on(port: int) -> int:
    """What the client process does until its standard input ends: ask for each next frame, and once a second for status."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(1), ended.set()), daemon=True).start()
    frames, after, asked = 0, -1, 0.0
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not ended.is_set():
        began = time.monotonic()
        try:
            if began - asked > 1:
                asked = began
                link.request("GET", "/api/status?sensor=load")
                link.getresponse().read()
            link.request("GET", f"/api/next?sensor=scene&after={after}")
            answer = link.getresponse()
            body = answer.read()
        except OSError:
            link.close()
            ended.wait(0.2)
            continue
        if answer.status == 200:
            size = int.from_bytes(body[:4], "little")
            after = json.loads(body[4 : 4 + size])["position"]
            zlib.decompress(body[4 + size :])
            frames += 1
        ended.wait(max(began + 0.1 - time.monotonic(), 0))
    return frames


if __name__ == "__main__":
    print(look_on(int(sys.argv[1])))
