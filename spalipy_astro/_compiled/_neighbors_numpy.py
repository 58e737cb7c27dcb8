"""
Points of a plane near others: what the compiled loops do, by scipy's tree.

``strips`` are points in strips of about as many each, from small x to large, and by y within a
strip: their x and y (N,), what each is called, where the strips begin (S + 1,), and their smallest
and largest x (S,). Places are x and y, shape (P,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["count_points", "list_points", "nearest_points"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Strips = tuple[FloatArray, FloatArray, IntArray, IntArray, FloatArray, FloatArray]


def nearest_points(
    strips: Strips, x: FloatArray, y: FloatArray, numbers: IntArray, squares: FloatArray
) -> None:
    """
    Find the nearest points of places.

    Parameters
    ----------
    strips : tuple of ndarray
        N points.
    x, y : ndarray, shape (P,)
    numbers : ndarray of int, shape (P, k)
        Filled with what the k nearest points are called, the nearest first, of those as near the
        smallest number; N where there are no more.
    squares : ndarray, shape (P, k)
        Filled with the squares of their distances, infinite where there are no more.
    """
    n, k = len(strips[0]), numbers.shape[1]
    numbers[:], squares[:] = n, np.inf
    if not n or not len(x):
        return
    last = _tree(strips).query(np.column_stack((x, y)), k=[min(k, n)])[0][:, 0]
    found = _within(strips, x, y, last * (1 + 1e-12))  # with all that are as near as the last one
    size = np.array([len(row) for row in found])
    place, row = np.repeat(np.arange(len(x)), size), np.concatenate(found)
    square = np.square(strips[0][row] - x[place]) + np.square(strips[1][row] - y[place])
    order = np.lexsort((strips[2][row], square, place))
    rank = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
    order, rank = order[rank < k], rank[rank < k]
    numbers[place[order], rank] = strips[2][row[order]]
    squares[place[order], rank] = square[order]


def count_points(
    strips: Strips, x: FloatArray, y: FloatArray, reach: FloatArray, counts: IntArray
) -> None:
    """
    Count the points within a reach (P,) of places.

    Parameters
    ----------
    strips : tuple of ndarray
    x, y, reach : ndarray, shape (P,)
    counts : ndarray of int, shape (P,)
        Filled with the numbers.
    """
    counts[:] = [len(row) for row in _within(strips, x, y, reach)]


def list_points(
    strips: Strips,
    x: FloatArray,
    y: FloatArray,
    reach: FloatArray,
    pointer: IntArray,
    numbers: IntArray,
) -> None:
    """
    List the points within a reach of places.

    Parameters
    ----------
    strips : tuple of ndarray
    x, y, reach : ndarray, shape (P,)
    pointer : ndarray of int, shape (P + 1,)
        Where the points of each place begin.
    numbers : ndarray of int
        Filled with what they are called, from small to large.
    """
    for k, row in enumerate(_within(strips, x, y, reach)):
        numbers[pointer[k] : pointer[k + 1]] = np.sort(strips[2][row])


def _tree(strips: Strips) -> cKDTree:
    return cKDTree(np.column_stack(strips[:2]))


def _within(strips: Strips, x: FloatArray, y: FloatArray, reach: FloatArray) -> list[IntArray]:
    """Return the rows of points within reach of each place."""
    if not len(strips[0]) or not len(x):
        return [np.empty(0, np.int64)] * len(x)
    found = _tree(strips).query_ball_point(np.column_stack((x, y)), reach)
    return [np.asarray(row, dtype=np.int64) for row in found]
