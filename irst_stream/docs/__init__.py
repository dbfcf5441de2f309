"""The documentation, as Markdown files that travel in the wheel: see `irst-stream docs`."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from irst_stream.config import config_schema
from irst_stream.fleet.settings import fleet_schema

__all__ = ["read_topic", "settings_page", "topics"]

FOLDER = Path(__file__).parent
PLACES = {
    "protocol": FOLDER.parent / "io/zeromq/PROTOCOL.md",
    "interchange": FOLDER.parent / "io/INTERCHANGE.md",
    "truth": FOLDER.parent / "io/truth/FORMATS.md",
}
ORDER = (
    *("tutorial", "your-own-sensor", "architecture", "extending", "settings", "unattended", "many-sensors"),
    *("troubleshooting", "operations", "many-recordings", "gpu", "benchmarks", "methods"),
    *("protocol", "interchange", "truth"),
)
SECTIONS = {  # in the order of a configuration file
    "Config": "Top level",
    "CorrectSettings": "[correct]",
    "RegisterSettings": "[register]",
    "FitSettings": "[fit]",
    "FormationSettings": "[fit.formation]",
    "ProposeSettings": "[propose]",
    "TrackSettings": "[track]",
    "ClaimSettings": "[claims]",
    "ReceiveSettings": "[[receive]]",
    "PublishSettings": "[[publish]]",
    "WriteSettings": "[[write]]",
    "RecordSettings": "[[record]]",
    "MetricsSettings": "[metrics]",
    "ViewSettings": "[view]",
}
FLEET_SECTIONS = {"FleetSettings": "[fleet]", "SensorSettings": "[[sensor]]"}  # further ones of a fleet's file


def topics() -> dict[str, str]:
    """Every topic's name, and its title, in reading order."""
    return {name: read_topic(name).partition("\n")[0].lstrip("# ") for name in ORDER}


def read_topic(name: str) -> str:
    """The text of a topic, Markdown."""
    return PLACES.get(name, FOLDER / f"{name}.md").read_text("utf-8")


def settings_page() -> str:
    """settings.md: every setting, with its unit, default and effect, from the schema of configurations."""
    lines = [
        "# Settings",
        "",
        "A configuration is one TOML file. What it leaves out keeps its default; a wrong key or value is named when the",
        "file is read (`irst-stream config check FILE`). This page is generated from the code.",
    ]
    lines += _sections(SECTIONS, config_schema())
    lines += ["", "A fleet's file (`irst-stream docs many-sensors`) holds `[view]`, `[metrics]` and the following."]
    return "\n".join([*lines, *_sections(FLEET_SECTIONS, fleet_schema())]) + "\n"


def _sections(sections: dict[str, str], schema: dict[str, Any]) -> list[str]:
    """The lines of the tables of settings. sections: title by type, in order; schema: that describes the types."""
    lines = []
    for kind, title in sections.items():
        described = schema["$defs"][kind]
        text = cleandoc(described.get("description", ""))  # msgspec before 0.23 keeps a docstring's indentation
        lines += ["", f"## {title}", "", text, "", "| setting | default | |", "|---|---|---|", *_rows(described)]
    return lines


def _rows(described: dict[str, Any]) -> Iterator[str]:
    for name, field in described["properties"].items():
        text = field.get("description", "")
        if not text:
            continue  # a section of its own
        if choices := field.get("enum"):
            text += f" One of {', '.join(f'`{one}`' for one in choices)}."
        default = "required" if name in described.get("required", ()) else f"`{_toml(field.get('default'))}`"
        yield f"| `{name}` | {default} | {text} |"


def _toml(value: Any) -> str:
    if value is None or value == {}:  # msgspec before 0.23 tells no default of a table
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(list(value)) if isinstance(value, list | tuple) else f"{value:g}" if isinstance(value, float) else str(value)
