"""irst-stream docs: the documentation that comes with the program."""

from __future__ import annotations

import argparse
import sys

from irst_stream.docs import ORDER, read_topic, topics

__all__ = ["set_up"]


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Prints a page of the documentation, as Markdown; without a topic, the list of pages."
    parser.add_argument("topic", metavar="TOPIC", nargs="?", choices=ORDER, help=f"one of {', '.join(ORDER)}")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.topic:
        sys.stdout.write(read_topic(args.topic).rstrip() + "\n")
    else:
        sys.stdout.writelines(f"{name:<16} {title}\n" for name, title in topics().items())
    return 0
