"""Spaces of tensor-product splines over a rectangle: their functions at points, their penalties."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.models import TensorSpline

__all__ = ["Design", "SplineSpace"]

FloatArray = NDArray[np.float64]
Bounds = tuple[tuple[float, float], tuple[float, float]]

_NOMINAL = 1000.0  # px: the side of a frame of which nothing is known


class Roughness(NamedTuple):
    """
    Coefficient space split into what no penalty touches and what two penalties weigh.

    Attributes
    ----------
    basis : ndarray, shape (p, p)
        First the coefficients of the polynomials that cost nothing, of which the first three are
        1, i and j, with (i, j) the position of a coefficient in its grid; then the other
        directions, scaled so that the low-order penalty is the identity.
    n_null : int
        Number of the former.
    high : ndarray, shape (p - n_null,)
        The high-order penalty along the latter.
    """

    basis: FloatArray
    n_null: int
    high: FloatArray


def _difference_penalty(n_x: int, n_y: int, order: int) -> FloatArray:
    """Isotropic penalty of squared differences of one order on a grid of coefficients."""
    total = np.zeros((n_x * n_y, n_x * n_y))
    for k in range(order + 1):
        d_x = np.diff(np.eye(n_x), k, axis=0)
        d_y = np.diff(np.eye(n_y), order - k, axis=0)
        total += comb(order, k) * np.kron(d_y.T @ d_y, d_x.T @ d_x)
    return total


@lru_cache(maxsize=32)
def _roughness(n_x: int, n_y: int, null_order: int) -> Roughness:
    """Split the coefficient space; polynomials of total degree < `null_order` cost nothing."""
    j, i = np.divmod(np.arange(n_x * n_y), n_x)
    u, v = i - (n_x - 1) / 2, j - (n_y - 1) / 2
    if null_order == 2:
        null = np.column_stack((np.ones_like(u), u, v))
    else:
        # What differences of this order cannot see; 1, u and v first, as everywhere.
        _, vectors = np.linalg.eigh(_difference_penalty(n_x, n_y, null_order))
        null = vectors[:, : null_order * (null_order + 1) // 2]
        plane = np.column_stack((np.ones_like(u), u, v))
        rest = null - plane @ np.linalg.lstsq(plane, null, rcond=None)[0]
        basis = np.linalg.svd(rest, full_matrices=False)[0]
        null = np.column_stack((plane, basis[:, : null.shape[1] - 3]))
    complement = np.linalg.qr(null, mode="complete")[0][:, null.shape[1] :]
    low = complement.T @ _difference_penalty(n_x, n_y, 2) @ complement
    high = complement.T @ _difference_penalty(n_x, n_y, 4) @ complement
    # in coordinates in which the low-order penalty is the identity
    unit = np.linalg.inv(np.linalg.cholesky(low)).T
    weight, vectors = np.linalg.eigh(unit.T @ high @ unit)
    basis = np.column_stack((null, complement @ unit @ vectors))
    weight = np.clip(weight, 0.0, None)
    for array in (basis, weight):
        array.setflags(write=False)
    return Roughness(basis, null.shape[1], weight)


class SplineSpace(NamedTuple):
    """
    A tensor-product spline space over a rectangle, with square cells.

    Parameters
    ----------
    bounds : ((x_lo, x_hi), (y_lo, y_hi))
        Rectangle that the space covers.
    n_x, n_y : int
        Numbers of coefficients.
    degree : int
        Degree of the pieces.
    null_order : int
        Polynomials of total degree below it are not penalized: 2 for the usual spline.
    """

    bounds: Bounds
    n_x: int
    n_y: int
    degree: int
    null_order: int = 2

    @classmethod
    def covering(
        cls, points: FloatArray, cells: int, degree: int, null_order: int = 2
    ) -> SplineSpace:
        """Return the space of `cells` square cells along the longer side of the points' box."""
        lo, hi = points.min(axis=0), points.max(axis=0)
        if not np.max(hi - lo) > 0:  # one star: it says nothing of how large the frame is
            lo, hi = lo - _NOMINAL / 2, hi + _NOMINAL / 2
        extent = np.maximum(hi - lo, 1e-6 * np.max(hi - lo) + 1e-9)
        step = extent.max() / cells
        counts = np.maximum(1, np.ceil(extent / step - 1e-9)).astype(int)
        margin = (counts * step - extent) / 2
        lo, hi = lo - margin, hi + margin
        bounds = ((float(lo[0]), float(hi[0])), (float(lo[1]), float(hi[1])))
        return cls(bounds, int(counts[0]) + degree, int(counts[1]) + degree, degree, null_order)

    @property
    def size(self) -> int:
        """Number of coefficients of one component."""
        return self.n_x * self.n_y

    @property
    def step(self) -> float:
        """Side of a cell."""
        return (self.bounds[0][1] - self.bounds[0][0]) / (self.n_x - self.degree)

    @property
    def roughness(self) -> Roughness:
        """The penalties in this space."""
        return _roughness(self.n_x, self.n_y, self.null_order)

    def plane(self, constant: FloatArray, gradient: FloatArray) -> FloatArray:
        """
        Return the coefficients of the affine map ``constant + gradient @ (x, y)``.

        Parameters
        ----------
        constant : ndarray, shape (2,)
        gradient : ndarray, shape (2, 2)

        Returns
        -------
        ndarray, shape (size, 2)
        """
        # A spline whose coefficients are linear in the Greville points is linear itself
        # (Marsden's identity).
        shift = (self.degree - 1) / 2
        g_x = self.bounds[0][0] + (np.arange(self.n_x) - shift) * self.step
        g_y = self.bounds[1][0] + (np.arange(self.n_y) - shift) * self.step
        points = np.stack(np.broadcast_arrays(g_x[np.newaxis], g_y[:, np.newaxis]), axis=-1)
        return constant + points.reshape(-1, 2) @ np.asarray(gradient).T

    def at(self, points: FloatArray) -> Design:
        """Return the basis functions at points: shape (N, 2)."""
        return Design(self, points)


class Design:
    """
    The basis functions of a space at points, for all that is done there.

    Parameters
    ----------
    space : SplineSpace
    points : ndarray, shape (N, 2)
    """

    def __init__(self, space: SplineSpace, points: FloatArray) -> None:
        self.space = space
        self._shape = space.n_y, space.n_x
        self._spline = TensorSpline(self._shape, space.bounds, space.degree)
        self._x, self._y = np.ascontiguousarray(points.T)

    def __len__(self) -> int:
        return len(self._x)

    def evaluate(self, coefficients: FloatArray) -> FloatArray:
        """Return maps, shape (size, K), at the points: shape (N, K)."""
        terms = [(plane.reshape(self._shape), 0, 0) for plane in coefficients.T]
        return np.ascontiguousarray(self._spline.at(self._x, self._y, terms).T)

    def variance(self, factor: FloatArray) -> FloatArray:
        """Return the variance, shape (N,), where that of coefficients is ``factor @ factor.T``."""
        return self._spline.variance(self._x, self._y, factor @ factor.T)

    def normal_equations(
        self, values: FloatArray, weights: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return matrix, shape (size, size), and right-hand side, (size, K), of least squares."""
        return self._spline.normal_equations(self._x, self._y, values, weights)

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the sums of values, shape (N, K), times each function: shape (size, K)."""
        return self._spline.sums(self._x, self._y, values)
