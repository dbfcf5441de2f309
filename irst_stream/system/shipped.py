"""Where the folders that travel with the package are: engines/ and configs/, in a checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from irst_stream.errors import UsageError

__all__ = ["configs_folder", "engines_folder", "find_config", "find_engine"]

PACKAGE = Path(__file__).resolve().parent.parent
OTHERS = ("scene-", "train-")  # how the names begin of what is not to be run


def engines_folder() -> Path:
    """Weights, ONNX graphs and their manifests."""
    return _folder("engines")


def configs_folder() -> Path:
    """The configurations that come with the package, one TOML each."""
    return _folder("configs")


def find_config(name: str, what: Literal["run", "scene", "train"] = "run") -> Path:
    """A configuration by path, or by the name of one that comes with the package; what: what it is wanted for."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = configs_folder() / f"{name.removesuffix('.toml')}.toml"
    if shipped.is_file():
        return shipped
    names = sorted(p.stem for p in configs_folder().glob("*.toml"))
    known = ", ".join(n for n in names if (n.partition("-")[0] if n.startswith(OTHERS) else "run") == what)
    raise UsageError(f"{name}: no such file, and no configuration of that name; there are: {known}")


def find_engine(name: str) -> Path:
    """An engine's folder by path, or by the name of one that comes with the package."""
    path = Path(name)
    if path.is_dir():
        return path
    shipped = engines_folder() / name
    if shipped.is_dir():
        return shipped
    known = ", ".join(sorted(p.parent.name for p in engines_folder().glob("*/manifest.toml"))) or "none"
    raise UsageError(f"{name}: no such folder, and no engine of that name; there are: {known}")


def _folder(name: str) -> Path:
    """A wheel carries the folder inside the package; a checkout has it beside the package."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
