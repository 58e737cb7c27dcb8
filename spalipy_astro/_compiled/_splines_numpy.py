"""
The loops of splines in numpy: what they do, and what runs where nothing is compiled.

The operations are those of the compiled loops, in their order, so that both give the same bits; but
for `invert_factor` and `penalized_figures`, which are left to LAPACK here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

__all__ = [
    "invert_factor",
    "penalized_figures",
    "spline_basis",
    "spline_equations",
    "spline_points",
    "spline_sums",
    "spline_variance",
]

Array = NDArray[Any]
Basis = tuple[int, float, float, Array, Array]


def spline_basis(t: Array, axis: Basis, nu: int, first: Array, weights: Array) -> None:
    """
    Evaluate the functions of a uniform B-spline basis that are not zero at some points.

    Parameters
    ----------
    t : (N,) array
        The points. At those that are not finite the weights are NaN.
    axis : (number, low, step, pieces, slopes)
        How many functions there are, where the first interval begins and how long each is; the
        polynomials that the functions, and their slopes, are made of within one, with u from 0 to
        1: the factor of ``u**k`` in the ``j``-th one at ``[k, j]``, (order, order) and
        (order - 1, order). Beyond the ends functions continue along their tangents.
    nu : {0, 1}
        Order of the derivative.
    first : (N,) array of int64
        The number of the first function.
    weights : (N, order) array
        Values, or derivatives, of that function and the next ones.
    """
    number, low, step, pieces, slopes = axis
    u = (np.where(np.isfinite(t), t, np.nan) - low) / step
    # A point on an inner knot belongs to the interval on its right, the last knot to the last one.
    first[...] = np.fmin(np.fmax(u, 0), number - len(pieces)).astype(np.int64)  # NaN: the first
    u -= first
    inside = np.clip(u, 0.0, 1.0)
    changes = _polynomials(slopes, inside)
    changes[:, np.isnan(u)] = np.nan  # constants, too
    if nu == 1:
        weights[...] = changes.T / step
        return
    weights[...] = (_polynomials(pieces, inside) + (u - inside) * changes).T


def _polynomials(factors: Array, u: Array) -> Array:
    """Evaluate polynomials, factors of shape (K, N), at points of shape (M,): shape (N, M)."""
    if not len(factors):  # the slopes of steps
        return np.zeros((factors.shape[1], u.size))
    values = np.repeat(factors[-1][:, np.newaxis], u.size, axis=1)
    for factor in factors[-2::-1]:
        values *= u
        values += factor[:, np.newaxis]
    return values


def spline_points(
    x: Array,
    y: Array,
    along_x: Basis,
    along_y: Basis,
    coefficients: Array,
    terms: Array,
    out: Array,
) -> None:
    """
    Evaluate tensor-product splines, or first derivatives of them, at scattered points.

    Parameters
    ----------
    x, y : (N,) arrays
        The points. Values at those that are not finite are NaN.
    along_x, along_y : (number, low, step, pieces, slopes)
        The bases, as for `spline_basis`, of the same order.
    coefficients : (planes, n_y, n_x) array
        Those of the splines.
    terms : (T, 3) array of int64
        What to evaluate: a plane, and the orders of the derivatives along x and y.
    out : (T, N) array
        The values.
    """
    order = len(along_x[3])
    found = {}
    for axis, (t, basis) in enumerate(((x, along_x), (y, along_y))):
        for nu in {*terms[:, 1 + axis].tolist()}:
            first, weights = np.empty(t.size, np.int64), np.empty((t.size, order))
            spline_basis(t, basis, nu, first, weights)
            found[axis, nu] = first, weights.T
    for value, (plane, nu_x, nu_y) in zip(out, terms.tolist(), strict=True):
        (left, weights_x), (low, weights_y) = found[0, nu_x], found[1, nu_y]
        value[...] = 0.0
        for j, weights in enumerate(weights_x):
            line = np.zeros(x.size)
            for k in range(order):
                line += weights_y[k] * coefficients[plane, low + k, left + j]
            value += weights * line


def spline_equations(
    x: Array,
    y: Array,
    along_x: Basis,
    along_y: Basis,
    roots: Array,
    values: Array,
    matrix: Array,
    right: Array,
) -> None:
    """
    Sum up the normal equations of a weighted fit of splines.

    Parameters
    ----------
    x, y : (N,) arrays
        The points, finite where they count.
    along_x, along_y : (number, low, step, pieces, slopes)
        The bases, as for `spline_basis`, of the same order.
    roots : (N,) array
        Square roots of the weights. Points of weight 0 do not count.
    values : (N, K) array
        What to fit.
    matrix, right : (n_y * n_x, n_y * n_x) and (n_y * n_x, K) arrays
        The equations.

    Notes
    -----
    The points of a cell share their functions: the sums of each cell come first.
    """
    counted = roots != 0
    roots, values = roots[counted], values[counted]
    functions, left, low = _functions(x[counted], y[counted], along_x, along_y)
    functions *= roots
    order = len(along_x[3])
    cells_x, cells_y = along_x[0] - order + 1, along_y[0] - order + 1
    number = order * order
    cells = np.empty((cells_y, cells_x, number, number + values.shape[1]))
    for r, own in enumerate(functions):
        products = *(own * other for other in functions), *(own * roots * v for v in values.T)
        for c, product in enumerate(products):
            sums = np.bincount(low * cells_x + left, product, minlength=cells_x * cells_y)
            cells[:, :, r, c] = sums.reshape(cells_y, cells_x)
    matrix[...] = right[...] = 0.0
    places = _places(along_x)
    for row in range(cells_y):
        for column in range(cells_x):
            there = places + row * along_x[0] + column
            matrix[there[:, np.newaxis], there] += cells[row, column, :, :number]
            right[there] += cells[row, column, :, number:]


def spline_sums(
    x: Array, y: Array, along_x: Basis, along_y: Basis, values: Array, out: Array
) -> None:
    """
    Sum up values at points, times each function there.

    Parameters
    ----------
    x, y : (N,) arrays
        The points, finite.
    along_x, along_y : (number, low, step, pieces, slopes)
        The bases, as for `spline_basis`, of the same order.
    values : (N, K) array
    out : (n_y * n_x, K) array
    """
    functions, left, low = _functions(x, y, along_x, along_y)
    rows = _places(along_x) + (low * along_x[0] + left)[:, np.newaxis]
    out[...] = 0.0
    np.add.at(out, rows, functions.T[:, :, np.newaxis] * values[:, np.newaxis])


def spline_variance(
    x: Array, y: Array, along_x: Basis, along_y: Basis, covariance: Array, out: Array
) -> None:
    """
    Evaluate the variance of a spline at scattered points.

    Parameters
    ----------
    x, y : (N,) arrays
        The points. At those that are not finite it is NaN.
    along_x, along_y : (number, low, step, pieces, slopes)
        The bases, as for `spline_basis`, of the same order.
    covariance : (n_y * n_x, n_y * n_x) array
        That of the coefficients, symmetric.
    out : (N,) array
    """
    functions, left, low = _functions(x, y, along_x, along_y)
    corner, places = low * along_x[0] + left, _places(along_x)
    order = len(along_x[3])
    sums = np.zeros_like(functions)
    for r, own in enumerate(functions):
        line = r // order
        for c in range(line * order, order * order):
            # of the lines that follow, their mirror images, too
            weight = own if c < (line + 1) * order else 2 * own
            sums[c] += weight * covariance[corner + places[r], corner + places[c]]
    out[...] = 0.0
    for own, total in zip(functions, sums, strict=True):
        out += own * total


def _functions(x: Array, y: Array, along_x: Basis, along_y: Basis) -> tuple[Array, Array, Array]:
    """Return the functions that are not zero at points, (order squared, N), and the first ones."""
    order = len(along_x[3])
    found = []
    for t, axis in ((x, along_x), (y, along_y)):
        first, weights = np.empty(t.size, np.int64), np.empty((t.size, order))
        spline_basis(t, axis, 0, first, weights)
        found.append((first, weights.T))
    (left, in_x), (low, in_y) = found
    return (in_y[:, np.newaxis] * in_x).reshape(order * order, x.size), left, low


def _places(along_x: Basis) -> Array:
    """Return the numbers of the functions of the first cell."""
    order = len(along_x[3])
    return np.add.outer(np.arange(order) * along_x[0], np.arange(order)).ravel()


def invert_factor(matrix: Array, right: Array, half: Array, upper: Array) -> bool:
    """
    Factor equations A x = r, with A = L L', and invert the factor.

    Parameters
    ----------
    matrix : (N, N) array
        A, symmetric; the lower triangle is read.
    right : (N, 2) array
        r.
    half : (2, N) array
        Becomes the solution of L half' = r.
    upper : (N, N) array
        Zeros; becomes the inverse of L, transposed: A has the inverse upper upper', and x is
        upper half'.

    Returns
    -------
    bool
        Whether A is positive definite; if it is not, both are void.
    """
    factor, info = linalg.lapack.dpotrf(matrix, lower=1)
    if info or np.isnan(factor.diagonal()).any():
        return False
    half[:] = linalg.lapack.dtrtrs(factor, right, lower=1)[0].T
    upper[:] = linalg.lapack.dtrtri(factor, lower=1)[0].T
    return True


def penalized_figures(
    matrix: Array,
    right: Array,
    roughness: Array,
    size: int,
    low: float,
    high: float,
    figures: Array,
) -> bool:
    """
    Sum up what the restricted likelihood of a penalized fit is made of, and its derivatives.

    With M the matrix, H the roughness, P = low + high H the penalty, B the inverse of M + P, r the
    right-hand side and s = B r the solutions.

    Parameters
    ----------
    matrix : (N, N) array
        Symmetric; the lower triangle is read.
    right : (N, 2) array
    roughness : (N,) array
        Not negative.
    size : int
        The first so many functions are looked at.
    low, high : float
        Weights of the penalties, positive.
    figures : (2,) or (14,) array
        The logarithm of det(M + P) / det(P), and r . s. Then s . s and s . H s; s . B s,
        s . B H s and H s . B H s; the traces of B, B H, B B, B B H and B H B H; of low / P and of
        the square of that.

    Returns
    -------
    bool
        Whether M + P is positive definite; if it is not, the figures are void.
    """
    roughness, right = roughness[:size], right[:size]
    penalty = low + high * roughness
    factor, info = linalg.lapack.dpotrf(matrix[:size, :size] + np.diag(penalty), lower=1)
    if info or np.isnan(factor.diagonal()).any():
        return False
    half = linalg.lapack.dtrtrs(factor, right, lower=1)[0]
    figures[0] = 2 * np.log(factor.diagonal()).sum() - np.log(penalty).sum()
    figures[1] = np.sum(half**2)
    if len(figures) == 2:
        return True
    inverse = linalg.lapack.dpotri(factor, lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    solution = inverse @ right
    weighted = roughness[:, np.newaxis] * solution
    squared, share = inverse**2, low / penalty
    figures[2:] = (
        np.sum(solution**2),
        np.sum(solution * weighted),
        np.sum(solution * (inverse @ solution)),
        np.sum(solution * (inverse @ weighted)),
        np.sum(weighted * (inverse @ weighted)),
        inverse.trace(),
        inverse.diagonal() @ roughness,
        squared.sum(),
        squared.sum(axis=0) @ roughness,
        roughness @ squared @ roughness,
        share.sum(),
        share @ share,
    )
    return True
