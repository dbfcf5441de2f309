"""A small TOML file beside a recording, NAME.toml for NAME, that says what the recording itself does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from irst_stream.errors import FormatError
from irst_stream.settings import to_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Sidecar", "read_sidecar", "sidecar_path", "write_sidecar"]

Count = Annotated[int, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Time = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may stand in it. Every recording may state its times; a raw one must state its layout.

    rate_hz, start_ns: frame i is taken at start_ns + i / rate_hz; times_ns: or every frame's time; bits: significant
    bits of a pixel, so 2^bits - 1 is saturated. Raw: width, height, dtype, byte_order, header_bytes before the first
    frame, frame_header_bytes before each frame.
    """

    rate_hz: Annotated[float, msgspec.Meta(ge=1e-6, le=1e9)] | None = None
    start_ns: Time = 0
    times_ns: tuple[Time, ...] = ()
    bits: Annotated[int, msgspec.Meta(ge=1, le=16)] | None = None
    width: Size | None = None
    height: Size | None = None
    dtype: Literal["uint8", "uint16", "float32"] = "uint16"
    byte_order: Literal["little", "big"] = "little"
    header_bytes: Count = 0
    frame_header_bytes: Count = 0


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a file or folder is looked for."""
    path = path.resolve()
    return path.parent / f"{path.name}.toml"


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar of a recording, or an empty one where there is none."""
    beside = sidecar_path(path)
    if not beside.is_file():
        return Sidecar()
    try:
        return msgspec.convert(tomllib.loads(beside.read_text("utf-8")), Sidecar)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{beside}: {error}") from error


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Writes the sidecar of a recording."""
    sidecar_path(path).write_text(to_toml(msgspec.to_builtins(sidecar)), "utf-8")
