"""irst-stream config: what may stand in a configuration, and whether a file is right."""

from __future__ import annotations

import argparse

import msgspec

from irst_stream.commands.console import print_line
from irst_stream.config import config_schema, read_config
from irst_stream.system.shipped import find_config

__all__ = ["set_up"]


def set_up(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.description = "Says what may stand in a configuration, and whether a file is right."
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    schema = actions.add_parser("schema", help="the JSON Schema of a configuration")
    schema.set_defaults(run=_schema)
    check = actions.add_parser("check", help="all that is wrong with a file, and with the engine and the keys it names")
    check.add_argument("config", metavar="CONFIG", help="a TOML file, or the name of one that comes along")
    check.set_defaults(run=_check)


def _schema(_: argparse.Namespace) -> int:
    print_line(msgspec.json.format(msgspec.json.encode(config_schema()), indent=2).decode())
    return 0


def _check(args: argparse.Namespace) -> int:
    path = find_config(args.config)
    read_config(path, here=True)
    print_line(f"{path}: nothing wrong")
    return 0
