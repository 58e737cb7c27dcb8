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

from spalipy_astro import _compiled
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
        free = matrix[:m, :m] / np.outer(scale, scale)
        inverse = np.linalg.pinv(free, rcond=m * np.finfo(float).eps, hermitian=True)
        scaled = right[:m] / scale[:, np.newaxis]
        return (
            matrix[m:, m:] - cross.T @ inverse @ cross,
            right[m:] - cross.T @ (inverse @ scaled),
            self.total - float(np.sum(scaled * (inverse @ scaled))),
        )

    def penalty(self, smoothing: tuple[float, float]) -> FloatArray:
        return smoothing[0] + smoothing[1] * self.high

    def noise(self, misfit: float) -> float:
        """Posterior-mean-like noise: residual sum and prior pooled by their counts."""
        return (max(misfit, 0.0) + self.prior_count * self.prior_noise) / self.count

    def criterion(self, log_low: float, log_high: float, size: int | None = None) -> float:
        """Return -2 log of the restricted likelihood, up to a constant; ``size``: of a part."""
        figures = self._figures(log_low, log_high, size, 2)
        return math.inf if figures is None else self._criterion(*figures)

    def expansion(self, log_low: float, log_high: float, size: int | None = None) -> Expansion:
        """Return the criterion with its gradient and Hessian."""
        figures = self._figures(log_low, log_high, size, 14)
        if figures is None:
            return math.inf, (0.0, 0.0), (0.0, 0.0, 0.0)
        log_det, explained, *changes, trace, rough_trace, by_one, by_both, by_two, first, second = (
            figures
        )
        low, high = 10.0**log_low, 10.0**log_high
        once_low, once_high, twice_low, twice_both, twice_high = changes
        # The derivative of a penalty by the logarithm of its weight is the penalty itself, a
        # diagonal matrix: D = low, or D = high * roughness. B is the inverse, s the solution. First
        # the misfit: its derivatives are s . D s, and -2 D s . B D' s for two penalties.
        noise, count = self.noise(self._rough[2] - explained), self.count
        noise = noise if noise > _NO_NOISE else math.inf  # then the criterion does not depend on it
        u = low * once_low / noise
        v = high * once_high / noise
        uu = -2 * low * low * twice_low / noise - u * u / count
        uv = -2 * low * high * twice_both / noise - u * v / count
        vv = -2 * high * high * twice_high / noise - v * v / count
        # Then the logarithms of the determinants, of all and of the penalties P alone:
        # tr((B - 1 / P) D), and tr(D D' / P^2 - B D B D') for two. The derivatives of D itself
        # repeat the first ones. Of P the low-order penalty has the share `first` in all, the other
        # one the rest.
        number = len(self.high[:size])
        u += 2 * (low * trace - first)
        v += 2 * (high * rough_trace - (number - first))
        uu += u + 2 * (second - low * low * by_one)
        uv += 2 * (first - second - low * high * by_both)
        vv += v + 2 * (number - 2 * first + second - high * high * by_two)
        return (
            self._criterion(log_det, explained),
            (_LN10 * u, _LN10 * v),
            (_LN10**2 * uu, _LN10**2 * uv, _LN10**2 * vv),
        )

    def _criterion(self, log_det: float, explained: float) -> float:
        """Return -2 log of the likelihood from its parts."""
        noise = self.noise(self._rough[2] - explained)
        return 2 * log_det + self.count * math.log(max(noise, _NO_NOISE))

    def _figures(
        self, log_low: float, log_high: float, size: int | None, number: int
    ) -> list[float] | None:
        """Return what the likelihood is made of; None where the matrix is not positive definite."""
        matrix, right, _ = self._rough
        size = len(self.high[:size])
        figures = np.empty(number)
        weights = 10.0**log_low, 10.0**log_high
        good = _compiled.penalized_figures(matrix, right, self.high, size, *weights, figures)
        return figures.tolist() if good else None

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
    half, root = np.empty((2, len(full))), np.zeros_like(full)
    if not _compiled.invert_factor(full, scale[:, np.newaxis] * right, half, root):
        raise np.linalg.LinAlgError("the equations of the fit are not positive definite")
    root *= scale[:, np.newaxis]  # of the inverse: root @ root.T
    misfit = system.total - float(np.sum(half**2))
    freedom = len(penalty) - float(penalty @ np.sum(root**2, axis=1))
    noise = max(system.noise(misfit), _NO_NOISE)
    return Posterior(
        coefficients=basis @ (root @ half.T),
        factor=np.sqrt(noise) * (basis @ root),
        freedom=freedom,
        smoothing=smoothing,
        noise=noise,
    )
