"""Text from outside, made safe to print: names, paths and messages may hold control characters."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

# Control, format (among them those that reverse the order of text), surrogates (bytes of a path that are no UTF-8), not
# assigned or private, separators of lines and of paragraphs.
ESCAPED = ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")


def printable(text: str) -> str:
    r"""Return the text as one line that a terminal takes literally: what is no letter, mark, sign or space becomes \x1b.

    Newlines and tabs are escaped too, as \n and \t. Text without such characters is returned as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in ESCAPED else char for char in text)


def _escaped(char: str) -> str:
    r"""\n, \x1b, \u202e or \U000e0001, as in Python's own notation."""
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
