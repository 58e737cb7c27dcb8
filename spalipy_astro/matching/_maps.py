"""Maps through the pairs that a growing match has so far, with the errors of what they predict."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.fitting import (
    Design,
    Posterior,
    SplineSpace,
    System,
    choose_smoothing,
    fit_linear,
    solve,
)

__all__ = ["BENDING", "LinearMap", "Smoothness", "SplineMap", "fit_pairs"]

FloatArray = NDArray[np.float64]

_DEGREE = 3
# Curvature of the map, in px per px**2 times the half diagonal of the frame: the bending that a
# strong optical distortion (2 % of the frame) makes, expected wherever no star has been matched.
BENDING = 0.1
_NOISE_PRIOR = (6.0, 1.0)  # that the catalogs' errors are right is worth six residuals
_OUTLYING = 25.0  # squared studentized residual of a pair that is taken to be false
_FIT_STARS = 3000  # brightest matched stars that the map is fitted to while it grows
_THIN = 1e-13  # of the extent of points, that rounding may have


class Smoothness:
    """The penalties' weights; chosen anew only when there are many more stars to choose them by."""

    def __init__(self, rigid: bool) -> None:
        self.rigid = rigid
        self._last: tuple[SplineSpace, int, tuple[float, float]] | None = None

    def choose(
        self,
        system: System,
        count: int,
        bend: float,
        amplitude: float,
        *,
        fresh: bool,
    ) -> tuple[float, float]:
        """Return the weights for `count` points; `fresh` where other points count."""
        if count < 6:
            # Before there are stars to measure it on: that of a typical strong distortion.
            return 1 / bend**2, 0.0
        space, start = system.space, None
        if self._last is not None:
            last, before, smoothing = self._last
            if (last.n_x, last.n_y) == (space.n_x, space.n_y):
                if not fresh and count < 1.2 * before:
                    return smoothing
                start = smoothing
        smoothing = choose_smoothing(system, amplitude=amplitude, start=start)
        self._last = space, count, smoothing
        return smoothing


class SplineMap(NamedTuple):
    """A spline through matched pairs, less `mean`."""

    space: SplineSpace
    mean: FloatArray
    posterior: Posterior

    @property
    def freedom(self) -> float:
        """Effective number of parameters of each axis."""
        return self.posterior.freedom

    @property
    def noise(self) -> float:
        """Variance of the normalized residuals."""
        return self.posterior.noise

    def predict(self, xy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the images of points, and their variances along each axis."""
        images, variance = self.less_mean(self.space.at(xy))
        return self.mean + images, variance

    def less_mean(self, design: Design) -> tuple[FloatArray, FloatArray]:
        """Return the same for the points of a design, less the mean."""
        evaluated = design.evaluate(self.posterior.coefficients)
        return evaluated, design.variance(self.posterior.factor)


class LinearMap(NamedTuple):
    """A linear map through matched pairs: an affine one, or a similarity where they are few."""

    matrix: FloatArray
    offset: FloatArray
    center: FloatArray
    weight: float
    lever: FloatArray
    noise: float
    freedom: float

    @classmethod
    def through(
        cls, known: FloatArray, values: FloatArray, weights: FloatArray, parity: int | None
    ) -> LinearMap:
        """Fit the pairs by weighted least squares: by a similarity if a parity is given."""
        kind = "affine" if parity is None else "similarity"
        matrix, offset = fit_linear(known, values, weights, kind=kind, parity=parity)
        weight = float(weights.sum())
        center = weights @ known / weight
        arm = known - center
        inertia = (weights[:, np.newaxis] * arm).T @ arm
        total = max(float(np.trace(inertia)), np.finfo(float).tiny)
        if parity is None:  # of points on a line nothing is known across it
            lever = np.asarray(np.linalg.inv(inertia + _THIN * total * np.eye(2)), dtype=float)
            freedom = 3.0
        else:  # both axes share the rotation and the scale
            lever, freedom = np.eye(2) / total, 2.0
        residuals = values - known @ matrix.T - offset
        misfit = float(weights @ np.sum(residuals**2, axis=1))
        degrees, variance = _NOISE_PRIOR
        noise = (degrees * variance + misfit) / (degrees + 2 * max(len(known) - freedom, 0.0))
        return cls(matrix, offset, center, weight, lever, noise, freedom)

    def predict(self, xy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the images of points, and their variances along each axis."""
        arm = xy - self.center
        variance = self.noise * (1 / self.weight + np.sum(arm @ self.lever * arm, axis=1))
        return xy @ self.matrix.T + self.offset, variance


def fit_pairs(
    known: FloatArray,
    values: FloatArray,
    noise2: FloatArray,
    scale: float,
    half: float,
    smoothness: Smoothness,
) -> tuple[SplineMap | LinearMap, FloatArray]:
    """
    Fit the pairs robustly; beyond some thousands the fainter ones would add nothing.

    Returns
    -------
    SplineMap or LinearMap
        The map, in which outliers have next to no weight.
    leverage : ndarray, shape (N,)
        How far each pair itself decides where the map sends it.
    """
    n = len(known)
    leverage = np.zeros(n)
    design, mean = None, np.zeros(2)
    if not smoothness.rigid:
        cells = int(np.clip(np.sqrt(n / 4), 1, 6))  # gates need no finer ones
        design = SplineSpace.covering(known, cells, _DEGREE).at(known[:_FIT_STARS])
        mean = np.median(values, axis=0)
    known, values, noise2 = known[:_FIT_STARS], values[:_FIT_STARS] - mean, noise2[:_FIT_STARS]
    robust = np.ones(len(known))
    fit: SplineMap | LinearMap
    for attempt in range(4):
        if design is None:
            fit = LinearMap.through(known, values, robust / noise2, None)
            images, variance = fit.predict(known)
        else:
            system = System(design, values, robust / noise2, _NOISE_PRIOR)
            bend = BENDING * scale / half * design.space.step**2
            smoothing = smoothness.choose(system, len(known), bend, 0.5 * scale, fresh=attempt > 0)
            fit = SplineMap(design.space, mean, solve(system, smoothing))
            images, variance = fit.less_mean(design)
        share = variance / (noise2 * max(fit.noise, 1e-12))
        # Studentized, since a flexible map follows a false pair and leaves it a small residual.
        free = np.clip(1 - share * robust, 1e-4, 1.0)
        z2 = np.sum((values - images) ** 2, axis=1) / (noise2 * free)
        z2 /= max(1.0, float(np.median(z2)) / 1.386)
        outlying = z2 > _OUTLYING
        if n < 6 or np.array_equal(outlying, robust < 1):
            break
        robust = np.where(outlying, 1 / (1 + z2 / 4) ** 2, 1.0)
    leverage[:_FIT_STARS] = np.clip(share * robust, 0.0, 0.9999)
    return fit, leverage
