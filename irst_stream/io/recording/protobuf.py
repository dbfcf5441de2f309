"""The part of the protobuf wire format that recordings use: writing fields, reading those of one message, descriptors."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = [
    "Field",
    "describe_enum",
    "describe_file",
    "describe_message",
    "double_field",
    "fixed32_field",
    "int_field",
    "read_fields",
    "tag",
    "text_field",
]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
MAX_VARINT_BYTES = 10
OPTIONAL, REPEATED = 1, 3  # labels of a descriptor
KINDS = {"double": 1, "int64": 3, "int32": 5, "fixed32": 7, "string": 9, "bytes": 12}  # types of a descriptor
MESSAGE_KIND, ENUM_KIND = 11, 14


class Field(NamedTuple):
    """A field in a message's description.

    kind: one of KINDS, "message .NAME" or "enum .NAME"; with a * at its end, the field is repeated.
    """

    name: str
    number: int
    kind: str


def varint(value: int) -> bytes:
    """Encode a whole number of 0 or more."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, length: int) -> bytes:
    """What precedes the bytes of a field of that length."""
    return varint(number << 3 | LENGTH) + varint(length)


def text_field(number: int, value: bytes | str) -> bytes:
    """A field of text, bytes or a message."""
    data = value.encode() if isinstance(value, str) else value
    return tag(number, len(data)) + data


def int_field(number: int, value: int) -> bytes:
    """A field of a whole number of 0 or more; empty for 0, the default."""
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def fixed32_field(number: int, value: int) -> bytes:
    """A field of an unsigned number of 32 bits."""
    return varint(number << 3 | FIXED32) + struct.pack("<I", value)


def double_field(number: int, value: float) -> bytes:
    """A field of a number of 64 bits."""
    return varint(number << 3 | FIXED64) + struct.pack("<d", value)


def read_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field of a message; raise a ValueError if it is not one."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if wire == LENGTH:
            length, at = _read_varint(data, at)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"protobuf: wire type {wire} at byte {at}")
        if at + length > len(data):
            raise ValueError(f"protobuf: field {number} is cut off")
        yield number, data[at : at + length]
        at += length


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """A whole number, and where the next one begins."""
    value = 0
    for k in range(MAX_VARINT_BYTES):
        if at + k >= len(data):
            break
        value |= (data[at + k] & 0x7F) << (7 * k)
        if data[at + k] < 0x80:
            return value, at + k + 1
    raise ValueError(f"protobuf: invalid number at byte {at}")


def describe_file(name: str, package: str, imports: Iterable[str], messages: Iterable[bytes]) -> bytes:
    """A FileDescriptorProto, as a field of a FileDescriptorSet."""
    parts = [text_field(1, name), text_field(2, package), *(text_field(3, one) for one in imports)]
    parts += [text_field(4, message) for message in messages]
    return text_field(1, b"".join([*parts, text_field(12, "proto3")]))


def describe_message(name: str, fields: Iterable[Field], enums: Iterable[bytes] = ()) -> bytes:
    """A DescriptorProto."""
    parts = [text_field(1, name), *(text_field(2, _describe_field(field)) for field in fields)]
    return b"".join([*parts, *(text_field(4, enum) for enum in enums)])


def describe_enum(name: str, values: Iterable[str]) -> bytes:
    """An EnumDescriptorProto; values are numbered from 0."""
    rows = (text_field(1, value) + int_field(2, number) for number, value in enumerate(values))
    return b"".join([text_field(1, name), *(text_field(2, row) for row in rows)])


def _describe_field(field: Field) -> bytes:
    """A FieldDescriptorProto."""
    kind, _, type_name = field.kind.rstrip("*").partition(" ")
    code = {"message": MESSAGE_KIND, "enum": ENUM_KIND}.get(kind) or KINDS[kind]
    label = REPEATED if field.kind.endswith("*") else OPTIONAL
    named = text_field(6, type_name) if type_name else b""
    return text_field(1, field.name) + int_field(3, field.number) + int_field(4, label) + int_field(5, code) + named
