"""
The distortion that a fit may have missed: where there are few stars, or none.

The covariance of a penalized fit holds for the smoothness that was chosen. It says nothing of a
distortion that so few stars do not show, that their scatter hides, or that goes on beyond them.
That is described here by polynomials of second and third degree, as the distortions of lenses are,
whose size is told by what a plane leaves of the stars' positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

__all__ = ["N_TERMS", "Bending", "Pairs", "bending_of", "bending_terms"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Bounds = tuple[tuple[float, float], tuple[float, float]]

_DEGREES = (2, 3)
N_TERMS = sum(degree + 1 for degree in _DEGREES)

# Bending at the corners of the stars' box before anything is known of it: px, and its 1-sigma width
# in powers of ten. Most pairs of images hardly have any, and some have many pixels.
_SIZE, _SIZE_DEX = 0.05, 1.3
_SIZES = 10.0 ** np.arange(-3.5, 2.01, 0.1)
# Scatter that the fit found unexplained may be bending instead: shares of it that are tried.
_SHARES = np.array([0.0, 0.3, 0.6, 1.0])
# So may be pairs that it clipped, as long as it cannot bend freely itself; or they are wrong.
_FEW = 40
_WRONG = 0.01  # share of wrong pairs
# Deviations are averaged by this power over what is possible: variances (2) would be those of the
# least likely sizes, and the error not one that two errors in three stay below.
_POWER = 0.5


@dataclass(frozen=True)
class Pairs:
    """
    Matched stars, as a fit has used them.

    Attributes
    ----------
    points, values : ndarray, shape (N, 2)
        Where the map was fitted, and what to.
    variance : ndarray, shape (N,)
        Of the values along each axis, as far as it was known before the fit.
    floor : float
        Scatter that it does not explain.
    used : ndarray of bool, shape (N,)
        Pairs that were not clipped.
    noise_prior : (count, factor)
        By what factor the variances are wrong, as if measured on that many values.
    """

    points: FloatArray
    values: FloatArray
    variance: FloatArray
    floor: float
    used: BoolArray
    noise_prior: tuple[float, float]

    @property
    def sigma2(self) -> FloatArray:
        """Variance of the values, with that of the scatter."""
        return self.variance + self.floor**2


class Bending(NamedTuple):
    """
    Factors of the polynomials in the departure of a map from a plane.

    Attributes
    ----------
    mean : ndarray, shape (N_TERMS, 2)
        Of both components.
    spread : ndarray, shape (N_TERMS, N_TERMS)
        ``spread @ spread.T`` is the covariance of the factors of one component.
    floor2 : float
        Square of the scatter that remains unexplained.
    """

    mean: FloatArray
    spread: FloatArray
    floor2: float


def bending_terms(bounds: Bounds, points: FloatArray) -> FloatArray:
    """
    Evaluate the polynomials.

    Parameters
    ----------
    bounds : ((x_lo, x_hi), (y_lo, y_hi))
        A rectangle at whose corners they are about one.
    points : ndarray, shape (N, 2)

    Returns
    -------
    ndarray, shape (N, N_TERMS)
        Weighed so that factors of equal variance bend alike in all directions.
    """
    (x_lo, x_hi), (y_lo, y_hi) = bounds
    half = 0.5 * math.hypot(x_hi - x_lo, y_hi - y_lo)
    u = (points[:, 0] - 0.5 * (x_lo + x_hi)) / half
    v = (points[:, 1] - 0.5 * (y_lo + y_hi)) / half
    return np.column_stack(
        [
            math.sqrt(math.comb(degree, i)) * u ** (degree - i) * v**i
            for degree in _DEGREES
            for i in range(degree + 1)
        ]
    )


def bending_of(pairs: Pairs, terms: FloatArray, residuals: FloatArray) -> Bending:
    """
    Estimate the bending of a map from what a plane leaves of its values.

    Parameters
    ----------
    pairs : Pairs
    terms : ndarray, shape (N, N_TERMS)
        The polynomials at the points.
    residuals : ndarray, shape (N, 2)
        Of the fit.

    Returns
    -------
    Bending
        What follows on the average over all sizes of the bending, the scatter that the fit found
        unexplained, and whether the pairs that it clipped are wrong, by their probabilities.
    """
    mean, spread = np.zeros((N_TERMS, 2)), np.zeros((N_TERMS, N_TERMS))
    total = floor2 = 0.0
    cases = list(_cases(pairs, terms, residuals))
    likeliest = max(float(case.log_odds.max()) for _, case in cases)
    for floor, case in cases:
        odds = np.exp(case.log_odds - likeliest)
        total += float(odds.sum())
        floor2 += float(odds.sum()) * floor**2
        mean += case.axes @ ((odds @ case.gain)[:, np.newaxis] * case.pull)
        spread += case.axes * (odds @ case.deviation**_POWER) @ case.axes.T
    power, axes = linalg.eigh(spread / total)
    return Bending(mean / total, axes * power.clip(0.0) ** (1 / _POWER), floor2 / total)


class _Case(NamedTuple):
    """What follows for each size of the bending, shape (sizes, ...), all else given."""

    log_odds: FloatArray  # shape (sizes,)
    axes: FloatArray  # the combinations of terms, in columns, that the points tell apart
    pull: FloatArray  # of the values on each of these, shape (N_TERMS, 2)
    gain: FloatArray  # their factors by the pull, shape (sizes, N_TERMS)
    deviation: FloatArray  # and the factors' errors, shape (sizes, N_TERMS)


def _cases(pairs: Pairs, terms: FloatArray, residuals: FloatArray) -> Iterator[tuple[float, _Case]]:
    """Yield what follows from each hypothesis on the scatter, with it, and on clipped pairs."""
    used, everyone = pairs.used, np.ones(len(pairs.used), bool)
    choices = [used] if used.all() or len(used) > _FEW else [used, everyone]
    # wrong pairs are anywhere as far as the farthest one
    reach2 = float(np.max(np.sum(residuals**2, axis=1)))
    for chosen in choices:
        n_wrong = np.count_nonzero(~chosen) if len(choices) > 1 else 0
        for share in _SHARES if pairs.floor > 0 else _SHARES[:1]:
            floor = float(share * pairs.floor)
            some = replace(
                pairs,
                points=pairs.points[chosen],
                values=pairs.values[chosen],
                variance=pairs.variance[chosen],
                floor=floor,
            )
            # Errors of positions that are wrong by far are as rare as Cauchy's distribution says.
            prior = -math.log1p(floor**2 / float(np.median(pairs.variance)))
            if n_wrong:
                prior += n_wrong * math.log(_WRONG / (math.pi * reach2))
            case = _solve(some, terms[chosen])
            yield floor, case._replace(log_odds=case.log_odds + prior)


def _solve(pairs: Pairs, terms: FloatArray) -> _Case:
    """Solve for the bending, for every size of it; all pairs are used."""
    points, sigma2 = pairs.points, pairs.sigma2
    root = np.sqrt(1 / sigma2)[:, np.newaxis]
    plane = np.column_stack((np.ones(len(points)), points - points.mean(axis=0)))
    plane, triangle = linalg.qr(root * plane, mode="economic")
    free, rest = (root * a - plane @ (plane.T @ (root * a)) for a in (terms, pairs.values))
    strength, axes = linalg.eigh(free.T @ free)
    strength = strength.clip(0.0)
    pull = axes.T @ (free.T @ rest)
    count, factor = pairs.noise_prior
    freedom = max(2 * (len(points) - 3), 0) + count
    misfit = float(np.sum(rest**2))
    # The size is in units of the scatter, which is estimated with it.
    size2 = _SIZES**2 * freedom / (misfit + count * factor)
    gain = 1 / (strength + 1 / size2[:, np.newaxis])
    left = np.maximum(misfit - gain @ np.sum(pull**2, axis=1), 0.0) + count * factor
    noise = left / freedom
    unlikely = np.log10(np.sqrt(size2 * noise) / _SIZE) / _SIZE_DEX
    log_odds = (
        special.gammaln(0.5 * freedom)
        - 0.5 * freedom * np.log(left)
        - 0.5 * (freedom - count) * math.log(math.pi)
        - np.sum(np.log(sigma2))
        - 2 * np.sum(np.log(np.abs(np.diag(triangle)) + 1e-300))
        - np.sum(np.log1p(size2[:, np.newaxis] * strength), axis=1)
        - 0.5 * unlikely**2
    )
    return _Case(log_odds, axes, pull, gain, np.sqrt(noise[:, np.newaxis] * gain))
