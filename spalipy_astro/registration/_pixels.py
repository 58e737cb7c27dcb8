"""What the pixels of an image are like, and of which size those of a star list would be."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

__all__ = ["SQUARE", "Size", "elongation_of", "pixels_of", "stamps_of", "units_of", "usual_unit"]

FloatArray = NDArray[np.float64]
Size = tuple[float, float]

SQUARE: Size = (1.0, 1.0)

_NARROW, _NARROWEST = 100.0, 30.0  # widths of lists that may be, and must be, in other units
_CROWDED, _CROWDEST = 5.0, 2.0  # the same for the distance between neighbors
_SPARSE = 5000.0
_WIDTH, _DISTANCE = 512.0, 8.0  # what these are brought to, at least
_ELONGATED = 1.05  # height over width, or width over height, of pixels that are not square
_STARS, _RADIUS = 60, 8  # stars, and px around them, whose mean shape is looked at
_FEWEST, _NOISY = 3, 0.1  # stars, and noise over the top of the mean star, that tell of a shape
_OF_A_PIXEL = 1 / 6  # px**2: what a pixel's size and the stars' places within theirs add to a width
_LONG, _LONGEST = 1.5, 5.0  # how much longer one way stars on binned pixels are
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
    width, distance = _extent(xy)
    factor = usual_unit(xy)
    if not width > 0:
        return (1.0,)
    if width < _NARROWEST or distance < _CROWDEST:
        return (factor,)
    if width < _NARROW or distance < _CROWDED or distance > _SPARSE:
        return (1.0, factor)
    return (1.0,)


def usual_unit(xy: FloatArray) -> float:
    """Return by what to multiply positions to bring them to the width of a small image."""
    width, distance = _extent(xy)
    if not width > 0:
        return 1.0
    return float(2.0 ** np.ceil(np.log2(max(_WIDTH / width, _DISTANCE / distance))))


def _extent(xy: FloatArray) -> tuple[float, float]:
    """Return the width of a list, whatever lies far from it, and the distance of neighbors."""
    low, high = np.quantile(xy, (0.25, 0.75), axis=0)
    size = np.maximum(2 * (high - low), 1e-3 * np.ptp(xy, axis=0).max())
    return float(size.max()), float(np.sqrt(size.prod() / len(xy)))


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


def stamps_of(data: NDArray[Any], mask: NDArray[np.bool_] | None, xy: FloatArray) -> NDArray[Any]:
    """
    Cut the brightest stars out of an image.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
    mask : ndarray of bool or None
    xy : ndarray, shape (N, 2)
        The stars, brightest first.

    Returns
    -------
    ndarray, shape (M, 17, 17)
        Those without bad pixels.
    """
    ny, nx = data.shape
    size = 2 * _RADIUS + 1
    corner = np.round(xy).astype(int) - _RADIUS
    corner = corner[np.all((corner >= 0) & (corner + size <= (nx, ny)), axis=1)][:_STARS]
    x, y = (corner[:, axis, np.newaxis] + np.arange(size) for axis in (0, 1))
    place = y[:, :, np.newaxis], x[:, np.newaxis, :]
    stamps = np.asarray(data[place])
    good = np.isfinite(stamps).all(axis=(1, 2))
    if mask is not None:
        good &= ~mask[place].any(axis=(1, 2))
    return stamps[good]


def elongation_of(stamps: NDArray[Any]) -> Size:
    """
    Guess the width and height of pixels by how much longer stars are along one axis.

    Parameters
    ----------
    stamps : ndarray, shape (M, 17, 17)
        Stars of one image, from `stamps_of`.

    Returns
    -------
    tuple of float
        Whole numbers, as pixels are binned. Trailed stars are long, too: this is no more than a
        guess, for frames that match in no other way.
    """
    if len(stamps) < _FEWEST:
        return SQUARE
    stamps = stamps.astype(float)
    edges = (stamps[:, 0], stamps[:, -1], stamps[:, :, 0], stamps[:, :, -1])
    stamps = stamps - np.median(np.concatenate(edges, axis=1), axis=1)[:, np.newaxis, np.newaxis]
    middle = slice(_RADIUS - 1, _RADIUS + 2)
    top = stamps[:, middle, middle].max(axis=(1, 2), initial=0.0)[:, np.newaxis, np.newaxis]
    stamps = stamps[top[:, 0, 0] > 0] / top[top > 0][:, np.newaxis, np.newaxis]
    if len(stamps) < _FEWEST:
        return SQUARE
    star = np.median(stamps, axis=0)
    across = np.s_[_RADIUS - 1 : _RADIUS + 2]
    if np.std(star[[0, -1]]) > _NOISY * star[across, across].max():
        return SQUARE
    widths = [_full_width(line) for line in (star[across].max(axis=0), star[:, across].max(axis=1))]
    variances = [max((width / 2.3548) ** 2 - _OF_A_PIXEL, 0.05) for width in widths]
    ratio = float(np.sqrt(variances[0] / variances[1]))
    if not _LONG < max(ratio, 1 / ratio) < _LONGEST:
        return SQUARE
    # a pixel of twice the height halves the height of its stars
    return (1.0, float(round(ratio))) if ratio > 1 else (float(round(1 / ratio)), 1.0)


def _full_width(line: FloatArray) -> float:
    """Return the full width at half maximum of a profile whose top is near its middle, px."""
    middle = _RADIUS - 1 + int(np.argmax(line[_RADIUS - 1 : _RADIUS + 2]))
    half, width = 0.5 * line[middle], 0.0
    for side in (line[middle:], line[middle::-1]):
        below = np.flatnonzero(side <= half)
        if not len(below):
            return float(len(line))
        k = int(below[0])
        width += k - 1 + (side[k - 1] - half) / (side[k - 1] - side[k])
    return float(width)
