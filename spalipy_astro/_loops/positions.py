"""Where the pixels of a tile lie on the source, and the flags that are found there."""

from __future__ import annotations

import numpy as np

from spalipy_astro._loops._parts import part

__all__ = ["flags_tile", "source_extent", "spline_tile"]


def spline_tile(along_x, along_y, coeff_x, coeff_y, matrix, shift, line_x, line_y, out_x, out_y):
    """
    Source positions of a tile under a tensor-product spline followed by an affine transform.

    Parameters
    ----------
    along_x, along_y : (positions, first, weights)
        The axes of the tile: template positions, the index of the first basis function at each,
        and one row of weights for each function from there on.
    coeff_x, coeff_y : (n_y, n_x) arrays
        Coefficients of the displacements.
    matrix, shift : (2, 2) and (2,) arrays
        The affine transform.
    line_x, line_y : (n_x,) arrays
        To work in.
    out_x, out_y : (rows, columns) arrays
        The positions.
    """
    x, first_x, weights_x = along_x
    y, first_y, weights_y = along_y
    order = weights_x.shape[0]
    for i in range(y.size):
        line_x[:] = 0
        line_y[:] = 0
        for k in range(order):
            weight, row = weights_y[k, i], first_y[i] + k
            for column in range(line_x.size):
                line_x[column] += weight * coeff_x[row, column]
                line_y[column] += weight * coeff_y[row, column]
        u, v = out_x[i], out_y[i]
        start = 0
        while start < x.size:  # cell by cell, within which the same functions count
            first, end = first_x[start], start + 1
            while end < x.size and first_x[end] == first:
                end += 1
            _copy(x[start:end], u[start:end])
            v[start:end] = y[i]
            for k in range(order):
                weights = weights_x[k, start:end]
                _add_scaled(weights, line_x[first + k], u[start:end])
                _add_scaled(weights, line_y[first + k], v[start:end])
            start = end
        _transform(u, v, matrix, shift)


@part
def _copy(values, out):
    """Copy; numba's own way would raise where lengths differ, for which it needs Python."""
    for j in range(out.size):
        out[j] = values[j]


@part
def _add_scaled(values, factor, out):
    """Add a multiple; on slices from 0, which unlike offsets can be vectorized."""
    for j in range(out.size):
        out[j] += factor * values[j]


@part
def _transform(u, v, matrix, shift):
    """Apply an affine transform in place."""
    a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    for j in range(u.size):
        x, y = u[j], v[j]
        u[j] = a * x + b * y + shift[0]
        v[j] = c * x + d * y + shift[1]


def source_extent(x, y, frame, out):
    """Box ``(x_min, x_max, y_min, y_max)`` around a tile's positions that are on the frame."""
    x_min, x_max, y_min, y_max = np.inf, -np.inf, np.inf, -np.inf
    for i in range(1, x.shape[0] - 1):
        for j in range(1, x.shape[1] - 1):
            u, v = x[i, j], y[i, j]
            if -0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5:
                x_min, x_max = min(x_min, u), max(x_max, u)
                y_min, y_max = min(y_min, v), max(y_max, v)
    out[0], out[1], out[2], out[3] = x_min, x_max, y_min, y_max


def flags_tile(block, corner, frame, x, y, radius, box, out):
    """
    Resample a plane of flag bits.

    Parameters
    ----------
    block : (h, w) integer array
        Window of the flags, 0 outside of the frame.
    corner, frame, x, y, box
        As for `interpolate_tile`.
    radius : float
        0 for the nearest pixel's flags, else the bits of all pixels closer than this along both
        axes of the source.
    out : (ny, nx) integer array
        Flags; 0 outside of the frame.
    """
    for i in range(x.shape[0] - 2):
        for j in range(x.shape[1] - 2):
            u, v = x[i + 1, j + 1], y[i + 1, j + 1]
            bits = block[0, 0] & 0
            if -0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5:
                if radius == 0:
                    bits = block[
                        int(np.floor(v + 0.5)) - corner[1], int(np.floor(u + 0.5)) - corner[0]
                    ]
                else:
                    for row in range(int(np.floor(v - radius)) + 1, int(np.ceil(v + radius))):
                        for column in range(
                            int(np.floor(u - radius)) + 1, int(np.ceil(u + radius))
                        ):
                            bits |= block[row - corner[1], column - corner[0]]
            out[box[0] + i, box[1] + j] = bits
