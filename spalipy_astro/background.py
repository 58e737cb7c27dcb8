"""Sky level and noise of an image on a mesh: private to detection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spalipy_astro.errors import ImageError

__all__ = ["Background", "PixelSource", "estimate_background", "sample_rows"]

# Mean of a unit normal cut to (-3, +1.5), with which the clipped mean is corrected.
_CUT_LOW, _CUT_HIGH = 3.0, 1.5
_CUT_MEAN = -0.134235


@dataclass(frozen=True)
class PixelSource:
    """Rows of an image of any dtype as float32 with NaN for bad pixels, a strip at a time."""

    data: NDArray
    mask: NDArray | None
    error: NDArray | None
    pedestal: float

    @property
    def shape(self) -> tuple[int, int]:
        """``(ny, nx)`` of the image."""
        return self.data.shape[0], self.data.shape[1]

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop``, less the pedestal; bad pixels are NaN."""
        return self._clean(self.data[start:stop], (slice(start, stop),))

    def stamps(self, x: NDArray, y: NDArray, radius: int) -> NDArray[np.float32]:
        """Squares of ``2 radius + 1`` pixels around integer positions; NaN outside the image."""
        ny, nx = self.shape
        offset = np.arange(-radius, radius + 1)
        yy = (y[:, None] + offset)[:, :, None]
        xx = (x[:, None] + offset)[:, None, :]
        index = (np.clip(yy, 0, ny - 1), np.clip(xx, 0, nx - 1))
        out = self._clean(self.data[index], index)
        near_edge = (x < radius) | (y < radius) | (x >= nx - radius) | (y >= ny - radius)
        for k in np.flatnonzero(near_edge):
            out[k, (yy[k, :, 0] < 0) | (yy[k, :, 0] >= ny), :] = np.nan
            out[k, :, (xx[k, 0] < 0) | (xx[k, 0] >= nx)] = np.nan
        return out

    def variances(self, x: NDArray, y: NDArray, radius: int) -> NDArray[np.float32]:
        """Squares of the error array around integer positions, bad ones infinite."""
        ny, nx = self.shape
        offset = np.arange(-radius, radius + 1)
        yy = np.clip(y[:, None] + offset, 0, ny - 1)[:, :, None]
        xx = np.clip(x[:, None] + offset, 0, nx - 1)[:, None, :]
        error = np.array(self.error[yy, xx], dtype=np.float32)
        error[~(np.isfinite(error) & (error > 0))] = np.inf
        return error**2

    def _clean(self, values: NDArray, index: tuple) -> NDArray[np.float32]:
        if self.pedestal:
            out = np.subtract(values, self.pedestal, dtype=np.float64).astype(np.float32)
        else:
            out = np.array(values, dtype=np.float32)
        if self.mask is not None:
            out[np.asarray(self.mask[index], dtype=bool)] = np.nan
        if self.error is not None:
            err = self.error[index]
            out[~(np.isfinite(err) & (err > 0))] = np.nan
        if out.dtype.kind == "f" and values.dtype.kind == "f":
            out[np.isinf(out)] = np.nan
        return out


@dataclass(frozen=True)
class Background:
    """Sky level and noise at the centers of the cells of a mesh.

    ``level`` and ``noise`` have the shape ``(n_phases, my, mx)``: one phase, or the four of a
    2 x 2 color filter array in the order (even row, even column), (even, odd), (odd, even),
    (odd, odd).
    """

    level: NDArray[np.float32]
    noise: NDArray[np.float32]
    cell: tuple[float, float]

    def at(self, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """Level and noise of every phase at pixel positions, shape ``(N, n_phases)``."""
        my, mx = self.level.shape[1:]
        fy = np.clip((y + 0.5) / self.cell[0] - 0.5, 0, my - 1)
        fx = np.clip((x + 0.5) / self.cell[1] - 0.5, 0, mx - 1)
        iy = np.minimum(fy.astype(int), max(my - 2, 0))
        ix = np.minimum(fx.astype(int), max(mx - 2, 0))
        jy, jx = np.minimum(iy + 1, my - 1), np.minimum(ix + 1, mx - 1)
        ty, tx = fy - iy, fx - ix
        out = []
        for mesh in (self.level, self.noise):
            lower = mesh[:, iy, ix] * (1 - tx) + mesh[:, iy, jx] * tx
            upper = mesh[:, jy, ix] * (1 - tx) + mesh[:, jy, jx] * tx
            out.append((lower * (1 - ty) + upper * ty).T)
        return out[0], out[1]


def sample_rows(shape: tuple[int, int], cell: float) -> Iterator[tuple[int, int, int]]:
    """Mesh row number with first and last image row, for every row of the mesh."""
    n_cells = max(1, round(shape[0] / cell))
    edges = np.round(np.linspace(0, shape[0], n_cells + 1)).astype(int)
    for k in range(n_cells):
        yield k, int(edges[k]), int(edges[k + 1])


def estimate_background(source: PixelSource, *, cell: float = 64.0) -> Background:
    """Estimate sky level and noise on a mesh of about ``cell`` pixels.

    A cell's level is the mean of a normal distribution fitted to the lower side of the
    histogram of a quarter of its pixels, and its noise the root mean square of those below it:
    star light, which only adds, spoils neither even in crowded fields.
    """
    ny, nx = source.shape
    mx = max(1, round(nx / cell))
    strips = list(sample_rows((ny, nx), cell))
    my = len(strips)
    x_edges = np.round(np.linspace(0, nx, mx + 1)).astype(np.int64)
    level = np.full((4, my, mx), np.nan, dtype=np.float32)
    noise = np.full((4, my, mx), np.nan, dtype=np.float32)
    sampled = []
    for _, start, stop in strips:
        rows = np.arange(start, stop)
        rows = rows[np.isin((rows - start) % 8, (0, 3))] if stop - start >= 16 else rows
        sampled.append((rows, source._clean(source.data[rows], (rows,))))
    n_phases = 4 if _is_mosaic(sampled) else 1
    for k, (rows, values) in enumerate(sampled):
        _mesh_row(values, rows, x_edges, n_phases, level[:, k], noise[:, k])
    level, noise = level[:n_phases], noise[:n_phases]
    if not np.isfinite(level).any():
        raise ImageError(
            "no cell of the image has enough good pixels to estimate the sky; unmask pixels "
            "or give a larger image"
        )
    level = np.stack([_smooth(plane) for plane in level])
    noise = np.stack([_smooth(plane) for plane in noise])
    return Background(level, noise, (ny / my, nx / mx))


def _is_mosaic(sampled: list[tuple[NDArray, NDArray]]) -> bool:
    """Tell whether pixels of the four parities have different sky levels (a Bayer mosaic)."""
    differences = []
    for rows, values in sampled:
        even = rows % 2 == 0
        if not (even.any() and (~even).any()) or values.shape[1] < 16:
            continue
        parts = [values[r][:, c::2] for r in (even, ~even) for c in (0, 1)]
        with np.errstate(invalid="ignore"):
            good = [p[np.isfinite(p)] for p in parts]
        if min(len(g) for g in good) < 64:
            continue
        quartiles = np.array([np.percentile(g[:: 1 + len(g) // 4000], (16, 50)) for g in good])
        spread = np.median(quartiles[:, 1] - quartiles[:, 0])
        differences.append((quartiles[:, 1] - quartiles[:, 1].mean()) / max(spread, 1e-30))
    if not differences:
        return False
    pattern = np.median(differences, axis=0)
    return bool(np.ptp(pattern) > 0.7)


def _smooth(plane: NDArray) -> NDArray:
    """Fill cells without an estimate from the nearest one and take the 3 x 3 median."""
    bad = ~np.isfinite(plane)
    if bad.any():
        nearest = ndimage.distance_transform_edt(
            bad, return_distances=False, return_indices=True
        )
        plane = plane[tuple(nearest)]
    return ndimage.median_filter(plane, size=3, mode="nearest")


@numba.njit(cache=True, nogil=True)
def _mesh_row(values, rows, x_edges, n_phases, level, noise):
    """Fill one row of the mesh from sampled image rows."""
    n_rows = values.shape[0]
    width = 0
    for j in range(x_edges.size - 1):
        width = max(width, x_edges[j + 1] - x_edges[j])
    buffer = np.empty(n_rows * width, dtype=np.float32)
    for j in range(x_edges.size - 1):
        for phase in range(n_phases):
            n = 0
            total = 0
            for i in range(n_rows):
                first = x_edges[j]
                step = 1
                if n_phases == 4:
                    if rows[i] % 2 != phase // 2:
                        continue
                    first += (first + phase) % 2
                    step = 2
                for k in range(first, x_edges[j + 1], step):
                    total += 1
                    v = values[i, k]
                    if v == v:
                        buffer[n] = v
                        n += 1
            if n < 16 or n < 0.2 * total:
                continue
            level[phase, j], noise[phase, j] = _lower_side(buffer[:n])


@numba.njit(cache=True, nogil=True)
def _lower_side(v):
    """Center and width of the normal distribution under the lower side of a histogram."""
    n = v.size
    step = max(1, n // 128)
    few = np.sort(v[::step])
    center = few[few.size // 2]
    width = center - few[few.size // 6]
    if width <= 0:
        width = few[(5 * few.size) // 6] - few[few.size // 6]
    if width <= 0:
        width = np.float32(np.std(v))
    if width <= 0:
        return center, np.float32(0.0)
    for _ in range(8):
        low = center - _CUT_LOW * width
        high = center + _CUT_HIGH * width
        total = 0.0
        number = 0
        below = 0.0
        n_below = 0
        for i in range(n):
            d = v[i] - center
            if v[i] > low and v[i] < high:
                total += d
                number += 1
                if d < 0:
                    below += d * d
                    n_below += 1
        if number < 8 or n_below < 4:
            break
        new_width = np.float32(np.sqrt(below / n_below) * 1.0135)
        shift = np.float32(total / number - _CUT_MEAN * new_width)
        center += shift
        if new_width <= 0:
            break
        done = abs(shift) < 0.003 * width and abs(new_width - width) < 0.003 * width
        width = new_width
        if done:
            break
    return center, width
