"""Grids on the sky from files: that of a FITS image, or of a header in a file of text."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS

from spalipy_astro._files import require_file
from spalipy_astro.errors import FormatError
from spalipy_astro.io._open import is_fits, open_fits
from spalipy_astro.io._wcs_cards import read_wcs

__all__ = ["read_grid"]

Grid = tuple[WCS, tuple[int, int] | None]


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """
    Read the celestial WCS and the shape of a grid.

    Parameters
    ----------
    path : path-like
        A FITS file, of which the first HDU with a celestial WCS counts, whether it has pixels or
        not; or a header as text, such as those of Montage and the ``.head`` of SWarp.

    Returns
    -------
    wcs : `~astropy.wcs.WCS`
    shape : tuple of int or None
        ``(ny, nx)``; None where the file does not tell.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it has no celestial WCS.
    """
    require_file(path)
    name = os.fspath(path)
    if is_fits(path):
        with open_fits(path) as hdus:
            found = (
                _without_pixels(hdu.header, name) if _is_empty(hdu) else _grid(hdus, index, name)
                for index, hdu in enumerate(hdus)
            )
            grid = next((one for one in found if one is not None), None)
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", AstropyUserWarning)  # of lines that are no cards
                header = fits.Header.fromtextfile(name)
            grid = _without_pixels(header, name)
        except (OSError, ValueError, fits.VerifyError, AstropyUserWarning) as error:
            raise FormatError(f"{name!r} is no FITS file and no header as text: {error}") from error
    if grid is None:
        raise FormatError(
            f"{name!r} has no celestial WCS; a grid is a FITS image or a header with CTYPE1, "
            "CRVAL1 and so on."
        )
    return grid


def _is_empty(hdu: Any) -> bool:
    return not (getattr(hdu, "shape", None) or ())


def _grid(hdus: Any, index: int, name: str) -> Grid | None:
    """Return the grid of an image."""
    wcs = read_wcs(hdus, index, name)
    if wcs is None:
        return None
    ny, nx = (int(n) for n in hdus[index].shape[-2:])
    return wcs, (ny, nx)


def _without_pixels(header: fits.Header, name: str) -> Grid | None:
    """Return the grid that a header without pixels describes."""
    shape = _shape(header)
    # WCSLIB refuses the WCS of an image without axes
    hdu = fits.PrimaryHDU(np.zeros((1, 1), np.uint8), header.copy())
    wcs = read_wcs(fits.HDUList([hdu]), 0, name)
    if wcs is None:
        return None
    wcs.array_shape = shape
    return wcs, shape


def _shape(header: fits.Header) -> tuple[int, int] | None:
    """Return the shape of the image that a header was made for, where it tells."""
    for nx, ny in (("NAXIS1", "NAXIS2"), ("IMAGEW", "IMAGEH")):
        sizes = header.get(ny), header.get(nx)
        if all(isinstance(size, int | float) and size >= 1 for size in sizes):
            return int(sizes[0]), int(sizes[1])
    return None
