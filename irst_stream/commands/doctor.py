"""irst-stream doctor: what this machine can do, and what each missing ability needs."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import msgspec

from irst_stream.commands.console import print_line, print_text
from irst_stream.commands.diagnosis import diagnose

__all__ = ["set_up"]


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Report what this machine can do, and what each missing ability needs. Changes nothing."
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    diagnosis = diagnose()
    if args.json:
        print_text(msgspec.json.format(msgspec.json.encode(asdict(diagnosis)), indent=2).decode())
        return 0
    width = max(len(name) for name, _ in diagnosis.facts) + 2
    for name, value in diagnosis.facts:
        print_line(f"{name:<{width}}{value}")
    print_line(f"{'packages':<{width}}{', '.join(f'{name} {version}' for name, version in diagnosis.packages if version)}")
    print_line()
    for ability in diagnosis.abilities:
        print_line(f"no   {ability.name} - needs {ability.missing}" if ability.missing else f"yes  {ability.name}")
    return 0
