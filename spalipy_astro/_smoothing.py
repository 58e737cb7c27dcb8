"""
Smooth maps of the plane from scattered values: penalized splines with REML smoothing.

A map sends points ``(x, y)`` to pairs of values. Both components share one design, one set of
weights and one smoothness, so that one small eigenproblem and one Cholesky factor serve them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from spalipy_astro._splinespace import Design, SplineSpace

__all__ = ["Posterior", "System", "choose_smoothing", "solve"]

FloatArray = NDArray[np.float64]

# 1-sigma width of the prior on the penalty: twice 0.78, a factor of six in length
_PRIOR_DEX = 1.55
_ACCURACY = 0.15  # powers of ten: a coarser search has cost a wide-field pair its corners
_SMOOTHEST = 48  # functions with which the search for the smoothness begins


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

    def criterion(log_low: float, log_high: float, size: int | None = None) -> float:
        prior = 0.0 if amplitude is None else ((log_low - expected) / _PRIOR_DEX) ** 2
        return system.criterion(log_low, log_high, size) + prior

    limits = center - 10.6, center + 7.6
    if start is not None:
        best, step = (float(np.log10(start[0])), float(np.log10(start[1]))), 0.4
    else:
        # There may be several minima, such as one for each of the penalties alone. They are sought
        # with the smoothest functions, from "no distortion at all" to interpolation.
        of_smoothest = partial(criterion, size=_SMOOTHEST)
        found = []
        for high in (-9.0, -2.0, 6.0):
            line = [(center + low, center + high) for low in np.arange(-9.0, 6.1, 3.0)]
            lowest = min(line, key=lambda point: (of_smoothest(*point), point))
            found.append(_descend(of_smoothest, lowest, 1.6, 1.0, limits))
        best, step = min(found, key=lambda point: (criterion(*point), point)), 0.8
    best = _descend(criterion, best, step, _ACCURACY, limits)
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
