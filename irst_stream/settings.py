"""TOML to frozen dataclasses: every mistake at once, each by its dotted path, with the nearest known key."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from irst_stream.errors import FormatError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["about", "parse_settings", "read_settings", "refuse", "to_toml"]

Settings = TypeVar("Settings")


def about(text: str, **limits: Any) -> msgspec.Meta:
    """What a setting is, with its unit and the effect of larger and smaller values, for the JSON schema and the docs.

    limits: those of msgspec.Meta, which are checked where a file is read.
    """
    return msgspec.Meta(description=text, **limits)


def read_settings(path: Path, kind: type[Settings], check: Callable[[Settings], Iterable[str]] = lambda _: ()) -> Settings:
    """A TOML file as a dataclass of dataclasses and lists of them: see parse_settings."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: {error}") from error
    return parse_settings(text, str(path), kind, check)


def parse_settings(
    text: str, where: str, kind: type[Settings], check: Callable[[Settings], Iterable[str]] = lambda _: ()
) -> Settings:
    """TOML as a dataclass of dataclasses and lists of them; whatever it leaves out keeps its default.

    Raises one FormatError that lists every unknown key, every value of a wrong type and all that check finds beyond that.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{where}: {error}") from error
    faults = list(_faults(table, kind, ""))
    named = [_path(fault) for fault in faults]
    try:
        settings = msgspec.convert(_sound(table, kind), kind)
        faults += [fault for fault in check(settings) if not any(_is_within(_path(fault), path) for path in named)]
    except msgspec.ValidationError:  # what is missing has nothing that could stand for it
        settings = None
    if settings is None or faults:
        raise FormatError(f"{where}: " + "; ".join(faults))
    return settings


def refuse(faults: Iterable[str]) -> None:
    """Raises one UsageError that lists all faults of settings, where there are any."""
    if listed := "; ".join(faults):
        raise UsageError(listed)


def _path(fault: str) -> str:
    """What a fault is of."""
    return fault.partition(": ")[0]


def _is_within(path: str, other: str) -> bool:
    """Whether what a dotted path names is another's, or a part of it."""
    return path == other or path.startswith((f"{other}.", f"{other}["))


def to_toml(fields: dict[str, Any]) -> str:
    """A table as TOML, a key a line, then lists of such tables; what is None or an empty list is left out."""
    tables = {key: rows for key, rows in fields.items() if _is_tables(rows)}
    written = {
        key: value for key, value in fields.items() if key not in tables and value is not None and value not in ([], ())
    }
    lines = [f"{key} = {_toml_value(value)}\n" for key, value in written.items()]
    return "".join(lines + [f"\n[[{key}]]\n{to_toml(row)}" for key, rows in tables.items() for row in rows])


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(one)}" for key, one in value.items()) + " }"
    return msgspec.json.encode(value).decode()


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, dict) for row in value)


def _faults(table: dict[str, Any], kind: Any, prefix: str) -> Iterator[str]:
    types = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if field.name not in table and field.default is field.default_factory is dataclasses.MISSING:
            yield f"{prefix}{field.name}: missing"
    for key, value in table.items():
        dotted = prefix + key
        if key not in types:
            near = difflib.get_close_matches(key, types, 1) or sorted(types)
            yield f"{dotted}: no such key; {'did you mean ' + near[0] if len(near) == 1 else 'known: ' + ', '.join(near)}"
        elif dataclasses.is_dataclass(types[key]) and isinstance(value, dict):
            yield from _faults(value, types[key], dotted + ".")
        elif (row := _row_type(types[key])) is not None and isinstance(value, list):
            for k, entry in enumerate(value):
                if isinstance(entry, dict):
                    yield from _faults(entry, row, f"{dotted}[{k}].")
                else:
                    yield f"{dotted}[{k}]: expected a table, got {entry!r}"
        else:
            yield from _value_fault(value, types[key], dotted)


def _sound(table: dict[str, Any], kind: Any) -> dict[str, Any]:
    """What is right of a table, so that the rest can be looked at as well; "" stands for what is missing."""
    types = typing.get_type_hints(kind, include_extras=True)
    sound: dict[str, Any] = {f.name: "" for f in dataclasses.fields(kind) if f.default is f.default_factory}
    for key, value in table.items():
        if key not in types:
            continue
        if dataclasses.is_dataclass(types[key]) and isinstance(value, dict):
            sound[key] = _sound(value, types[key])
        elif (row := _row_type(types[key])) is not None and isinstance(value, list):
            sound[key] = [_sound(entry if isinstance(entry, dict) else {}, row) for entry in value]
        elif not list(_value_fault(value, types[key], key)):
            sound[key] = value
    return sound


def _row_type(kind: Any) -> Any:
    """The dataclass that a list of tables is of, None for anything else."""
    arguments = typing.get_args(kind)
    row = arguments[0] if typing.get_origin(kind) is tuple and arguments[1:] == (...,) else None
    return row if dataclasses.is_dataclass(row) else None


def _value_fault(value: Any, kind: Any, dotted: str) -> Iterator[str]:
    plain = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(plain) is Literal:
        *others, last = map(str, choices := typing.get_args(plain))
        if value not in choices:
            yield f"{dotted}: expected {' or '.join([', '.join(others), last] if others else [last])}, got {value!r}"
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield f"{dotted}: {str(error)[:1].lower()}{str(error)[1:]}"
