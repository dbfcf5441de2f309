"""Text tables of numbers, separated by commas, semicolons, tabs or spaces, with or without a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from irst_stream.errors import FormatError
from irst_stream.system.bounded_files import MAX_TEXT_BYTES, read_bounded

__all__ = ["MAX_FRAMES", "SUFFIXES", "fields", "first_row", "header_columns", "parse_numbers", "parse_whole", "read_rows"]

SUFFIXES = (".csv", ".txt", ".tsv")
PEEK_BYTES = 1 << 14
MAX_FRAMES = 1_000_000  # of a sequence: a wrong column must not fill the memory with empty frames


def read_rows(path: Path) -> list[tuple[str, list[str]]]:
    """Read every line as (its place, its fields); a blank line has no fields. Raise a FormatError unless it is text."""
    try:
        text = read_bounded(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: expected text in UTF-8 ({error})") from error
    if "\0" in text:
        raise FormatError(f"{path}: expected text, got a byte of 0")
    return [(f"{path}:{number}", fields(line)) for number, line in enumerate(text.splitlines(), 1)]


def first_row(path: Path) -> list[str]:
    """The fields of the first line that has any; [] if there is none."""
    with path.open("rb") as file:
        lines = file.read(PEEK_BYTES).decode("utf-8-sig", "replace").splitlines()
    return next((row for line in lines if (row := fields(line))), [])


def fields(line: str) -> list[str]:
    """The fields of a line, stripped; [] for a blank line."""
    if not line.strip():
        return []
    separator = next((sign for sign in ",;" if sign in line), None)
    return [field.strip() for field in line.split(separator)]


def header_columns(row: list[str]) -> dict[str, int]:
    """The columns that a header names, in lower case; {} for a row of numbers."""
    names = [name.strip("\"'").lower() for name in row]
    return {} if not names or not names[0] or _is_number(names[0]) else {name: k for k, name in enumerate(names)}


def parse_numbers(row: list[str], where: str) -> list[float]:
    """Parse the fields as numbers; an empty field is NaN."""
    values = []
    for field in row:
        if field and not _is_number(field):
            raise FormatError(f"{where}: expected numbers, got {field[:40]!r}")
        values.append(float(field) if field else np.nan)
    return values


def parse_whole(field: str, name: str, where: str, least: int = 0, most: int = 2**53) -> int:
    """Parse a whole number from `least` to `most`, also one written as 3.0."""
    value = float(field) if _is_number(field) else np.nan
    if not (least <= value <= most and value == int(value)):
        raise FormatError(f"{where}: {name}: expected a whole number from {least} to {most}, got {field[:40]!r}")
    return int(value)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
