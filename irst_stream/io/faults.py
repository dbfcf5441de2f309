"""What the system refuses, and what hostile bytes lead a parser into, as one line that names its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from irst_stream.errors import IrstError, SourceError

__all__ = ["named_errors"]


@contextmanager
def named_errors(where: str) -> Iterator[None]:
    """Convert every error that is not an IrstError to a SourceError of one line that names the file, or else `where`."""
    try:
        yield
    except IrstError:
        raise
    except OSError as error:
        raise SourceError(f"{error.filename or where}: {error.strerror or error}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise SourceError(f"{where}: cannot be read ({type(error).__name__}: {text})") from error
