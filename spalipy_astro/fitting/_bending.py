"""
The distortion that a fit may have missed: where there are few stars, or none.

The covariance of a penalized fit holds for the smoothness that was chosen. It says nothing of a
distortion that so few stars do not show, that their scatter hides, or that goes on beyond them.
That is described here by polynomials of low degree, as the distortions of lenses are, whose size is
told by what a plane leaves of the stars' positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["N_TERMS", "Bending", "Pairs", "bending_of", "bending_terms"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Bounds = tuple[tuple[float, float], tuple[float, float]]

# By degree: lenses have the third, off their center the second as well, and little of the others.
_WEIGHTS = {2: 1.0, 3: 1.0, 4: 0.15, 5: 0.15}
N_TERMS = sum(degree + 1 for degree in _WEIGHTS)

# Bending at the corners of the stars' box before anything is known of it: px, and its 1-sigma width
# in powers of ten. Most pairs of images hardly have any, and some have many pixels.
_SIZE, _SIZE_DEX = 0.05, 1.3
_SIZES = 10.0 ** np.arange(-3.5, 2.1, 0.25)
# What so few pairs made the fit take for scatter may be bending instead, and so may be what makes
# the pairs outlying that it clipped.
_FEW = 40
_SHARES = np.array([0.0, 0.3, 0.6, 1.0])  # of the scatter, that are tried
_WRONG = 0.01  # share of pairs that are wrong and no bending
# Deviations are averaged by this power over what is possible: variances (2) would be those of the
# least likely sizes, and the error not one that two errors in three stay below.
_POWER = 0.5


class Pairs(NamedTuple):
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
        A rectangle at whose corners they are about as large as their weights.
    points : ndarray, shape (N, 2)

    Returns
    -------
    ndarray, shape (N, N_TERMS)
        Of independent factors of one variance, the bending is alike in all directions.
    """
    half = 0.5 * math.hypot(*(high - low for low, high in bounds))
    powers = []
    for axis, (low, high) in enumerate(bounds):
        u = (points[:, axis] - 0.5 * (low + high)) / half
        powers.append([np.ones_like(u), u])
        for _ in range(max(_WEIGHTS) - 1):
            powers[axis].append(powers[axis][-1] * u)
    terms = np.empty((len(points), N_TERMS))
    column = 0
    for degree, weight in _WEIGHTS.items():
        for i in range(degree + 1):
            factor = weight * math.sqrt(math.comb(degree, i))
            np.multiply(factor * powers[0][degree - i], powers[1][i], out=terms[:, column])
            column += 1
    return terms


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
    if len(cases) == 1:
        power, axes = odds @ case.deviation**_POWER / total, case.axes
    else:
        power, axes = np.linalg.eigh(spread / total)
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
    used = pairs.used
    if len(used) > _FEW:  # what the fit has found need not be doubted then
        yield pairs.floor, _solve(_chosen(pairs, used, pairs.floor), terms[used])
        return
    known2 = float(np.median(pairs.variance))
    # wrong pairs are anywhere as far as the farthest one
    reach2 = float(np.max(np.sum(residuals**2, axis=1)))
    for chosen in [used] if used.all() else [used, np.ones(len(used), bool)]:
        n_wrong = np.count_nonzero(~chosen)
        for share in _SHARES if pairs.floor > 0 else _SHARES[:1]:
            floor = float(share * pairs.floor)
            # Errors that are wrong by far are as rare as in Cauchy's distribution.
            prior = -math.log1p(floor**2 / known2)
            if n_wrong:
                prior += n_wrong * math.log(_WRONG / (math.pi * reach2))
            case = _solve(_chosen(pairs, chosen, floor), terms[chosen])
            yield floor, case._replace(log_odds=case.log_odds + prior)


def _chosen(pairs: Pairs, which: BoolArray, floor: float) -> Pairs:
    """Return some of the pairs, with other scatter."""
    return Pairs(
        pairs.points[which],
        pairs.values[which],
        pairs.variance[which],
        floor,
        which[which],
        pairs.noise_prior,
    )


def _solve(pairs: Pairs, terms: FloatArray) -> _Case:
    """Solve for the bending, for every size of it; all pairs are used."""
    points, sigma2 = pairs.points, pairs.sigma2
    plane = np.column_stack((np.ones(len(points)), points - points.mean(axis=0)))
    # All that is asked of the points is in the triangle: what the terms and the values have in
    # common once the plane is taken off them.
    columns = np.hstack((plane, terms, pairs.values)) / np.sqrt(sigma2)[:, np.newaxis]
    triangle = np.zeros((3 + N_TERMS + 2, 3 + N_TERMS + 2))
    triangle[: len(points)] = np.linalg.qr(columns, mode="r")
    free, rest = triangle[3:, 3:-2], triangle[3:, -2:]
    strength, axes = np.linalg.eigh(free.T @ free)
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
        math.lgamma(0.5 * freedom)
        - 0.5 * freedom * np.log(left)
        - 0.5 * (freedom - count) * math.log(math.pi)
        - np.sum(np.log(sigma2))
        - 2 * np.sum(np.log(np.abs(np.diag(triangle)[:3]) + 1e-300))
        - np.sum(np.log1p(size2[:, np.newaxis] * strength), axis=1)
        - 0.5 * unlikely**2
    )
    return _Case(log_odds, axes, pull, gain, np.sqrt(noise[:, np.newaxis] * gain))
