"""Real recordings beside the checkout, for the tests that read them."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "real"


def real_file(name):
    """The path of a real recording; skips the test where it is missing."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return path
