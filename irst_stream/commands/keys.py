"""irst-stream keys: key pairs for encrypted feeds over a network."""

from __future__ import annotations

import argparse
from pathlib import Path

from irst_stream.commands.console import print_line
from irst_stream.io.zeromq.curve_keys import key_files, make_keys, read_keys

__all__ = ["set_up"]

EPILOG = """\
Each end of a connection has a key pair. The end that binds keeps the public keys (*.key) of all permitted clients in one
folder (allow); an end that connects needs the binding end's public key (server_key). Never copy secret keys to another
machine."""


def set_up(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = "Make key pairs and show public keys.", EPILOG
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    make = actions.add_parser("make", help="make a new key pair, NAME.key and NAME.key_secret")
    make.add_argument("name", metavar="NAME", type=Path, help="path of the key pair without suffix; the folder must exist")
    make.set_defaults(run=_make)
    show = actions.add_parser("show", help="print the public key of a key file")
    show.add_argument("file", metavar="FILE", type=Path, help="public or secret key file")
    show.set_defaults(run=_show)


def _make(args: argparse.Namespace) -> int:
    keys = make_keys(args.name)
    public, secret = key_files(args.name)
    print_line(f"{secret}: keep it here; only you can read it")
    print_line(f"{public}: give it to the other end; it holds {keys.public.decode()}")
    return 0


def _show(args: argparse.Namespace) -> int:
    print_line(read_keys(args.file).public.decode())
    return 0
