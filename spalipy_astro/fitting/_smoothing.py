"""
Smooth maps of the plane from scattered values: penalized splines and their likelihood.

A map sends points ``(x, y)`` to pairs of values. Both components share one design, one set of
weights and one smoothness, so that one small eigenproblem and one Cholesky factor serve them all.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from spalipy_astro.fitting._splinespace import Design

__all__ = ["Expansion", "Point", "Posterior", "System", "solve"]

FloatArray = NDArray[np.float64]
Point = tuple[float, float]
Expansion = tuple[float, Point, tuple[float, float, float]]
"""Value, gradient and Hessian (xx, xy, yy) of a function of two variables."""

_LN10 = math.log(10.0)
_NO_NOISE = 1e-300


class Posterior(NamedTuple):
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


class _Factored(NamedTuple):
    """What comes of given weights of the penalties."""

    criterion: float
    misfit: float
    penalty: FloatArray
    factor: FloatArray


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
        self.weights, self._values = weights, values
        self._equations = design.normal_equations(values, weights)
        self.total = float(np.sum(weights[:, np.newaxis] * values**2))
        split = self.space.roughness
        self.basis, self.n_null, self.high = split.basis, split.n_null, split.high
        self.prior_count, self.prior_noise = noise_prior
        n_values = 2 * max(int(np.count_nonzero(weights)) - self.n_null, 0)
        self.count = max(n_values + self.prior_count, 1e-9)

    def misfit_of(self, images: FloatArray) -> float:
        """Return the weighted sum of squares that other images of the points leave."""
        return float(self.weights @ np.sum((self._values - images) ** 2, axis=1))

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

    @cached_property
    def _sides(self) -> FloatArray:
        """Both penalties, in columns."""
        return np.asfortranarray(np.column_stack((np.ones(len(self.high)), self.high)))

    def penalty(self, smoothing: tuple[float, float]) -> FloatArray:
        return smoothing[0] + smoothing[1] * self.high

    def noise(self, misfit: float) -> float:
        """Posterior-mean-like noise: residual sum and prior pooled by their counts."""
        return (max(misfit, 0.0) + self.prior_count * self.prior_noise) / self.count

    def criterion(self, log_low: float, log_high: float, size: int | None = None) -> float:
        """Return -2 log of the restricted likelihood, up to a constant; ``size``: of a part."""
        factored = self._factored(log_low, log_high, size)
        return np.inf if factored is None else factored.criterion

    def expansion(self, log_low: float, log_high: float, size: int | None = None) -> Expansion:
        """Return the criterion with its gradient and Hessian."""
        factored = self._factored(log_low, log_high, size)
        if factored is None:
            return np.inf, (0.0, 0.0), (0.0, 0.0, 0.0)
        low, high = 10.0**log_low, 10.0**log_high
        right, sides = self._rough[1][:size], self._sides[:size]
        inverse = linalg.lapack.dpotri(factored.factor, lower=1)[0]
        # The derivative of a penalty by the logarithm of its weight is the penalty itself, a
        # diagonal matrix: D = low, or D = high * roughness. B is the inverse, s the solution. First
        # the misfit: its derivatives are s . D s, and -2 D s . B D' s for two penalties.
        solution = linalg.blas.dsymm(1.0, inverse, right, lower=1)
        both = np.hstack((solution, sides[:, 1:] * solution))
        once = (both.T @ solution).tolist()
        twice = (both.T @ linalg.blas.dsymm(1.0, inverse, both, lower=1)).tolist()
        noise, count = self.noise(factored.misfit), self.count
        noise = noise if noise > _NO_NOISE else math.inf  # then the criterion does not depend on it
        u = low * (once[0][0] + once[1][1]) / noise
        v = high * (once[2][0] + once[3][1]) / noise
        uu = -2 * low * low * (twice[0][0] + twice[1][1]) / noise - u * u / count
        uv = -2 * low * high * (twice[2][0] + twice[3][1]) / noise - u * v / count
        vv = -2 * high * high * (twice[2][2] + twice[3][3]) / noise - v * v / count
        # Then the logarithms of the determinants, of all and of the penalties P alone:
        # tr((B - 1 / P) D), and tr(D D' / P^2 - B D B D') for two. The derivatives of D itself
        # repeat the first ones.
        squared = linalg.blas.dsymm(1.0, inverse * inverse, sides, lower=1)
        (by_one, by_both), (_, by_two) = (sides.T @ squared).tolist()
        trace, rough_trace = (inverse.diagonal() @ sides).tolist()
        share = low / factored.penalty  # the other penalty has the rest
        first, second, number = float(share.sum()), float(share @ share), len(share)
        u += 2 * (low * trace - first)
        v += 2 * (high * rough_trace - (number - first))
        uu += u + 2 * (second - low * low * by_one)
        uv += 2 * (first - second - low * high * by_both)
        vv += v + 2 * (number - 2 * first + second - high * high * by_two)
        return (
            factored.criterion,
            (_LN10 * u, _LN10 * v),
            (_LN10**2 * uu, _LN10**2 * uv, _LN10**2 * vv),
        )

    def _factored(self, log_low: float, log_high: float, size: int | None) -> _Factored | None:
        """Factor the penalized matrix, or a part of it; None if it is not positive definite."""
        matrix, right, total = self._rough
        penalty = self.penalty((10.0**log_low, 10.0**log_high))[:size]
        matrix, right = matrix[:size, :size].copy(order="F"), right[:size]
        matrix.ravel(order="F")[:: len(matrix) + 1] += penalty
        # straight to LAPACK: this is called some hundred times, and what wraps it takes as long
        factor, info = linalg.lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
        if info:
            return None
        half = linalg.lapack.dtrtrs(factor, right, lower=1)[0].ravel(order="K")
        misfit = total - float(half @ half)
        log_det = float(2 * np.log(factor.diagonal()).sum() - np.log(penalty).sum())
        criterion = 2 * log_det + self.count * math.log(max(self.noise(misfit), _NO_NOISE))
        return _Factored(criterion, misfit, penalty, factor)

    @property
    def center(self) -> float:
        """The log10 of a weight that is neither small nor large against the data."""
        matrix = self._equations[0]
        return float(np.log10(max(np.trace(matrix) / self.space.size, 1e-300)))


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
    half = linalg.lapack.dtrtrs(factor, scale[:, np.newaxis] * right, lower=1)[0]
    solution = scale[:, np.newaxis] * linalg.lapack.dtrtrs(factor, half, lower=1, trans=1)[0]
    misfit = system.total - float(np.sum(half**2))
    inverse_factor = scale * linalg.lapack.dtrtri(factor, lower=1)[0]
    freedom = len(penalty) - float(penalty @ np.sum(inverse_factor**2, axis=0))
    noise = max(system.noise(misfit), _NO_NOISE)
    return Posterior(
        coefficients=basis @ solution,
        factor=np.sqrt(noise) * (basis @ inverse_factor.T),
        freedom=freedom,
        smoothing=smoothing,
        noise=noise,
    )
