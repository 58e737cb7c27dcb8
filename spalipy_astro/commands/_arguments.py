"""The command lines of ``align-fits`` and ``align-fits-simple``: options and what they say."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spalipy_astro._choices import KINDS, METHODS, OBSERVATORY
from spalipy_astro._files import require_file
from spalipy_astro.batch import expand
from spalipy_astro.commands._grid import add_grid, check_grid_options
from spalipy_astro.commands._night import add_night, check_night
from spalipy_astro.commands._outputs import PICTURES
from spalipy_astro.commands._run import Parser, UsageError, add_telling
from spalipy_astro.commands._sky import add_sky_options, check_sky
from spalipy_astro.errors import FormatError

if TYPE_CHECKING:
    from spalipy_astro.io import Extension

__all__ = [
    "KEPT",
    "WITHOUT_EFFECT",
    "add_common",
    "add_finder",
    "add_keep",
    "add_selection",
    "add_spline_order",
    "add_threshold",
    "check",
    "extension",
    "extensions",
    "find_options",
    "find_sources",
    "is_batch",
    "method",
    "parser_of_align_fits",
    "parser_of_align_fits_simple",
    "require_files",
    "selection_of",
]

_OF_ORDER = ("nearest", "bilinear", "bicubic", "bicubic", "lanczos3", "lanczos3")
# Options of spalipy for which this method has no dial, and what takes their place.
WITHOUT_EFFECT = (
    ("--n-quad-det", int, "quads are made of stars all over the frame, as many as it takes"),
    ("--min-quad-sep", float, "quads are made in all sizes"),
    ("--max-match-dist", float, "it follows from the position errors of the stars"),
    ("--sub-tile", int, "the match grows over the frame and follows its distortion"),
    ("--max-quad-cand", int, "all likely candidates are tried"),
    ("--patience-quad-cand", int, "the search ends when the odds against chance are decisive"),
    ("--quad-edge-buffer", float, "quads without a counterpart do no harm"),
    ("--max-quad-hash-dist", float, "it follows from the position errors of the stars"),
    ("--cval-mask", float, "pixels without data are always masked"),
)

KEPT = {None: None, "flux": True, "brightness": False}
"""What ``--keep`` says, as ``conserve_flux`` has it."""


def parser_of_align_fits(prog: str = "align-fits") -> Parser:
    """Return the parser of ``align-fits``, or of how it is called otherwise."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} SOURCE [SOURCE ...] OUTPUT (-tf IMAGE | -tc CATALOG | --apply IN.asdf) "
        "[OPTION ...]",
        description="Align FITS images to a template by their stars. Options of spalipy 3.5 have "
        "the same meaning, unless stated otherwise here.",
    )
    add = parser.add_argument
    add(
        "source_fits",
        metavar="SOURCE",
        nargs="+",
        help="FITS image to align, or PNG, JPEG or TIFF; or several of them; a folder stands for "
        "the FITS files in it, a quoted pattern such as 'raw/*.fits' for the files that match",
    )
    add(
        "output_filename",
        metavar="OUTPUT",
        help="file to write, tile-compressed if it ends in .fz; for several sources, or if it is "
        "one or ends in '/', a folder, to which NAME_aligned.fits is written for each, and "
        "NAME_alignment.asdf for each of several",
    )
    catalogs = parser.add_argument_group("source and template")
    add = catalogs.add_argument
    add(
        "-tf",
        "--template-fits",
        help="image to align to; if alone, its stars are found; 'best' is the best of the sources",
    )
    add(
        "-tc",
        "--template-cat",
        help="catalog of the template's stars, as of SExtractor (1-based columns of SExtractor are "
        "recognized); with -tf the image only gives the pixel grid. A catalog of the sky (ra, dec) "
        "gives the source a WCS",
    )
    add("-sc", "--source-cat", help="catalog of the source's stars")
    _add_extensions(catalogs)
    add("--mask", help="image whose non-zero pixels are bad in the source")
    add("--uncertainty", help="image of the standard deviation of the source's pixels")
    add(
        "--apply",
        metavar="IN.asdf",
        help="use the alignment in this file instead of finding one; no template is needed",
    )

    add_sky_options(parser.add_argument_group("sky"))

    stars = parser.add_argument_group("stars")
    add_threshold(stars)
    add_finder(stars)
    add_selection(stars)

    fit = parser.add_argument_group("transform")
    add = fit.add_argument
    _add_min_n_match(fit)
    add_spline_order(fit)
    add(
        "--affine",
        choices=("auto", *KINDS),
        default="auto",
        help="kind of the transform: shift, with rotation (rigid), with scale (similarity), or any "
        "(affine, the only one with distortion); by default chosen by the number of stars",
    )
    for side in ("source", "template"):
        add(
            f"--{side}-pixels",
            type=_pixels,
            metavar="WIDTH,HEIGHT",
            help=f"size of the {side}'s pixels in any unit, as 1,2 for frames binned 1 x 2 "
            "(default: what the header says, or square)",
        )
    add("--transform", metavar="OUT.asdf", help="file to save the alignment to")
    add("--plot", metavar="OUT.png", help="file to draw the alignment to")
    _add_report(fit)

    image = parser.add_argument_group("aligned image")
    add = image.add_argument
    add(
        "--output-shape",
        type=_shape,
        metavar="NX,NY",
        help="size of the aligned image (default: the template's; that of the source if the "
        "template is a catalog; all of the source if it is a catalog of the sky)",
    )
    add(
        "--method",
        choices=METHODS,
        help="how to interpolate (default: lanczos3)",
    )
    add(
        "--interp-order",
        type=int,
        choices=range(6),
        help="the same by order: 0 nearest, 1 bilinear, 2-3 bicubic, 4-5 lanczos3",
    )
    add_keep(image)
    add(
        "--ignore-flags",
        default=OBSERVATORY,
        metavar="FLAGS",
        help="bits or names of DQ and MASK planes that are harmless, with commas between them; ~ "
        "before them: all but these (default: those that are harmless at the observatory)",
    )
    add("--cval", type=float, default=float("nan"), help="value of pixels without data")
    _add_union(image)
    add_grid(image)

    add_night(parser)
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="work on N sources at a time"
    )
    add_common(parser)
    old = parser.add_argument_group("options of spalipy without effect")
    for name, kind, instead in WITHOUT_EFFECT:
        old.add_argument(name, type=kind, help=instead)
    return parser


def parser_of_align_fits_simple(prog: str = "align-fits-simple") -> Parser:
    """Return the parser of ``align-fits-simple``, or of how it is called otherwise."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} SOURCE OUTPUT TEMPLATE [OPTION ...]",
        description="Align a FITS image to a template by their stars.",
    )
    parser.add_argument("source_fits", metavar="SOURCE", nargs=1, help="image to align")
    parser.add_argument("output_filename", metavar="OUTPUT", help="file to write")
    parser.add_argument("template_fits", metavar="TEMPLATE", help="image to align to")
    _add_extensions(parser)
    _add_min_n_match(parser)
    add_threshold(parser)
    add_finder(parser)
    _add_report(parser)
    _add_union(parser)
    add_common(parser)
    return parser


def _add_extensions(parser: Any) -> None:
    parser.add_argument(
        "--source-ext",
        help="extension of the source: number, name or NAME,VERSION as NAME:VERSION; several with "
        "commas between them, or 'all' images (default: the first image)",
    )
    parser.add_argument(
        "--template-ext",
        help="extension of the template; several, or 'all', for as many of the source, one to one "
        "(default: the first image)",
    )


def add_threshold(parser: Any) -> None:
    parser.add_argument(
        "--sep-thresh",
        "--threshold",
        type=float,
        default=5.0,
        help="smallest signal-to-noise ratio of a star (default: %(default)s)",
    )


def add_finder(parser: Any) -> None:
    parser.add_argument(
        "--finder",
        choices=("auto", "stars", "sources"),
        default="auto",
        help="what finds the stars: a fit of the PSF, photutils' segmentation (for trails, rings "
        "of defocus and galaxies), or the one that suits the image (default: %(default)s)",
    )


def add_keep(parser: Any) -> None:
    """Add the option for what a pixel's value is."""
    parser.add_argument(
        "--keep",
        choices=tuple(KEPT)[1:],
        help="what keeps its value where pixels change their size (default: surface brightness if "
        "BUNIT is per solid angle, else flux)",
    )


def add_spline_order(parser: Any) -> None:
    """Add the option for distortions."""
    parser.add_argument(
        "--spline-order",
        type=int,
        default=5,
        choices=range(6),
        help="degree of the distortion spline, 0 for none (default: %(default)s; it vanishes where "
        "the stars show no distortion)",
    )


def add_selection(parser: Any) -> None:
    """Add the options that say which stars are used."""
    add = parser.add_argument
    add(
        "--n-det",
        type=float,
        help="number of brightest stars to use, or a fraction up to 1 (default: all)",
    )
    add("--min-fwhm", type=float, help="smallest FWHM of a star in pixels")
    add(
        "--bad-flag-bits",
        type=int,
        default=0,
        help="leave out stars with one of these bits of StarFlag; the first four are those "
        "of SExtractor",
    )
    add("--min-sep", type=float, help="leave out stars closer to each other than this, in pixels")


def _add_min_n_match(parser: Any) -> None:
    parser.add_argument(
        "--min-n-match",
        type=int,
        default=0,
        help="fail if fewer stars match (default: %(default)s; the odds against chance decide)",
    )


def _add_report(parser: Any) -> None:
    parser.add_argument(
        "--report",
        metavar="OUT.html",
        help="page to write about the alignment, with figures and a viewer; for several sources, "
        "one with a row for each (the aligned images are written also if the page cannot be)",
    )


def _add_union(parser: Any) -> None:
    parser.add_argument(
        "--preserve-footprints",
        "--union",
        action="store_true",
        help="enlarge the template's grid to hold both full frames, of several sources all",
    )


def add_common(parser: Any) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_telling(parser)


def _shape(text: str) -> tuple[int, int]:
    """Turn NX,NY into a shape."""
    numbers = text.split(",")
    if len(numbers) != 2 or not all(n.strip().isdecimal() and int(n) for n in numbers):
        raise argparse.ArgumentTypeError(f"two positive numbers, NX,NY, are needed, not {text!r}")
    nx, ny = (int(number) for number in numbers)
    return ny, nx


def _pixels(text: str) -> tuple[float, float]:
    """Turn WIDTH,HEIGHT into two numbers."""
    try:
        width, height = (float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"two numbers, WIDTH,HEIGHT, are needed, not {text!r}"
        ) from None
    return width, height


def find_sources(options: argparse.Namespace) -> None:
    """
    Replace folders and patterns among the sources by the files that they stand for.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    options.is_batch = len(options.source_fits) > 1
    files: list[str] = []
    for source in options.source_fits:
        found = expand(source)
        options.is_batch |= found is not None
        files += [source] if found is None else found
    options.source_fits = files


def is_batch(options: argparse.Namespace) -> bool:
    """Tell whether there may be several sources, and so the output is a folder."""
    return options.is_batch


_READ = {
    "source_fits": "a source",
    "template_fits": "the template",
    "template_cat": "the template",
    "source_cat": "the source's catalog",
    "mask": "the mask",
    "uncertainty": "the uncertainty",
    "apply": "the transform",
    "target": "the table of the target",
}
_WRITTEN = {
    "output_filename": "OUTPUT",
    "transform": "--transform",
    "plot": "--plot",
    "report": "--report",
    "stack": "--stack",
    "write_wcs": "--write-wcs",
    "log_file": "--log-file",
}


def check(options: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    template = options.template_fits or options.template_cat
    if not template and not options.apply:
        raise UsageError("one of -tf/--template-fits, -tc/--template-cat and --apply is required")
    if template and options.apply:
        raise UsageError("--apply needs no template: the file contains its grid")
    if Path(options.output_filename).suffix.lower() in PICTURES:
        raise UsageError(
            f"aligned images are FITS files, and {options.output_filename} has the name of a "
            "picture; give it another suffix"
        )
    if options.method and options.interp_order is not None:
        raise UsageError("--method and --interp-order have the same meaning; give one of them")
    if options.preserve_footprints and not (options.template_fits or options.apply):
        raise UsageError("--preserve-footprints needs a template image: -tf/--template-fits")
    _check_files(options)
    if options.workers < 1:
        raise UsageError(f"--workers is a number from 1; got {options.workers}")
    if options.transform:
        from spalipy_astro.io import check_asdf_name  # takes a while to import

        try:
            check_asdf_name(options.transform, name="--transform")
        except ValueError as error:
            raise UsageError(str(error)) from error
    check_sky(options, several=is_batch(options))
    check_grid_options(options)
    check_night(options, several=is_batch(options))
    if is_batch(options):
        for name in ("source_cat", "uncertainty", "transform", "plot", "apply"):
            if getattr(options, name):
                option = name.replace("_", "-")
                raise UsageError(f"--{option} is for one source; {len(options.source_fits)} given")
        for name in ("source_ext", "template_ext"):
            text = getattr(options, name)
            if text != "all" and len(extensions(text)) > 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} with several extensions is for one source, or 'all'")
        if options.template_ext == "all" and options.source_ext != "all":
            raise UsageError("--template-ext all needs --source-ext all")
        if Path(options.output_filename).is_file():
            raise UsageError(
                "several sources need a folder as OUTPUT, the last of the names; "
                f"{options.output_filename} is a file"
            )


def _check_files(options: argparse.Namespace) -> None:
    """Raise UsageError where what is read would be written over, or one file twice."""
    known = {}
    for name, words in _READ.items():
        given = getattr(options, name)
        for path in given if isinstance(given, list) else [given]:
            if path:
                known[os.path.realpath(path)] = f"{words} itself, which is never replaced"
    for name, option in _WRITTEN.items():
        path = getattr(options, name)
        if not path or path == "source":
            continue
        place = os.path.realpath(path)
        if place in known and not os.path.isdir(place):
            raise UsageError(f"{option} is {path}, {known[place]}; give it another name")
        known[place] = f"and so is {option}"


def require_files(options: argparse.Namespace) -> None:
    """
    Raise for a file that is not there; each of several sources is told of in its own row.

    Raises
    ------
    FileNotFoundError, FormatError
        As for `~spalipy_astro._files.require_file`.
    """
    for name, words in _READ.items():
        given = getattr(options, name)
        for path in given if isinstance(given, list) else [given]:
            if path:
                try:
                    require_file(path)
                except (FileNotFoundError, FormatError) as error:
                    name = words.removeprefix("a ").removeprefix("the ")
                    raise type(error)(f"{name}: {error}") from error


def extensions(text: str | None) -> list[Extension | None]:
    """Read a list of extensions: numbers, names, NAME:VERSION."""
    if text is None:
        return [None]
    return [extension(part) for part in text.split(",")]


def extension(text: str | None) -> Extension | None:
    """Read one extension."""
    if text is None:
        return None
    name, _, version = text.strip().partition(":")
    if version:
        return name, int(version)
    return int(name) if name.isdecimal() else name


def find_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `find_alignment`."""
    find: dict[str, Any] = {"threshold": options.sep_thresh, "spline_order": options.spline_order}
    find |= {"affine": options.affine, "finder": options.finder}
    for side in ("source", "template"):
        if (pixels := getattr(options, f"{side}_pixels")) is not None:
            find[f"{side}_pixels"] = pixels
    return find | selection_of(options)


def selection_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword argument that says which stars are used, if any are not."""
    select = {
        "bad_flags": options.bad_flag_bits,
        "min_fwhm": options.min_fwhm,
        "min_sep": options.min_sep,
        "brightest": options.n_det,
    }
    select = {key: value for key, value in select.items() if value}
    return {"select": select} if select else {}


def method(options: argparse.Namespace) -> str:
    """Return how to interpolate."""
    if options.interp_order is not None:
        return _OF_ORDER[options.interp_order]
    return options.method or "lanczos3"
