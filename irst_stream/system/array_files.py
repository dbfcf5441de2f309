"""Files of NumPy arrays that this program wrote for itself."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_stream.errors import FormatError

__all__ = ["read_arrays"]


def read_arrays(path: Path, names: Sequence[str], what: str) -> list[NDArray[Any]]:
    """Read named arrays of a .npz file; raise a FormatError for anything else. what: the file should be, for the error."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return [file[name] for name in names]
    except FileNotFoundError as error:
        raise FormatError(f"{path}: no such file; expected {what}") from error
    except KeyError as error:
        raise FormatError(f"{path}: not {what} (no array {error.args[0].split()[0]})") from error
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path}: not {what} ({str(error).partition('. ')[0].rstrip('.') or 'damaged'})") from error
