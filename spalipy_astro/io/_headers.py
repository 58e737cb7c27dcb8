"""Headers, made such that they can be written, and units in the spellings of observatories."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from warnings import catch_warnings, simplefilter

from astropy import units as u
from astropy.io import fits

__all__ = [
    "as_header",
    "clean_header",
    "inherited",
    "unit_of",
]

log = logging.getLogger(__name__)

_COMMENTARY = ("COMMENT", "HISTORY", "")
_NAMED = 5  # cards that a warning names
_STANDARD = 8  # characters of a keyword
# names of units in all the cases and spellings of files that are in use, by their small letters
_SPELLINGS = {
    **dict.fromkeys(("electrons", "electron", "elec", "photoelectrons", "e-", "e"), "electron"),
    **dict.fromkeys(("counts", "count", "cts", "cnts", "ct", "cnt"), "ct"),
    **dict.fromkeys(("adu", "adus"), "adu"),
    **dict.fromkeys(("dn", "dns", "du"), "DN"),
    **dict.fromkeys(("photons", "photon", "ph"), "photon"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("nmgy", "nmgys", "nanomaggy", "nanomaggies"), "nmgy"),
    **dict.fromkeys(("mgy", "mgys", "maggy", "maggies"), "mgy"),
    **dict.fromkeys(("pix", "pixel", "pixels", "px", "spaxel", "spaxels"), "pix"),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds", "asec"), "arcsec"),
    **dict.fromkeys(("sr", "ster", "steradian", "steradians"), "sr"),
    **dict.fromkeys(("ang", "angstrom", "angstroms"), "Angstrom"),
    **dict.fromkeys(("um", "micron", "microns", "micrometer"), "um"),
    **dict.fromkeys(("mag", "mags", "magnitude", "magnitudes", "abmag", "vegamag"), "mag"),
    **dict.fromkeys(("k", "kelvin"), "K"),
    **dict.fromkeys(("jy", "jansky", "janskys"), "Jy"),
    **dict.fromkeys(("ujy", "microjy", "microjansky"), "uJy"),
    **dict.fromkeys(("erg", "ergs"), "erg"),
    **{"beam": "beam", "cm": "cm", "nm": "nm", "hz": "Hz", "njy": "nJy"},
}
_WORD = re.compile(r"(?<![A-Za-z0-9_.])(?:[eE]-(?!\d)|[A-Za-z_]+)")
_PER = re.compile(r"\s+per\s+", re.IGNORECASE)
_TWO_WORDS = re.compile(r"\b(data|digital)\s+(number|unit)s?\b", re.IGNORECASE)
_ENCLOSED = re.compile(r"\s*[\[({]([^\[\](){}]+)[\])}]\s*")
_NOTE = re.compile(r"\s*\([A-Za-z*]+\)\s*$")  # as in "K (Tb)"


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
    if (inner := _ENCLOSED.fullmatch(text)) is not None:
        text = inner[1]
    plain = _TWO_WORDS.sub("DN", _PER.sub("/", _NOTE.sub("", text)))
    # the M of radio astronomers, who have no small letters, is that of the usual unit
    prefix = "M" if re.search(r"\bsr\b", plain, re.IGNORECASE) else "m"
    names = {**_SPELLINGS, "mjy": f"{prefix}Jy"}

    def respelled(match: re.Match[str]) -> str:
        return names.get(match.group().lower(), match.group())

    with catch_warnings():
        simplefilter("ignore", u.UnitsWarning)  # of several slashes, which are not the reader's
        for spelling in (text, _WORD.sub(respelled, plain)):
            with suppress(TypeError, ValueError):
                return u.Unit(spelling)
    return None


def _check(card: fits.Card) -> None:
    """Raise an error of whatever kind for a card that cannot be written."""
    if card.keyword == "CONTINUE":
        raise ValueError("it continues nothing")
    card.verify("silentfix")
    value = card.value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("FITS has no such number")
    text = str(card)
    if text.isascii() and text.isprintable():
        return  # and so are its value and comment, of which a card would take half of the time
    if card.keyword not in _COMMENTARY:
        fits.Card("VALUE", value, card.comment)
    text.encode("ascii")


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
