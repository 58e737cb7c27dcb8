"""The console script ``align-group``: frames that overlap each other, and what is made of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from spalipy_astro._choices import COMBINE, METHODS
from spalipy_astro.commands._arguments import (
    add_common,
    add_finder,
    add_keep,
    add_selection,
    add_spline_order,
    add_threshold,
)
from spalipy_astro.commands._collector import imported
from spalipy_astro.commands._console import Console
from spalipy_astro.commands._run import Parser, run

__all__ = ["COADD", "GROUP", "TABLE", "align_group", "parser_of_align_group"]

TABLE, GROUP, COADD = "group.ecsv", "group.asdf", "coadd.fits"
"""Names of the files that are written."""


def align_group(arguments: Sequence[str] | None, *, prog: str) -> int:
    """Run ``align-group``; return the exit status."""
    parser = parser_of_align_group(prog)
    return run(parser, parser.parse_intermixed_args(arguments), _work)


def parser_of_align_group(prog: str = "align-group") -> Parser:
    """Return the parser of ``align-group``, or of how it is called otherwise."""
    parser = Parser(
        prog=prog,
        then="the same command with --overwrite does all of the work anew",
        usage=f"{prog} FILE [FILE ...] -o DIR [OPTION ...]",
        description="Align images that overlap each other, such as the panels of a mosaic, "
        "dithers, or the chips of a camera, without a template and without a WCS.",
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="FITS image, or PNG, JPEG or TIFF, or catalog of stars; a folder stands for the FITS "
        "files in it, a quoted pattern such as 'raw/*.fits' for the files that match",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        required=True,
        help="folder to write to, created if needed: NAME_aligned.fits for each file; "
        f"{COADD}, all frames combined, with mask, uncertainty and FOOTPRINT (number of frames); "
        f"{GROUP}, which GroupAlignment.read opens; {TABLE}, a row for each frame. Frames that "
        "overlap no others of the largest part have grids of their own, coadd-1.fits and so on",
    )
    parser.add_argument(
        "--source-ext",
        metavar="EXT",
        help="extension of the files: number, name or NAME:VERSION; 'all' takes all images of a "
        "file, which are the chips of a camera (default: the first image)",
    )

    stars = parser.add_argument_group("stars")
    add_threshold(stars)
    add_finder(stars)
    add_selection(stars)

    fit = parser.add_argument_group("transforms")
    add = fit.add_argument
    add(
        "--reference",
        default="best",
        metavar="FILE",
        help="file, or its number from 0, whose pixels are the grid (default: the one that is "
        "connected best with all others)",
    )
    add(
        "--camera",
        metavar="shared|IN.asdf",
        help="'shared' if all frames have the distortion of one camera; or a file of a camera's "
        "distortion, as group.cameras has it (default: each frame has its own)",
    )
    add_spline_order(fit)
    add(
        "--report",
        metavar="OUT.html",
        help="page to write, with a map of the frames, residuals, and overlaps to blink",
    )

    image = parser.add_argument_group("images")
    add = image.add_argument
    add("--no-images", action="store_true", help=f"write no aligned images, only {COADD}")
    add("--no-coadd", action="store_true", help=f"write no {COADD}")
    add(
        "--trim",
        action="store_true",
        help="write of each aligned image the part of the canvas on which the frame lies",
    )
    add("--combine", choices=COMBINE, default="mean", help="how (default: %(default)s)")
    add(
        "--match-plane",
        dest="match_background",
        action="store_const",
        const="plane",
        default=True,
        help="match gradients of the sky, too, as of moonlight: a plane for each frame (default: "
        "a number for each frame)",
    )
    add(
        "--no-match-background",
        dest="match_background",
        action="store_false",
        help="leave the sky of each frame as it is, where frames overlap, too",
    )
    add("--scale-flux", action="store_true", help="bring stars to their flux in the reference")
    add("--method", choices=METHODS, help="how to interpolate (default: lanczos3)")
    add_keep(image)
    add("--cval", type=float, default=float("nan"), help="value of pixels without data")

    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="work on N frames at a time"
    )
    add_common(parser)
    return parser


def _work(options: argparse.Namespace, console: Console) -> int:
    """Do what the options ask for; return the exit status."""
    from spalipy_astro.commands._group import work  # takes a while to import

    imported()
    return work(options, console)
