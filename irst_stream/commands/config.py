"""irst-stream config: the JSON Schema of a configuration, and a check of a file."""

from __future__ import annotations

import argparse

import msgspec

from irst_stream.commands.console import print_line, print_text
from irst_stream.config import config_schema, read_config
from irst_stream.fleet.settings import fleet_schema, is_fleet, read_fleet
from irst_stream.system.shipped import find_config

__all__ = ["set_up"]


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "Print the JSON Schema of a configuration, or check a configuration file."
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    schema = actions.add_parser("schema", help="print the JSON Schema of a configuration")
    schema.add_argument("--fleet", action="store_true", help="of the file of irst-stream fleet instead")
    schema.set_defaults(run=_schema)
    check = actions.add_parser("check", help="list every mistake in a file, its engine and its key files")
    check.add_argument("config", metavar="CONFIG", help="a TOML file, or the name of a bundled configuration")
    check.set_defaults(run=_check)


def _schema(args: argparse.Namespace) -> int:
    schema = fleet_schema() if args.fleet else config_schema()
    print_text(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())
    return 0


def _check(args: argparse.Namespace) -> int:
    path = find_config(args.config)
    if is_fleet(path):
        read_fleet(path, here=True)
    else:
        read_config(path, here=True)
    print_line(f"{path}: valid")
    return 0
