"""How smooth distortions are: the weights of their penalties, by restricted likelihood."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from spalipy_astro.groups._equations import Equations

__all__ = ["PRIOR_COUNT", "choose", "least_excluded"]

FloatArray = NDArray[np.float64]
Point = tuple[float, float]

PRIOR_COUNT = 40.0
"""How many residuals the stars' own errors are worth."""

_LOW = tuple(float(k) for k in range(1, 9))
_HIGH = (-2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
_STEPS = (0.5, 0.25)  # of the logarithms, once the decades are known


class _Likelihood:
    """
    The restricted likelihood of the penalties, the equations being linear.

    What is not penalized is eliminated once, so that a pair of weights costs one factorization of
    the rest.
    """

    def __init__(self, equations: Equations) -> None:
        matrix, self._high = equations.matrix.dense(), equations.high[equations.rough]
        rough, free = np.flatnonzero(equations.rough), np.flatnonzero(~equations.rough)
        right, self.chi2 = equations.right[rough], equations.chi2
        inner = matrix[np.ix_(rough, rough)]
        if free.size:
            scale = 1 / np.sqrt(np.maximum(np.diag(matrix)[free], 1e-300))
            part = matrix[np.ix_(free, free)] * np.outer(scale, scale)
            part[np.diag_indices_from(part)] += 1e-12
            lower = linalg.cholesky(part, lower=True)
            cross = scale[:, np.newaxis] * matrix[np.ix_(free, rough)]
            cross = linalg.solve_triangular(lower, cross, lower=True)
            own = scale[:, np.newaxis] * equations.right[free]
            own = linalg.solve_triangular(lower, own, lower=True)
            inner = inner - cross.T @ cross
            right = right - cross.T @ own
            self.chi2 -= float(np.sum(own**2))
        known = equations.known[rough]
        self._inner, self._right = inner, right + inner @ known
        self._total = self.chi2 + float(np.sum(known * (right + self._right)))
        self.axes = right.shape[1]
        n_free = self.axes * free.size
        self.count = max(equations.n_values - n_free, 0) + PRIOR_COUNT

    def straight(self) -> float:
        """Return -2 log of it without any distortion."""
        return self.count * float(np.log((max(self._total, 0.0) + PRIOR_COUNT) / self.count))

    def __call__(self, point: Point) -> float:
        """Return -2 log of it for logarithms of the weights."""
        penalty = 10.0 ** point[0] + 10.0 ** point[1] * self._high
        matrix = self._inner.copy()
        matrix[np.diag_indices_from(matrix)] += penalty
        try:
            lower = linalg.cholesky(matrix, lower=True, overwrite_a=True)
        except linalg.LinAlgError:
            return np.inf
        half = linalg.solve_triangular(lower, self._right, lower=True)
        misfit = max(self._total - float(np.sum(half**2)), 0.0)
        log_det = 2 * np.log(np.diag(lower)).sum() - np.log(penalty).sum()
        noise = (misfit + PRIOR_COUNT) / self.count
        return self.axes * float(log_det) + self.count * float(np.log(noise))


def choose(equations: Equations) -> Point | None:
    """
    Return the weights of both penalties with the largest restricted likelihood.

    Parameters
    ----------
    equations : Equations

    Returns
    -------
    tuple of float or None
        Low-order and high-order weight; None where the likelihood is largest without distortions.

    Notes
    -----
    Patterson & Thompson (1971, Biometrika, 58, 545, doi:10.1093/biomet/58.3.545); the scatter is
    profiled, with the errors of the stars as its prior.
    """
    if not equations.rough.any():
        return None
    likelihood = _Likelihood(equations)
    seen: dict[Point, float] = {}

    def value(point: Point) -> float:
        if point not in seen:
            seen[point] = likelihood(point)
        return seen[point]

    best = (_LOW[-1], _HIGH[2])
    for _ in range(2):
        best = min(((low, best[1]) for low in _LOW), key=value)
        best = min(((best[0], high) for high in _HIGH), key=value)
    for step in _STEPS:
        best = min(((best[0] + d, best[1]) for d in (0.0, -step, step)), key=value)
        best = min(((best[0], best[1] + d) for d in (0.0, -step, step)), key=value)
    if likelihood.straight() <= value(best):
        return None
    return 10.0 ** best[0], 10.0 ** best[1]


def least_excluded(equations: Equations) -> Point:
    """
    Return the weights of the largest distortions that do not contradict having found none.

    Parameters
    ----------
    equations : Equations
        About a solution without distortions.

    Returns
    -------
    tuple of float
        Low-order and high-order weight, by which the likelihood is one standard deviation below
        that without distortions.
    """
    likelihood = _Likelihood(equations)
    most = likelihood.straight() + 1.0
    best = (_LOW[-1] + 1.0, _HIGH[2])
    for low in np.arange(_LOW[-1], _LOW[0] - 0.25, -0.5).tolist():
        if likelihood((low, best[1])) > most:
            break
        best = (low, best[1])
    return 10.0 ** best[0], 10.0 ** best[1]
