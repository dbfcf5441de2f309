"""TOML to frozen dataclasses: every mistake at once, each by its dotted path, with the nearest known key."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from irst_stream.errors import FormatError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_settings", "to_toml"]

Settings = TypeVar("Settings")


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """A TOML file as a dataclass of dataclasses; whatever it leaves out keeps its default.

    Raises one FormatError that lists every unknown key and every value of a wrong type.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: {error}") from error
    faults = list(_faults(table, kind, ""))
    if faults:
        raise FormatError(f"{path}: " + "; ".join(faults))
    return msgspec.convert(table, kind)


def to_toml(fields: dict[str, Any]) -> str:
    """A flat table as TOML, a key a line, then lists of flat tables; what is None or an empty list is left out."""
    tables = {key: rows for key, rows in fields.items() if _is_tables(rows)}
    written = {
        key: value for key, value in fields.items() if key not in tables and value is not None and value not in ([], ())
    }
    lines = [f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in written.items()]
    return "".join(lines + [f"\n[[{key}]]\n{to_toml(row)}" for key, rows in tables.items() for row in rows])


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, dict) for row in value)


def _faults(table: dict[str, Any], kind: Any, prefix: str) -> Iterator[str]:
    types = typing.get_type_hints(kind)
    for key, value in table.items():
        dotted = prefix + key
        if key not in types:
            near = difflib.get_close_matches(key, types, 1) or sorted(types)
            yield f"{dotted}: no such key; {'did you mean ' + near[0] if len(near) == 1 else 'known: ' + ', '.join(near)}"
        elif dataclasses.is_dataclass(types[key]) and isinstance(value, dict):
            yield from _faults(value, types[key], dotted + ".")
        else:
            yield from _value_fault(value, types[key], dotted)


def _value_fault(value: Any, kind: Any, dotted: str) -> Iterator[str]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield f"{dotted}: {str(error)[:1].lower()}{str(error)[1:]}"
