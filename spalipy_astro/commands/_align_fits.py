"""
The console scripts ``align-fits`` and ``align-fits-simple``: arguments in, files out.

Their options are those of spalipy 3.5 and a few more. `spalipy_astro.commands._run` says how they
end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from spalipy_astro.commands._arguments import (
    WITHOUT_EFFECT,
    check,
    find_sources,
    is_batch,
    parser_of_align_fits,
    parser_of_align_fits_simple,
    require_files,
)
from spalipy_astro.commands._collector import imported
from spalipy_astro.commands._console import Console
from spalipy_astro.commands._run import run
from spalipy_astro.errors import AlignmentError

__all__ = ["align_fits", "align_fits_simple"]


def align_fits(arguments: Sequence[str] | None, *, prog: str) -> int:
    """Run ``align-fits``; return the exit status."""
    parser = parser_of_align_fits(prog)
    return run(parser, parser.parse_intermixed_args(arguments), _work)


def align_fits_simple(arguments: Sequence[str] | None, *, prog: str) -> int:
    """Run ``align-fits-simple``; return the exit status."""
    parser = parser_of_align_fits_simple(prog)
    # what it has no option for is as align-fits has it by default
    defaults = vars(parser_of_align_fits().parse_intermixed_args(["source", "output"]))
    return run(parser, parser.parse_args(arguments, argparse.Namespace(**defaults)), _work)


def _work(options: argparse.Namespace, console: Console) -> int:
    """Do what the options ask for; return the exit status."""
    for name, _, instead in WITHOUT_EFFECT:
        if getattr(options, name[2:].replace("-", "_"), None) is not None:
            console.note(f"{name} has no effect: {instead}")
    find_sources(options)
    check(options)
    # what does the work takes a while to import, and what was mistyped is told before
    if is_batch(options):
        from spalipy_astro.commands._several import align_several

        imported()
        return align_several(options, console)
    try:
        require_files(options)
        from spalipy_astro.commands._one import align_one

        imported()
        align_one(options, console)
    except AlignmentError as error:
        if console.as_json:
            row = {"source": options.source_fits[0], "status": "failed", "reason": str(error)}
            console.frame(row)
        raise
    return 0
