"""What the table of a batch tells of each frame, and the header cards that keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from spalipy_astro.alignment import Alignment
from spalipy_astro.errors import NoMatchError

__all__ = [
    "FIGURES",
    "Figure",
    "cards_of",
    "check_matched",
    "figures_from",
    "figures_of",
    "quality_of",
]


class Figure(NamedTuple):
    """
    A column of the table.

    Attributes
    ----------
    card : str
        Keyword of aligned images.
    comment : str
    kind : type
        int or float.
    """

    card: str
    comment: str
    kind: type = float

    @property
    def empty(self) -> float:
        """What stands where nothing is known."""
        return 0 if self.kind is int else np.nan


FIGURES = {
    "n_matched": Figure("ALGNNMAT", "stars that match", int),
    "error": Figure("ALGNERR", "[px] expected error of the transform"),
    "rms": Figure("ALGNRMS", "[px] rms distance of the fitted stars"),
    "log_odds": Figure("ALGNODDS", "ln odds against chance"),
    "shift_x": Figure("ALGNDX", "[px] shift of the center along x"),
    "shift_y": Figure("ALGNDY", "[px] shift of the center along y"),
    "rotation": Figure("ALGNROT", "[deg] rotation"),
    "scale": Figure("ALGNSCAL", "scale"),
    "parity": Figure("ALGNPAR", "-1 if mirrored", int),
    "n_stars": Figure("ALGNNSTR", "usable stars of the source", int),
    "fwhm": Figure("ALGNFWHM", "[px] FWHM of the source's stars"),
    "fwhm_arcsec": Figure("ALGNSEE", "[arcsec] the same on the sky"),
    "ellipticity": Figure("ALGNELL", "1 - b/a of the source's stars"),
    "orientation": Figure("ALGNPA", "[deg] their long axis, from +x to +y"),
    "background": Figure("ALGNSKY", "sky of the source, per source pixel"),
    "noise": Figure("ALGNNOIS", "its noise, per source pixel"),
    "depth": Figure("ALGNDEEP", "flux of S/N 5 in the source"),
    "flux_ratio": Figure("ALGNFLUX", "flux of stars, source over template"),
    "flux_ratio_err": Figure("ALGNFERR", "standard error of it"),
    "exptime": Figure("ALGNEXP", "[s] exposure time of the source"),
}
"""Columns of the table, in their order, after ``source``, ``status`` and ``reason``."""

_OF_FRAME = (
    "n_stars",
    "fwhm",
    "fwhm_arcsec",
    "ellipticity",
    "orientation",
    "background",
    "noise",
    "depth",
    "exptime",
)


def quality_of(quality: Mapping[str, float]) -> dict[str, Any]:
    """Return those figures that a frame has before it is matched with another."""
    return {
        name: FIGURES[name].kind(quality[name])
        for name in _OF_FRAME
        if name in quality and np.isfinite(quality[name])
    }


def figures_of(alignment: Alignment) -> dict[str, Any]:
    """Return the figures of an aligned frame."""
    summary = alignment.summary()
    ratio, error = alignment.flux_ratio
    known = {
        **{name: summary[name] for name in FIGURES if name in summary},
        **quality_of(alignment.provenance.get("quality", {}).get("source", {})),
        "flux_ratio": ratio,
        "flux_ratio_err": error,
    }
    return {name: known[name] for name in FIGURES if name in known}


def cards_of(figures: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return the cards of an aligned image: what FITS can hold of its figures."""
    return {
        FIGURES[name].card: (value, FIGURES[name].comment)
        for name, value in figures.items()
        if np.isfinite(value)
    }


def figures_from(header: fits.Header) -> dict[str, Any]:
    """Return the figures that the header of an aligned image has."""
    return {name: header[figure.card] for name, figure in FIGURES.items() if figure.card in header}


def check_matched(summary: Mapping[str, Any], least: int) -> None:
    """Raise NoMatchError for fewer matched stars than are asked for."""
    number = summary["n_matched"]
    if number < least:
        raise NoMatchError(
            f"{number} stars match, but min_matched={least} are required. A lower threshold= finds "
            "fainter stars.",
            summary["log_odds"],
            details={"n_matched": int(number), "log_odds": float(summary["log_odds"])},
        )
