"""Peaks of the significance image, found strip by strip: private to detection."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.detection._background import Background
from spalipy_astro.detection._pixels import PixelSource

__all__ = ["Peaks", "find_peaks", "gaussian_kernel"]

_STRIP = 64  # rows
_STRIP_PIXELS = 2**17


class Peaks(NamedTuple):
    """Integer positions and significance of local maxima."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    snr: NDArray[np.float32]


def gaussian_kernel(fwhm: float) -> NDArray[np.float32]:
    """One-dimensional Gaussian matched to the PSF, cut where it adds nothing."""
    sigma = fwhm / 2.3548
    radius = max(1, int(np.ceil(2.2 * sigma)))
    t = np.arange(-radius, radius + 1)
    return np.exp(-0.5 * (t / sigma) ** 2).astype(np.float32)


def find_peaks(
    source: PixelSource,
    background: Background,
    *,
    fwhm: float,
    threshold: float,
    every: int = 1,
) -> Peaks:
    """Find the local maxima above ``threshold`` of the matched-filter significance.

    The image less the sky, in units of the noise, is convolved with a Gaussian of the stars'
    width and divided by the noise of the sum; bad pixels carry no weight.  With ``every`` = n only
    one strip of rows in n is searched.
    """
    ny, nx = source.shape
    kernel = gaussian_kernel(fwhm)
    halo = kernel.size // 2 + 1
    found = []
    mx = background.level.shape[1]
    column = np.clip((np.arange(nx) + 0.5) / background.cell[1] - 0.5, 0, mx - 1)
    cell_x = np.minimum(column.astype(np.int64), max(mx - 2, 0))
    part_x = (column - cell_x).astype(np.float32)
    starts = np.searchsorted(cell_x, np.arange(max(mx - 1, 1)))
    edges = np.append(starts, nx).astype(np.int64)
    rows = _STRIP if every > 1 else min(max(_STRIP, _STRIP_PIXELS // nx), ny)
    for start in range((every // 2) * rows, ny, every * rows):
        stop = min(ny, start + rows)
        first, last = max(0, start - halo), min(ny, stop + halo)
        strip = np.ascontiguousarray(source.rows(slice(first, last)))
        capacity = (strip.shape[0] * nx) // 4 + 16
        position, snr = np.empty((capacity, 2), np.int32), np.empty(capacity, np.float32)
        n = _compiled.strip_peaks(
            strip,
            first,
            start,
            stop,
            kernel,
            kernel * kernel,
            threshold,
            background.level,
            background.noise,
            background.cell[0],
            edges,
            part_x,
            position,
            snr,
        )
        found.append((position[:n].copy(), snr[:n].copy()))
    position = np.concatenate([f[0] for f in found]).astype(np.int64)
    return Peaks(position[:, 1], position[:, 0], np.concatenate([f[1] for f in found]))
