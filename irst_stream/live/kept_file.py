"""Files in which a run keeps its state for the next one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from irst_stream.errors import OutputError

__all__ = ["read_kept"]

log = logging.getLogger(__name__)


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


Content = TypeVar("Content", bound=_Versioned)


def read_kept(path: Path, kind: type[Content], version: int, max_bytes: int, then: str) -> tuple[Content | None, bool]:
    """Read a JSON file of one version; return its content, None where there is none, and whether the file was damaged.

    A damaged file is set aside, and logged; then: what follows from that, for the log. Raises an OutputError if it cannot
    be set aside.
    """
    try:
        with path.open("rb") as file:
            content = msgspec.json.decode(file.read(max_bytes), type=kind)
        if content.version != version:
            raise ValueError(f"expected version {version}, got {content.version}")
        return content, False
    except FileNotFoundError:
        return None, False
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        aside = path.with_name(f"{path.name}.damaged")
        log.error("%s: cannot be read (%s); kept as %s, %s", path, error, aside, then)
        try:
            path.replace(aside)
        except OSError as failed:
            raise OutputError(f"{path}: cannot be set aside: {failed.strerror or failed}") from failed
        return None, True
