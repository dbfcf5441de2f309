"""The methods by name, and how a new one is registered. Importing this module imports no method and no torch."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar

from irst_stream.errors import UsageError

__all__ = ["METHODS", "Method", "Recipe", "find_method", "register", "registered"]

Recipe = Literal["map", "window", "adversarial", "none"]
Built = TypeVar("Built")


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the field.

    name: as the command line and file names have it; title: as its paper has it; family: which methods it resembles;
    build(grid, **options): makes it for a fine grid; recipe: how it is trained, "none" where nothing is learnt here.
    """

    name: str
    title: str
    family: str
    build: Callable[..., Any]
    recipe: Recipe = "map"


METHODS: dict[str, Method] = {}


def register(
    name: str, title: str, family: str, recipe: Recipe = "map"
) -> Callable[[Callable[..., Built]], Callable[..., Built]]:
    """Register the decorated class or function, which builds the method for a FineGrid, under a name."""

    def add(build: Callable[..., Built]) -> Callable[..., Built]:
        METHODS[name] = Method(name, title, family, build, recipe)
        return build

    return add


def registered() -> dict[str, Method]:
    """All methods by name, after importing every module of this package."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
    return METHODS


def find_method(name: str) -> Method:
    """Return the method of this name; a UsageError lists all of them."""
    if name not in registered():
        raise UsageError(f"{name}: no such method; there are: {', '.join(sorted(METHODS))}")
    return METHODS[name]
