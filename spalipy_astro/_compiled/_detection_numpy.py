"""
The loops of detection in numpy: what they do, and what runs where nothing is compiled.

Sums are made in another order than in the compiled loops, so the last bits differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._compiled.starcolumns import (
    CHI2,
    COMPANION,
    CONVERGED,
    FOREIGN,
    GOOD,
    SHARPNESS,
    SNR,
    SUMS,
    VARIANCE_BY_LIGHT,
    VARIANCE_BY_SQUARE,
)

__all__ = [
    "bright_lines",
    "difference_widths",
    "fit_batch",
    "mesh_row",
    "psf_equations",
    "strip_peaks",
]

Array = NDArray[Any]

# Mean of a unit normal cut to (-3, +1.5), with which the clipped mean is corrected.
_CUT_LOW, _CUT_HIGH = 3.0, 1.5
_CUT_MEAN = -0.134235


def bright_lines(image: Array, near: int, far: int, value: Array, place: Array) -> None:
    """
    Find the lines of 2, 4, 8, ... pixels whose sums exceed those on both sides the most.

    They run down an image, by no more columns to the right than rows, and sums over all of them
    come from a fast discrete Radon transform.

    Parameters
    ----------
    image : (ny, nx) float32 array
        There is nothing beyond it.
    near, far : int
        Distances of two lines on each side, of which the darker one counts, in columns; less than
        nx.
    value : (n,) float32 array
        Filled with the largest contrast of each length, up to ``2**n``, which is at least ny.
    place : (n, 3) array of int
        Filled with the first line that has it: its strip of rows, by how many columns it ends to
        the right of its first, and that.
    """
    ny, nx = image.shape
    size = 2 ** len(value)
    # strip, shear (from the strip's first row to its last), column in the first row
    sums = np.zeros((size, 1, nx + size + far), np.float32)
    sums[:ny, 0, :nx] = image
    for level in range(len(value)):
        first, second, shears = sums[0::2], sums[1::2], sums.shape[1]
        sums = np.zeros((len(first), 2 * shears, sums.shape[2]), np.float32)
        for shear in range(2 * shears):
            start = (shear + 1) // 2
            below = second[:, shear // 2, start : start + nx]
            sums[:, shear, :nx] = first[:, shear // 2, :nx] + below
        strips = -(-ny // 2 ** (level + 1))  # that have some of the image
        middle, a, b, c, d = (
            sums[:strips, :, far + shift : nx + shift] for shift in (0, -near, -far, near, far)
        )
        contrast = middle - np.maximum(np.minimum(a, b), np.minimum(c, d))
        best = np.unravel_index(contrast.argmax(), contrast.shape)
        value[level], place[level] = contrast[best], best
        place[level, 2] += far


def mesh_row(values: Array, dither: Array, x_edges: Array, level: Array, noise: Array) -> None:
    """
    Fill one row of the mesh from sampled image rows; constant cells have no noise.

    Parameters
    ----------
    values : (rows, nx) float32 array
        Image rows; NaN and infinite pixels are bad.
    dither : (rows, nx) or (1, nx) float32 array
        What is added to them, to spread few values over the step between them.
    x_edges : (cells + 1,) array of int
        Columns where the cells begin.
    level, noise : (cells,) float32 arrays
        Filled with sky and noise of the cells that have enough good pixels.
    """
    for j, (start, stop) in enumerate(pairwise(x_edges)):
        cell = values[:, start:stop]
        good = np.isfinite(cell)
        n = np.count_nonzero(good)
        if n < 16 or n < 0.2 * cell.size:
            continue
        pixels = cell[good]
        if pixels.min() == pixels.max():
            level[j], noise[j] = pixels[0], 0
        else:
            level[j], noise[j] = _lower_side((cell + dither[:, start:stop])[good])


def _lower_side(v: Array) -> tuple[np.float32, np.float32]:
    """Center and width of the normal distribution under the lower side of a histogram."""
    few = np.sort(v[:: max(1, v.size // 64)])
    size = few.size
    center = few[size // 2]
    width = center - few[size // 6]
    if width <= 0:
        width = few[(5 * size) // 6] - few[size // 6]
    if width <= 0:
        width = (few[size - 1] - few[0]) / np.float32(4)
    if width <= 0:
        return center, np.float32(0)
    for _ in range(8):
        d = v - center
        d = d[(d > np.float32(-_CUT_LOW * width)) & (d < np.float32(_CUT_HIGH * width))]
        below = d[d < 0]
        if d.size < 8 or below.size < 4:
            break
        new_width = np.float32(np.sqrt(np.sum(below * below) / below.size) * 1.0136)
        shift = np.float32(np.sum(d) / d.size - _CUT_MEAN * new_width)
        center += shift
        if new_width <= 0:
            break
        done = abs(shift) < 0.005 * width and abs(new_width - width) < 0.005 * width
        width = new_width
        if done:
            break
    return center, width


def difference_widths(values: Array, pairs: Array, sigma: float, widths: Array) -> None:
    """
    Measure how much neighbors in a row, and pixels of neighboring rows, differ.

    Parameters
    ----------
    values : (rows, nx) float32 array
        Image rows.
    pairs : (n,) array of int
        Rows whose neighbor in the image is the next one here.
    sigma : float
        Standard deviation of a pixel.
    widths : (2,) array
        Filled with the standard deviations of differences, cut at three of these; NaN where there
        are not enough pixels.
    """
    with np.errstate(invalid="ignore"):
        both = np.diff(values, axis=1), values[pairs + 1] - values[pairs]
    for axis, differences in enumerate(both):
        limit = 6 * sigma
        for _ in range(3):
            d = differences[np.abs(differences) < np.float32(limit)].astype(float)
            if d.size < 64:
                widths[axis] = np.nan
                break
            widths[axis] = np.std(d)
            limit = 3 * widths[axis]


def strip_peaks(
    strip: Array,
    first: int,
    start: int,
    stop: int,
    kernel: Array,
    square: Array,
    threshold: float,
    level: Array,
    noise: Array,
    cell_y: float,
    edges: Array,
    part_x: Array,
    position: Array,
    significance: Array,
) -> int:
    """
    Normalize, smooth and search one strip of rows; return the number of peaks.

    Parameters
    ----------
    strip : (rows, nx) float32 array
        The pixels, with some rows more than are searched.
    first, start, stop : int
        Row of the image that the strip begins with, the first to search, and the last + 1.
    kernel, square : float32 arrays of odd size
        What to convolve with, and its square.
    threshold : float
        Smallest significance.
    level, noise : (my, mx) float32 arrays
        Mesh of the sky.
    cell_y : float
        Height of its cells.
    edges : (n + 1,) array of int
        Columns between which the same two columns of the mesh count, from 0 to nx.
    part_x : (nx,) float32 array
        Place of each column of the image between these.
    position, significance : (m, 2) array of int32 and (m,) float32 array
        Filled with the peaks, as ``(row, column)``; more than m are left out.
    """
    rows = len(strip)
    cell = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    next_cell = np.minimum(cell + 1, level.shape[1] - 1)
    planes = []
    for mesh in (level, noise):
        lines = _mesh_lines(mesh, first + np.arange(rows), cell_y)
        lines = lines if mesh is level else 1 / lines
        planes.append(lines[:, cell] + part_x * (lines[:, next_cell] - lines[:, cell]))
    with np.errstate(invalid="ignore", over="ignore"):
        image = (strip - planes[0]) * planes[1]
    good = np.isfinite(image)
    image[~good] = 0
    smooth = _convolve(_convolve(image, kernel, axis=1), kernel, axis=0)
    weight = _convolve(_convolve(good.astype(np.float32), square, axis=1), square, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        smooth /= np.sqrt(weight)
    if not good.all():
        smooth[weight <= np.float32(0.4) * np.sum(square) ** 2] = 0
    # the rows beside those that are searched count, all others are as low as can be
    low, high = max(start - 1, first) - first, min(stop + 1, first + rows) - first
    around = np.zeros((rows + 2, strip.shape[1] + 2), np.float32)
    around[low + 1 : high + 1, 1:-1] = smooth[low:high]
    here = around[1:-1, 1:-1]
    peak = here > np.float32(threshold)
    for i, j in np.ndindex(3, 3):
        other = around[i : i + rows, j : j + strip.shape[1]]
        if (i, j) < (1, 1):
            peak &= here > other
        elif (i, j) > (1, 1):
            peak &= here >= other
    peak[: start - first] = peak[stop - first :] = False
    y, x = np.nonzero(peak)
    n = min(len(x), len(significance))
    position[:n, 0], position[:n, 1] = y[:n] + first, x[:n]
    significance[:n] = here[y[:n], x[:n]]
    return n


def _mesh_lines(mesh: Array, rows: Array, cell_y: float) -> Array:
    """Interpolate a plane of the mesh to image rows, at the mesh's columns."""
    my = len(mesh)
    f = np.clip((rows + 0.5) / cell_y - 0.5, 0, my - 1)
    i = np.minimum(f.astype(np.int64), max(my - 2, 0))
    t = (f - i).astype(np.float32)[:, np.newaxis]
    return mesh[i] + t * (mesh[np.minimum(i + 1, my - 1)] - mesh[i])


def _convolve(image: Array, kernel: Array, axis: int) -> Array:
    """Convolve along an axis, beyond whose ends there is nothing."""
    radius, size = kernel.size // 2, image.shape[axis]
    padded = np.pad(image, [(radius, radius) if k == axis else (0, 0) for k in range(2)])
    out = kernel[radius] * image
    for k in range(1, radius + 1):
        left, right = (
            np.take(padded, np.arange(radius + shift, radius + shift + size), axis)
            for shift in (-k, k)
        )
        out += kernel[radius + k] * (left + right)
    return out


def psf_equations(
    stamps: Array,
    variance: Array,
    stars: Array,
    matrix: Array,
    tables: tuple[Array, Array],
    numbers: tuple[float, float, float, float, float],
    h: Array,
    g: Array,
    misfit: Array,
) -> None:
    """
    Set up the normal equations of each star, for its own parameters and those of the PSF.

    Parameters
    ----------
    stamps : (N, S, S) float32 array
        Pixels, NaN where bad.
    variance : (N, S, S) or (N, 1, 1) float32 array
        Of the sky.
    stars : (N, 4) array
        ``x, y`` from the centers, ``flux`` and ``sky``.
    matrix : (3,) array
        Of the squared radius.
    tables : two (M,) arrays
        The profile over the squared radius, and one that has another inverse beta.
    numbers : (step, tip, inverse_gain, model_error, outlying)
        Step of the tables, difference of the inverse betas, photon variance per unit of light,
        relative error of the model, and the squared residual in sigma from which on a pixel loses
        influence.
    h, g : (N, 8, 8) and (N, 8) arrays
        Filled with matrices and right-hand sides.
    misfit : (N, S * S) array
        Filled with squared residuals in units of their variance, 0 where the pixel is bad.
    """
    step, tip, inverse_gain, model_error, outlying = numbers
    light_table, tipped_table = tables
    a, b, c = matrix
    n, size = stamps.shape[:2]
    offset = np.arange(size) - size // 2
    x0, y0, flux, sky = (t[:, np.newaxis, np.newaxis] for t in stars.T)
    u, v = np.broadcast_arrays(offset - x0, offset[:, np.newaxis] - y0)
    q = a * u * u + 2 * b * u * v + c * v * v
    place = np.clip(np.nan_to_num(q / step, nan=np.inf), 0, light_table.size - 2.0)
    k = place.astype(np.int64)
    rise = light_table[k + 1] - light_table[k]
    light = light_table[k] + (place - k) * rise
    tipped = tipped_table[k] + (place - k) * (tipped_table[k + 1] - tipped_table[k])
    slope = rise / step
    tilt = -2 * flux * slope
    columns = np.stack(
        [
            tilt * (a * u + b * v),
            tilt * (b * u + c * v),
            light,
            np.ones_like(light),
            -2 * flux * (light + slope * q),
            flux * slope * (u * u * a - v * v * c),
            flux * slope * (2 * u * v + b * (u * u + v * v)),
            flux * (tipped - light) / tip,
        ],
        axis=1,
    ).reshape(n, 8, size * size)
    good = np.isfinite(stamps)
    model = flux * light
    rest = np.where(good, stamps, model + sky) - model - sky
    w = 1 / (variance.astype(float) + inverse_gain * np.abs(model) + (model_error * model) ** 2)
    square = rest * rest * w
    # neighbors, cosmic rays and whole stars that are none lose their influence
    weight = np.where(good, w / (1 + (square / outlying) ** 2), 0)
    misfit[...] = np.where(good, square, 0).reshape(n, -1)
    weighted = columns * weight.reshape(n, 1, -1)
    h[...] = weighted @ columns.swapaxes(1, 2)
    g[...] = (weighted @ rest.reshape(n, -1, 1))[..., 0]


def fit_batch(
    stamps: Array,
    variance: Array,
    corner: Array,
    members: Array,
    pointer: Array,
    index: Array,
    psf: tuple[Array, Array, float, float],
    law: tuple[float, float],
    window: tuple[Array, Array],
    search: bool,
    tables: tuple[Array, Array, Array],
) -> None:
    """
    Fit x, y, flux, sky and width of star after star by Gauss-Newton steps.

    Parameters
    ----------
    stamps : (N, S, S) float32 array
        Pixels around the members, less the sky; NaN where bad.
    variance : (N, S, S) or (N, 1, 1) float32 array
        Of the sky.
    corner : (N, 2) array
        Image position ``(x, y)`` of the first pixel of each stamp.
    members : (N,) array of int
        Which of the M stars to fit.
    pointer, index : (M + 1,) and (K,) arrays of int
        Neighbors of star m: ``index[pointer[m]:pointer[m + 1]]``.
    psf : (matrix, table, step, fwhm)
        That of the squared radius, (3,); profile and slope over it, (L, 2), in float32, and their
        step; width.
    law : (gain, model_error)
        Photon variance per unit of light, relative error of the model.
    window : (circle, kernel)
        Pixels ``(row, column)`` of a stamp to use; what to search the residuals with.
    search : bool
        Whether to search them.
    tables : (parameters, errors, quality)
        (M, 5), (M, 5) and (M, N_QUALITIES) arrays, whose rows of the members are updated.
    """
    fit = _StarFit(psf, law, window, search)
    # what is wild or without good pixels is not fitted well, which its row says
    with np.errstate(all="ignore"):
        for k, me in enumerate(members):
            neighbors = index[pointer[me] : pointer[me + 1]]
            fit.run(stamps[k], variance[k], corner[k], me, neighbors, tables)


class _StarFit:
    """How stars are fitted; arrays are in float32, sums and parameters in float64."""

    def __init__(self, psf: Any, law: Any, window: Any, search: bool) -> None:
        self._matrix, self._table, self._step, self._fwhm = psf
        self._gain, self._model_error = law
        (self._rows, self._columns), self._kernel = window[0].T, window[1]
        self._search = search

    def run(
        self,
        stamp: Array,
        variance: Array,
        corner: Array,
        me: int,
        neighbors: Array,
        tables: tuple[Array, Array, Array],
    ) -> None:
        """Fit one star."""
        parameters, errors, quality = tables
        core2 = max(0.85 * self._fwhm, 1.5) ** 2
        start = parameters[me] - [*corner, 0, 0, 0]
        good = ~np.isnan(stamp[self._rows, self._columns])
        i, j = self._rows[good], self._columns[good]
        value = stamp[i, j]
        noise = np.broadcast_to(variance, stamp.shape)[i, j]
        y, x = i.astype(np.float32), j.astype(np.float32)
        core = ((x - np.float32(start[0])) ** 2 + (y - np.float32(start[1])) ** 2) < core2
        mine = quality[me]
        mine[:] = 0
        mine[GOOD] = np.count_nonzero(core) / (np.pi * core2)
        if np.count_nonzero(core) < 4 or len(i) < 8:
            return
        foreign = 0.0
        for other in parameters[neighbors[parameters[neighbors, 2] > 0]]:
            scale = 1 / other[4] ** 2
            q = self._squared_radius(x, y, other[:2] - corner, scale)
            light = self._look_up(q, scale * other[2])[0]
            # known to a twentieth
            value = value - light
            noise = noise + np.float32(self._gain) * light + np.float32(0.0025) * light * light
            foreign += np.sum(light[core])
        pixels = x, y, value, noise
        state = self._iterate(pixels, start)
        parameters[me] = state["parameters"] + [*corner, 0, 0, 0]
        errors[me] = np.sqrt(np.maximum(np.diag(state["covariance"]), 0))
        weight, light, rest, total, dx, dy = state["pixels"]
        model = np.float32(state["flux"]) * light
        z2 = rest**2 / (total + np.float32(self._model_error**2) * model * model)
        mine[SUMS : SUMS + 5] = [
            np.count_nonzero(core),
            *(np.sum(t[core]) for t in (rest * rest, noise, model, model * model)),
        ]
        for column, factor in ((VARIANCE_BY_LIGHT, model), (VARIANCE_BY_SQUARE, model * model)):
            mine[column] = max(
                np.sum((weight * d) ** 2 * factor) / max(np.sum((weight * d) ** 2 * total), 1e-30)
                for d in (dx, dy)
            )
        mine[SNR] = state["snr"]
        mine[CHI2] = np.sum(z2[core]) / max(mine[SUMS] - 3, 1)
        mine[CONVERGED] = state["converged"]
        mine[FOREIGN] = foreign / max(state["parameters"][2], 1e-30)
        grid = np.full((4, *stamp.shape), np.nan)
        grid[:, i, j] = value, rest, weight, model
        mine[SHARPNESS] = self._sharpness(grid[0], mine[SUMS + 2] / max(mine[SUMS], 1))
        if self._search and np.sum(z2) > 1.15 * len(i):
            found = self._companion(grid[1], grid[2], grid[3], state["parameters"][:2])
            mine[COMPANION : COMPANION + 3] = found + np.array([0, *corner])

    def _squared_radius(self, x: Array, y: Array, place: Array, scale: float) -> Array:
        """Squared elliptical radius of every pixel."""
        a, b, c = self._matrix.astype(np.float32)
        u, v = x - np.float32(place[0]), y - np.float32(place[1])
        return (u * (a * u + b * v + b * v) + c * v * v) * np.float32(scale)

    def _look_up(self, q: Array, scale: float) -> tuple[Array, Array]:
        """Profile and its derivative by the squared radius."""
        per_step = np.float32(1 / self._step)
        place = np.nan_to_num(q * per_step, nan=np.inf)
        place = np.clip(place, 0, np.float32(len(self._table) - 2))
        k = place.astype(np.int64)
        low, high = self._table[k], self._table[k + 1]
        values = (low + (place - k)[:, np.newaxis] * (high - low)).astype(np.float32)
        return values[:, 0] * np.float32(scale), values[:, 1] * (np.float32(scale) * per_step)

    def _iterate(self, pixels: tuple[Array, ...], start: Array) -> dict[str, Any]:
        """Take steps until the position converges or the star is lost."""
        x, y, value, variance = pixels
        a, b, c = self._matrix.astype(np.float32)
        limit, farthest = max(0.25 * self._fwhm, 0.4), max(self._fwhm, 1.5)
        # stars narrower than a pixel have no width to measure
        prior = 0.3 if self._fwhm > 1.3 else 0.03
        at, state = start.copy(), {}
        for iteration in range(12):
            _, _, flux, sky, width = at
            scale = 1 / width**2
            q = self._squared_radius(x, y, at[:2], scale)
            light, slope = self._look_up(q, scale)
            u, v = x - np.float32(at[0]), y - np.float32(at[1])
            tilt = np.float32(-2 * flux * scale) * slope
            model = np.float32(flux) * light
            total = variance + np.float32(self._gain) * (
                np.float32(max(sky, 0)) + np.maximum(model, 0)
            )
            weight, rest = 1 / total, value - model - np.float32(sky)
            by = np.stack(
                [
                    tilt * (a * u + b * v),
                    tilt * (b * u + c * v),
                    light,
                    np.ones_like(light),
                    np.float32(-2 / width) * (model + np.float32(flux) * slope * q),
                ]
            )
            h, g = ((weight * by) @ by.T).astype(float), ((weight * by) @ rest).astype(float)
            state["snr"] = flux * np.sqrt(h[2, 2])
            small = max(0.05 / np.sqrt(max(min(h[0, 0], h[1, 1]), 1e-30)), 0.001)
            # a weak prior keeps the width of faint stars near that of the PSF
            h[4, 4] += 1 / prior**2
            g[4] -= (width - 1) / prior**2
            factor, regular = _cholesky(h)
            inverse = np.linalg.inv(factor)
            d = inverse.T @ (inverse @ g)
            state["covariance"], state["flux"] = inverse.T @ inverse, flux
            step = np.clip(d[:2], -limit, limit)
            at[:2] += step
            at[2:4] += d[2:4]
            at[4] = np.clip(width + np.clip(d[4], -0.25, 0.25), 0.3, 3.0)
            lost = bool(np.any(np.abs(at[:2] - start[:2]) > farthest))
            if lost:
                at[:2] = start[:2]
            small *= 1 if iteration < 8 else 3
            state["converged"] = regular and not lost and bool(np.all(np.abs(step) < small))
            if state["converged"] or lost or not regular:
                break
        return {**state, "parameters": at, "pixels": (weight, light, rest, total, by[0], by[1])}

    def _sharpness(self, grid: Array, noise2: float) -> float:
        """
        Find by how many sigma the brightest pixel of the middle stands out too much.

        Of all stars one that is centered on a pixel has the faintest neighbors, in each direction.
        Single pixels have fainter ones in every direction, thin lines in at least one. A fifth is
        left to the error of the PSF.
        """
        middle = slice(len(grid) // 2 - 1, len(grid) // 2 + 2)
        core = np.nan_to_num(grid[middle, middle], nan=-np.inf)
        peak = core.max()
        if not peak > 0:
            return 0.0
        py, px = np.add(np.unravel_index(core.argmax(), core.shape), middle.start)
        worst, pairs, shares = 0.0, [], []
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            a, b, c = self._matrix
            q = a * dx * dx + 2 * b * dx * dy + c * dy * dy
            place = min(max(q / self._step, 0), len(self._table) - 2)
            low, high = self._table[int(place) : int(place) + 2, 0].astype(float)
            share = (low + (place - int(place)) * (high - low)) / self._table[0, 0]
            pair = 0.5 * (grid[py + dy, px + dx] + grid[py - dy, px - dx])
            if np.isnan(pair):
                continue
            pairs.append(pair)
            shares.append(share)
            variance = (0.5 + share * share) * noise2 + self._gain * share * peak
            excess = (share * peak - pair) / np.sqrt(variance + (0.2 * share * peak) ** 2)
            worst = max(worst, float(excess))
        if len(pairs) == 4:
            share = float(np.mean(shares))
            variance = (0.125 + share * share) * noise2 + self._gain * share * peak
            excess = (share * peak - np.mean(pairs)) / np.sqrt(variance + (0.2 * share * peak) ** 2)
            # one test of eight pixels is worth more than the best of four
            worst = max(worst, float(1.1 * excess))
        return worst

    def _companion(self, rest: Array, weight: Array, light: Array, place: Array) -> Array:
        """
        Find the most significant peak of the residuals outside of the star's own center.

        Where the PSF is wrong, the residuals have structure of their own: in proportion to the
        model near the center, and more than that farther out.
        """
        size, closest, reach = len(rest), max(0.6 * self._fwhm, 1.0), 0.5 * len(rest)
        i, j = np.mgrid[:size, :size]
        rr = (i - place[1]) ** 2 + (j - place[0]) ** 2
        # a peak worth 5 sigma is seen in its middle pixel
        some = (rest > 0) & (rest**2 * weight >= 1)
        some &= (rr >= closest**2) & (rr <= (reach - 1) ** 2)
        some[0] = some[-1] = some[:, 0] = some[:, -1] = False
        zero = np.nan_to_num(weight)
        top = _correlate(np.nan_to_num(rest) * zero, self._kernel)
        bottom = _correlate(zero, self._kernel**2)
        here = np.maximum(light, 0)
        doubt = self._model_error * (2 * here + np.sqrt(here * np.nanmax(light, initial=0)))
        strength = np.where(some & (bottom > 0), top / np.sqrt(bottom + (bottom * doubt) ** 2), 0)
        best = np.unravel_index(strength.argmax(), strength.shape)
        return np.array([strength[best], best[1], best[0]] if strength[best] > 0 else [0.0] * 3)


def _cholesky(h: Array) -> tuple[Array, bool]:
    """Factor a matrix; what is singular has something in its place, and is said to be so."""
    factor, regular = np.tril(h), True
    for i, j in _lower(len(h)):
        total = factor[i, j] - factor[i, :j] @ factor[j, :j]
        if i != j:
            factor[i, j] = total / factor[j, j]
            continue
        if not total > 1e-10 * h[i, i]:
            regular, total = False, max(h[i, i], 1e-30)
        factor[i, i] = np.sqrt(total)
    return factor, regular


def _lower(size: int) -> Iterator[tuple[int, int]]:
    """Yield the places of a lower triangle, row by row."""
    for i in range(size):
        for j in range(i + 1):
            yield i, j


def _correlate(image: Array, kernel: Array) -> Array:
    """Correlate with a small kernel; beyond the edges there is nothing."""
    radius = len(kernel) // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, radius), kernel.shape)
    return np.einsum("ijkl,kl->ij", windows, kernel)
