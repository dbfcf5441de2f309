"""irst-stream schema: the JSON Schema of the interchange format."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from irst_stream.commands.console import print_line
from irst_stream.io.jsonl import schema

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "schema", help="print the JSON Schema of detections, tracks, truth and poses",
        description="Prints the JSON Schema of one line of the interchange format.",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    print_line(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode())
    return 0
