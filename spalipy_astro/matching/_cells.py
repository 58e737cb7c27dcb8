"""Points sorted into the cells of a grid, in which the compiled loops find them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "sort_into_cells"]

FloatArray = NDArray[np.float64]
Cells = tuple[FloatArray, NDArray[np.int64], NDArray[np.int64], float, float, float, int]

_SHARE = 2  # points in a cell, were they spread evenly


def sort_into_cells(points: FloatArray) -> Cells:
    """
    Sort points into the square cells of a grid over their first two coordinates.

    Parameters
    ----------
    points : ndarray, shape (N, k)
        One or more, all finite.

    Returns
    -------
    points : ndarray, shape (N, k)
        Cell by cell; cells that follow each other lie above each other.
    numbers : ndarray of int64, shape (N,)
        Which of the points given each of them is.
    starts : ndarray of int64, shape (columns * rows + 1,)
        Where the points of each cell begin.
    left, low, side : float
        Lower corner of the grid, and the side of its cells.
    rows : int
        Cells above each other.
    """
    left, low = points[:, :2].min(axis=0)
    width, height = np.ptp(points[:, :2], axis=0)
    share = _SHARE / len(points)
    side = max(np.sqrt(width * height * share), max(width, height) * share, 1e-9)
    columns, rows = int(width // side) + 1, int(height // side) + 1
    place = np.floor((points[:, :2] - (left, low)) / side).astype(np.int64)
    cell = np.minimum(place[:, 0], columns - 1) * rows + np.minimum(place[:, 1], rows - 1)
    numbers = np.argsort(cell, kind="stable").astype(np.int64, copy=False)
    starts = np.zeros(columns * rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(cell, minlength=columns * rows), out=starts[1:])
    return (
        np.ascontiguousarray(points[numbers]),
        numbers,
        starts,
        float(left),
        float(low),
        float(side),
        rows,
    )
