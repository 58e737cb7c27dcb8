"""Headers, made such that they can be written, and units in the spellings of observatories."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from astropy import units as u
from astropy.io import fits

__all__ = ["as_header", "clean_header", "exposure_time", "inherited", "unit_of"]

log = logging.getLogger(__name__)

_EXPOSURE = ("EXPTIME", "EXPOSURE", "EXP_TIME", "XPOSURE", "EFFEXPTM", "ITIME", "TEXPTIME")
_COMMENTARY = ("COMMENT", "HISTORY", "")
_NAMED = 5  # cards that a warning names
_STANDARD = 8  # characters of a keyword
# spellings that astropy does not know, all of them of pixel values in files that are in use
_SPELLINGS = {
    "electrons": "electron",
    "e-": "electron",
    "e": "electron",
    "counts": "ct",
    "cts": "ct",
    "adu": "adu",
    "adus": "adu",
    "electron": "electron",
    "count": "ct",
    "photon": "photon",
    "jy": "Jy",
    "s": "s",
    "dns": "DN",
    "dn": "DN",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "photons": "photon",
    "nanomaggy": "nmgy",
    "nanomaggies": "nmgy",
    "pixels": "pix",
}
_WORD = re.compile(r"[A-Za-z_]+-?(?![A-Za-z0-9_(])")


def clean_header(header: fits.Header, name: str) -> fits.Header:
    """
    Leave out the cards of a header that cannot be written to a file.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
    name : str
        What to call the image in the warning that names these cards.

    Returns
    -------
    `~astropy.io.fits.Header`
        A header of its own.
    """
    good: list[fits.Card] = []
    dropped: list[str] = []
    for number, card in enumerate(header.cards, 1):
        try:
            _check(card)
        except Exception:  # astropy raises all sorts of things for what is in a damaged card
            first = _first(card)
            dropped.append(_called(card, number) if first is None else "CONTINUE")
            good += [] if first is None else [first]
        else:
            good.append(card)
    _tell(dropped, name)
    return fits.Header(good, copy=True)


def as_header(meta: Mapping[str, Any], name: str) -> fits.Header:
    """
    Turn the metadata of an image into a header that can be written.

    Parameters
    ----------
    meta : `~astropy.io.fits.Header` or mapping
    name : str
        What to call the image in the warning that names what is left out.

    Returns
    -------
    `~astropy.io.fits.Header`
    """
    if isinstance(meta, fits.Header):
        return clean_header(meta, name)
    header = fits.Header()
    dropped: list[str] = []
    for key, value in meta.items():
        try:
            keyword = str(key)
            if len(keyword) > _STANDARD or " " in keyword:
                keyword = f"HIERARCH {keyword}"
            values = value if isinstance(value, tuple) else (value,)
            card = fits.Card(keyword, *values)
            _check(card)
        except Exception:  # whatever a value of a dictionary may be
            dropped.append(str(key))
        else:
            header.append(card, end=True)
    _tell(dropped, name)
    return header


def inherited(header: fits.Header, primary: fits.Header) -> fits.Header:
    """
    Add what a primary header says of all extensions to the header of one of them.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        Of the extension. Its own cards win.
    primary : `~astropy.io.fits.Header`

    Returns
    -------
    `~astropy.io.fits.Header`
        A new one; a copy of ``header`` where it says ``INHERIT = F``.
    """
    out = header.copy()
    if header.get("INHERIT") is False:
        return out
    own = {card.keyword for card in header.cards}
    for card in primary.cards:
        if card.keyword and card.keyword not in own and card.keyword != "COMMENT":
            out.append(card)
    return out


def exposure_time(header: Mapping[str, Any]) -> float:
    """Return the time of the exposure that a header tells, in seconds; NaN where it tells none."""
    for card in _EXPOSURE:
        value = header.get(card)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return float(value)
    return math.nan


def unit_of(text: str) -> u.UnitBase | None:
    """
    Read a unit of pixels.

    Parameters
    ----------
    text : str
        As in ``BUNIT``, also in spellings that no standard knows, such as ``ELECTRONS/S``.

    Returns
    -------
    `~astropy.units.UnitBase` or None
        None if it is not understood.
    """
    for spelling in (text, _WORD.sub(_respelled, text)):
        try:
            return u.Unit(spelling)
        except (TypeError, ValueError):
            continue
    return None


def _respelled(match: re.Match[str]) -> str:
    """Return the spelling of a unit's name that astropy knows."""
    return _SPELLINGS.get(match.group().lower(), match.group())


def _check(card: fits.Card) -> None:
    """Raise an error of whatever kind for a card that cannot be written."""
    if card.keyword == "CONTINUE":
        raise ValueError("it continues nothing")
    card.verify("silentfix")
    value = card.value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("FITS has no such number")
    if card.keyword not in _COMMENTARY:
        fits.Card("VALUE", value, card.comment)
    str(card).encode("ascii")


def _first(card: fits.Card) -> fits.Card | None:
    """Return a card without what was taken for its continuation; None if that is not the fault."""
    image = getattr(card, "_image", None) or ""  # as it was read: .image raises for such a card
    if image[fits.Card.length :][:8].strip() != "CONTINUE":
        return None
    first = fits.Card.fromstring(image[: fits.Card.length])
    try:
        _check(first)
    except Exception:  # as above
        return None
    return first


def _called(card: fits.Card, number: int) -> str:
    """Return what to call a card that may have no readable keyword."""
    try:
        keyword = str(card.keyword)
    except Exception:  # as above
        keyword = ""
    printable = "".join(c for c in keyword if " " <= c <= "~").strip()
    return printable or f"card {number}"


def _tell(dropped: list[str], name: str) -> None:
    """Warn, once, of the cards that are left out."""
    if dropped:
        names = ", ".join(dict.fromkeys(dropped[:_NAMED]))
        more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
        log.warning("%s: cards that cannot be written are left out: %s%s", name, names, more)
