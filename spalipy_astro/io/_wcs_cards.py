"""World coordinates in FITS files: read from headers, written with the tables they need."""

from __future__ import annotations

import logging
import re
from typing import Any

from astropy.io import fits
from astropy.wcs import WCS

from spalipy_astro._checks import flaw_of_wcs, words_of_wcslib
from spalipy_astro.io._headers import inherited
from spalipy_astro.io._planes import is_companion

__all__ = ["TABLES", "read_wcs", "wcs_cards"]

log = logging.getLogger(__name__)

TABLES = ("WCSDVARR", "D2IMARR")
"""Names of the extensions that hold the tables of distortions."""

_LOOKUPS = ("cpdis1", "cpdis2", "det2im1", "det2im2")
_PLATE = re.compile(r"AMD[XY]\d+|PPO\d|PLTRA[HMS]|PLTDEC(SN|[DMS])|CNPIX\d")
_TABLE_OF = re.compile(r"(DP|D2IM)[12]\.EXTVER")
_KIND = re.compile(r"CTYPE1([A-Z]?)")
_SKY = re.compile(r"RA|DEC|[GESH]L(ON|AT)|..L[NT]-|.L(ON|AT)-")
_EQUINOX = re.compile(r"EQUINOX[A-Z]?")
_UNIT = re.compile(r"CUNIT\d[A-Z]?")
_TOLD = re.compile(
    rf"((CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC|PV)\d_\d+|(LON|LAT)POLE)[A-Z]?"
    rf"|{_EQUINOX.pattern}|{_UNIT.pattern}|MJD.*"
)
_ANGLES = {
    **dict.fromkeys(("deg", "degree", "degrees", "degs", "deg.", "decimal degrees"), "deg"),
    **dict.fromkeys(("arcsec", "arcseconds", "arcsecs", "arcsecond"), "arcsec"),
    **dict.fromkeys(("rad", "radian", "radians"), "rad"),
}
_REMARKS = ("COMMENT", "HISTORY")
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
    if not _versions(header) and _inherits(hdus, index):
        header = inherited(header, hdus[0].header)
    kind = str(header.get("CTYPE1", ""))
    versions = _versions(header)
    plate = [keyword for keyword in header if _PLATE.fullmatch(keyword)]
    try:
        if kind.strip().endswith("DSS") or (not versions and len(plate) > 1):
            raise ValueError("plate solutions (DSS) are not supported")
        if not versions:
            return None
        header = _readable(header)
        for keyword in plate:  # WCSLIB would take them for distortions
            header.remove(keyword, remove_all=True)
        version = next((v for v in versions if _is_sky(header, v)), versions[0])
        # WCS.fix warns of each trifle that it puts right
        wcs = WCS(header, hdus, key=version or " ", fix=False)
        if flaw := flaw_of_wcs(wcs):
            raise ValueError(flaw)
        wcs.wcs.alt = " "  # it is the one that the image has from here on
        wcs.wcs.fix()
        if wcs.naxis > 2:
            wcs = wcs.celestial
        wcs.wcs.set()
        wcs.to_header(relax=True)  # what cannot be written cannot be relied on
    except Exception as error:  # wcslib and astropy raise all sorts of things here
        log.warning("%s: its WCS is left out, it has no sky: %s", name, words_of_wcslib(error))
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


def _versions(header: fits.Header) -> list[str]:
    """Return the letters of the WCS that a header has, that of the primary one, "", first."""
    found = {match[1] for keyword in header if (match := _KIND.fullmatch(keyword))}
    return sorted(found)


def _is_sky(header: fits.Header, version: str) -> bool:
    """Tell whether a WCS has a celestial longitude, or one that is not known to have none."""
    kinds = [str(header.get(f"CTYPE{axis}{version}", "")) for axis in range(1, 5)]
    return any(_SKY.match(kind.strip()) for kind in kinds)


def _readable(header: fits.Header) -> fits.Header:
    """
    Return a header whose WCS says what is meant where WCSLIB would overlook it.

    Numbers that are written as text, which count as 0; names of units that no standard knows;
    equinoxes with a letter. Comments and long keywords, of which some headers have hundreds, are
    left out: no WCS has any, and each is parsed three times.

    Raises
    ------
    ValueError
        If such a text is no number.
    """
    short = [card for card in header.cards if card.keyword and len(card.rawkeyword) <= 8]
    header = fits.Header([card for card in short if card.keyword not in _REMARKS], copy=True)
    for keyword in [keyword for keyword in header if _TOLD.fullmatch(keyword)]:
        if not isinstance(value := header[keyword], str):
            continue
        text = value.strip()
        if keyword.startswith("MJD"):  # a time that is none; the sky does not depend on it
            del header[keyword]
            continue
        if _UNIT.fullmatch(keyword):
            header[keyword] = _ANGLES.get(text.lower(), text)
            continue
        try:
            header[keyword] = float(text.lstrip("JBjb") if _EQUINOX.fullmatch(keyword) else text)
        except ValueError:
            raise ValueError(f"{keyword} is {text!r}, which is no number") from None
    return header


def _inherits(hdus: Any, index: int) -> bool:
    """Tell whether an image takes its WCS from the primary header."""
    if index == 0 or not _versions(hdus[0].header) or hdus[0].header.get("NAXIS", 0) != 0:
        return False
    said = hdus[index].header.get("INHERIT")
    images = sum(hdu.is_image and len(hdu.shape) > 1 and not is_companion(hdu) for hdu in hdus)
    return bool(said) or (said is None and images == 1)
