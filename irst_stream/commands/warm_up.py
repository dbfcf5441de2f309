"""irst-stream warm-up: compile what the first run on a machine would compile."""

from __future__ import annotations

import argparse
import time

from irst_stream.build import compile_everything
from irst_stream.commands.console import print_line, show_log

__all__ = ["set_up"]

EPILOG = """\
The search, the fit and the tracker are compiled once on each machine and for each version, which takes about 20 s
on two cores. The result is kept in the package's folder, or in the user's cache if that is read-only. Run this once after
the installation: then the first irst-stream run answers at once. Exit code 0: everything is compiled and kept."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Compile ahead what the first run on this machine would compile.", EPILOG
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    show_log()
    began = time.monotonic()
    names = compile_everything()
    if names:
        print_line(f"compiled {', '.join(names)} in {time.monotonic() - began:.0f} s")
    else:
        print_line("everything is compiled already")
    return 0
