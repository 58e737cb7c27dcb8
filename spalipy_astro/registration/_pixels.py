"""What the pixels of an image are like, and of which size those of a star list would be."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

__all__ = ["SQUARE", "Size", "pixels_of", "units_of"]

FloatArray = NDArray[np.float64]
Size = tuple[float, float]

SQUARE: Size = (1.0, 1.0)

_NARROW, _NARROWEST = 100.0, 30.0  # widths of lists that may be, and must be, in other units
_CROWDED, _CROWDEST = 5.0, 2.0  # the same for the distance between neighbors
_SPARSE = 5000.0
_WIDTH, _DISTANCE = 512.0, 8.0  # what these are brought to, at least
_ELONGATED = 1.05  # height over width, or width over height, of pixels that are not square
# Cards with the binning, or the size, of pixels along both axes.
_CARDS = (
    ("XPIXSZ", "YPIXSZ"),
    ("XBINNING", "YBINNING"),
    ("CCDXBIN", "CCDYBIN"),
    ("CCDBIN1", "CCDBIN2"),
    ("BINX", "BINY"),
    ("XBIN", "YBIN"),
)
_CARDS_OF_BOTH = ("CCDSUM", "BINNING", "CCDBIN")  # "1 2", or "1x2"


def units_of(xy: FloatArray) -> tuple[float, ...]:
    """
    Return by what to multiply positions for them to be like those of pixels, likeliest first.

    Parameters
    ----------
    xy : ndarray, shape (N, 2)
        Positions in any unit.

    Returns
    -------
    tuple of float
        Powers of two, so that nothing is rounded; 1 alone for a list that looks like one in px.

    Notes
    -----
    The errors of stars and the widths of lines are known in pixels only. Stars of an image lie
    some pixels apart and spread over a hundred or more.
    """
    low, high = np.quantile(xy, (0.25, 0.75), axis=0)
    size = np.maximum(2 * (high - low), 1e-3 * np.ptp(xy, axis=0).max())
    width, distance = float(size.max()), float(np.sqrt(size.prod() / len(xy)))
    if not width > 0:
        return (1.0,)
    factor = 2.0 ** np.ceil(np.log2(max(_WIDTH / width, _DISTANCE / distance)))
    if width < _NARROWEST or distance < _CROWDEST:
        return (factor,)
    if width < _NARROW or distance < _CROWDED or distance > _SPARSE:
        return (1.0, factor)
    return (1.0,)


def pixels_of(meta: Any, wcs: Any) -> Size:
    """
    Return the width and height of an image's pixels, as its WCS or its header has them.

    Parameters
    ----------
    meta : mapping or None
    wcs : object or None

    Returns
    -------
    tuple of float
        The smaller one is 1. Pixels are square where nothing says that they are not.
    """
    low = getattr(wcs, "low_level_wcs", wcs)
    if isinstance(low, WCS) and low.has_celestial:
        return _elongation(*proj_plane_pixel_scales(low.celestial)[:2])
    meta = {} if meta is None else meta
    for x, y in _CARDS:
        if x in meta and y in meta:
            return _elongation(meta[x], meta[y])
    for card in _CARDS_OF_BOTH:
        parts = str(meta.get(card, "")).lower().replace("x", " ").replace(",", " ").split()
        if len(parts) == 2:
            return _elongation(*parts)
    return SQUARE


def _elongation(width: Any, height: Any) -> Size:
    """Return a size of pixels, square if it is no size or nearly square."""
    try:
        sizes = np.array([width, height], dtype=float)
    except (TypeError, ValueError):  # a card can have anything for its value
        return SQUARE
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return SQUARE
    sizes = sizes / sizes.min()
    return (float(sizes[0]), float(sizes[1])) if sizes.max() > _ELONGATED else SQUARE
