"""irst-stream run: a live pipeline, from sensor feeds to published detections and tracks."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from irst_stream.build import build_runner
from irst_stream.commands.console import positive_float, show_log, tcp_port
from irst_stream.commands.links import add_link_options, link_fields, validated_link
from irst_stream.commands.view import STOP_S, raise_losses, run_with_view
from irst_stream.config import Config, read_config
from irst_stream.errors import IrstError, UsageError
from irst_stream.fleet.settings import is_fleet
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live.health import health_handlers
from irst_stream.live.http_server import HttpServer
from irst_stream.live.log_lines import LogLines
from irst_stream.live.prometheus import metrics_handler
from irst_stream.live.runner import Runner
from irst_stream.source_config import GUESSED_CONFIG
from irst_stream.system.shipped import find_config
from irst_stream.web.history import History
from irst_stream.web.live_feed import LiveFeed
from irst_stream.web.routes import feed_handlers
from irst_stream.web.serve import how_to_enter, serve_page

__all__ = ["set_up"]

EPILOG = """\
CONFIG is a TOML file, that of irst-stream calibrate for instance, or the name of a bundled configuration: live-patches,
camera, two-sensors. Without one, camera is guessed. Its [[receive]] tables, or --from, say where frames come from;
[[publish]], [[write]] and [[record]] say where results go. irst-stream config schema lists all settings, and
irst_stream/io/zeromq/PROTOCOL.md describes the messages.

--view serves a page that shows frames, detections, tracks, alarms and the log. From another machine, go through a tunnel:
ssh -L 8600:localhost:8600 HOST, then http://localhost:8600/. irst-stream look shows recordings on the same page.

Ctrl-C or SIGTERM stops receiving, processes the frames received so far for at most --stop-within seconds, closes all files
within five more, prints a summary and exits with 0; a second one skips the remaining frames but still closes all files.
Exit code 3: output that was promised is lost, to a full disk for example, or frames were left when the time was over; the
last line says what. A sink that fails is tried again meanwhile. SIGHUP reloads the [[receive]] tables, closes and
opens the endpoints that changed, and leaves everything else running."""

VIEW_PORT = 8600
log = logging.getLogger(__name__)


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Run a live pipeline until it is stopped.", EPILOG
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file, or the name of a bundled configuration")
    parser.add_argument("--from", dest="origin", metavar="ENDPOINT", help="receive here, in place of CONFIG's [[receive]]")
    add_link_options(parser)
    parser.add_argument("--seconds", type=positive_float, metavar="S", help="stop after this many seconds")
    parser.add_argument(
        "--stop-within",
        type=positive_float,
        default=STOP_S,
        metavar="S",
        help=f"seconds after Ctrl-C or SIGTERM for the frames received so far (default {STOP_S:g})",
    )
    parser.add_argument(
        "--view",
        metavar="PORT",
        nargs="?",
        type=tcp_port,
        const=VIEW_PORT,
        help=f"show the pipeline in a browser, at this port of this machine (default {VIEW_PORT}); see [view]",
    )
    parser.add_argument("--log", choices=("text", "json"), default="text", help="how the log is written (default text)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    path = find_config(args.config or GUESSED_CONFIG)
    if is_fleet(path):
        raise UsageError(f"{path}: holds [fleet] or [[sensor]]; irst-stream fleet runs it")
    config, text = read_config(path, here=True), path.read_text("utf-8")
    if args.origin:
        link = validated_link(ReceiveSettings(**link_fields(args, args.origin)), "--from")
        config = replace(config, receive=(link,))
    if not config.receive:
        raise UsageError(
            f'{path}: no [[receive]] table; expected at least one, for example endpoint = "tcp://127.0.0.1:5555", or --from'
        )
    show_log(as_json=args.log == "json")
    if args.config is None:
        log.warning(
            "no configuration; guessing, by %s, which was not made for this sensor. irst-stream calibrate --from %s"
            " --output C.toml measures it, then irst-stream run C.toml",
            GUESSED_CONFIG,
            config.receive[0].endpoint,
        )
    config = _with_ports(config, args.view)
    history = History(int(config.view.history_mb * 1e6)) if config.view.port else None
    runner = build_runner(config, text, {"page": history} if history else None)
    with _endpoints(runner, config, history, path.stem):
        reload = _refuse_reload if args.origin else _ReceiveLinks(runner, path, config).reload
        run_with_view(runner, args.seconds, reload, stop_s=args.stop_within)
    raise_losses(runner.status())
    return 0


def _with_ports(config: Config, view_port: int | None) -> Config:
    """The configuration with the page at --view's port, if given; raise a UsageError if a port cannot be listened on."""
    view = replace(config.view, port=view_port) if view_port else config.view
    if view.port and view.port == config.metrics.port:
        raise UsageError(f"--view: {view.port} is the port of [metrics]")
    for name, settings in (("metrics", config.metrics), ("view", view)):
        if settings.port:
            HttpServer.check(name, settings.host, settings.port)
    return replace(config, view=view)


@contextmanager
def _endpoints(runner: Runner, config: Config, history: History | None, title: str) -> Iterator[None]:
    """Serve metrics, health and the page, as the configuration says, until the block ends."""
    outputs = [*(w.path for w in config.write), *(r.path for r in config.record)]
    handlers = {"/metrics": metrics_handler(runner, outputs), **health_handlers(runner)}
    with ExitStack() as opened:
        if config.metrics.port:
            opened.enter_context(HttpServer("metrics", handlers, config.metrics.host, config.metrics.port))
        if history:
            lines = LogLines()
            logging.getLogger().addHandler(lines)
            opened.callback(logging.getLogger().removeHandler, lines)
            handlers |= feed_handlers(LiveFeed(runner, history, lines, title), config.view.frames_per_s)
            page = opened.enter_context(serve_page(handlers, config.view))
            log.info("page: %s%s", page.url, how_to_enter(config.view))
        yield


def _refuse_reload() -> None:
    log.error("not reloaded: --from states where frames come from")


class _ReceiveLinks:
    """The endpoints that are open, by their [[receive]] tables."""

    def __init__(self, runner: Runner, path: Path, config: Config) -> None:
        self._runner, self._path, self._policy = runner, path, config.policy
        self._open = {given.endpoint: given for given in config.receive}

    def reload(self) -> None:
        """Reload the file and reopen changed endpoints.

        A faulty file changes nothing; an endpoint that cannot be opened as changed is opened as before.
        """
        try:
            after = {given.endpoint: given for given in read_config(self._path).receive}
        except IrstError as error:
            log.error("%s: not reloaded: %s", self._path, error)
            return
        for endpoint, given in after.items():
            if endpoint not in self._open:
                self._open_link(endpoint, given)
        for endpoint in [e for e, given in self._open.items() if after.get(e) != given]:
            before = self._open.pop(endpoint)
            self._runner.remove(endpoint)
            log.info("%s: closed", endpoint)
            if endpoint in after and not self._open_link(endpoint, after[endpoint]):
                self._open_link(endpoint, before)

    def _open_link(self, endpoint: str, given: ReceiveSettings) -> bool:
        """Open one endpoint; log the error and return False if that fails."""
        try:
            self._runner.add(endpoint, ZmqSource(given, self._policy))
        except (IrstError, ValueError) as error:
            log.error("%s: not opened: %s", endpoint, error)
            return False
        self._open[endpoint] = given
        log.info("%s: opened", endpoint)
        return True
