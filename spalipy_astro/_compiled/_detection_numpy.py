"""
The loops of detection in numpy: what they do, and what runs where nothing is compiled.

Sums are made in another order than in the compiled loops, so the last bits differ.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spalipy_astro._compiled._starfit_numpy import fit_batch

__all__ = [
    "bright_lines",
    "cut_squares",
    "difference_widths",
    "find_neighbors",
    "fit_batch",
    "level_squares",
    "mesh_row",
    "mesh_values",
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


def cut_squares(image: Array, x: Array, y: Array, squares: Array) -> None:
    """
    Copy squares around pixels out of an image.

    Parameters
    ----------
    image : (ny, nx) array
        Of any type and strides.
    x, y : (n,) arrays of int
        The pixels in the middle, anywhere.
    squares : (n, size, size) array of the same type, of an odd size
        Filled where they lie within the image.
    """
    (ny, nx), size = image.shape, squares.shape[1]
    offset = np.arange(size) - size // 2
    rows, columns = y[:, np.newaxis] + offset, x[:, np.newaxis] + offset
    star, i, j = np.nonzero(
        ((rows >= 0) & (rows < ny))[:, :, np.newaxis]
        & ((columns >= 0) & (columns < nx))[:, np.newaxis]
    )
    squares[star, i, j] = image[rows[star, i], columns[star, j]]


def level_squares(squares: Array, level: Array, saturation: float, saturated: Array) -> None:
    """
    Subtract the levels of squares of pixels, and mark what cannot be used as NaN.

    Parameters
    ----------
    squares : (n, ny, nx) float32 array
        Overwritten; NaN where pixels are infinite or saturated.
    level : (n,) float32 array
        The levels.
    saturation : float
        Value at and above which a pixel is saturated.
    saturated : (n, ny, nx) array of bool
        Filled with where they are.
    """
    good = np.isfinite(squares)
    saturated[...] = good & (squares >= np.float32(saturation))
    with np.errstate(invalid="ignore"):
        squares -= level[:, np.newaxis, np.newaxis]
    squares[~good | saturated] = np.nan


def mesh_values(
    level: Array,
    noise: Array,
    cell: tuple[float, float],
    x: Array,
    y: Array,
    level_at: Array,
    noise_at: Array,
) -> None:
    """
    Interpolate the mesh of the sky at positions; beyond the centers of its cells it is flat.

    Parameters
    ----------
    level, noise : (my, mx) float32 arrays
        The mesh.
    cell : (height, width)
        Of its cells, px.
    x, y : (n,) arrays
        The positions, px.
    level_at, noise_at : (n,) arrays
        Filled.
    """
    my, mx = level.shape
    fy = np.clip((y + 0.5) / cell[0] - 0.5, 0, my - 1)
    fx = np.clip((x + 0.5) / cell[1] - 0.5, 0, mx - 1)
    iy = np.minimum(fy.astype(int), max(my - 2, 0))
    ix = np.minimum(fx.astype(int), max(mx - 2, 0))
    jy, jx = np.minimum(iy + 1, my - 1), np.minimum(ix + 1, mx - 1)
    ty, tx = fy - iy, fx - ix
    for mesh, out in ((level, level_at), (noise, noise_at)):
        upper = mesh[iy, ix] * (1 - tx) + mesh[iy, jx] * tx
        lower = mesh[jy, ix] * (1 - tx) + mesh[jy, jx] * tx
        out[...] = upper * (1 - ty) + lower * ty


def find_neighbors(position: Array, reach: float, pointer: Array, index: Array) -> int:
    """
    List the neighbors of each point; return the number of all.

    Parameters
    ----------
    position : (n, 2) float64 array
        The points.
    reach : float
        How far neighbors are from each other at most.
    pointer : (n + 1,) array of int
        Filled with where in the index the list of each point begins, and the last ends.
    index : (m,) array of int
        Filled with the numbers of the neighbors, in their order, if it is long enough for all.
    """
    pairs = cKDTree(position).query_pairs(reach, output_type="ndarray")
    one, two = pairs.astype(np.int64).T
    # by point, and its neighbors in their order: as one number, which is faster to sort than two
    number = np.sort(np.concatenate((one, two)) * len(position) + np.concatenate((two, one)))
    point, other = np.divmod(number, max(len(position), 1))
    pointer[0] = 0
    np.cumsum(np.bincount(point, minlength=len(position)), out=pointer[1:])
    if len(other) <= len(index):
        index[: len(other)] = other
    return len(other)


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
