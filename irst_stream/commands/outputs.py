"""Output files of the commands: never overwrite an input, and appear complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irst_stream.errors import OutputError, UsageError

__all__ = ["atomic_output", "check_output", "write_bytes"]


def check_output(out: Path | None, *inputs: Path, suffix: str = "") -> None:
    """Raise before any work if `out` cannot be written, would change an input, or lacks the suffix; None is accepted."""
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
        _check_writable(out)


def _check_writable(out: Path) -> None:
    """Create and remove the file that atomic_output() writes to, so that a fault shows before hours of work."""
    part = _part_path(out)
    existed = part.exists()
    try:
        part.open("ab").close()
        if not existed:
            part.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _part_path(out: Path) -> Path:
    """The temporary file next to `out`."""
    return out.with_name(f"{out.name}.part")


@contextmanager
def atomic_output(out: Path) -> Iterator[Path]:
    """Yield a temporary path next to `out`, renamed to `out` on success and removed on failure."""
    direct = out.exists() and not out.is_file()  # a device or a pipe cannot be replaced
    part = out if direct else _part_path(out)
    try:
        yield part
        if not direct:
            part.replace(out)
    except BrokenPipeError:  # the reader of a pipe closed it: not an error
        raise
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if not direct:
            part.unlink(missing_ok=True)


def write_bytes(out: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_output(out) as part:
        part.write_bytes(data)
