"""TOML to frozen dataclasses; errors list every mistake at once by dotted path, with the nearest known key."""

from __future__ import annotations

import dataclasses
import difflib
import re
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

__all__ = ["about", "parse_settings", "parse_toml", "read_settings", "read_text", "refuse", "settings_of", "to_toml"]

Settings = TypeVar("Settings")
MAX_BYTES = 1 << 20  # of a file of settings
KINDS = {  # msgspec's names of types in words
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def about(text: str, **limits: Any) -> msgspec.Meta:
    """Annotate a setting with its description, for the JSON Schema and the documentation.

    text: meaning, unit, and effect of larger and smaller values; limits: those of msgspec.Meta, checked on reading a file.
    """
    return msgspec.Meta(description=text, **limits)


def read_settings(path: Path, kind: type[Settings], check: Callable[[Settings], Iterable[str]] = lambda _: ()) -> Settings:
    """Read a TOML file into a dataclass; see parse_settings."""
    return parse_settings(read_text(path), str(path), kind, check)


def read_text(path: Path) -> str:
    """The text of a file of settings; a FormatError if it cannot be read, is no UTF-8 or is larger than MAX_BYTES."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not text in UTF-8; expected settings in TOML") from error
    if len(data) > MAX_BYTES:
        raise FormatError(f"{path}: too large; expected settings of at most {MAX_BYTES:,} bytes")
    return text


def parse_settings(
    text: str, where: str, kind: type[Settings], check: Callable[[Settings], Iterable[str]] = lambda _: ()
) -> Settings:
    """Parse TOML into a dataclass of dataclasses and tuples of them; missing keys keep their defaults.

    where: the file's name, for errors. Raises one FormatError that lists every unknown or missing key, every invalid value,
    and the faults that `check` yields for keys without another fault.
    """
    return settings_of(parse_toml(text, where), where, kind, check)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a text; where: the file's name, for the FormatError of a text that is no TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{where}: {_toml_fault(text, str(error))}") from error


def _toml_fault(text: str, said: str) -> str:
    """What is wrong with a text that is no TOML, and its line; said: by the parser."""
    lines = text.rstrip().splitlines()
    place = re.search(r"at line (\d+)", said)
    number = int(place[1]) if place else len(lines)
    line = lines[number - 1].strip()[:80] if 0 < number <= len(lines) else ""
    if said.startswith(("Cannot overwrite", "Cannot declare", "Duplicate")):
        key = re.match(r"\[*\s*([^=\]]+)", line)
        return f"line {number}: {key[1].strip() if key else 'a key'} is given twice, here and above: {line}"
    return f"{said}: {line}" if place else said


def settings_of(
    table: dict[str, Any], where: str, kind: type[Settings], check: Callable[[Settings], Iterable[str]] = lambda _: ()
) -> Settings:
    """Turn the table of a TOML file into a dataclass; see parse_settings."""
    faults = list(_faults(table, kind, ""))
    named = [_fault_path(fault) for fault in faults]
    try:
        settings = msgspec.convert(_valid_part(table, kind), kind)
        faults += [fault for fault in check(settings) if not any(_is_within(_fault_path(fault), path) for path in named)]
    except msgspec.ValidationError:  # a required key is missing, so there is nothing to check
        settings = None
    if settings is None or faults:
        raise FormatError(f"{where}: " + "; ".join(faults))
    return settings


def refuse(faults: Iterable[str]) -> None:
    """Raise one UsageError that lists all faults; do nothing if there are none."""
    if listed := "; ".join(faults):
        raise UsageError(listed)


def _fault_path(fault: str) -> str:
    """The dotted path that a fault starts with."""
    return fault.partition(": ")[0]


def _is_within(path: str, other: str) -> bool:
    """Whether a dotted path equals another or lies below it."""
    return path == other or path.startswith((f"{other}.", f"{other}["))


def to_toml(fields: dict[str, Any]) -> str:
    """Write a table as TOML: one key per line, then arrays of tables; None and empty lists are left out."""
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
    """Yield missing keys, unknown keys and invalid values of a table, recursively."""
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


def _valid_part(table: dict[str, Any], kind: Any) -> dict[str, Any]:
    """The valid part of a table, so that `check` can examine it; a missing required key becomes ""."""
    types = typing.get_type_hints(kind, include_extras=True)
    valid: dict[str, Any] = {f.name: "" for f in dataclasses.fields(kind) if f.default is f.default_factory}
    for key, value in table.items():
        if key not in types:
            continue
        if dataclasses.is_dataclass(types[key]) and isinstance(value, dict):
            valid[key] = _valid_part(value, types[key])
        elif (row := _row_type(types[key])) is not None and isinstance(value, list):
            valid[key] = [_valid_part(entry if isinstance(entry, dict) else {}, row) for entry in value]
        elif not list(_value_fault(value, types[key], key)):
            valid[key] = value
    return valid


def _row_type(kind: Any) -> Any:
    """The dataclass of the tables in a tuple type, None for any other type."""
    arguments = typing.get_args(kind)
    row = arguments[0] if typing.get_origin(kind) is tuple and arguments[1:] == (...,) else None
    return row if dataclasses.is_dataclass(row) else None


def _value_fault(value: Any, kind: Any, dotted: str) -> Iterator[str]:
    """Yield the fault of a plain value, if any."""
    plain = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(plain) is Literal:
        *others, last = map(str, choices := typing.get_args(plain))
        if value not in choices:
            yield f"{dotted}: expected {' or '.join([', '.join(others), last] if others else [last])}, got {value!r}"
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield f"{dotted}: {_plain_fault(str(error), value, _meaning(kind))}"


def _plain_fault(said: str, value: Any, meaning: str) -> str:
    """What msgspec says of a value, in words of TOML, with what came; meaning: of a list, "" for anything else."""
    wanted, _, place = said.partition(" - at `$")
    indices = re.findall(r"\[(\d+)\]", place)
    for index in indices:
        value = value[int(index)]
    words = re.sub(
        r"`([^`]+)`",
        lambda kinds: " or ".join(KINDS.get(kind, kind) for kind in kinds[1].split(" | ")),
        wanted.partition(", got")[0].removeprefix("Expected "),
    )
    shown = str(value).lower() if isinstance(value, bool) else repr(value)[:60]
    if not meaning:
        return f"expected {words}, got {shown}"
    where = f" in place of {words} at {''.join(f'[{index}]' for index in indices)}" if indices else ""
    return f"expected {meaning}, got {shown}{where}"


def _meaning(kind: Any) -> str:
    """What a list holds, by the begin of its setting's description; "" for anything else."""
    plain, *metas = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
    described = next((meta.description for meta in metas if meta.description), None)
    if typing.get_origin(plain) is not tuple or not described:
        return ""
    begin = re.split(r"[:;.(]( |$)", described)[0].strip()
    return f"{begin[:1].lower()}{begin[1:]}"
