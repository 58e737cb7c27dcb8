"""Catalogs of the sky as templates of ``align-fits``, and the solution written as a header."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spalipy_astro._files import is_remote, refuse_existing, require_folder, whole_file
from spalipy_astro.commands._run import UsageError

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

    from spalipy_astro.alignment import Alignment
    from spalipy_astro.io import Extension

__all__ = ["add_sky_options", "check_sky", "on_its_window", "sky_options", "write_wcs"]

_SOLUTION = "source"
"""What ``--write-wcs`` takes for the source itself."""
_HEADS = (".head", ".ahead", ".hdr", ".txt")
_FILES = (".wcs", ".fits", ".fit", ".fts")
_IN_PLACE = (".fits", ".fit", ".fts", ".fz")
_NAMES = ("position", "radius", "pixel_scale", "epoch")


def add_sky_options(parser: Any) -> None:
    """Add the options for catalogs of the sky, and for the solution."""
    add = parser.add_argument
    add(
        "--position",
        metavar="'RA DEC'",
        help="where the source points, roughly, for a catalog of the sky: two numbers in degrees, "
        "or hours and degrees as '10:08:22 +12:58:02' (default: by its WCS, or the middle of the "
        "catalog)",
    )
    add("--radius", type=float, metavar="DEG", help="how far around the position to look")
    add(
        "--pixel-scale",
        type=float,
        metavar="ARCSEC",
        help="size of the source's pixels within 20 %% (default: by its WCS, or guessed)",
    )
    add(
        "--epoch",
        type=float,
        metavar="YEAR",
        help="when the source was taken, for proper motions (default: by its header)",
    )
    add(
        "--write-wcs",
        metavar="WHERE",
        help="write the sky of the source: 'source' replaces the WCS in the source's own header, "
        "NAME.head makes a header for SWarp and SCAMP, NAME.wcs a FITS file of the header alone, "
        "and NAME.fits a copy of the source with it",
    )
    add(
        "--wcs-kind",
        choices=("sip", "tpv"),
        help="how distortion is written (default: tpv in a .head file, else sip)",
    )


def check_sky(options: argparse.Namespace, *, several: bool) -> None:
    """Raise UsageError for options of the sky that do not go together."""
    given = [f"--{name.replace('_', '-')}" for name in _NAMES if getattr(options, name) is not None]
    if given and not options.template_cat:
        raise UsageError(f"{given[0]} needs a catalog of the sky: -tc/--template-cat")
    position_of(options.position)
    if options.wcs_kind and not options.write_wcs:
        raise UsageError("--wcs-kind needs --write-wcs")
    if options.write_wcs and several:
        raise UsageError(f"--write-wcs is for one source; {len(options.source_fits)} given")
    if options.write_wcs == _SOLUTION and _suffix(options.source_fits[0]) not in _IN_PLACE:
        raise UsageError(
            f"--write-wcs source cannot change {options.source_fits[0]}, which is compressed as a "
            "whole; give the name of a file"
        )
    if options.write_wcs and is_remote(options.source_fits[0]):
        if options.write_wcs == _SOLUTION or _suffix(options.write_wcs) in _FILES[1:]:
            raise UsageError("--write-wcs of a URL writes a NAME.head or NAME.wcs")
    if options.write_wcs and options.write_wcs != _SOLUTION:
        known = (*_HEADS, *_FILES)
        if _suffix(options.write_wcs) not in known:
            raise UsageError(
                f"--write-wcs is 'source' or a name that ends in {', '.join(known)}; got "
                f"{options.write_wcs}"
            )
        refuse_existing(options.write_wcs, overwrite=options.overwrite)
        require_folder(options.write_wcs)


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def position_of(text: str | None) -> SkyCoord | None:
    """Read a position: degrees, or hours and degrees with minutes and seconds."""
    if text is None:
        return None
    import astropy.units as u  # takes a while to import, as all of astropy
    from astropy.coordinates import SkyCoord

    words = text.replace(",", " ").split()
    try:
        if len(words) == 2 and all(re.fullmatch(r"[+-]?\d*\.?\d*", word) for word in words):
            return SkyCoord(float(words[0]), float(words[1]), unit=u.deg)
        return SkyCoord(" ".join(words), unit=(u.hourangle, u.deg))
    except (TypeError, ValueError) as error:
        raise UsageError(
            "--position is two numbers in degrees, or hours and degrees as '10:08:22 +12:58:02'; "
            f"got {text!r}"
        ) from error


def sky_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return those keyword arguments of `find_alignment` that are for catalogs of the sky."""
    given = {name: getattr(options, name) for name in _NAMES[1:]}
    return {"position": position_of(options.position), **given}


def on_its_window(alignment: Alignment, shape: tuple[int, int] | None) -> Alignment:
    """
    Choose the grid for a source on a catalog of the sky, which has none.

    Parameters
    ----------
    alignment : Alignment
        Of an image on a catalog.
    shape : tuple of int, optional
        Shape of the grid, with the source in its middle; by default all of the source is on it.

    Returns
    -------
    Alignment
        With the first pixel of the grid at (0, 0) and its shape.
    """
    import numpy as np

    assert alignment.source_shape is not None  # it is an image
    ny, nx = alignment.source_shape
    t = np.linspace(0, 1, 33)  # along the frame's sides, which distortion bends
    x = np.concatenate([t, t, 0 * t, 0 * t + 1]) * nx - 0.5
    y = np.concatenate([0 * t, 0 * t + 1, t, t]) * ny - 0.5
    rim = np.column_stack(alignment.transform(x, y))
    low, high = rim.min(axis=0), rim.max(axis=0)
    if shape is None:
        first = np.floor(low + 0.5).astype(int)
        nx, ny = (np.ceil(high - 0.5).astype(int) - first + 1).tolist()
        shape = ny, nx
    else:
        first = np.round((low + high) / 2 - (np.array(shape[::-1]) - 1) / 2).astype(int)
    return alignment.shifted(template=tuple((-first).tolist()), template_shape=shape)


def write_wcs(
    options: argparse.Namespace, solved: Sequence[tuple[Extension | None, Alignment]]
) -> str:
    """
    Write the sky of the source where ``--write-wcs`` says.

    Parameters
    ----------
    options : `argparse.Namespace`
    solved : sequence of (extension, Alignment)
        The extensions of the source, and how they were aligned.

    Returns
    -------
    str
        The file that was written.

    Raises
    ------
    ExportError
        If there is no sky, or it cannot be written accurately enough.
    """
    from astropy.io import fits

    from spalipy_astro.io import image_hdus, write_with_wcs

    where = options.write_wcs
    as_text = where != _SOLUTION and _suffix(where) in _HEADS
    kind: Literal["sip", "tpv"] = options.wcs_kind or ("tpv" if as_text else "sip")
    headers = [alignment.to_fits_header(kind=kind).header for _, alignment in solved]
    if as_text:
        cards = [[*(str(card).rstrip() for card in h.cards), "END", ""] for h in headers]
        text = "".join("\n".join(lines) for lines in cards)
        with whole_file(where, overwrite=options.overwrite) as part:
            part.write_text(text, encoding="ascii")
        return str(where)
    if where != _SOLUTION and _suffix(where) == ".wcs":
        for header, (_, alignment) in zip(headers, solved, strict=True):
            assert alignment.source_shape is not None
            header["IMAGEH"], header["IMAGEW"] = alignment.source_shape  # as astrometry.net has it
        extensions = [fits.ImageHDU(header=h) for h in headers[1:]]
        hdus = fits.HDUList([fits.PrimaryHDU(header=headers[0]), *extensions])
        with whole_file(where, overwrite=options.overwrite) as part:
            hdus.writeto(part)
        return str(where)
    source = options.source_fits[0]
    target = source if where == _SOLUTION else where
    first = image_hdus(source)[0]
    overwrite = options.overwrite or where == _SOLUTION
    replaced = {
        first if unit is None else unit: header
        for (unit, _), header in zip(solved, headers, strict=True)
    }
    write_with_wcs(source, replaced, target, overwrite=overwrite)
    return str(target)
