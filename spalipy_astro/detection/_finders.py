"""Who finds the stars: the PSF fit, the segmentation, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro._neighbors import Neighbors
from spalipy_astro.catalogs import StarFlag, read_catalog
from spalipy_astro.detection._medians import median
from spalipy_astro.errors import CatalogError

if TYPE_CHECKING:
    from spalipy_astro.detection._background import Background
    from spalipy_astro.detection._exposure import Exposure
    from spalipy_astro.detection._pixels import PixelSource
    from spalipy_astro.detection._psf import Profile
    from spalipy_astro.detection._starfit import Fits

__all__ = ["ask_finder", "describes_stars", "less_sky"]

_BRIGHT_SNR = 20.0
_FEW = 5  # bright sources from which on the PSF can be doubted
_ALIKE = 0.08  # relative difference in width of stars of one image
# Share of the bright sources that have the PSF's width. On real frames with a FWHM below 3.3 px,
# where field stars, galaxies and a variable PSF are, 0.44 and more of them have it.
_LEAST_SHARP = 0.35
# Trails of more than 6 FWHM, rings and galaxies are wider than this, or their pieces are.
_WIDE = 4.4  # px
_LEAST_WIDE = 0.75
_RING = 12.0  # px: a ring is wider, and Moffat's profile is wrong by this much of its light
_RING_ERROR = 0.07
_NARROW = 1.3  # px: of narrower stars the width is not measured well
# Stars that merge into each other are wider than the PSF; pieces of trails and galaxies are
# narrower than what their sum takes for one.
_MERGED = 0.02  # logarithm of their width
_CROWDED = 0.03  # bright sources per square of the FWHM
# Share of the brightest sources that have another within so many FWHM: pieces of one trail.
_IN_PIECES = 0.5
_UNLIKELY = 3.0  # sigma
_ALIGNED = 0.7  # length of the mean of their directions
_LONG = 0.4  # ellipticity of the pieces that trails and rings fall into
_LONGEST = 0.8  # ellipticity: no optics draw stars out so far
_BESIDE = 3.0
_PAIRED = 200
_SINGLE = 5.0  # chi2 per pixel: heaps of stars fit worse
_RINGS = 30  # brightest sources at which a hole is looked for


def ask_finder(
    finder: Callable[..., Any],
    light: NDArray[np.float64],
    mask: NDArray[np.bool_],
) -> QTable:
    """
    Let a function find the stars.

    Parameters
    ----------
    finder : callable
        Called as ``finder(data, mask=mask)``; returns what `read_catalog` reads, or None if there
        are no stars.
    light : ndarray, shape (ny, nx)
        The image less its sky; 0 where it is bad.
    mask : ndarray of bool, shape (ny, nx)
        True where a pixel is bad.

    Returns
    -------
    `~astropy.table.QTable`
        Brightest first: ``x``, ``y`` (0-based px) and those of the columns of `find_stars` that
        the finder's table has.

    Raises
    ------
    CatalogError
        If its result has no positions.
    TypeError
        If it is neither a table nor None.
    """
    found = finder(light, mask=mask)
    if found is None:
        return QTable(names=("x", "y", "flux"))
    try:
        if len(found) == 0:
            return QTable(names=("x", "y", "flux"))
        table = read_catalog(found)
    except TypeError as error:
        raise TypeError(
            f"finder returns a table of stars, or None; got {type(found).__name__} ({error})."
        ) from error
    except CatalogError as error:
        raise CatalogError(f"what the finder returns cannot be used: {error}") from error
    table.remove_column("row")
    table.meta.clear()
    return table


def less_sky(
    source: PixelSource, background: Background
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """
    Subtract the sky of an image.

    Parameters
    ----------
    source : PixelSource
    background : Background
        Its sky.

    Returns
    -------
    light, noise : ndarray, shape (ny, nx)
        The image less the sky, 0 where it is bad; the standard deviation of the sky.
    good : ndarray of bool, shape (ny, nx)
    """
    ny, nx = source.shape
    level, noise = background.grid(np.arange(ny), np.arange(nx))
    image = source.rows(slice(None)).astype(np.float64)
    good = np.isfinite(image)
    light = np.where(good, image, level) - level
    if source.error is not None:
        noise = np.where(good, source.error, 1.0) / source.scale
    return light, noise, good


def describes_stars(
    frame: Exposure, fits: Fits, flag: NDArray[np.int64], profile: Profile, model_error: float
) -> bool:
    """
    Tell whether the bright sources of an image look like its PSF.

    Parameters
    ----------
    frame : Exposure
    fits : Fits
        All sources.
    flag : ndarray of int, shape (N,)
        Their flags.
    profile : Profile
        The PSF.
    model_error : float
        Relative error of the PSF.

    Returns
    -------
    bool
        False for trails of more than about six FWHM, rings of more than ten px radius, and
        fields with nothing but galaxies. True for crowded fields of stars, whatever their widths.
    """
    fwhm, long = profile.fwhm, profile.ellipticity > _LONG
    other = int(StarFlag.SATURATED | StarFlag.EDGE | StarFlag.BAD_PIXELS | StarFlag.TRAIL)
    bright = (fits.snr > _BRIGHT_SNR) & (fits.flux > 0) & (fits.sharpness < 4.5)
    rows = np.flatnonzero(bright & ((flag & other) == 0))
    if len(rows) < _FEW or fwhm < _NARROW:
        return True
    width = np.log(fits.width[rows])
    spread = np.hypot(_ALIKE, 2 * fits.width_error[rows] / fits.width[rows])
    alike = float(np.mean(np.abs(width) < spread))
    wrong = fwhm > _RING and model_error > _RING_ERROR
    beside, aligned = _in_pieces(frame, fits, rows, fwhm)
    wrong |= (beside and long) or aligned or profile.ellipticity > _LONGEST
    # ... less what chance may do to a few
    least = _LEAST_WIDE - np.sqrt(_LEAST_WIDE * (1 - _LEAST_WIDE) / len(rows))
    if alike >= (_LEAST_SHARP if fwhm < _WIDE else least) and not wrong:
        return True
    ny, nx = frame.source.shape
    crowded = len(rows) * fwhm**2 > _CROWDED * ny * nx and median(width) > _MERGED
    return crowded and not long and not _are_rings(frame, fits, rows, fwhm)


def _in_pieces(
    frame: Exposure, fits: Fits, rows: NDArray[np.intp], fwhm: float
) -> tuple[bool, bool]:
    """
    Tell whether bright sources have others beside them more often than by chance.

    And whether these lie in one direction, as the pieces of trails do and the stars of clusters do
    not.
    """
    rows = rows[np.argsort(-fits.flux[rows], kind="stable")[:_PAIRED]]
    reach = _BESIDE * fwhm
    distance, place = Neighbors(fits.position).nearest(fits.position[rows], 2)
    near = distance[:, 1] < reach
    share = float(np.mean(near))
    ny, nx = frame.source.shape
    expected = len(fits) * np.pi * reach**2 / (ny * nx)
    chance = float(-np.expm1(-expected))
    many = share > max(_IN_PIECES, 3 * expected)
    least = chance + _UNLIKELY * np.sqrt(chance * (1 - chance) / len(rows))
    if share <= max(_IN_PIECES, least):
        return many, False
    dx, dy = (fits.position[place[near, 1]] - fits.position[rows[near]]).T
    # an axis has no sign
    direction = np.exp(2j * np.arctan2(dy, dx))
    return many, bool(abs(direction.mean()) > _ALIGNED)


def _are_rings(frame: Exposure, fits: Fits, rows: NDArray[np.intp], fwhm: float) -> bool:
    """Tell whether the brightest single sources are fainter in the middle than around it."""
    rows = rows[fits.chi2[rows] < _SINGLE]
    rows = rows[np.argsort(-fits.flux[rows], kind="stable")[:_RINGS]]
    radius = int(np.ceil(0.6 * fwhm))
    pixel = np.round(fits.position[rows]).astype(np.int64)
    stamps = frame.cutouts(pixel, radius)[0]
    offset = np.arange(-radius, radius + 1)
    distance = np.hypot(*np.meshgrid(offset, offset))
    middle, around = (
        (distance < 0.2 * fwhm + 0.5),
        np.abs(distance - 0.45 * fwhm) < 0.1 * fwhm + 0.3,
    )
    good = np.isfinite(stamps).all(axis=(1, 2))
    inner, outer = (stamps[good][:, part].mean(axis=1) for part in (middle, around))
    return bool(len(inner) and np.median(inner - outer) < 0)
