"""The PSF of an image, an elliptical Moffat profile measured on its stars: private to detection.

References
----------
Moffat, A. F. J. 1969, A&A, 3, 455.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.detection._medians import median

__all__ = ["Profile", "fit_profile"]

_STEPS_PER_FWHM2 = 200
# Steps of the table from one place at which the profile is computed to the next, near its center
# and farther out: what is between follows from polynomials through eight of these, to 1e-9 of the
# peak and better.
_STRIDE, _FAR_STRIDE = 4, 16
_NODES = 8
_FIRST = (_NODES // 2 - 1) * _STRIDE  # entries, which have too few places before them
_INTEGRATED_FWHM = 2.0
# Below this the light falls in one pixel or two, and there is no width to measure.
_SMALLEST_FWHM = 0.9
# How far the table reaches that stars are fitted with, in FWHM.
_REACH = 4.0
# Step in the inverse exponent over which the derivative by it is taken.
_TIP = 0.02
# Relative error of the PSF, in the weights.
_MODEL_ERROR = 0.03
# Squared residual, in sigma, from which on a pixel loses its influence.
_OUTLYING = 9.0
# Median of chi-squared with one degree of freedom.
_CHI2_MEDIAN = 0.455


def _pixel_rule(order: int) -> tuple[NDArray, NDArray, NDArray]:
    """Gauss-Legendre rule over a pixel: places along and across the radius, and weights."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    u, v = (plane.ravel() / 2 for plane in np.meshgrid(nodes, nodes))
    # these two directions average the fourfold part of the pixel's shape away
    angle = np.pi / 16 * np.array([[1], [3]])
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    return along.ravel(), across.ravel(), np.tile(np.outer(weights, weights).ravel() / 8, 2)


def _lagrange_weights(stride: int) -> NDArray:
    """Weights of values at nodes for the places between the middle two, one row a node."""
    nodes = np.arange(_NODES) - (_NODES / 2 - 1)
    place = np.arange(stride) / stride
    weights = np.ones((_NODES, stride))
    for k, m in np.argwhere(~np.eye(_NODES, dtype=bool)):
        weights[k] *= (place - nodes[m]) / (nodes[k] - nodes[m])
    return weights


_LAGRANGE = {stride: _lagrange_weights(stride) for stride in (_STRIDE, _FAR_STRIDE)}
_COARSE_RULE = _pixel_rule(3)
_FINE_RULE = _pixel_rule(6)


class Profile(NamedTuple):
    """Elliptical Moffat PSF of unit flux.

    Parameters
    ----------
    fwhm : float
        Geometric mean of the widths along both axes, px.
    inverse_beta : float
        One over Moffat's exponent; 0 is a Gaussian.
    stretch : tuple of float
        ``(e1, e2)``: the squared elliptical radius is that of the matrix
        ``exp([[e1, e2], [e2, -e1]])``, of determinant one.
    """

    fwhm: float
    inverse_beta: float = 0.25
    stretch: tuple[float, float] = (0.0, 0.0)

    def matrix(self) -> NDArray[np.float64]:
        """Return ``(a, b, c)`` of the squared radius ``a dx**2 + 2 b dx dy + c dy**2``."""
        e1, e2 = self.stretch
        e = np.hypot(e1, e2)
        sinc = np.sinh(e) / e if e > 1e-9 else 1.0
        return np.array([np.cosh(e) + e1 * sinc, e2 * sinc, np.cosh(e) - e1 * sinc])

    @property
    def ellipticity(self) -> float:
        """One minus the ratio of the short to the long axis."""
        return float(-np.expm1(-np.hypot(*self.stretch)))

    @property
    def orientation(self) -> float:
        """Angle of the long axis, deg, counter-clockwise from +x to +y, from -90 to 90."""
        e1, e2 = self.stretch
        return float(np.degrees(0.5 * np.arctan2(-e2, -e1)))

    def at(self, radius: NDArray) -> NDArray[np.float64]:
        """Return the surface brightness at elliptical radii, mean over a pixel if that is small."""
        return self._far(np.square(radius))

    def table(self, reach: float = 6.0) -> tuple[NDArray[np.float64], float]:
        """Pixel-integrated profile over the squared radius, and the step of the table.

        The table ends at ``reach`` times the FWHM.
        """
        tables, step = _make_tables(self.fwhm, (self.inverse_beta,), reach)
        return tables[0], step

    def light_beyond(self, radius: float) -> float:
        """Return the share of the light that lies outside an elliptical radius, px."""
        ib, alpha2 = self._scale()
        return float(np.exp(-(1 / ib - 1) * np.log1p(radius**2 / alpha2)))

    def _scale(self) -> tuple[float, float]:
        """Moffat's inverse exponent and squared scale."""
        return _scale_of(self.fwhm, self.inverse_beta)

    def _intensity(self, rr: NDArray) -> NDArray:
        """Surface brightness at a squared radius."""
        return _moffat(rr, *self._scale())

    def _far(self, rr: NDArray) -> NDArray:
        """Mean over a pixel where the profile is smooth."""
        return _smooth_moffat(rr, *self._scale())


def _scale_of(fwhm: float, inverse_beta: float) -> tuple[float, float]:
    """Moffat's inverse exponent and squared scale."""
    ib = max(inverse_beta, 1e-4)
    return ib, (fwhm / 2) ** 2 / math.expm1(ib * math.log(2))


def _moffat(rr: NDArray, ib: float | NDArray, alpha2: float | NDArray) -> NDArray:
    """Surface brightness at a squared radius, of several profiles at once."""
    light = rr / alpha2
    np.log1p(light, out=light)
    light *= -1 / ib
    np.exp(light, out=light)
    light *= (1 / ib - 1) / (np.pi * alpha2)
    return light


def _smooth_moffat(rr: NDArray, ib: float | NDArray, alpha2: float | NDArray) -> NDArray:
    """Mean over a pixel where the profile is smooth: a 24th of the Laplacian more."""
    fall = 1 / (ib * (alpha2 + rr))
    return _moffat(rr, ib, alpha2) * (1 + fall * (rr * fall * (1 + ib) - 1) / 6)


@lru_cache(maxsize=8)
def _make_tables(
    fwhm: float, inverse_betas: tuple[float, ...], reach: float
) -> tuple[NDArray[np.float64], float]:
    """Make the tables of profiles of one width, one a row; the last few are kept."""
    rr, weights, far, near, step = _places(fwhm, reach)
    ib, alpha2 = np.array([_scale_of(fwhm, one) for one in inverse_betas]).T[..., np.newaxis]
    values = weights @ _moffat(rr, ib[..., np.newaxis], alpha2[..., np.newaxis])
    middle = _refined(values[:, _FIRST:], _STRIDE)[:, : near - _FIRST]
    outer = _refined(_smooth_moffat(far, ib, alpha2), _FAR_STRIDE)[:, near % _FAR_STRIDE :]
    tables = np.concatenate((values[:, :_FIRST], middle, outer), axis=1)
    return np.ascontiguousarray(tables[:, : _entries(reach)]), step


def _refined(values: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """Return values so many times as close to each other, from the fourth of each row on."""
    windows = values[:, _windows(values.shape[1])]
    return (windows @ _LAGRANGE[stride]).reshape(len(values), -1)


@lru_cache(maxsize=8)
def _windows(number: int) -> NDArray[np.intp]:
    """Return the numbers of as many nodes in a row as a polynomial needs, from each on."""
    return np.arange(number - _NODES + 1)[:, np.newaxis] + np.arange(_NODES)


@lru_cache(maxsize=2)
def _places(fwhm: float, reach: float) -> tuple[NDArray, NDArray, NDArray, int, float]:
    """
    Return the squared radii for which a profile is computed; profiles of one width share them.

    Returns
    -------
    near : ndarray, shape (K, N)
        Those at the nodes of a rule over a pixel: of the first `_FIRST` entries of a table, and of
        every `_STRIDE`-th.
    weights : ndarray, shape (K,)
        Of that rule.
    far : ndarray, shape (M,)
        Of every `_FAR_STRIDE`-th entry farther out.
    number : int
        How many entries are near.
    step : float
        From entry to entry of the table.
    """
    step = fwhm**2 / _STEPS_PER_FWHM2
    # a number of entries that rounding does not change: the profile must be continuous
    near = int(_STEPS_PER_FWHM2 * max(_INTEGRATED_FWHM, 2 / fwhm) ** 2) + 1
    before, after = _NODES // 2 - 1, _NODES // 2 + 1
    q = np.concatenate((np.arange(_FIRST), _STRIDE * np.arange(near // _STRIDE + after))) * step
    ends = near // _FAR_STRIDE, _entries(reach) // _FAR_STRIDE
    far = _FAR_STRIDE * np.arange(ends[0] - before, ends[1] + after) * step
    along, across, weights = _COARSE_RULE if fwhm > 1.5 else _FINE_RULE
    rr = (np.sqrt(q) + along[:, np.newaxis]) ** 2 + across[:, np.newaxis] ** 2
    return rr, weights, far, near, step


def _entries(reach: float) -> int:
    """Return the number of entries of a table."""
    return int(reach**2 * _STEPS_PER_FWHM2) + 2


def fit_profile(
    stamps: NDArray[np.float32],
    variance: NDArray,
    start: NDArray,
    profile: Profile,
    *,
    inverse_gain: float = 0.0,
    iterations: int = 8,
) -> Profile:
    """Fit the PSF to stars; their own positions, fluxes and skies are eliminated.

    Parameters
    ----------
    stamps : `~numpy.ndarray`, shape (N, S, S)
        Pixels around the stars, less the sky; NaN for bad ones.
    variance : `~numpy.ndarray`, shape (N, S, S) or (N, 1, 1)
        Sky variance of the pixels.
    start : `~numpy.ndarray`, shape (N, 4)
        ``x, y`` from the stamps' centers in px, ``flux`` and ``sky``.
    profile : Profile
        First guess.
    inverse_gain : float
        Photon variance per unit of light.
    iterations : int
        Largest number of Gauss-Newton steps.
    """
    n, size = stamps.shape[:2]
    star = np.array(start, dtype=float)
    shape = np.array([np.log(profile.fwhm), *profile.stretch, profile.inverse_beta])
    prior = np.array([0.0, 0.0, 0.0, 0.25])
    prior_weight = np.array([0.0, 1 / 0.2**2, 1 / 0.2**2, 1 / 0.3**2])
    eye = np.eye(4)
    h, g, misfit = np.empty((n, 8, 8)), np.empty((n, 8)), np.empty((n, size**2))
    offset = np.arange(size) - size // 2
    core = np.flatnonzero(offset[:, np.newaxis] ** 2 + offset**2 <= max(profile.fwhm, 1.5) ** 2)
    pixels = [np.ascontiguousarray(plane, dtype=np.float32) for plane in (stamps, variance)]
    scatter = 0.0  # how large squared residuals in the cores are, in units of their variance
    for _ in range(iterations):
        profile = Profile(float(np.exp(shape[0])), float(shape[3]), (shape[1], shape[2]))
        tipped = profile.inverse_beta, profile.inverse_beta + _TIP
        tables, step = _make_tables(profile.fwhm, tipped, _REACH)
        # A pixel is outlying if it is among others: where the model is wrong for all stars, the
        # cores must not lose their influence, or the fit would shrink to the rest.
        for _ in range(1 if scatter else 2):
            numbers = step, _TIP, float(inverse_gain), _MODEL_ERROR, _OUTLYING * max(scatter, 1.0)
            _compiled.psf_equations(
                *pixels, star, profile.matrix(), tuple(tables), numbers, h, g, misfit
            )
            scatter = median(misfit.take(core, axis=1)) / _CHI2_MEDIAN
        h_star = (
            h[:, :4, :4] + 1e-12 * eye * np.trace(h[:, :4, :4], axis1=1, axis2=2)[:, None, None]
        )
        both = np.linalg.solve(h_star, np.concatenate((h[:, :4, 4:], g[:, :4, None]), axis=2))
        reduced = (h[:, 4:, 4:] - h[:, 4:, :4] @ both[:, :, :4]).sum(axis=0)
        right = (g[:, 4:] - (h[:, 4:, :4] @ both[:, :, 4:])[:, :, 0]).sum(axis=0)
        change = np.linalg.solve(
            reduced + np.diag(prior_weight), right - prior_weight * (shape - prior)
        )
        change = np.clip(change, -0.2, 0.2)
        star += both[:, :, 4] - both[:, :, :4] @ change
        shape += change
        shape[0] = max(shape[0], np.log(_SMALLEST_FWHM))
        shape[3] = np.clip(shape[3], 1e-3, 0.5)
        if np.abs(change).max() < 2e-3:
            break
    return Profile(float(np.exp(shape[0])), float(shape[3]), (float(shape[1]), float(shape[2])))
