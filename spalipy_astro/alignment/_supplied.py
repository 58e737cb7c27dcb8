"""
Methods of an alignment that other rooms supply: figures, pages and files.

These rooms know what an alignment is, so the alignment must not know them. The package tells it
where they are, and they are imported when a method is first called: each takes a while.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

__all__ = ["supplied", "supply"]

_PLACES: dict[str, tuple[str, str]] = {}


def supply(method: str, module: str, function: str) -> None:
    """
    Say which function a method calls.

    Parameters
    ----------
    method : str
        Name of a method of `Alignment`.
    module, function : str
        Where the function is, and its name there.
    """
    _PLACES[method] = (module, function)


def supplied(method: str) -> Callable:
    """Import the function that a method calls."""
    module, function = _PLACES[method]
    return getattr(import_module(module), function)
