"""Where the commands write: never over what they read, and whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irst_stream.errors import OutputError, UsageError

__all__ = ["check_output", "replacing", "write_bytes"]


def check_output(out: Path | None, *inputs: Path, suffix: str = "") -> None:
    """Refuses, before anything is done, a place that cannot be written or that would change an input."""
    if out is None:
        return
    if suffix and out.suffix.lower() != suffix:
        raise UsageError(f"{out}: expected a name that ends in {suffix}")
    if out.is_dir():
        raise OutputError(f"{out}: cannot be written: is a folder")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out}: cannot be written: no folder {out.resolve().parent}")
    for given in inputs:
        same = out.exists() and given.exists() and out.samefile(given)
        within = given.is_dir() and given.resolve() in out.resolve().parents
        if same or (within and (out.exists() or suffix == ".png")):
            raise OutputError(f"{out}: would change the input {given}; choose another place")
    if not out.exists() or out.is_file():
        _try(out)


def _try(out: Path) -> None:
    """Makes, and removes again, what replacing() writes to: better told now than after hours of work."""
    part = _part(out)
    there = part.exists()
    try:
        part.open("ab").close()
        if not there:
            part.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _part(out: Path) -> Path:
    return out.with_name(f"{out.name}.part")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A place beside `out` to write to, which takes its name at the end if all went well."""
    at_once = out.exists() and not out.is_file()  # a device or a pipe
    part = out if at_once else _part(out)
    try:
        yield part
        if not at_once:
            part.replace(out)
    except BrokenPipeError:  # of a reader that has seen enough
        raise
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if not at_once:
            part.unlink(missing_ok=True)


def write_bytes(out: Path, data: bytes) -> None:
    """Writes a small file."""
    with replacing(out) as part:
        part.write_bytes(data)
