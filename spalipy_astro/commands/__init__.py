"""The commands: arguments in, files out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spalipy_astro.commands._start import align_fits, align_fits_simple, align_group, main

if TYPE_CHECKING:
    from spalipy_astro.commands._align_group import parser_of_align_group
    from spalipy_astro.commands._arguments import (
        parser_of_align_fits,
        parser_of_align_fits_simple,
    )

__all__ = [
    "align_fits",
    "align_fits_simple",
    "align_group",
    "main",
    "parser_of_align_fits",
    "parser_of_align_fits_simple",
    "parser_of_align_group",
]

_PARSERS = {
    "parser_of_align_fits": "_arguments",
    "parser_of_align_fits_simple": "_arguments",
    "parser_of_align_group": "_align_group",
}


def __getattr__(name: str) -> Any:
    if name not in _PARSERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PARSERS[name]}"), name)
