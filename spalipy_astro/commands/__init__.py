"""The commands: arguments in, files out."""

from spalipy_astro.commands._align_fits import align_fits, align_fits_simple
from spalipy_astro.commands._arguments import parser_of_align_fits, parser_of_align_fits_simple
from spalipy_astro.commands._demo import main

__all__ = [
    "align_fits",
    "align_fits_simple",
    "main",
    "parser_of_align_fits",
    "parser_of_align_fits_simple",
]
