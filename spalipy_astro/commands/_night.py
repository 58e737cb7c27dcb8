"""Options of ``align-fits`` for a night: which frames are bad, one flux scale, a comet, a stack."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from spalipy_astro._files import whole_file
from spalipy_astro.commands._outputs import check_fits
from spalipy_astro.commands._run import UsageError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["add_night", "check_night", "levels_of", "night_options", "write_stack"]

_FOR_SEVERAL = ("reject", "target", "stack")


def add_night(parser: Any) -> None:
    """Add the options to a parser."""
    night = parser.add_argument_group("a night of frames")
    add = night.add_argument
    add(
        "--reject",
        action="append",
        metavar="QUALITY=LIMIT",
        help="leave out frames that are bad, as by fwhm=3sigma (clipped against the night's "
        "median), fwhm=1.5median, fwhm=4.5, n_stars=0.5 (of the median), ellipticity=0.4 or "
        "fwhm=80%% (keep the best ones); may be given several times",
    )
    add("--scale-flux", action="store_true", help="bring stars to their flux in the template")
    add("--match-background", action="store_true", help="bring the sky to that of the template")
    add(
        "--target",
        metavar="TABLE",
        help="follow a comet or an asteroid: a table with the columns time and x, y (template px, "
        "from 0), or time, ra and dec (deg)",
    )
    add(
        "--stack",
        metavar="OUT.fits",
        help="combine the aligned frames by a clipped mean, weighted by depth with --scale-flux "
        "(needs ccdproc)",
    )


def check_night(options: argparse.Namespace, *, several: bool) -> None:
    """Raise UsageError for options that do not go together."""
    if not several:
        for name in _FOR_SEVERAL:
            if getattr(options, name):
                raise UsageError(f"--{name} is for several sources; one is given")
    for rule in options.reject or ():
        column, equals, limit = rule.partition("=")
        if not (column.strip() and equals and limit.strip()):
            raise UsageError(f"--reject takes QUALITY=LIMIT, as fwhm=3sigma; got {rule!r}")
    if options.stack:
        if find_spec("ccdproc") is None:
            raise ImportError("--stack needs ccdproc: pip install ccdproc")
        try:
            check_fits("--stack", options.stack, overwrite=options.overwrite)
        except FileNotFoundError as error:
            raise UsageError(f"--stack: {error}") from error


def levels_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return keyword arguments of `Alignment.resample`."""
    return {
        "scale_flux": options.scale_flux,
        "match_background": options.match_background,
    }


def night_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return keyword arguments of `align_many`."""
    rules = [rule.partition("=") for rule in options.reject or ()]
    found = levels_of(options)
    if rules:
        found["reject"] = {column.strip(): limit.strip() for column, _, limit in rules}
    if options.target:
        found["target"] = options.target
    return found


def write_stack(options: argparse.Namespace, table: Table) -> int:
    """Write the stack of the frames that are good, and return of how many."""
    from spalipy_astro.batch import stack_frames  # takes a while to import
    from spalipy_astro.io import to_hdus, write_hdus

    stack = stack_frames(table, weights="depth" if options.scale_flux else None)
    with whole_file(options.stack, overwrite=options.overwrite) as part:
        write_hdus(to_hdus(stack), part)
    return int(stack.meta["NCOMBINE"])
