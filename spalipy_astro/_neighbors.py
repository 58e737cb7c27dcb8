"""Which points of a plane are near others."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spalipy_astro import _compiled

__all__ = ["Neighbors", "neighbor_lists", "neighbor_pairs"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_STRIPS = 0.6  # times the root of the number of points: strips of few and long searches, or both
_NEIGHBORS = 8  # of a point in the mean; for more there is room at the second attempt


class Neighbors:
    """
    Points of a plane, sorted so that those near a place are found soon.

    They are cut into strips along y that hold as many points each, and are sorted by y within a
    strip: as fast to search as a tree with fewer parts, also where they are crowded here and lonely
    there.

    Parameters
    ----------
    xy : array_like, shape (N, 2)

    Raises
    ------
    ValueError
        For another shape, or positions that are not finite.
    """

    def __init__(self, xy: ArrayLike) -> None:
        points = _checked(xy, "xy")
        n = len(points)
        strips = max(round(_STRIPS * np.sqrt(n)), 1)
        height = -(-n // strips)
        strips = max(-(-n // max(height, 1)), 1)
        x, y = points.T
        by_x = np.argsort(x)
        starts = np.minimum(np.arange(strips + 1) * height, n)
        rest = np.full(strips * height, np.inf)
        rest[:n] = y[by_x]
        rows = np.argsort(rest.reshape(strips, height), axis=1) + starts[:-1, np.newaxis]
        numbers = by_x[rows.ravel()[:n]]
        ends = np.zeros((2, strips))
        if n:
            ends[:] = x[by_x[starts[:-1]]], x[by_x[starts[1:] - 1]]
        self._strips = (
            *(np.ascontiguousarray(points[numbers, axis]) for axis in (0, 1)),
            numbers.astype(np.int64),
            starts.astype(np.int64),
            *ends,
        )

    def nearest(self, places: ArrayLike, k: int | None = None) -> tuple[FloatArray, IntArray]:
        """
        Find the nearest points of places.

        Parameters
        ----------
        places : array_like, shape (..., 2)
        k : int, optional
            How many; by default one, and the results have no axis for them.

        Returns
        -------
        distance : ndarray, shape (..., k)
            From small to large; infinite where there are no more points.
        number : ndarray of int, shape (..., k)
            Rows of the points; of those as near as each other the first ones. N where there are no
            more.
        """
        places = np.asarray(places)
        x, y = _axes(places.reshape(-1, places.shape[-1]))
        number = np.empty((len(x), k or 1), dtype=np.int64)
        square = np.empty(number.shape)
        _compiled.nearest_points(self._strips, x, y, number, square)
        shape = places.shape[:-1] if k is None else (*places.shape[:-1], k)
        return np.sqrt(square, out=square).reshape(shape), number.reshape(shape)

    def count(self, places: ArrayLike, reach: ArrayLike) -> IntArray:
        """Count the points within ``reach``, which may differ, of places (P, 2)."""
        x, y = _axes(places)
        counts = np.empty(len(x), dtype=np.int64)
        _compiled.count_points(self._strips, x, y, _reaches(reach, len(x)), counts)
        return counts

    def within(self, places: ArrayLike, reach: ArrayLike) -> tuple[IntArray, IntArray]:
        """
        List the points within reach of places.

        Parameters
        ----------
        places : array_like, shape (P, 2)
        reach : float or array_like, shape (P,)

        Returns
        -------
        pointer : ndarray of int, shape (P + 1,)
            Where the points of each place begin in ``number``.
        number : ndarray of int
            Rows of the points, for each place from small to large.
        """
        x, y = _axes(places)
        reaches = _reaches(reach, len(x))
        counts = np.empty(len(x), dtype=np.int64)
        _compiled.count_points(self._strips, x, y, reaches, counts)
        pointer = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
        number = np.empty(pointer[-1], dtype=np.int64)
        _compiled.list_points(self._strips, x, y, reaches, pointer, number)
        return pointer, number


def neighbor_lists(xy: ArrayLike, reach: float) -> tuple[IntArray, IntArray]:
    """
    List the other points within ``reach`` of each of some points.

    Parameters
    ----------
    xy : array_like, shape (N, 2)
    reach : float

    Returns
    -------
    pointer : ndarray of int, shape (N + 1,)
        Where those of each point begin in ``number``.
    number : ndarray of int
        Rows of the points, for each point from small to large.
    """
    points = np.ascontiguousarray(_checked(xy, "xy"))
    pointer = np.empty(len(points) + 1, np.int64)
    index = np.empty(_NEIGHBORS * len(points), np.int64)
    number = _compiled.find_neighbors(points, float(reach), pointer, index)
    if number > len(index):
        index = np.empty(number, np.int64)
        _compiled.find_neighbors(points, float(reach), pointer, index)
    return pointer, index[:number]


def neighbor_pairs(xy: ArrayLike, reach: float) -> tuple[IntArray, IntArray]:
    """Return the rows of both points of all pairs within ``reach``; the first is the smaller."""
    pointer, other = neighbor_lists(xy, reach)
    me = np.repeat(np.arange(len(pointer) - 1), np.diff(pointer))
    return me[me < other], other[me < other]


def _checked(xy: ArrayLike, name: str) -> FloatArray:
    """Return positions as they are searched."""
    points = np.asarray(xy, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name} must have the shape (N, 2), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must be finite; leave out what is NaN or infinite")
    return points


def _axes(places: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = _checked(places, "places").T
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _reaches(reach: ArrayLike, number: int) -> FloatArray:
    return np.ascontiguousarray(np.broadcast_to(np.asarray(reach, dtype=np.float64), number))
