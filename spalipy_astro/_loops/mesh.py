"""Inner loops of the estimate of the sky: private to `spalipy_astro.detection`."""

from __future__ import annotations

import numpy as np

from spalipy_astro._loops._parts import part, vectorized

__all__ = ["difference_widths", "mesh_row"]

# Mean of a unit normal cut to (-3, +1.5), with which the clipped mean is corrected.
_CUT_LOW, _CUT_HIGH = 3.0, 1.5
_CUT_MEAN = -0.134235


def mesh_row(values, dither, x_edges, level, noise, pixels, few):
    """
    Fill one row of the mesh from sampled image rows; constant cells have no noise.

    ``pixels`` has room for all of a cell, and ``few`` for 128.
    """
    n_rows = values.shape[0]
    many = dither.shape[0] > 1
    for j in range(x_edges.size - 1):
        n = 0
        lowest, highest = np.float32(np.inf), np.float32(-np.inf)
        for i in range(n_rows):
            for k in range(x_edges[j], x_edges[j + 1]):
                v = values[i, k]
                if v - v == 0:
                    lowest, highest = min(lowest, v), max(highest, v)
                    pixels[n] = v + dither[i if many else 0, k]
                    n += 1
        if n >= 16 and n >= 0.2 * n_rows * (x_edges[j + 1] - x_edges[j]):
            if lowest == highest:
                level[j], noise[j] = lowest, np.float32(0)
            else:
                level[j], noise[j] = _lower_side(pixels[:n], few)


@vectorized
def _clipped_sums(v, center, low, high):
    """Count and sum the values in a range, and count and square those below the center."""
    zero = np.float32(0)
    one = np.float32(1)
    number = total = n_below = below = zero
    for i in range(v.size):
        d = v[i] - center
        inside = one if d > low else zero
        inside = inside if d < high else zero
        under = inside if d < zero else zero
        number += inside
        total += inside * d
        n_below += under
        below += under * d * d
    return number, total, n_below, below


@vectorized
def _sum_differences(a, b, limit):
    """Count and sum the differences that are smaller than a limit, and their squares."""
    zero = np.float32(0)
    one = np.float32(1)
    number = total = square = zero
    for i in range(a.size):
        d = b[i] - a[i]
        number += one if abs(d) < limit else zero
        d = d if abs(d) < limit else zero
        total += d
        square += d * d
    return number, total, square


@part
def _lower_side(v, few):
    """Center and width of the normal distribution under the lower side of a histogram."""
    n = v.size
    step = max(1, n // 64)
    size = (n + step - 1) // step
    for i in range(size):
        # by insertion: compiling a library sort takes longer than all sorting
        value = v[i * step]
        j = i
        while j > 0 and few[j - 1] > value:
            few[j] = few[j - 1]
            j -= 1
        few[j] = value
    center = few[size // 2]
    width = center - few[size // 6]
    if width <= 0:
        width = few[(5 * size) // 6] - few[size // 6]
    if width <= 0:
        width = (few[size - 1] - few[0]) / np.float32(4)
    if width <= 0:
        return center, np.float32(0.0)
    for _ in range(8):
        number, total, n_below, below = _clipped_sums(
            v, center, np.float32(-_CUT_LOW * width), np.float32(_CUT_HIGH * width)
        )
        if number < 8 or n_below < 4:
            break
        new_width = np.float32(np.sqrt(below / n_below) * 1.0136)
        shift = np.float32(total / number - _CUT_MEAN * new_width)
        center += shift
        if new_width <= 0:
            break
        done = abs(shift) < 0.005 * width and abs(new_width - width) < 0.005 * width
        width = new_width
        if done:
            break
    return center, width


def difference_widths(values, pairs, sigma, widths):
    """
    Measure how much neighbors in a row, and pixels of neighboring rows, differ.

    Parameters
    ----------
    values : (rows, nx) array
        Image rows.
    pairs : (n,) array of int
        Rows whose neighbor in the image is the next one here.
    sigma : float
        Standard deviation of a pixel.
    widths : (2,) array
        Filled with the standard deviations of differences, cut at three of these; NaN where there
        are not enough pixels.
    """
    for axis in range(2):
        number_of_rows = values.shape[0] if axis == 0 else pairs.size
        limit = 6 * sigma
        for _ in range(3):
            number = total = square = 0.0
            for k in range(number_of_rows):
                if axis == 0:
                    n, t, s = _sum_differences(values[k, :-1], values[k, 1:], np.float32(limit))
                else:
                    i = pairs[k]
                    n, t, s = _sum_differences(values[i], values[i + 1], np.float32(limit))
                number += n
                total += t
                square += s
            if number < 64:
                widths[axis] = np.nan
                break
            widths[axis] = np.sqrt(max(square / number - (total / number) ** 2, 0.0))
            limit = 3 * widths[axis]
