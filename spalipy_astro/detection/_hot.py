"""Hot pixels, found before the stars are measured where they outnumber them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro._neighbors import Neighbors
from spalipy_astro.catalogs import StarFlag

if TYPE_CHECKING:
    from spalipy_astro.detection._background import Background
    from spalipy_astro.detection._pixels import PixelSource

__all__ = ["find_hot_pixels", "with_hot_pixels"]

_LOOK = 50_000  # px that are looked at first
_STRIP = 4  # rows of such a strip; the first and the last only serve as neighbors
_ROWS = 256  # rows looked at together
_LEAST = 8.0  # noise of the sky: what is fainter is not worth the look
_SURE = 12.0  # ... and tells nothing of what most peaks are
# Least light of a star's other three neighbors, as a part of that of its brightest pixel: at a FWHM
# of 1 px and halfway to the brightest neighbor it is 0.3.
_SHARED = 0.2
_MOST = 0.5  # part of the peaks
_FEWEST = 10  # hot pixels among those that are looked at first
_KNOWN = 3  # neighbors that are not bad
_LEFT = 1.5  # px from a hot pixel
_PIXEL = 12**-0.5  # px: standard deviation of a place within a pixel
_ROUNDS = 4  # of a heap of hot pixels, each round finds the brightest


def find_hot_pixels(source: PixelSource, background: Background) -> NDArray[np.bool_] | None:
    """
    Find the hot pixels of an image that has more of them than stars.

    Parameters
    ----------
    source : PixelSource
    background : Background
        Its sky.

    Returns
    -------
    `~numpy.ndarray` of bool, shape (ny, nx), or None
        True where a pixel is hot. None of most images, in which the hot pixels are few enough for
        the PSF fit to tell them from the stars, and of images of stars so narrow that many of
        them look like hot pixels.

    Notes
    -----
    A hot pixel stands out by itself: three of its four neighbors, all but the brightest, have next
    to none of its light. A small part of the rows is looked at first, to see whether most peaks
    stand alone, without light in any neighbor.
    """
    ny, nx = source.shape
    starts = np.linspace(0, ny - _STRIP, max(min(_LOOK // (nx * (_STRIP - 2)), ny // _STRIP), 1))
    rows = starts.astype(np.int64)[:, np.newaxis] + np.arange(_STRIP)
    if _has_few(source, background, rows):
        return None
    look = _Neighbors(_snr(source, background, rows.ravel()))
    bright = look.peak & (look.middle > _SURE)
    # where two strips meet, the rows are no neighbors
    bright[_STRIP - 2 :: _STRIP] = bright[_STRIP - 1 :: _STRIP] = False
    peaks = int(np.count_nonzero(bright))
    hot = int(np.count_nonzero(bright & (look.all_of_them < _SHARED * look.middle + 1)))
    if hot < _FEWEST or hot < _MOST * peaks:
        return None
    out = np.zeros((ny, nx), dtype=bool)
    for start in range(0, ny, _ROWS):
        first, last = max(0, start - _ROUNDS), min(ny, start + _ROWS + _ROUNDS)
        edge = np.full((1, nx), np.nan, np.float32)
        snr = np.concatenate((edge, _snr(source, background, np.arange(first, last)), edge))
        here = np.zeros_like(snr[1:-1], dtype=bool)
        for _ in range(_ROUNDS):
            look = _Neighbors(snr)
            found = look.peak & (look.others < _SHARED * look.middle + 1)
            if not found.any():
                break
            here |= found
            snr[1:-1][found] = 0
        out[start : start + _ROWS] = here[start - first :][: min(_ROWS, ny - start)]
    return out


def with_hot_pixels(
    table: QTable, source: PixelSource, background: Background, hot: NDArray[np.bool_]
) -> QTable:
    """
    Add hot pixels to a table of stars, as artifacts.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        As `find_stars` returns it.
    source : PixelSource
        The image of that background, hot pixels included.
    background : Background
    hot : ndarray of bool, shape (ny, nx)
        From `find_hot_pixels`.

    Returns
    -------
    `~astropy.table.QTable`
        Brightest first.
    """
    y, x = np.nonzero(hot)
    place = np.column_stack((table["x"], table["y"]))
    # what is left of its light around it is no star
    left = Neighbors(np.column_stack((x, y))).nearest(place)[0] < _LEFT
    table["flag"][left] |= int(StarFlag.ARTIFACT)
    level, noise = background.at(x, y)
    light = source.at(x, y) - level
    error = np.full(len(x), _PIXEL)
    rows = {
        "x": x,
        "y": y,
        "x_err": error,
        "y_err": error,
        "flux": light,
        "flux_err": noise,
        "fwhm": 2.3548 * error,
        "snr": light / noise,
        "flag": np.full(len(x), int(StarFlag.ARTIFACT)),
    }
    columns = {
        name: np.concatenate((table[name], values.astype(table[name].dtype)))
        for name, values in rows.items()
    }
    order = np.argsort(-columns["flux"], kind="stable")
    return QTable({name: values[order] for name, values in columns.items()}, meta=table.meta)


def _has_few(source: PixelSource, background: Background, rows: NDArray[np.int64]) -> bool:
    """
    Tell quickly that strips of rows, shape (N, `_STRIP`), have no more than a few hot pixels.

    That is certain where, whatever sky and noise of the frame are taken, the neighbors of the
    bright pixels have more light than those of a hot one.
    """
    low, high = float(background.level.min()), float(background.level.max())
    least, most = float(background.noise.min()), float(background.noise.max())
    if not (np.isfinite(high - low) and 0 < least <= most < np.inf):
        return False
    light = source.rows(rows.ravel()).reshape(*rows.shape, -1)
    strip, row, x = np.nonzero(light[:, 1:-1] > low + 0.99 * _SURE * least)
    if len(x) > light.size // 8:
        return False
    row += 1
    right = np.minimum(x + 1, light.shape[2] - 1)
    places = ((row - 1, x), (row + 1, x), (row, np.maximum(x - 1, 0)), (row, right))
    # pixels that are bad, or beyond the edge, have no light
    four = np.array([light[strip, y, k] for y, k in places])
    four[2, x == 0] = four[3, right == x] = low
    four[~np.isfinite(four)] = low
    with np.errstate(over="ignore", invalid="ignore"):
        around = (four.sum(axis=0, dtype=float) - 4 * high) / most
        middle = (light[strip, row, x].astype(float) - low) / least
        return bool(np.count_nonzero(~(around > 1.01 * (_SHARED * middle + 1))) < _FEWEST)


def _snr(source: PixelSource, background: Background, rows: NDArray[np.int64]) -> NDArray:
    """Return some rows less the sky, in units of its noise; NaN where pixels are bad."""
    light = source.rows(rows)
    level, noise = background.grid(rows, np.arange(light.shape[1]))
    with np.errstate(invalid="ignore", over="ignore"):
        snr = ((light - level) / noise).astype(np.float32)
    return np.where(np.isfinite(snr), snr, np.float32(np.nan))


class _Neighbors:
    """Pixels of all rows but the first and the last, and the light of their four neighbors."""

    def __init__(self, snr: NDArray[np.float32]) -> None:
        good = np.isfinite(snr)
        light = np.where(good, snr, np.float32(0))
        self.middle = light[1:-1]
        sides = np.pad(self.middle, ((0, 0), (1, 1)))
        four = (light[:-2], light[2:], sides[:, :-2], sides[:, 2:])
        largest = np.maximum(np.maximum(four[0], four[1]), np.maximum(four[2], four[3]))
        self.all_of_them = four[0] + four[1] + four[2] + four[3]
        self.others = self.all_of_them - largest
        sides = np.pad(good[1:-1], ((0, 0), (1, 1)))
        known = good[:-2].astype(np.int8) + good[2:] + sides[:, :-2] + sides[:, 2:]
        # among bad pixels nobody can tell
        self.peak = (self.middle > _LEAST) & (self.middle >= largest) & (known >= _KNOWN)
