"""Rows and columns of their own levels, as amplifiers and readout leave them: taken away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.detection._background import Background, estimate_background
from spalipy_astro.detection._medians import median
from spalipy_astro.detection._pixels import PixelSource

__all__ = ["without_stripes"]

_PAIRS = 24  # neighboring rows, and columns, that are compared first
_PIXELS = 256  # of each, at least, where there are as many
_LEAST = 0.2  # of the noise: fainter stripes do no harm
_SURE = 4.0  # times what chance does to the difference of two medians
_ROUNDS = 2
_PASSES = 4  # each with a better sky
_OF_MEDIAN = 1.2533  # its standard error over that of the mean
_NORMAL = 1.4826


def without_stripes(source: PixelSource, background: Background) -> tuple[PixelSource, Background]:
    """
    Subtract the levels of rows and columns, if they differ from those of their neighbors.

    Parameters
    ----------
    source : PixelSource
    background : Background
        Its sky.

    Returns
    -------
    PixelSource, Background
        The same objects if there are no stripes.

    Notes
    -----
    The medians of neighboring rows (and columns) differ by chance, by gradients and by stars much
    less than stripes make them differ. Where they do, the medians of rows less the sky, and of
    columns, are subtracted; and again with the sky of the image without stripes.
    """
    if not (_is_striped(source, background, 0) or _is_striped(source, background, 1)):
        return source, background
    ny, nx = source.shape
    image = np.array(source.rows(slice(None)))
    image[~np.isfinite(image)] = np.nan
    error = None if source.error is None else np.asarray(source.error) / source.scale
    plain, sky = source, background
    for _ in range(_PASSES):
        light = image - sky.grid(np.arange(ny), np.arange(nx))[0].astype(np.float32)
        rows, columns = np.zeros((ny, 1), np.float32), np.zeros(nx, np.float32)
        for _ in range(_ROUNDS):
            rows += _medians(light - rows - columns, 1)[:, None]
            columns += _medians(light - rows - columns, 0)
        plain = PixelSource(image - rows - columns, error=error)
        sky = estimate_background(plain)
    return plain, sky


def _is_striped(source: PixelSource, background: Background, axis: int) -> bool:
    """Tell whether neighboring rows (0) or columns (1) have different levels."""
    ny, nx = source.shape
    length, number = (nx, ny) if axis == 0 else (ny, nx)
    first = np.unique(np.linspace(0, number - 2, _PAIRS).astype(int))
    places = slice(0, None, max(1, length // _PIXELS))
    if axis == 0:
        one, two = (source.rows(first + k)[:, places] for k in (0, 1))
    else:
        some = source.rows(places)
        one, two = (some[:, first + k].T for k in (0, 1))
    found = _medians(two, 1) - _medians(one, 1)
    noise = median(background.noise)
    spread = _NORMAL * median(np.abs(found)) / np.sqrt(2)
    return spread > max(_LEAST * noise, _SURE * _OF_MEDIAN * noise / np.sqrt(one.shape[1]))


def _medians(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return medians of what is finite; 0 where nothing is."""
    values = np.where(np.isfinite(values), values, np.float32(np.nan))
    ordered = np.sort(values, axis=axis)  # what is not known comes last; faster than np.median
    if not np.isnan(ordered.take(-1, axis=axis)).any():
        n = values.shape[axis]
        return (ordered.take((n - 1) // 2, axis=axis) + ordered.take(n // 2, axis=axis)) / 2
    count = np.count_nonzero(~np.isnan(values), axis=axis)
    middle = np.expand_dims(np.maximum(count - 1, 0) // 2, axis)
    out = np.take_along_axis(ordered, middle, axis).squeeze(axis)
    return np.where(count > 0, out, np.float32(0))
