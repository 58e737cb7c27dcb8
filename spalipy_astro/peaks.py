"""Peaks of the significance image, found strip by strip: private to detection."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from spalipy_astro.background import Background, PixelSource

__all__ = ["Peaks", "find_peaks", "gaussian_kernel"]

_STRIP = 64


@dataclass(frozen=True)
class Peaks:
    """Integer positions and significance of local maxima; the image's largest value, its number."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    snr: NDArray[np.float32]
    largest: float
    n_largest: int


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
    largest, n_largest = -np.inf, 0
    my, mx = background.level.shape[1:]
    column = np.clip((np.arange(nx) + 0.5) / background.cell[1] - 0.5, 0, mx - 1)
    cell_x = np.minimum(column.astype(np.int64), max(mx - 2, 0))
    part_x = (column - cell_x).astype(np.float32)
    for start in range((every // 2) * _STRIP, ny, every * _STRIP):
        stop = min(ny, start + _STRIP)
        first, last = max(0, start - halo), min(ny, stop + halo)
        strip = source.rows(first, last)
        strip_max = float(np.fmax.reduce(strip, axis=None))
        if strip_max >= largest:
            n_largest = n_largest if strip_max == largest else 0
            inner = strip[start - first : stop - first]
            n_largest += int(np.count_nonzero(inner == np.float32(strip_max)))
            largest = strip_max
        capacity = (strip.shape[0] * nx) // 4 + 16
        out = np.empty((capacity, 2), dtype=np.int32), np.empty(capacity, dtype=np.float32)
        n = _strip_peaks(
            strip, first, start, stop, kernel, np.float32(threshold),
            background.level, background.noise, background.cell[0], cell_x, part_x, *out,
        )
        found.append((out[0][:n].copy(), out[1][:n].copy()))
    position = np.concatenate([f[0] for f in found]).astype(np.int64)
    snr = np.concatenate([f[1] for f in found])
    return Peaks(position[:, 1], position[:, 0], snr, largest + source.pedestal, n_largest)


@numba.njit(cache=True, nogil=True)
def _interpolate_row(mesh, row, cell_y, cell_x, part_x, work, out):
    """Evaluate one plane of a mesh along an image row."""
    my = mesh.shape[0]
    f = min(max((row + 0.5) / cell_y - 0.5, 0.0), my - 1.0)
    i = min(int(f), max(my - 2, 0))
    t = np.float32(f - i)
    j = min(i + 1, my - 1)
    for k in range(mesh.shape[1]):
        work[k] = mesh[i, k] * (np.float32(1) - t) + mesh[j, k] * t
    top = mesh.shape[1] - 1
    for x in range(out.size):
        k = cell_x[x]
        out[x] = work[k] + part_x[x] * (work[min(k + 1, top)] - work[k])


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _smooth_rows(image, kernel, out):
    """Convolve every row; beyond the ends there is nothing."""
    n_rows, nx = image.shape
    radius = kernel.size // 2
    for i in range(n_rows):
        for x in range(nx):
            out[i, x] = kernel[radius] * image[i, x]
        for k in range(1, radius + 1):
            weight = kernel[radius + k]
            for x in range(nx - k):
                out[i, x] += weight * image[i, x + k]
            for x in range(nx - k):
                out[i, x + k] += weight * image[i, x]


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _smooth_column(image, kernel, i, out):
    """Convolve along columns for the row ``i``."""
    n_rows, nx = image.shape
    radius = kernel.size // 2
    out[:] = np.float32(0)
    for k in range(max(-radius, -i), min(radius, n_rows - 1 - i) + 1):
        weight = kernel[radius + k]
        for x in range(nx):
            out[x] += weight * image[i + k, x]


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _strip_peaks(
    strip, first, start, stop, kernel, threshold, level, noise, cell_y, cell_x, part_x,
    position, significance,
):
    """Normalize, smooth and search one strip; return the number of peaks."""
    n_rows, nx = strip.shape
    n_phases = level.shape[0]
    work = np.empty(level.shape[2], dtype=np.float32)
    sky = np.empty(nx, dtype=np.float32)
    scale = np.empty(nx, dtype=np.float32)
    sky_odd = np.empty(nx, dtype=np.float32)
    scale_odd = np.empty(nx, dtype=np.float32)
    n_bad = 0
    for i in range(n_rows):
        row = first + i
        phase = 2 * (row % 2) if n_phases == 4 else 0
        _interpolate_row(level[phase], row, cell_y, cell_x, part_x, work, sky)
        _interpolate_row(noise[phase], row, cell_y, cell_x, part_x, work, scale)
        if n_phases == 4:
            _interpolate_row(level[phase + 1], row, cell_y, cell_x, part_x, work, sky_odd)
            _interpolate_row(noise[phase + 1], row, cell_y, cell_x, part_x, work, scale_odd)
            for x in range(1, nx, 2):
                sky[x] = sky_odd[x]
                scale[x] = scale_odd[x]
        for x in range(nx):
            v = (strip[i, x] - sky[x]) / scale[x]
            n_bad += 0 if v == v else 1
            strip[i, x] = v
    square = kernel * kernel
    smooth = np.empty((n_rows, nx), dtype=np.float32)
    weight = np.ones((1, nx), dtype=np.float32)
    weight_smooth = np.empty((1, nx), dtype=np.float32)
    if n_bad:
        weight = np.ones((n_rows, nx), dtype=np.float32)
        weight_smooth = np.empty((n_rows, nx), dtype=np.float32)
        for i in range(n_rows):
            for x in range(nx):
                if strip[i, x] != strip[i, x]:
                    strip[i, x] = np.float32(0)
                    weight[i, x] = np.float32(0)
    _smooth_rows(strip, kernel, smooth)
    _smooth_rows(weight, square, weight_smooth)
    whole = np.float32(square.sum() ** 2)
    column_sum = np.empty(nx, dtype=np.float32)
    lines = np.zeros((3, nx + 2), dtype=np.float32)
    n = 0
    low = max(start - 1, first) - first
    high = min(stop + 1, first + n_rows) - first
    radius = kernel.size // 2
    for i in range(low, high + 1):
        line = lines[i % 3]
        if i < high:
            _smooth_column(smooth, kernel, i, line[1:-1])
            if n_bad:
                _smooth_column(weight_smooth, square, i, column_sum)
                for x in range(nx):
                    w = column_sum[x]
                    line[x + 1] = line[x + 1] / np.sqrt(w) if w > 0.4 * whole else np.float32(0)
            else:
                inside = np.float32(0)
                for k in range(max(-radius, -i), min(radius, n_rows - 1 - i) + 1):
                    inside += square[radius + k]
                for x in range(nx):
                    line[x + 1] = line[x + 1] / np.sqrt(inside * weight_smooth[0, x])
        else:
            line[:] = np.float32(0)
        row = first + i - 1
        if row < start or row >= stop:
            continue
        above, here, below = lines[(i - 2) % 3], lines[(i - 1) % 3], line
        if i == low:
            continue
        for x in range(1, nx + 1):
            s = here[x]
            if s <= threshold:
                continue
            if (
                s > here[x - 1] and s >= here[x + 1]
                and s > above[x - 1] and s > above[x] and s > above[x + 1]
                and s >= below[x - 1] and s >= below[x] and s >= below[x + 1]
                and n < significance.size
            ):
                position[n, 0] = row
                position[n, 1] = x - 1
                significance[n] = s
                n += 1
    return n
