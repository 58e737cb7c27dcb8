"""Uniform tensor-product B-splines on points and on grids; arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spalipy_astro import _compiled

__all__ = ["TensorSpline", "find_grids", "uniform_basis"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Axis = tuple[int, float, float, FloatArray, FloatArray]


@lru_cache
def _pieces(degree: int) -> tuple[FloatArray, FloatArray]:
    """
    Return the polynomials that the functions of a uniform basis are made of within one interval.

    Returns
    -------
    values : ndarray, shape (degree + 1, degree + 1)
        The factor of ``u**k`` in the ``j``-th function that is not zero, at ``[k, j]``, with u from
        0 to 1.
    slopes : ndarray, shape (degree, degree + 1)
        The same of their derivatives by u.
    """
    pieces = np.ones((1, 1))
    for p in range(1, degree + 1):
        lower, pieces = pieces / p, np.zeros((p + 1, p + 1))
        for j in range(p):  # the recurrence of Cox and de Boor
            pieces[:-1, j] += (j + 1) * lower[:, j]
            pieces[1:, j] -= lower[:, j]
            pieces[:-1, j + 1] += (p - j - 1) * lower[:, j]
            pieces[1:, j + 1] += lower[:, j]
    slopes = np.arange(1, degree + 1)[:, np.newaxis] * pieces[1:]
    for array in (pieces, slopes):
        array.setflags(write=False)
    return pieces, slopes


def _axis(n: int, lo: float, hi: float, degree: int) -> Axis:
    """Return a basis as the loops take it."""
    return n, float(lo), (float(hi) - float(lo)) / (n - degree), *_pieces(degree)


def uniform_basis(
    t: ArrayLike, n: int, lo: float, hi: float, degree: int, nu: int = 0
) -> tuple[IntArray, FloatArray]:
    """
    Evaluate the non-zero functions of a uniform B-spline basis.

    The basis has ``n`` functions over ``n - degree`` equal intervals of ``[lo, hi]``; at any point
    ``degree + 1`` neighboring functions differ from zero and sum to one. Outside ``[lo, hi]``
    splines built from the weights continue along their tangent at the edge: linearly.

    Parameters
    ----------
    t : array_like, shape (N,)
        Where to evaluate. Non-finite values give NaN weights.
    n : int
        Number of basis functions, at least ``degree + 1``.
    lo, hi : float
        The interval that the basis covers, ``lo < hi``.
    degree : int
        Degree of the polynomial pieces, 1 to 5.
    nu : int, optional
        Order of the derivative with respect to ``t``: 0 (default) or 1.

    Returns
    -------
    first : ndarray of int, shape (N,)
        Index of the first basis function that is not zero.
    weights : ndarray of float, shape (N, degree + 1)
        Values, or first derivatives, of the functions ``first``, ``first + 1``, ...

    References
    ----------
    .. [1] de Boor, C. 1978, "A Practical Guide to Splines", Springer,
       doi:10.1007/978-1-4612-6333-3
    .. [2] Eilers, P. H. C. & Marx, B. D. 1996, Statistical Science, 11, 89,
       doi:10.1214/ss/1038425655 (uniform bases with linear tails)

    Examples
    --------
    >>> from spalipy_astro.models import uniform_basis
    >>> first, weights = uniform_basis([0.0, 5.0, 12.0], n=5, lo=0.0, hi=10.0, degree=1)
    >>> first
    array([0, 2, 3])
    >>> weights
    array([[ 1. ,  0. ],
           [ 1. ,  0. ],
           [-0.8,  1.8]])
    """
    if nu not in (0, 1):
        raise ValueError(f"nu is the order of the derivative, 0 or 1; got {nu!r}.")
    t = np.ascontiguousarray(t, dtype=float)
    first, weights = np.empty(t.size, np.int64), np.empty((t.size, degree + 1))
    _compiled.spline_basis(t, _axis(n, lo, hi, degree), nu, first, weights)
    return first, weights


def _dense_basis(
    t: FloatArray, n: int, lo: float, hi: float, degree: int, nu: int = 0
) -> FloatArray:
    """Evaluate all functions of a basis, as a matrix of shape ``(t.size, n)``; parameters alike."""
    first, weights = uniform_basis(t, n, lo, hi, degree, nu)
    dense = np.zeros((t.size, n))
    columns = first[:, np.newaxis] + np.arange(degree + 1)
    dense[np.arange(t.size)[:, np.newaxis], columns] = weights
    return dense


class Grid(NamedTuple):
    """Points ``part`` of a flat list: every ``fast`` value for each ``slow`` value in turn."""

    part: slice
    slow: FloatArray
    fast: FloatArray
    x_is_fast: bool


def find_grids(x: FloatArray, y: FloatArray) -> list[Grid] | None:
    """
    Describe a flat list of points as the raveled grids that it consists of.

    A chunk of a raveled grid may begin and end in the middle of a row: it consists of a piece of a
    row, whole rows, and another piece. The coordinates must agree bit by bit.

    Parameters
    ----------
    x, y : ndarray, shape (N,)
        The points.

    Returns
    -------
    list of Grid or None
        Up to three grids, or None where the points are no grid (or hold NaN).
    """
    for x_is_fast, fast, slow in ((True, x, y), (False, y, x)):
        grids = _find_rows(fast, slow, x_is_fast)
        if grids is not None:
            return grids
    return None


def _find_rows(fast: FloatArray, slow: FloatArray, x_is_fast: bool) -> list[Grid] | None:
    """Split points into grids whose rows share one ``slow`` value; None where they are no grid."""
    size = slow.size
    probe = slow[:64]
    if size > 64 and np.count_nonzero(probe[1:] != probe[:-1]) > 32:
        return None  # scattered: do not read on
    ends = np.flatnonzero(slow[1:] != slow[:-1]) + 1
    if ends.size == 0:
        return [Grid(slice(0, size), slow[:1], fast, x_is_fast)] if size else None
    head = int(ends[0])
    row = int(ends[1]) - head if ends.size > 1 else max(head, size - head)
    if head == row:
        head = 0
    n_rows = (size - head) // row
    tail = head + n_rows * row
    expected = np.arange(head or row, size, row)
    if n_rows < 1 or row == 1 or not np.array_equal(ends, expected):
        return None
    rows = fast[head:tail].reshape(n_rows, row)
    if not np.array_equal(rows, np.broadcast_to(rows[0], rows.shape)):
        return None
    grids = [Grid(slice(head, tail), slow[head:tail:row], rows[0], x_is_fast)]
    if head:
        grids.append(Grid(slice(0, head), slow[:1], fast[:head], x_is_fast))
    if tail < size:
        grids.append(Grid(slice(tail, size), slow[tail : tail + 1], fast[tail:], x_is_fast))
    return grids


class TensorSpline:
    """
    One tensor-product B-spline basis on a rectangle, for any number of coefficient arrays.

    Parameters
    ----------
    shape : tuple of int
        Shape ``(n_y, n_x)`` of the coefficient arrays.
    bounds : ((x_lo, x_hi), (y_lo, y_hi))
        The rectangle that the basis covers, in pixels.
    degree : int
        Degree along both axes.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        bounds: tuple[tuple[float, float], tuple[float, float]],
        degree: int,
    ) -> None:
        self.shape = shape
        self.bounds = bounds
        self.degree = degree

    def _dense_basis(self, axis: int, t: FloatArray, nu: int) -> FloatArray:
        """Evaluate all functions of the basis along x (axis 0) or y (axis 1)."""
        return _dense_basis(t, self.shape[1 - axis], *self.bounds[axis], self.degree, nu)

    def evaluate(
        self,
        x: FloatArray,
        y: FloatArray,
        terms: Sequence[tuple[FloatArray, int, int]],
    ) -> list[FloatArray]:
        """
        Evaluate splines, or first derivatives of them, at points or on a grid.

        Parameters
        ----------
        x, y : ndarray
            Pixel coordinates that broadcast against each other. Grids are recognized: open ones
            (shapes ``(1, nx)`` and ``(ny, 1)``), dense ones and raveled ones, or chunks of these.
        terms : sequence of (coefficients, nu_x, nu_y)
            What to evaluate: arrays of shape ``(n_y, n_x)`` and the orders of the derivatives.

        Returns
        -------
        list of ndarray
            One array of the common shape of ``x`` and ``y`` for each term.
        """
        shape = np.broadcast_shapes(x.shape, y.shape)
        if y.ndim == 2 and y.shape[1] == 1 and (x.ndim == 1 or (x.ndim == 2 and x.shape[0] == 1)):
            return [self._on_grid(y.ravel(), x.ravel(), True, term) for term in terms]
        if x.ndim == 2 and x.shape[1] == 1 and (y.ndim == 1 or (y.ndim == 2 and y.shape[0] == 1)):
            return [self._on_grid(x.ravel(), y.ravel(), False, term) for term in terms]

        x, y = (np.broadcast_to(t, shape).ravel() for t in (x, y))
        grids = find_grids(x, y)
        if grids is not None and len(grids) == 1:  # saves a copy of large arrays
            (grid,) = grids
            return [
                self._on_grid(grid.slow, grid.fast, grid.x_is_fast, term).reshape(shape)
                for term in terms
            ]
        if grids is None:
            return [value.reshape(shape) for value in self.at(x, y, terms)]
        values = [np.empty(x.size) for _ in terms]
        for grid in grids:
            for value, term in zip(values, terms, strict=True):
                on_grid = self._on_grid(grid.slow, grid.fast, grid.x_is_fast, term)
                value[grid.part] = on_grid.ravel()
        return [value.reshape(shape) for value in values]

    def normal_equations(
        self, x: FloatArray, y: FloatArray, values: FloatArray, weights: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """
        Sum up the normal equations of a weighted least-squares fit.

        Parameters
        ----------
        x, y : ndarray, shape (N,)
            Scattered points.
        values : ndarray, shape (N, K)
            What splines shall be there.
        weights : ndarray, shape (N,)
            Not negative; points of weight 0 do not count.

        Returns
        -------
        matrix : ndarray, shape (n_y * n_x, n_y * n_x)
        right : ndarray, shape (n_y * n_x, K)
        """
        size = self.shape[0] * self.shape[1]
        matrix, right = np.empty((size, size)), np.empty((size, values.shape[1]))
        arrays = (np.ascontiguousarray(t, dtype=float) for t in (np.sqrt(weights), values))
        _compiled.spline_equations(*self._points(x, y), *arrays, matrix, right)
        return matrix, right

    def sums(self, x: FloatArray, y: FloatArray, values: FloatArray) -> FloatArray:
        """
        Sum up values at points, times each function of the basis there.

        Parameters
        ----------
        x, y : ndarray, shape (N,)
            Scattered points.
        values : ndarray, shape (N, K)

        Returns
        -------
        ndarray, shape (n_y * n_x, K)
            The right-hand side of `normal_equations`, of values times their weights.
        """
        out = np.empty((self.shape[0] * self.shape[1], values.shape[1]))
        weighted = np.ascontiguousarray(values, dtype=float)
        _compiled.spline_sums(*self._points(x, y), weighted, out)
        return out

    def variance(self, x: FloatArray, y: FloatArray, covariance: FloatArray) -> FloatArray:
        """
        Return the variance, shape (N,), of splines whose coefficients have a covariance.

        Parameters
        ----------
        x, y : ndarray, shape (N,)
            Scattered points.
        covariance : ndarray, shape (n_y * n_x, n_y * n_x)
            Symmetric.
        """
        out = np.empty(len(x))
        matrix = np.ascontiguousarray(covariance, dtype=float)
        _compiled.spline_variance(*self._points(x, y), matrix, out)
        return np.maximum(out, 0.0, out=out)  # rounding may leave less

    def _on_grid(
        self,
        slow: FloatArray,
        fast: FloatArray,
        x_is_fast: bool,
        term: tuple[FloatArray, int, int],
    ) -> FloatArray:
        """Evaluate one term on a grid, as an array of shape ``(slow.size, fast.size)``."""
        coeff, nu_x, nu_y = term
        if x_is_fast:
            left, right = self._dense_basis(1, slow, nu_y), self._dense_basis(0, fast, nu_x)
        else:
            left, right, coeff = (
                self._dense_basis(0, slow, nu_x),
                self._dense_basis(1, fast, nu_y),
                coeff.T,
            )
        return (left @ coeff) @ right.T

    def at(
        self, x: FloatArray, y: FloatArray, terms: Sequence[tuple[FloatArray, int, int]]
    ) -> FloatArray:
        """Evaluate terms, see `evaluate`, at scattered points, shape (N,): one row for each."""
        planes = {id(coeff): coeff for coeff, _, _ in terms}
        places = {name: k for k, name in enumerate(planes)}
        values = np.empty((len(terms), x.size))
        _compiled.spline_points(
            *self._points(x, y),
            np.array(list(planes.values()), dtype=float),
            np.array([(places[id(coeff)], *nus) for coeff, *nus in terms], dtype=np.int64),
            values,
        )
        return values

    def _points(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, Axis, Axis]:
        """Return points and both bases as the loops take them."""
        along_x, along_y = (
            _axis(n, *bounds, self.degree)
            for n, bounds in zip(self.shape[::-1], self.bounds, strict=True)
        )
        x, y = (np.ascontiguousarray(t, dtype=float) for t in (x, y))
        return x, y, along_x, along_y
