"""Files with another WCS: their pixels and all other cards stay as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from astropy.io import fits

from spalipy_astro._files import open_binary, whole_file
from spalipy_astro.io._fits import Extension

__all__ = ["write_with_wcs"]

_OLD = re.compile(
    r"(WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|EQUINOX|RADECSYS|ALGNWERR)|CROTA[12]"
    r"|(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CNAME|CRDER|CSYER)[12]|(PC|CD|PV|PS)\d+_\d+"
    r"|(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)|(CPDIS|CQDIS|CPERR|CQERR|DP|DQ|D2IMDIS|D2IMERR)\d.*"
    r"|CHECKSUM|ZHECKSUM"
)


def write_with_wcs(
    source: str | os.PathLike[str],
    headers: Mapping[Extension, fits.Header],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> None:
    """
    Copy a FITS file, with another WCS for some of its images.

    Parameters
    ----------
    source : path-like
    headers : mapping of int, str or (str, int) to `~astropy.io.fits.Header`
        For each HDU the cards of its WCS, which replace the old ones.
    target : path-like
        It may be the source. It is written whole or not at all.
    overwrite : bool, optional
        Whether to replace an existing file.

    Raises
    ------
    FileExistsError
        If the target exists and may not be replaced.
    """
    # pixels are passed on as they are stored, also compressed ones
    as_stored = {"do_not_scale_image_data": True, "disable_image_compression": True}
    with open_binary(source) as file, fits.open(file, memmap=False, **as_stored) as hdus:
        for hdu, header in headers.items():
            _replace(hdus[hdu].header, header)
        with whole_file(target, overwrite=overwrite) as part:
            hdus.writeto(part, output_verify="silentfix")


def _replace(header: fits.Header, solution: fits.Header) -> None:
    """Put a WCS in the place of the one that a header has."""
    for key in {key for key in header if _OLD.fullmatch(key)}:
        header.remove(key, ignore_missing=True, remove_all=True)
    header.extend(solution.cards, unique=True, update=True)
