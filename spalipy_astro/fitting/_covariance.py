"""What is uncertain of a fitted map: the errors of the stars, and the distortion that they hide."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.fitting._bending import N_TERMS, Pairs, bending_of, bending_terms
from spalipy_astro.fitting._smoothing import Posterior
from spalipy_astro.fitting._splinespace import Design, SplineSpace

__all__ = ["PARAMETERS", "Covariance", "covariance_of", "rigid_factor"]

FloatArray = NDArray[np.float64]

_CHUNK = 65_536  # points looked at at once

PARAMETERS = {"shift": 2, "rigid": 3, "similarity": 4, "affine": 6}
"""Parameters of each kind of linear map, of both axes together."""


class Covariance(NamedTuple):
    """
    Uncertainty of the fitted map, for `Alignment.error`.

    Attributes
    ----------
    space : SplineSpace
        Spline space in template pixels.
    factor : ndarray, shape (size, k)
        ``factor @ factor.T`` is the covariance of the coefficients of one component, in
        source px**2.
    bending : ndarray, shape (N_TERMS, k), optional
        The same for the polynomials of the distortion that the fit may have missed. The columns of
        both go together: one independent error each.
    """

    space: SplineSpace
    factor: FloatArray
    bending: FloatArray | None = None

    def error(self, template_xy: FloatArray) -> FloatArray:
        """Return the 1-sigma error along each axis at template positions, in source px."""
        total = np.empty(len(template_xy))
        for start in range(0, len(total), _CHUNK):
            part = slice(start, start + _CHUNK)
            total[part] = self._variance(template_xy[part])
        return np.sqrt(total)

    def _variance(self, template_xy: FloatArray) -> FloatArray:
        design = self.space.at(template_xy)
        if self.bending is None or not self.bending.any():
            return design.variance(self.factor)
        # the columns without bending need not be taken one by one
        bent = self.bending.any(axis=0)
        errors = design.evaluate(self.factor[:, bent])
        errors += bending_terms(self.space.bounds, template_xy) @ self.bending[:, bent]
        return design.variance(self.factor[:, ~bent]) + np.einsum("nk,nk->n", errors, errors)


def covariance_of(
    design: Design,
    posterior: Posterior,
    pairs: Pairs,
    residuals: FloatArray,
    *,
    known: bool,
    kind: str,
) -> Covariance:
    """
    Return the covariance of a fit.

    Parameters
    ----------
    design : Design
        Of the pairs' points.
    posterior : Posterior
        The fit.
    pairs : Pairs
        What was fitted.
    residuals : ndarray, shape (N, 2)
        What the fit leaves of the values.
    known : bool
        Whether the catalogs gave the errors; otherwise their scatter alone tells them.
    kind : str
        One of `KINDS`: that of the linear part.

    Returns
    -------
    Covariance
    """
    space, used, sigma2 = design.space, pairs.used, pairs.sigma2
    weights = np.where(used, 1 / sigma2, 0.0)[:, np.newaxis]
    terms = bending_terms(space.bounds, pairs.points)
    missed = bending_of(pairs, terms, residuals)
    unit = posterior.factor / np.sqrt(posterior.noise)
    # What the fit makes of the polynomials is no error of it.
    followed = unit @ (unit.T @ design.sums(weights * terms))
    measured = max(2 * int(np.count_nonzero(used)) - PARAMETERS[kind], 0)
    count, factor = pairs.noise_prior
    noise = posterior.noise
    if not known:
        noise = (measured * noise + count * factor) / (measured + count)
    if missed.floor2 < pairs.floor**2:
        # The rest of the scatter is the bending, which is accounted for.
        known2 = float(np.median(pairs.variance[used]))
        noise *= (known2 + missed.floor2) / (known2 + pairs.floor**2)
    # Errors in units of a scatter that few values tell follow Student's distribution: 68 % of them
    # are within this.
    student = _student(max(measured + count, 1.0))
    # A bending that is known but not followed is an error along both axes, by its mean square.
    columns = np.hstack((student * missed.spread, missed.mean / np.sqrt(2.0)))
    scatter = student * np.sqrt(noise) * unit
    return Covariance(
        space,
        np.hstack((scatter, -followed @ columns)),
        np.hstack((np.zeros((N_TERMS, scatter.shape[1])), columns)),
    )


def rigid_factor(
    space: SplineSpace, points: FloatArray, weights: FloatArray, kind: str = "similarity"
) -> FloatArray:
    """
    Return the factor of the covariance of a map that cannot shear, for values of unit variance.

    Parameters
    ----------
    space : SplineSpace
    points : ndarray, shape (N, 2)
    weights : ndarray, shape (N,)
    kind : {"similarity", "rigid", "shift"}

    Returns
    -------
    ndarray, shape (size, k)
    """
    total = weights.sum()
    center = weights @ points / total
    shift = 1 / np.sqrt(total)
    constant = space.plane(np.array([shift, 0.0]), np.zeros((2, 2)))[:, :1]
    if kind == "shift":
        return constant
    # Rotation and scale move a point by its distance from the center, across and along; either
    # axis has as much of it as the coordinates of that distance have together, and half of that
    # on the average where there is no scale.
    inertia = weights @ np.sum((points - center) ** 2, axis=1)
    turn = np.sqrt((1.0 if kind == "similarity" else 0.5) / inertia)
    return np.hstack((constant, space.plane(-turn * center, turn * np.eye(2))))


@lru_cache(maxsize=64)
def _student(freedom: float) -> float:
    """
    Return what a value of Student's distribution is within as often as a normal one within 1 sigma.

    Parameters
    ----------
    freedom : float
        Degrees of freedom, at least 1.

    Notes
    -----
    Newton's method, which starts at the expansion for many degrees of freedom of Abramowitz &
    Stegun (1964, Handbook of Mathematical Functions, 26.7.5). By hand, because `scipy.special`
    takes as long to import as it takes to find the stars of a small frame.
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    half = 0.5 * (freedom + 1)
    height = math.exp(math.lgamma(half) - math.lgamma(0.5 * freedom))
    height /= math.sqrt(freedom * math.pi)
    width = 1 + (0.5 + 0.25 / freedom) / freedom
    for _ in range(4):
        density = height * (1 + (0.5 * width * (1 + nodes)) ** 2 / freedom) ** -half
        within = width * float(weights @ density)
        width += (math.erf(math.sqrt(0.5)) - within) / (
            2 * height * (1 + width**2 / freedom) ** -half
        )
    return width
