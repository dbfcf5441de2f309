"""HTML and SVG from elements; whatever is not an element is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Markup", "element", "table"]

VOID = ("meta", "image", "path", "circle", "line", "rect", "polyline", "ellipse")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. An attribute's name may end in _ where Python keeps the word, and has - for _; None leaves it out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Markup(f"<{name}{given}/>" if name != "meta" else f"<{name}{given}>")
    inside = "".join(child if isinstance(child, Markup) else escape(str(child)) for child in children)
    return Markup(f"<{name}{given}>{inside}</{name}>")


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """A table; numbers stand at the right. A cell may be an element, "td" or "th" or any other."""
    body = [element("tr", *(_cell("td", cell) for cell in row)) for row in rows]
    heads = element("thead", element("tr", *(_cell("th", cell) for cell in head)))
    return element("div", element("table", heads, element("tbody", *body)), class_="scroll")


def _cell(name: str, content: object) -> Markup:
    is_cell = isinstance(content, Markup) and content.startswith(("<td", "<th"))
    return content if is_cell and isinstance(content, Markup) else element(name, content)
