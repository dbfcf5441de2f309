"""irst-stream run: a live pipeline, from sensor feeds to published detections and tracks."""

from __future__ import annotations

import argparse
import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from irst_stream.build import build_runner
from irst_stream.commands.console import positive_float, show_log
from irst_stream.commands.links import add_link_options, link_fields, validated_link
from irst_stream.commands.sources import GUESSED_CONFIG
from irst_stream.commands.view import run_with_view
from irst_stream.config import Config, read_config
from irst_stream.errors import IrstError, UsageError
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live.prometheus import MetricsServer
from irst_stream.live.runner import Runner
from irst_stream.system.shipped import find_config

__all__ = ["set_up"]

EPILOG = """\
CONFIG is a TOML file, that of irst-stream calibrate for instance, or the name of a bundled configuration: live-patches,
camera, two-sensors. Without one, camera is guessed. Its [[receive]] tables, or --from, say where frames come from;
[[publish]], [[write]] and [[record]] say where results go. irst-stream config schema lists all settings, and
irst_stream/io/zeromq/PROTOCOL.md describes the messages.

Ctrl-C or SIGTERM stops receiving, processes the frames received so far, closes all files, prints a summary and exits with
0; a second one skips the remaining frames but still closes all files. SIGHUP reloads the [[receive]] tables, closes and
opens the endpoints that changed, and leaves everything else running."""

log = logging.getLogger(__name__)


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Run a live pipeline until it is stopped.", EPILOG
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file, or the name of a bundled configuration")
    parser.add_argument("--from", dest="origin", metavar="ENDPOINT", help="receive here, in place of CONFIG's [[receive]]")
    add_link_options(parser)
    parser.add_argument("--seconds", type=positive_float, metavar="S", help="stop after this many seconds")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    path = find_config(args.config or GUESSED_CONFIG)
    config, text = read_config(path, here=True), path.read_text("utf-8")
    if args.origin:
        link = validated_link(ReceiveSettings(**link_fields(args, args.origin)), "--from")
        config = replace(config, receive=(link,))
    if not config.receive:
        raise UsageError(
            f'{path}: no [[receive]] table; expected at least one, for example endpoint = "tcp://127.0.0.1:5555", or --from'
        )
    show_log()
    if args.config is None:
        log.warning(
            "no configuration; guessing, by %s, which was not made for this sensor. irst-stream calibrate --from %s"
            " --output C.toml measures it, then irst-stream run C.toml",
            GUESSED_CONFIG,
            config.receive[0].endpoint,
        )
    if config.metrics.port:
        MetricsServer.check(config.metrics.host, config.metrics.port)
    runner = build_runner(config, text)
    metrics = MetricsServer(runner, config.metrics.host, config.metrics.port) if config.metrics.port else nullcontext()
    with metrics:
        reload = _refuse_reload if args.origin else _ReceiveLinks(runner, path, config).reload
        run_with_view(runner, args.seconds, reload)
    return 0


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
