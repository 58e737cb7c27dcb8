"""
Smooth maps of the plane from scattered values: penalized splines with REML smoothing.

A map sends points ``(x, y)`` to pairs of values. Both components share one design, one set of
weights and one smoothness, so that one small eigenproblem and one Cholesky factor serve them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from spalipy_astro._splines import uniform_basis

__all__ = ["Design", "Posterior", "SplineSpace", "System", "choose_smoothing", "solve"]

FloatArray = NDArray[np.float64]
Bounds = tuple[tuple[float, float], tuple[float, float]]

_PRIOR_DEX = (
    1.55  # 1-sigma width of the prior on the penalty: twice 0.78, a factor of six in length
)
_SMOOTHEST = 48  # functions with which the search for the smoothness begins
_CHUNK = 8192  # points whose dense design rows are held at once


@dataclass(frozen=True)
class Roughness:
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
        _, vectors = linalg.eigh(_difference_penalty(n_x, n_y, null_order))
        null = vectors[:, : null_order * (null_order + 1) // 2]
        plane = np.column_stack((np.ones_like(u), u, v))
        rest = null - plane @ np.linalg.lstsq(plane, null, rcond=None)[0]
        basis = linalg.svd(rest, full_matrices=False)[0]
        null = np.column_stack((plane, basis[:, : null.shape[1] - 3]))
    complement = linalg.qr(null)[0][:, null.shape[1] :]
    low = complement.T @ _difference_penalty(n_x, n_y, 2) @ complement
    high = complement.T @ _difference_penalty(n_x, n_y, 4) @ complement
    weight, vectors = linalg.eigh(high, low)
    basis = np.column_stack((null, complement @ vectors))
    weight = np.clip(weight, 0.0, None)
    for array in (basis, weight):
        array.setflags(write=False)
    return Roughness(basis, null.shape[1], weight)


@dataclass(frozen=True)
class SplineSpace:
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

    def evaluate(self, coefficients: FloatArray, points: FloatArray) -> FloatArray:
        """Return the map with these coefficients, shape (size, 2), at points: shape (N, 2)."""
        return self.at(points).evaluate(coefficients)


class Design:
    """
    The basis functions of a space at points, made once for all that is done there.

    Parameters
    ----------
    space : SplineSpace
    points : ndarray, shape (N, 2)
    """

    def __init__(self, space: SplineSpace, points: FloatArray) -> None:
        self.space = space
        self._points = points

    def __len__(self) -> int:
        return len(self._points)

    def _dense(self, part: slice) -> FloatArray:
        """Return the values of all functions at some of the points: shape (N, size)."""
        space, points = self.space, self._points[part]
        along = []
        for axis, number in ((0, space.n_x), (1, space.n_y)):
            first, weights = uniform_basis(
                points[:, axis], number, *space.bounds[axis], space.degree
            )
            values = np.zeros((len(points), number))
            columns = first[:, np.newaxis] + np.arange(space.degree + 1)
            values[np.arange(len(points))[:, np.newaxis], columns] = weights
            along.append(values)
        along_x, along_y = along
        return (along_y[:, :, np.newaxis] * along_x[:, np.newaxis]).reshape(len(points), -1)

    @cached_property
    def _whole(self) -> FloatArray:
        return self._dense(slice(None))

    def _blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield the points piece by piece; a single piece is kept."""
        if len(self) <= _CHUNK:
            yield slice(None), self._whole
            return
        for start in range(0, len(self), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield part, self._dense(part)

    def evaluate(self, coefficients: FloatArray) -> FloatArray:
        """Return maps, shape (size, K), at the points: shape (N, K)."""
        return np.concatenate([block @ coefficients for _, block in self._blocks()])

    def error(self, factor: FloatArray) -> FloatArray:
        """Return the errors, shape (N,), that go with ``factor @ factor.T`` as the covariance."""
        products = (block @ factor for _, block in self._blocks())
        return np.concatenate([np.sqrt(np.einsum("nk,nk->n", p, p)) for p in products])

    def normal_equations(
        self, values: FloatArray, weights: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return matrix, shape (size, size), and right-hand side, (size, 2), of least squares."""
        matrix = np.zeros((self.space.size, self.space.size))
        right = np.zeros((self.space.size, 2))
        roots = np.sqrt(weights)[:, np.newaxis]
        for part, block in self._blocks():
            weighted = block * roots[part]
            matrix += weighted.T @ weighted
            right += weighted.T @ (roots[part] * values[part])
        return matrix, right


@dataclass(frozen=True)
class Posterior:
    """
    A fitted map and its uncertainty.

    Attributes
    ----------
    coefficients : ndarray, shape (size, 2)
        Coefficients of both components.
    factor : ndarray, shape (size, k)
        ``factor @ factor.T`` is the covariance of the coefficients of one component.
    freedom : float
        Effective number of parameters of one component.
    smoothing : tuple of float
        Weights of the low- and the high-order penalty.
    noise : float
        Estimated variance of a value of unit weight.
    """

    coefficients: FloatArray
    factor: FloatArray
    freedom: float
    smoothing: tuple[float, float]
    noise: float


class System:
    """
    Normal equations of a map in the coordinates in which both penalties are diagonal.

    Parameters
    ----------
    design : Design
        Of the points.
    values : ndarray, shape (N, 2)
        What the map shall send the points to.
    weights : ndarray, shape (N,)
        One over the variance of each value; points of weight 0 do not count.
    noise_prior : (count, variance), optional
        What is known of the variance of a value of unit weight, as if measured on that many values.
    """

    def __init__(
        self,
        design: Design,
        values: FloatArray,
        weights: FloatArray,
        noise_prior: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.space = design.space
        self._equations = design.normal_equations(values, weights)
        self.total = float(np.sum(weights[:, np.newaxis] * values**2))
        split = self.space.roughness
        self.basis, self.n_null, self.high = split.basis, split.n_null, split.high
        self.n_values = 2 * max(int(np.count_nonzero(weights)) - self.n_null, 0)
        self.prior_count, self.prior_noise = noise_prior

    def projected(self, basis: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return matrix and right-hand side for coefficients ``basis @ z``."""
        matrix, right = self._equations
        return basis.T @ matrix @ basis, basis.T @ right

    @cached_property
    def whole(self) -> tuple[FloatArray, FloatArray]:
        """Matrix and right-hand side in the coordinates of `basis`."""
        return self.projected(self.basis)

    @cached_property
    def _rough(self) -> tuple[FloatArray, FloatArray, float]:
        """Matrix, right-hand side and total of the penalized part, the free one eliminated."""
        matrix, right = self.whole
        m = self.n_null
        scale = np.sqrt(np.diag(matrix)[:m])
        cross = matrix[:m, m:] / scale[:, np.newaxis]
        inverse = linalg.pinvh(matrix[:m, :m] / np.outer(scale, scale))
        scaled = right[:m] / scale[:, np.newaxis]
        # Fortran's order is that of LAPACK, which the search calls at every step
        return (
            np.asfortranarray(matrix[m:, m:] - cross.T @ inverse @ cross),
            np.asfortranarray(right[m:] - cross.T @ (inverse @ scaled)),
            self.total - float(np.sum(scaled * (inverse @ scaled))),
        )

    def penalty(self, smoothing: tuple[float, float]) -> FloatArray:
        return smoothing[0] + smoothing[1] * self.high

    def noise(self, misfit: float) -> float:
        """Posterior-mean-like noise: residual sum and prior pooled by their counts."""
        count = self.n_values + self.prior_count
        return (max(misfit, 0.0) + self.prior_count * self.prior_noise) / max(count, 1e-9)

    def criterion(self, log_low: float, log_high: float, size: int | None = None) -> float:
        """Return -2 log of the restricted likelihood, but for a constant; ``size``: of a part."""
        matrix, right, total = self._rough
        penalty = self.penalty((10.0**log_low, 10.0**log_high))[:size]
        matrix, right = matrix[:size, :size].copy(order="F"), right[:size]
        matrix.ravel(order="F")[:: len(matrix) + 1] += penalty
        # straight to LAPACK: this is called some hundred times, and what wraps it takes as long
        factor, info = linalg.lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
        if info:
            return np.inf
        half = linalg.lapack.dtrtrs(factor, right, lower=1)[0].ravel(order="K")
        misfit = total - float(half @ half)
        log_det = 2 * np.log(factor.diagonal()).sum() - np.log(penalty).sum()
        count = self.n_values + self.prior_count
        return 2 * log_det + count * np.log(max(self.noise(misfit), 1e-300))

    @property
    def center(self) -> float:
        """The log10 of a weight that is neither small nor large against the data."""
        matrix = self._equations[0]
        return float(np.log10(max(np.trace(matrix) / self.space.size, 1e-300)))


def _log_penalty(space: SplineSpace, amplitude: float) -> float:
    """Return the log10 of the low-order weight that goes with a departure from the affine map."""
    (x_lo, x_hi), (y_lo, y_hi) = space.bounds
    half2 = ((x_hi - x_lo) ** 2 + (y_hi - y_lo) ** 2) / 4
    return float(-2 * np.log10(2 * amplitude * space.step**2 / half2))


def choose_smoothing(
    system: System,
    *,
    amplitude: float | None = None,
    start: tuple[float, float] | None = None,
    accuracy: float = 0.15,
) -> tuple[float, float]:
    """
    Choose the weights of both penalties by restricted maximum likelihood.

    Parameters
    ----------
    system : System
    amplitude : float, optional
        How far the map is expected to depart from an affine one, in the unit of the values, within
        a factor of six (1 sigma). Where there are few points, this keeps the fit from following
        their errors and from claiming that there is no distortion.
    start : tuple of float, optional
        Weights that were chosen for almost the same points: the search begins there.
    accuracy : float, optional
        Step, in powers of ten, at which the search ends.

    Returns
    -------
    low, high : float
        Weights of the squared second and fourth differences of the coefficients.

    References
    ----------
    .. [1] Patterson, H. D. & Thompson, R. 1971, Biometrika, 58, 545, doi:10.1093/biomet/58.3.545
    .. [2] Wood, S. N. 2011, J. R. Stat. Soc. B, 73, 3, doi:10.1111/j.1467-9868.2010.00749.x
    """
    center = system.center
    expected = np.inf if amplitude is None else _log_penalty(system.space, amplitude)

    def criterion(log_low: float, log_high: float) -> float:
        prior = 0.0 if amplitude is None else ((log_low - expected) / _PRIOR_DEX) ** 2
        return system.criterion(log_low, log_high) + prior

    def smooth_criterion(log_low: float, log_high: float) -> float:
        prior = 0.0 if amplitude is None else ((log_low - expected) / _PRIOR_DEX) ** 2
        return system.criterion(log_low, log_high, _SMOOTHEST) + prior

    limits = center - 10.6, center + 7.6
    if start is not None:
        best, step = (float(np.log10(start[0])), float(np.log10(start[1]))), 0.4
    else:
        # There may be several minima, such as one for each of the penalties alone. They are sought
        # with the smoothest functions, from "no distortion at all" to interpolation.
        found = []
        for high in (-9.0, -2.0, 6.0):
            line = [(center + low, center + high) for low in np.arange(-9.0, 6.1, 3.0)]
            lowest = min(line, key=lambda point: (smooth_criterion(*point), point))
            found.append(_descend(smooth_criterion, lowest, 1.6, 1.0, limits))
        best, step = min(found, key=lambda point: (criterion(*point), point)), 0.8
    best = _descend(criterion, best, step, accuracy, limits)
    return 10.0 ** best[0], 10.0 ** best[1]


def _descend(
    criterion: Callable[[float, float], float],
    start: tuple[float, float],
    step: float,
    accuracy: float,
    limits: tuple[float, float],
) -> tuple[float, float]:
    """Find a minimum by steps along both axes, halved where none of them leads down."""
    best, values = start, {start: criterion(*start)}
    while step > accuracy:
        around = [
            (best[0] + i * step, best[1] + j * step)
            for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1))
            if limits[0] < best[0] + i * step < limits[1]
            and limits[0] < best[1] + j * step < limits[1]
        ]
        for key in around:
            if key not in values:
                values[key] = criterion(*key)
        move = min([best, *around], key=lambda key: (values[key], key))
        if move == best:
            step /= 2
        best = move
    return best


def solve(system: System, smoothing: tuple[float, float]) -> Posterior:
    """
    Solve for the map with given weights of the penalties.

    The covariance is the Bayesian one (Wahba 1983, J. R. Stat. Soc. B, 45, 133), which covers the
    bias of smoothing too. A penalty of infinite weight leaves the unpenalized polynomials only.
    """
    m = system.n_null
    if np.isinf(smoothing[0]):
        basis, penalty = system.basis[:, :m], np.zeros(m)
        matrix, right = system.projected(basis)
    else:
        basis, penalty = system.basis, np.append(np.zeros(m), system.penalty(smoothing))
        matrix, right = system.whole
    full = matrix + np.diag(penalty)
    scale = 1 / np.sqrt(np.maximum(np.diag(full), 1e-300))
    full = full * np.outer(scale, scale)
    full[np.diag_indices_from(full)] += 1e-13  # rounding must not make it indefinite
    factor = linalg.cholesky(full, lower=True)
    half = linalg.solve_triangular(factor, scale[:, np.newaxis] * right, lower=True)
    solution = scale[:, np.newaxis] * linalg.solve_triangular(factor.T, half)
    misfit = system.total - float(np.sum(half**2))
    inverse_factor = linalg.solve_triangular(factor, np.diag(scale), lower=True)
    freedom = len(penalty) - float(penalty @ np.sum(inverse_factor**2, axis=0))
    noise = system.noise(misfit)
    return Posterior(
        coefficients=basis @ solution,
        factor=np.sqrt(noise) * (basis @ inverse_factor.T),
        freedom=freedom,
        smoothing=smoothing,
        noise=noise,
    )
