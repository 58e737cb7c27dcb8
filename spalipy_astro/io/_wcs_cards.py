"""World coordinates in FITS files: read from headers, written with the tables they need."""

from __future__ import annotations

import logging
import re
from typing import Any

from astropy.io import fits
from astropy.wcs import WCS

from spalipy_astro.io._headers import inherited
from spalipy_astro.io._planes import is_companion

__all__ = ["TABLES", "read_wcs", "wcs_cards"]

log = logging.getLogger(__name__)

TABLES = ("WCSDVARR", "D2IMARR")
"""Names of the extensions that hold the tables of distortions."""

_LOOKUPS = ("cpdis1", "cpdis2", "det2im1", "det2im2")
_PLATE = re.compile(r"AMD[XY]\d+|PPO\d|PLTRA[HMS]|PLTDEC(SN|[DMS])|CNPIX\d")
_TABLE_OF = re.compile(r"(DP|D2IM)[12]\.EXTVER")
_FILE = ("SIMPLE", "BITPIX", "NAXIS", "EXTEND", "")


def read_wcs(hdus: Any, index: int, name: str) -> WCS | None:
    """
    Read the celestial WCS of an image.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        Its tables of distortions are used.
    index : int
        Number of the image. What its own header does not have is inherited from a primary header
        that has no pixels, if it says ``INHERIT = T`` or is the only image.
    name : str
        What to call the file in warnings.

    Returns
    -------
    `~astropy.wcs.WCS` or None
        None where there is none; or, with a warning, where it is not understood.
    """
    header = hdus[index].header
    if "CTYPE1" not in header and _inherits(hdus, index):
        header = inherited(header, hdus[0].header)
    kind = str(header.get("CTYPE1", ""))
    plate = [keyword for keyword in header if _PLATE.fullmatch(keyword)]
    try:
        if kind.strip().endswith("DSS") or (not kind and len(plate) > 1):
            raise ValueError("plate solutions (DSS) are not supported")
        if not kind:
            return None
        if plate:  # WCSLIB would take them for distortions
            header = header.copy()
            for keyword in plate:
                header.remove(keyword, remove_all=True)
        wcs = WCS(header, hdus, fix=False)  # WCS.fix warns of each trifle that it puts right
        wcs.wcs.fix()
        if wcs.naxis > 2:
            wcs = wcs.celestial
        wcs.wcs.set()
        wcs.to_header(relax=True)  # what cannot be written cannot be relied on
    except Exception as error:  # wcslib and astropy raise all sorts of things here
        told = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s: its WCS is left out, it has no sky: %s", name, told)
        return None
    return wcs if wcs.has_celestial and wcs.naxis == 2 else None


def wcs_cards(wcs: WCS | None, ver: int = 1) -> tuple[fits.Header, list[Any]]:
    """
    Write a WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or None
    ver : int, optional
        Number of the image in the file: each has tables of its own.

    Returns
    -------
    header : `~astropy.io.fits.Header`
    tables : list of HDUs
        Extensions with lookup tables of distortions.
    """
    if wcs is None:
        return fits.Header(), []
    if all(getattr(wcs, name) is None for name in _LOOKUPS):
        header, tables = wcs.to_header(relax=True), []
    else:
        first, *tables = wcs.to_fits(relax=True)
        header = fits.Header([card for card in first.header.cards if card.keyword not in _FILE])
    if header.get("MJDREF") == 0:  # WCSLIB's default, which no card of the image has said
        del header["MJDREF"]
    shift = 2 * (ver - 1)  # two axes
    for table in tables:
        table.ver += shift
    for card in header.cards:
        if shift and _TABLE_OF.fullmatch(card.keyword):
            card.value += shift
    return header, list(tables)


def _inherits(hdus: Any, index: int) -> bool:
    """Tell whether an image takes its WCS from the primary header."""
    if index == 0 or "CTYPE1" not in hdus[0].header or hdus[0].header.get("NAXIS", 0) != 0:
        return False
    said = hdus[index].header.get("INHERIT")
    images = sum(hdu.is_image and len(hdu.shape) > 1 and not is_companion(hdu) for hdu in hdus)
    return bool(said) or (said is None and images == 1)
