"""Options shared by the commands that open a socket."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

from irst_stream.errors import UsageError
from irst_stream.io.zeromq.settings import Link, link_fault

__all__ = ["add_link_options", "add_policy_option", "link_fields", "validated_link"]

AnyLink = TypeVar("AnyLink", bound=Link)


def add_link_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how an endpoint is opened; see io.zeromq.settings.Link."""
    parser.add_argument("--bind", action="store_true", help="bind to the endpoint instead of connecting to it")
    parser.add_argument("--keys", metavar="FILE", default="", help="this end's secret key file (see irst-stream keys)")
    parser.add_argument("--server-key", metavar="FILE", default="", help="the binding end's public key file")
    parser.add_argument(
        "--allow", metavar="FOLDER", default="", help="with --bind: folder with the public keys of permitted clients"
    )
    parser.add_argument(
        "--unencrypted-on-the-network", action="store_true", help="with --bind: accept other machines without encryption"
    )


def add_policy_option(parser: argparse.ArgumentParser) -> None:
    """Add --policy, which selects the socket types."""
    text = "live: PUB/SUB, frames are dropped if the receiver is slow; lossless: PUSH/PULL, the sender waits (default live)"
    parser.add_argument("--policy", choices=("live", "lossless"), default="live", help=text)


def link_fields(args: argparse.Namespace, endpoint: str) -> dict[str, Any]:
    """Return the options of add_link_options as fields of a Link."""
    names = ("bind", "keys", "server_key", "allow", "unencrypted_on_the_network")
    return {"endpoint": endpoint} | {name: getattr(args, name) for name in names}


def validated_link(link: AnyLink, option: str) -> AnyLink:
    """Return the link, or raise UsageError that names the faulty option; option: that of the endpoint, e.g. --to."""

    def option_name(field: str) -> str:
        return option if field == "endpoint" else "--" + field.replace("_", "-")

    field, fault = link_fault(link, option_name)
    if fault:
        raise UsageError(f"{option_name(field)}: {fault}")
    return link
