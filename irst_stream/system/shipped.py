"""Locate the folders bundled with the package, engines/ and configs/, in a checkout or an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from irst_stream.errors import UsageError

__all__ = ["configs_folder", "engines_folder", "find_config", "find_engine"]

PACKAGE = Path(__file__).resolve().parent.parent
NOT_RUN_PREFIXES = ("scene-", "train-")  # of configurations that are not for `irst-stream run`


def engines_folder() -> Path:
    """Return the folder of bundled engines: weights, ONNX graphs and their manifests."""
    return _folder("engines")


def configs_folder() -> Path:
    """Return the folder of bundled configurations, one TOML file each."""
    return _folder("configs")


def find_config(name: str, purpose: Literal["run", "scene", "train"] = "run") -> Path:
    """Return the path of a configuration, given by path or by the name of a bundled one.

    Raises a UsageError that lists the bundled configurations for `purpose`.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = configs_folder() / f"{name.removesuffix('.toml')}.toml"
    if shipped.is_file():
        return shipped
    if path.is_dir():
        raise UsageError(f"{name}: a folder; expected a configuration file (TOML), or the name of a bundled one")
    names = sorted(p.stem for p in configs_folder().glob("*.toml"))
    known = ", ".join(n for n in names if (n.partition("-")[0] if n.startswith(NOT_RUN_PREFIXES) else "run") == purpose)
    raise UsageError(f"{name}: no such file, and no bundled configuration of that name; there are: {known}")


def find_engine(name: str) -> Path:
    """Return an engine's folder, given by path or by the name of a bundled engine.

    Raises a UsageError that lists the bundled engines.
    """
    path = Path(name)
    if path.is_dir():
        return path
    shipped = engines_folder() / name
    if shipped.is_dir():
        return shipped
    known = ", ".join(sorted(p.parent.name for p in engines_folder().glob("*/manifest.toml"))) or "none"
    raise UsageError(f"{name}: no such folder, and no bundled engine of that name; there are: {known}")


def _folder(name: str) -> Path:
    """Return a bundled folder: inside the package in a wheel, next to the package in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
