"""Everything irst-stream refuses, in one tree.

    IrstError                one clear line: what, where, what was expected
    ├── UsageError           an option or argument that makes no sense
    ├── SourceError          frames that cannot be read; names the file
    ├── FormatError          a record that breaks its schema; names file, line and field
    ├── WireError            a message that is not understood; carries the reason under which it is counted
    ├── OutputError          a place that cannot be written, or must not be
    ├── MissingPackageError  an optional package that is not installed; names the extra
    └── DeviceError          a GPU that failed, or its driver; what it held is lost

The command line prints the line and exits with 2. Anything else that escapes is a bug and keeps its traceback.
"""

__all__ = [
    "DeviceError",
    "FormatError",
    "IrstError",
    "MissingPackageError",
    "OutputError",
    "SourceError",
    "UsageError",
    "WireError",
]


class IrstError(Exception):
    """Base of all errors that irst-stream raises on purpose."""


class UsageError(IrstError):
    """An option or argument that makes no sense."""


class SourceError(IrstError):
    """Frames that cannot be read."""


class FormatError(IrstError):
    """A record that breaks its schema."""


class WireError(IrstError):
    """A message that is not understood; reason is the one word under which it is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class OutputError(IrstError):
    """A place that cannot be written, or must not be."""


class MissingPackageError(IrstError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'irst-stream[{extra}]'")


class DeviceError(IrstError):
    """A GPU that failed, or its driver."""
