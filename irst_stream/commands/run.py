"""irst-stream run: a live pipeline, from sensor feeds to published detections."""

from __future__ import annotations

import argparse
import logging
from contextlib import nullcontext
from pathlib import Path

from irst_stream.build import build_runner
from irst_stream.commands.console import positive, show_log
from irst_stream.commands.view import attend
from irst_stream.config import Config, read_config
from irst_stream.errors import IrstError, UsageError
from irst_stream.io.zeromq.settings import ReceiveSettings
from irst_stream.io.zeromq.sockets import ZmqSource
from irst_stream.live.prometheus import MetricsServer
from irst_stream.live.runner import Runner
from irst_stream.system.shipped import find_config

__all__ = ["set_up"]

EPILOG = """\
CONFIG is a TOML file, or the name of one that comes along: live-patches, camera, two-sensors. Its [[receive]] tables say
where frames come from, [[publish]], [[write]] and [[record]] where results go; irst-stream config schema says all that may
stand there, irst_stream/io/zeromq/PROTOCOL.md what travels.

Ctrl-C or SIGTERM receive no more, finish what has come, close all files, print a summary and exit with 0; a second one
leaves uncomputed what has come, but closes all files. SIGHUP reads the [[receive]] tables again and opens and closes what
has changed there; everything else goes on."""

log = logging.getLogger(__name__)


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description, parser.epilog = "Runs a live pipeline until it is stopped.", EPILOG
    parser.add_argument("config", metavar="CONFIG", help="a TOML file, or the name of one that comes along")
    parser.add_argument("--seconds", type=positive, metavar="S", help="stop after so long")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    path = find_config(args.config)
    config = read_config(path, here=True)
    if not config.receive:
        raise UsageError(f'{path}: no [[receive]] table; expected at least one, such as endpoint = "tcp://127.0.0.1:5555"')
    show_log()
    if config.metrics.port:
        MetricsServer.check(config.metrics.host, config.metrics.port)
    runner = build_runner(config, path.read_text("utf-8"))
    metrics = MetricsServer(runner, config.metrics.host, config.metrics.port) if config.metrics.port else nullcontext()
    with metrics:
        links = _Links(runner, path, config)
        attend(runner, args.seconds, links.reload)
    return 0


class _Links:
    """The [[receive]] tables as they are in force."""

    def __init__(self, runner: Runner, path: Path, config: Config) -> None:
        self._runner, self._path, self._policy = runner, path, config.policy
        self._open = {given.endpoint: given for given in config.receive}

    def reload(self) -> None:
        """Opens and closes what has changed in the file; one that is wrong changes nothing, nor an endpoint that is."""
        try:
            after = {given.endpoint: given for given in read_config(self._path).receive}
        except IrstError as error:
            log.error("%s: not read again: %s", self._path, error)
            return
        for endpoint, given in after.items():
            if endpoint not in self._open:
                self._begin(endpoint, given)
        for endpoint in [e for e, given in self._open.items() if after.get(e) != given]:
            before = self._open.pop(endpoint)
            self._runner.remove(endpoint)
            log.info("%s: closed", endpoint)
            if endpoint in after and not self._begin(endpoint, after[endpoint]):
                self._begin(endpoint, before)

    def _begin(self, endpoint: str, given: ReceiveSettings) -> bool:
        """Opens one more; whether that went well."""
        try:
            self._runner.add(endpoint, ZmqSource(given, self._policy))
        except (IrstError, ValueError) as error:
            log.error("%s: not opened: %s", endpoint, error)
            return False
        self._open[endpoint] = given
        log.info("%s: opened", endpoint)
        return True
