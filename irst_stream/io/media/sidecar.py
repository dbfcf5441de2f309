"""Sidecar files: NAME.toml next to NAME, a file or folder of frames, states times and layout that NAME itself lacks.

A configuration may have that name too: it has tables, which no sidecar has, and no key of a sidecar.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from irst_stream.errors import FormatError, SourceError
from irst_stream.settings import to_toml
from irst_stream.system.bounded_files import MAX_TEXT_BYTES, read_bounded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Sidecar", "is_configuration", "read_sidecar", "sidecar_path", "write_sidecar"]

ByteCount = Annotated[int, msgspec.Meta(ge=0)]
SidePixels = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
TimeNs = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Contents of a sidecar. Times are optional for all files; raw files require the layout.

    rate_hz, start_ns: frame i is taken at start_ns + i / rate_hz; times_ns: instead, the time of every frame; bits:
    significant bits of a pixel, so that pixels of 2^bits - 1 DN are saturated. Layout of raw files: width and height, px;
    dtype; byte_order; header_bytes before the first frame; frame_header_bytes before each frame.
    """

    rate_hz: Annotated[float, msgspec.Meta(ge=1e-6, le=1e9)] | None = None
    start_ns: TimeNs = 0
    times_ns: tuple[TimeNs, ...] = ()
    bits: Annotated[int, msgspec.Meta(ge=1, le=16)] | None = None
    width: SidePixels | None = None
    height: SidePixels | None = None
    dtype: Literal["uint8", "uint16", "float32"] = "uint16"
    byte_order: Literal["little", "big"] = "little"
    header_bytes: ByteCount = 0
    frame_header_bytes: ByteCount = 0


def sidecar_path(path: Path) -> Path:
    """Path of the sidecar of a file or folder."""
    path = path.resolve()
    return path.parent / f"{path.name}.toml"


def read_sidecar(path: Path) -> Sidecar:
    """Read the sidecar of a file or folder; default values if there is none. Raise a FormatError if it is invalid."""
    found = sidecar_path(path)
    if not found.is_file():
        return Sidecar()
    try:
        table = _read_table(found)
        return Sidecar() if _configures(table) else msgspec.convert(table, Sidecar)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        says = f"by its name it says what the frames of {path.name} are: rate_hz, ..."
        raise FormatError(f"{found}: {error}; {says}") from error


def is_configuration(found: Path) -> bool:
    """Tell whether a file that has a sidecar's name is a configuration; False where it cannot be read."""
    try:
        return _configures(_read_table(found))
    except (OSError, SourceError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def _read_table(found: Path) -> dict[str, Any]:
    return tomllib.loads(read_bounded(found, MAX_TEXT_BYTES).decode())


def _configures(table: dict[str, Any]) -> bool:
    return any(isinstance(value, dict) for value in table.values()) and not table.keys() & set(Sidecar.__struct_fields__)


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write the sidecar of a file or folder."""
    sidecar_path(path).write_text(to_toml(msgspec.to_builtins(sidecar)), "utf-8")
