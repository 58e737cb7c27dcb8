"""The pixels of an image as detection reads them: masked, in pieces, with their pile-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled

__all__ = ["PixelSource", "find_pile_up", "find_saturation", "keep_saturated"]

_STRIP = 64  # rows
_CACHED = 2**17  # px
_WILD = 1e9  # in widths of the sky's distribution
_GAP = 1e3  # by how many times they exceed all others
_MOST_WILD = 0.02  # share of the pixels


class PixelSource(NamedTuple):
    """Pixels of an image of any dtype as float32; bad ones are NaN or infinite.

    Those of the image are ``pedestal + scale * value``, so that single precision holds the values.
    Pixels of the value ``blank`` are bad.
    """

    data: NDArray
    mask: NDArray | None = None
    error: NDArray | None = None
    pedestal: float = 0.0
    scale: float = 1.0
    blank: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(ny, nx)`` of the image."""
        return self.data.shape[0], self.data.shape[1]

    def without(self, bad: NDArray[np.bool_]) -> PixelSource:
        """Return the same with more bad pixels."""
        mask = bad if self.mask is None else bad | np.asarray(self.mask, dtype=bool)
        return self._replace(mask=mask)

    def rows(self, rows: slice | NDArray) -> NDArray[np.float32]:
        """Return some rows; possibly a view of the data."""
        out = self._convert(self.data[rows])
        bad = None if self.mask is None else np.asarray(self.mask[rows], dtype=bool)
        if self.error is not None:
            useless = ~(np.isfinite(self.error[rows]) & (self.error[rows] > 0))
            bad = useless if bad is None else bad | useless
        if self.blank is not None:
            empty = out == np.float32(self.blank)
            bad = empty if bad is None else bad | empty
        return out if bad is None else np.where(bad, np.float32(np.nan), out)

    def stamps(self, x: NDArray, y: NDArray, radius: int) -> NDArray[np.float32]:
        """Return squares of ``2 radius + 1`` pixels around integer positions; NaN where bad."""
        out = self.squares(x, y, radius)
        if self.data.dtype.kind == "f":
            out[np.isinf(out)] = np.nan
        return out

    def squares(self, x: NDArray, y: NDArray, radius: int) -> NDArray[np.float32]:
        """Return such squares, NaN or infinite where bad."""
        out = _squares(self.data, x, y, radius, self._convert, np.float32(np.nan))
        if self.blank is not None:
            out[out == np.float32(self.blank)] = np.nan
        if self.mask is not None:
            out[_squares(self.mask, x, y, radius).astype(bool)] = np.nan
        if self.error is not None:
            error = _squares(self.error, x, y, radius)
            out[~(np.isfinite(error) & (error > 0))] = np.nan
        return out

    def at(self, x: NDArray, y: NDArray) -> NDArray[np.float32]:
        """Return pixels at integer positions; NaN where bad or outside."""
        ny, nx = self.shape
        inside = (x >= 0) & (y >= 0) & (x < nx) & (y < ny)
        x, y = np.where(inside, x, 0), np.where(inside, y, 0)
        out = self._convert(self.data[y, x])
        bad = ~(inside & np.isfinite(out))
        if self.mask is not None:
            bad |= np.asarray(self.mask[y, x], dtype=bool)
        if self.error is not None:
            error = self.error[y, x]
            bad |= ~(np.isfinite(error) & (error > 0))
        if self.blank is not None:
            bad |= out == np.float32(self.blank)
        return np.where(bad, np.float32(np.nan), out)

    def variances(self, x: NDArray, y: NDArray, radius: int) -> NDArray[np.float32]:
        """Squares of the error array around integer positions."""
        error = _squares(self.error, x, y, radius) / self.scale
        good = np.isfinite(error) & (error > 0)
        return np.where(good, error, 1).astype(np.float32) ** 2

    def sample(self) -> NDArray[np.float64]:
        """Return the good pixels of some rows."""
        rows = slice(0, None, max(1, self.shape[0] // 16))
        values = self.data[rows].astype(np.float64)
        return values[np.isfinite(self.rows(rows)) & np.isfinite(values)]

    @staticmethod
    def levels_of(values: NDArray[np.float64]) -> tuple[float, float, float]:
        """Return the percentiles 16, 50 and 84; 0 if there are no values."""
        if values.size == 0:
            return 0.0, 0.0, 0.0
        values = np.sort(values)  # numpy takes less time for this than for a part of it
        low, middle, high = (_percentile(values, share) for share in (0.16, 0.5, 0.84))
        return low, middle, high

    def without_wild_pixels(self, levels: tuple[float, float, float]) -> PixelSource:
        """Mask numbers that no light can be: another program's mark of a bad pixel, a flipped bit.

        They are far beyond all others, which lie within a billion times the width of the sky's
        distribution; single precision could not hold their squares. ``levels`` are those of some
        pixels.
        """
        if self.data.dtype.kind != "f":
            return self
        low, middle, high = levels
        if not high > low:
            return self
        # both of some rows while they are in the processor's cache
        step = max(_CACHED // self.shape[1], 1)
        strips = [self.data[k : k + step] for k in range(0, self.shape[0], step)]
        ends = [[f.reduce(rows, axis=None) for f in (np.fmax, np.fmin)] for rows in strips]
        top, bottom = float(np.fmax.reduce(ends)[0]), float(np.fmin.reduce(ends)[1])
        reach = _WILD * (high - low)
        if top - middle <= reach and middle - bottom <= reach:
            return self
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.abs(np.asarray(self.data, np.float64) - middle)
        wild = (distance > reach) & np.isfinite(distance)
        rest = distance[~wild & np.isfinite(distance)]
        if not wild.any() or wild.mean() > _MOST_WILD or distance[wild].min() < _GAP * rest.max():
            return self  # a simulated sky without noise
        mask = wild if self.mask is None else wild | np.asarray(self.mask, bool)
        return self._replace(mask=mask)

    def find_blank(self) -> float | None:
        """Find the value of an empty margin, as resampled frames have it: far below the sky."""
        length = 32
        rows = self.rows(slice(0, None, max(1, self.shape[0] // 64)))
        if rows.shape[1] <= length:
            return None
        # a run has four of every eighth pixel, which hardly any row has
        some = rows[:, 1::8] == rows[:, :-1:8]
        if not (some[:, 3:] & some[:, 2:-1] & some[:, 1:-2] & some[:, :-3]).any():
            return None
        equal = rows[:, 1:] == rows[:, :-1]
        if np.count_nonzero(equal, axis=1).max() < length:
            return None
        same = np.cumsum(equal, axis=1)
        runs = same[:, length - 1 :] - np.pad(same, ((0, 0), (1, 0)))[:, :-length] == length
        if not runs.any():
            return None
        values, counts = np.unique(rows[:, : runs.shape[1]][runs], return_counts=True)
        blank = float(values[counts.argmax()])
        rest = rows[np.isfinite(rows) & (rows != np.float32(blank))]
        if rest.size < 64:
            return None
        low, middle, high = np.percentile(rest, (16, 50, 84))
        return blank if high > low and middle - blank > 2 * (high - low) else None

    def _convert(self, values: NDArray) -> NDArray[np.float32]:
        if self.pedestal or self.scale != 1:
            out = np.subtract(values, self.pedestal, dtype=np.float64)
            out /= self.scale
            with np.errstate(over="ignore"):
                return out.astype(np.float32)
        if values.dtype.itemsize <= 4:
            return np.asarray(values, dtype=np.float32)
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32)


def _percentile(ordered: NDArray[np.float64], share: float) -> float:
    """Return a percentile of sorted values, between two of which it is linear."""
    place = share * (len(ordered) - 1)
    below = int(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part, width = place - below, high - low
    return float(high - width * (1 - part) if part >= 0.5 else low + width * part)


def _squares(
    array: NDArray | None,
    x: NDArray,
    y: NDArray,
    radius: int,
    convert: Callable[[NDArray], NDArray] = np.asarray,
    fill: np.generic | None = None,
) -> NDArray:
    """Cut squares around integer positions out of an array; beyond its edges is ``fill``, or 0."""
    assert array is not None
    ny, nx = array.shape
    size = 2 * radius + 1
    squares = np.empty((len(x), size, size), array.dtype)
    inside = (x >= radius) & (y >= radius) & (x < nx - radius) & (y < ny - radius)
    floating = fill is not None and array.dtype.kind == "f"
    squares[~inside] = fill if floating else 0
    _compiled.cut_squares(array, x.astype(np.int64), y.astype(np.int64), squares)
    out = convert(squares)
    if fill is not None and not floating:
        for k in np.flatnonzero(~inside):
            x0, y0 = x[k] - radius, y[k] - radius
            out[k, : max(-y0, 0)] = out[k, max(ny - y0, 0) :] = fill
            out[k, :, : max(-x0, 0)] = out[k, :, max(nx - x0, 0) :] = fill
    return out


def find_pile_up(values: NDArray, sky: float, source: PixelSource) -> float:
    """Level of saturation, if it is not known, from the brightest pixels; infinity if none is.

    It is where values pile up: many pixels have the largest value, or it is the end of an integer
    range, or far more pixels than at the top of a star are within a twentieth of it.
    ``values`` are those of all pixels above half of the largest.
    """
    largest = float(values.max())
    height = (values - sky) / (largest - sky)
    n_equal, n_top = np.sum(values == values.max()), np.sum(height > 0.95)
    dtype = source.data.dtype
    whole = dtype.kind in "iu"
    end = np.iinfo(dtype).max if whole else np.inf
    at_end = largest >= (end - source.pedestal) / source.scale
    crowd = 0.25 * len(values)
    if at_end or (n_equal >= 3 and (n_equal > crowd or not whole)):
        return sky + 0.98 * (largest - sky)
    if n_top >= 5 and n_top > crowd:
        return sky + 0.93 * (largest - sky)
    return np.inf


def find_saturation(source: PixelSource) -> float:
    """Find the saturation level of the single pixels, wherever they are; infinity if none is."""
    strips = [slice(k, k + _STRIP) for k in range(0, source.shape[0], _STRIP)]
    sky = float(np.nanmedian(source.rows(np.arange(0, source.shape[0], 16))))
    largest = max(float(np.fmax.reduce(source.rows(k), axis=None)) for k in strips)
    if not np.isfinite(largest) or not largest > sky:
        return np.inf
    high = [rows[rows >= sky + 0.5 * (largest - sky)] for rows in map(source.rows, strips)]
    return find_pile_up(np.concatenate(high), sky, source)


def keep_saturated(image: NDArray[np.float32], over: NDArray[np.bool_], saturation: float) -> float:
    """
    Give the saturated pixels of an image, whose sky was changed, a value that no other reaches.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Changed in place.
    over : ndarray of bool, shape (ny, nx)
        True where a pixel was saturated.
    saturation : float
        Value from which on they were.

    Returns
    -------
    float
        Value from which on they are; infinity if there is none.
    """
    if not over.any():
        return np.inf
    full = float(np.fmax(np.fmax.reduce(image, axis=None), saturation))
    image[over] = full
    return 0.999 * full
