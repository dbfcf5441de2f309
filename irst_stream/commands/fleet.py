"""irst-stream fleet: many sensors, spread over the cores of this machine or over a Ray cluster."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from irst_stream.commands.console import pluralise, positive_float, show_log
from irst_stream.commands.view import STOP_S, raise_losses, run_with_view
from irst_stream.errors import IrstError, LossError
from irst_stream.fleet.page import fleet_handlers, observer_handlers
from irst_stream.fleet.places import Place
from irst_stream.fleet.settings import Fleet, read_fleet
from irst_stream.fleet.supervisor import Supervisor
from irst_stream.http_settings import MetricsSettings, ViewSettings
from irst_stream.live.http_server import HttpServer
from irst_stream.live.log_lines import LogLines
from irst_stream.web.serve import how_to_enter, serve_page

__all__ = ["set_up"]

EPILOG = """\
CONFIG is a TOML file with [fleet] and one [[sensor]] for each sensor: its name, where its frames come from, and which
configuration of irst-stream run it uses. irst-stream config check CONFIG checks it with all that it names, and irst-stream
docs many-sensors describes it.

Workers are processes of this machine, or actors on the nodes of a Ray cluster (--on ray://HOST:PORT, started there by ray
start). A worker that dies is started again, and its sensors go on at others at once. One address, [view], shows all
sensors, and serves /metrics and /health.

SIGHUP reads CONFIG again: sensors that were added, removed or changed start and stop, all others go on untouched.
Ctrl-C or SIGTERM stops all sensors as irst-stream run does. Exit code 3: output that was promised is lost, or a
sensor did not run at the end."""

log = logging.getLogger(__name__)


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Run many sensors until stopped.", EPILOG
    parser.add_argument("config", metavar="CONFIG", type=Path, help="a fleet's TOML file")
    parser.add_argument("--on", metavar="ADDRESS", help="the Ray cluster to run on, ray://HOST:PORT (default this machine)")
    parser.add_argument("--seconds", type=positive_float, metavar="S", help="stop after this many seconds")
    parser.add_argument("--log", choices=("text", "json"), default="text", help="how the log is written (default text)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    fleet = read_fleet(args.config, here=not args.on)
    show_log(as_json=args.log == "json")
    view, metrics = fleet.settings.view, fleet.settings.metrics
    for name, settings in (("metrics", metrics), ("view", view)):
        if settings.port:
            HttpServer.check(name, settings.host, settings.port)
    with closing(_open_place(args.on, fleet.settings.fleet.lease_s)) as place:
        supervisor = Supervisor(fleet, place)
        with _endpoints(supervisor, view, metrics, args.config.stem):
            log.info("fleet: %s, %s", pluralise(len(fleet.sensors), "sensor"), pluralise(supervisor.wanted, "worker"))
            run_with_view(supervisor, args.seconds, _reloader(supervisor, args.config, fleet, not args.on), stop_s=STOP_S)
        raise_losses(supervisor.status())
        if failed := supervisor.failed():
            raise LossError("; ".join(f"sensor {name}: did not run at the end: {why}" for name, why in failed.items()))
    return 0


def _open_place(address: str | None, lease_s: float) -> Place:
    """Where the workers run."""
    if address:
        from irst_stream.fleet.on_ray import RayPlace

        return RayPlace(address, lease_s)
    from irst_stream.build import compile_everything
    from irst_stream.fleet.local import LocalPlace

    compile_everything()  # here, once, rather than in each worker
    return LocalPlace(lease_s)


@contextmanager
def _endpoints(supervisor: Supervisor, view: ViewSettings, metrics: MetricsSettings, title: str) -> Iterator[None]:
    """Serve metrics, health and the page, as the file says, until the block ends."""
    handlers = observer_handlers(supervisor)
    with ExitStack() as opened:
        if metrics.port:
            opened.enter_context(HttpServer("metrics", handlers, metrics.host, metrics.port))
        if view.port:
            lines = LogLines()
            logging.getLogger().addHandler(lines)
            opened.callback(logging.getLogger().removeHandler, lines)
            pages = fleet_handlers(supervisor, lines, title, view.frames_per_s)
            page = opened.enter_context(serve_page(handlers | pages, view))
            log.info("page: %s%s", page.url, how_to_enter(view))
        yield


def _reloader(supervisor: Supervisor, path: Path, first: Fleet, here: bool) -> Callable[[], None]:
    """What reads the file again; a faulty file changes nothing."""

    def reload() -> None:
        try:
            fleet = read_fleet(path, here=here)
        except IrstError as error:
            log.error("%s: not reloaded: %s", path, error)
            return
        if fleet.settings != replace(first.settings, sensor=fleet.settings.sensor):
            log.warning("%s: [fleet], [view] and [metrics] take effect at the next start", path)
        supervisor.reload(fleet.sensors)

    return reload
