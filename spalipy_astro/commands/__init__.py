"""The commands: arguments in, files out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spalipy_astro.commands._start import align_fits, align_fits_simple, main

if TYPE_CHECKING:
    from spalipy_astro.commands._arguments import (
        parser_of_align_fits,
        parser_of_align_fits_simple,
    )

__all__ = [
    "align_fits",
    "align_fits_simple",
    "main",
    "parser_of_align_fits",
    "parser_of_align_fits_simple",
]


def __getattr__(name: str) -> Any:
    if name not in ("parser_of_align_fits", "parser_of_align_fits_simple"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spalipy_astro.commands import _arguments

    return getattr(_arguments, name)
