"""irst-stream schema: the JSON Schema of the interchange format."""

from __future__ import annotations

import argparse

import msgspec

from irst_stream.commands.console import print_text
from irst_stream.io.jsonl import schema

__all__ = ["set_up"]


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Print the JSON Schema of one line of the interchange format: detections, tracks, truth or poses."
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    print_text(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode())
    return 0
