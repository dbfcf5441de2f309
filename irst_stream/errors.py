"""All errors that irst-stream raises on purpose, in one tree.

    IrstError                base; the message is one line: what, where, what was expected
    ├── UsageError           an invalid option, argument or setting
    ├── SourceError          frames that cannot be read; names the file
    ├── FormatError          a record that violates its schema; names file, line and field
    ├── WireError            an invalid message; carries the reason under which it is counted
    ├── OutputError          an output that cannot or must not be written
    │   └── LossError        output that was promised, and is lost
    ├── MissingPackageError  an optional package that is not installed; names the extra
    └── DeviceError          a GPU or its driver failed; the data on the GPU is lost

The command line prints the line and exits with 2, or with 3 for a LossError. Any other exception is a bug: it exits with
70, and the traceback goes to a file.
"""

__all__ = [
    "DeviceError",
    "FormatError",
    "IrstError",
    "LossError",
    "MissingPackageError",
    "OutputError",
    "SourceError",
    "UsageError",
    "WireError",
]


class IrstError(Exception):
    """Base of all errors that irst-stream raises on purpose."""


class UsageError(IrstError):
    """An invalid option, argument or setting."""


class SourceError(IrstError):
    """Frames that cannot be read."""


class FormatError(IrstError):
    """A record that violates its schema."""


class WireError(IrstError):
    """An invalid message; reason is the one word under which it is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class OutputError(IrstError):
    """An output that cannot or must not be written."""


class LossError(OutputError):
    """Output that was promised, and is lost."""


class MissingPackageError(IrstError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'irst-stream[{extra}]'")


class DeviceError(IrstError):
    """A GPU or its driver failed; the data on the GPU is lost."""
