"""The methods' published figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Published", "published"]


@dataclass(frozen=True)
class Published:
    """CSO-mAP and its five APs in % on each set, () where none was published; accident: what made them, "" if none did."""

    seqcsist: tuple[float, ...] = ()
    csist100k: tuple[float, ...] = ()
    accident: str = ""


@cache
def published() -> dict[str, Published]:
    """The published figures by method."""
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return {name: msgspec.convert(row, Published) for name, row in table.items()}
