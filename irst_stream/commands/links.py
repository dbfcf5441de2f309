"""Options of the commands that open a socket themselves."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

from irst_stream.errors import UsageError
from irst_stream.io.zeromq.settings import Link, link_fault

__all__ = ["add_link_options", "add_policy_option", "checked", "link_fields"]

AnyLink = TypeVar("AnyLink", bound=Link)


def add_link_options(parser: argparse.ArgumentParser) -> None:
    """How an endpoint is opened: see io.zeromq.Link."""
    parser.add_argument("--bind", action="store_true", help="wait at the endpoint for the other side, rather than go to it")
    parser.add_argument("--keys", metavar="FILE", default="", help="this end's secret key file, see irst-stream keys")
    parser.add_argument("--server-key", metavar="FILE", default="", help="the binding end's public key file")
    parser.add_argument("--allow", metavar="FOLDER", default="", help="with --bind: public keys of those who may connect")
    parser.add_argument(
        "--unencrypted-on-the-network", action="store_true", help="with --bind: let other machines in without keys"
    )


def add_policy_option(parser: argparse.ArgumentParser) -> None:
    """What the sockets are."""
    text = "live: PUB and SUB, the newest frames win; lossless: PUSH and PULL, the faster one waits (default live)"
    parser.add_argument("--policy", choices=("live", "lossless"), default="live", help=text)


def link_fields(args: argparse.Namespace, endpoint: str) -> dict[str, Any]:
    """Those options as the fields of a Link."""
    names = ("bind", "keys", "server_key", "allow", "unencrypted_on_the_network")
    return {"endpoint": endpoint} | {name: getattr(args, name) for name in names}


def checked(link: AnyLink, option: str) -> AnyLink:
    """A link that makes sense; a UsageError says in the options' names what does not. option: the endpoint's, as --to."""

    def say(field: str) -> str:
        return option if field == "endpoint" else "--" + field.replace("_", "-")

    field, fault = link_fault(link, say)
    if fault:
        raise UsageError(f"{say(field)}: {fault}")
    return link
