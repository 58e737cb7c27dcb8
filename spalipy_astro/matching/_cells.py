"""Points sorted into the cells of a grid, in which the compiled loops find them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "sort_into_cells"]

FloatArray = NDArray[np.float64]
Cells = tuple[
    FloatArray,
    NDArray[np.int64],
    NDArray[np.int64],
    tuple[float, ...],
    float,
    tuple[int, ...],
]

_SHARE = 2  # points in a cell, were they spread evenly


def sort_into_cells(points: FloatArray) -> Cells:
    """
    Sort points into the cells of a grid over their first three coordinates, or both of a plane.

    Parameters
    ----------
    points : ndarray, shape (N, k)
        One or more, all finite.

    Returns
    -------
    points : ndarray, shape (N, k)
        Cell by cell; cells that follow each other are neighbors along the last axis of the grid.
    numbers : ndarray of int64, shape (N,)
        Which of the points given each of them is.
    starts : ndarray of int64, shape (cells + 1,)
        Where the points of each cell begin.
    corner : tuple of float
        Lower corner of the grid: three coordinates; in a plane the last one is 0.
    side : float
        Of a cell.
    counts : tuple of int
        Cells along each of the three axes; in a plane there is one along the last.
    """
    placed = points[:, :3]
    corner, extent = placed.min(axis=0), np.ptp(placed, axis=0)
    share = _SHARE / len(points)
    # as many cells as points, also of those on a plane or on a line
    largest = np.cumprod(np.sort(extent)[::-1])
    side = max(*((largest * share) ** (1 / np.arange(1, len(largest) + 1))).tolist(), 1e-9)
    counts = (extent // side).astype(np.int64) + 1
    place = np.minimum(np.floor((placed - corner) / side).astype(np.int64), counts - 1)
    cell = np.ravel_multi_index(tuple(place.T), tuple(counts))
    numbers = np.argsort(cell, kind="stable").astype(np.int64, copy=False)
    starts = np.zeros(counts.prod() + 1, dtype=np.int64)
    np.cumsum(np.bincount(cell, minlength=len(starts) - 1), out=starts[1:])
    flat = len(counts) == 2
    return (
        np.ascontiguousarray(points[numbers]),
        numbers,
        starts,
        (*corner.tolist(), 0.0) if flat else tuple(corner.tolist()),
        side,
        (*counts.tolist(), 1) if flat else tuple(counts.tolist()),
    )
