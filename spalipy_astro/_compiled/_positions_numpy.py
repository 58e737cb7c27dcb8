"""The loops of positions in numpy: where pixels lie on the source, and the flags found there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Axis = tuple[Array, Array, Array]
Grid = tuple[Axis, Axis, Array, Array, Array, Array]
Part = tuple[int, int, int, int]


def part_of_grid(grid: Grid, part: Part) -> Grid:
    """Cut a part with its border out of a grid."""
    along_x, along_y, *others = grid
    row, column, rows, columns = part
    return (
        tuple(t[..., column : column + columns + 2] for t in along_x),
        tuple(t[..., row : row + rows + 2] for t in along_y),
        *others,
    )  # type: ignore[return-value]


def on_frame(u: Array, v: Array, frame: Any) -> Array:
    """Whether positions are on the source."""
    return (u >= -0.5) & (u < frame[0] - 0.5) & (v >= -0.5) & (v < frame[1] - 0.5)


def spline_tile(grid: Grid, out_x: Array, out_y: Array) -> None:
    """
    Source positions of a grid under a tensor-product spline followed by an affine transform.

    Parameters
    ----------
    grid : (along_x, along_y, coeff_x, coeff_y, matrix, shift)
        The axes, of ``columns`` and of ``rows`` positions, each ``(positions, first, weights)``:
        template positions, the index of the first basis function at each, and one row of weights
        for each function from there on, none for an affine transform alone; the coefficients of
        the displacements, (n_y, n_x) arrays; the affine transform, (2, 2) and (2,) arrays.
    out_x, out_y : (rows, columns) arrays
        The positions.
    """
    (x, first_x, weights_x), (y, first_y, weights_y), coeff_x, coeff_y, matrix, shift = grid
    along_x, along_y = np.zeros((2, y.size, coeff_x.shape[1]))
    for k, weights in enumerate(weights_y):
        along_x += weights[:, np.newaxis] * coeff_x[first_y + k]
        along_y += weights[:, np.newaxis] * coeff_y[first_y + k]
    for out, (a, b), start in ((out_x, matrix[0], shift[0]), (out_y, matrix[1], shift[1])):
        lines = a * along_x + b * along_y
        out[...] = a * x + (b * y + start)[:, np.newaxis]
        for k, weights in enumerate(weights_x):
            out += weights * lines[:, first_x + k]


def spline_extent(grid: Grid, part: Part, out: Array) -> None:
    """
    Find a box that holds the source positions of a part of a grid, without finding these.

    Weights sum to 1, so that a spline differs from the middle of its coefficients by half of their
    range, times the sum of the weights' absolute values: 1, but for its tails.

    Parameters
    ----------
    grid, part
        As for `interpolate_part`; positions along the axes ascend.
    out : (4,) array
        ``x_min, x_max, y_min, y_max``; NaN where coefficients are.
    """
    along_x, along_y, coeff_x, coeff_y, matrix, shift = part_of_grid(grid, part)
    middles, halves = np.empty(2), np.empty(2)
    functions = tuple(
        slice(first.min(), first.max() + len(weights)) for _, first, weights in (along_y, along_x)
    )
    reach = np.prod([np.abs(weights).sum(axis=0).max() for _, _, weights in (along_x, along_y)])
    for k, ((at, _, _), coeff) in enumerate(((along_x, coeff_x), (along_y, coeff_y))):
        some = coeff[functions]
        low, high = (some.min(), some.max()) if some.size else (0.0, 0.0)
        middles[k] = (low + high) / 2 + (at[0] + at[-1]) / 2
        halves[k] = (high - low) / 2 * reach + (at[-1] - at[0]) / 2
    place = matrix @ middles + shift
    half = np.abs(matrix) @ halves
    half += 1e-9 * (1 + np.abs(place) + half)  # more than what is rounded
    out[::2], out[1::2] = place - half, place + half


def source_extent(x: Array, y: Array, frame: tuple[int, int], out: Array) -> None:
    """
    Find the box around a tile's positions that are on the frame.

    Parameters
    ----------
    x, y : (rows + 2, columns + 2) arrays
        Source positions, with a border that does not count.
    frame : (width, height)
        Size of the source.
    out : (4,) array
        ``x_min, x_max, y_min, y_max``; infinite, the largest first, where none is on the frame.
    """
    u, v = x[1:-1, 1:-1], y[1:-1, 1:-1]
    on = on_frame(u, v, frame)
    for k, t in enumerate((u, v)):
        out[2 * k] = np.min(t, where=on, initial=np.inf)
        out[2 * k + 1] = np.max(t, where=on, initial=-np.inf)


def flags_tile(
    block: Array,
    corner: tuple[int, int],
    frame: tuple[int, int],
    x: Array,
    y: Array,
    radius: float,
    box: tuple[int, int],
    out: Array,
) -> None:
    """
    Resample a plane of flag bits.

    Parameters
    ----------
    block : (h, w) integer array
        Window of the flags, 0 outside of the frame.
    corner, frame, x, y, box
        As for `interpolate_tile`, the first without the width.
    radius : float
        0 for the nearest pixel's flags, else the bits of all pixels closer than this along both
        axes of the source.
    out : (ny, nx) integer array
        Flags; 0 outside of the frame.
    """
    u, v = x[1:-1, 1:-1], y[1:-1, 1:-1]
    bits = np.zeros(u.shape, block.dtype)
    on = np.nonzero(on_frame(u, v, frame))
    u, v = u[on], v[on]
    if radius == 0:
        first = last = [np.floor(t + 0.5).astype(np.int64) for t in (u, v)]
    else:
        first = [np.floor(t - radius).astype(np.int64) + 1 for t in (u, v)]
        last = [np.ceil(t + radius).astype(np.int64) - 1 for t in (u, v)]
    found = np.zeros(len(u), block.dtype)
    columns, rows = (int(np.max(b - a, initial=-1)) + 1 for a, b in zip(first, last, strict=True))
    for column, row in np.ndindex(columns, rows):
        at_x, at_y = first[0] + column, first[1] + row
        some = (at_x <= last[0]) & (at_y <= last[1])
        found[some] |= block[at_y[some] - corner[1], at_x[some] - corner[0]]
    bits[on] = found
    out[box[0] : box[0] + x.shape[0] - 2, box[1] : box[1] + x.shape[1] - 2] = bits
