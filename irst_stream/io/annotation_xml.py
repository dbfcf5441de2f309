"""Annotation files in XML, one an image, as SeqCSIST and Pascal VOC have them: read without letting any entity expand."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from irst_stream.errors import FormatError, SourceError

__all__ = ["parse_annotation"]

MAX_XML_BYTES = 1 << 20  # a published annotation has less than 2,000


def parse_annotation(path: Path) -> ET.Element:
    """Parse an annotation file; return its root element.

    Only UTF-8 of bounded size without a document type is accepted, so that no entity can expand.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_XML_BYTES else b""
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise SourceError(f"{path}: missing; expected one annotation per image") from None
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: expected UTF-8 ({error})") from error
    if not data:
        raise FormatError(f"{path}: expected an annotation of 1 to {MAX_XML_BYTES} bytes, got {path.stat().st_size}")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise FormatError(f"{path}: declares a document type or entities; an annotation has none")
    try:
        root = ET.fromstring(text)  # noqa: S314 - nothing can expand without a document type
    except (ET.ParseError, ValueError) as error:
        raise FormatError(f"{path}: not well-formed XML ({error})") from error
    if root.tag != "annotation":
        raise FormatError(f"{path}: expected the root element <annotation>, got <{root.tag}>")
    return root
