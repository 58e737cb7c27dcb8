"""The commands: arguments in, files out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spalipy_astro._late import late
from spalipy_astro.commands._start import align_fits, align_fits_simple, align_group, main

if TYPE_CHECKING:
    from spalipy_astro.commands._align_group import parser_of_align_group
    from spalipy_astro.commands._arguments import (
        parser_of_align_fits,
        parser_of_align_fits_simple,
    )
else:
    __getattr__, __dir__ = late(
        __name__,
        {
            "_align_group": ("parser_of_align_group",),
            "_arguments": ("parser_of_align_fits", "parser_of_align_fits_simple"),
        },
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
