"""All the light of stars: fluxes of a fit or of segments compared with what apertures hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._neighbors import Neighbors
from spalipy_astro.detection._medians import median

if TYPE_CHECKING:
    from spalipy_astro.detection._exposure import Exposure
    from spalipy_astro.detection._psf import Profile

__all__ = ["light_in_wings", "missed_light"]

_MOST, _LEAST = 40, 5  # brightest stars, that are compared
_BRIGHT_SNR = 10.0
# Of the apertures, FWHM: in the ring of smaller ones there is still light of the profile, which is
# taken away from stars that do not have it there, trailed ones or discs.
_RADIUS = 1.8
_FOREIGN = 0.2  # light of others in the aperture over that of the star
_FAINT, _MOST_PAIRS = 1e-3, 1000  # light of a neighbor over a star's; all pairs together
_RING = 1.5  # outer radius of the ring with the sky, in radii of the aperture
_QUIET = 0.5  # noise: more light of others in a pixel of the ring, and it is none of the sky
_LEAST_QUIET = 0.25  # of the ring's pixels
_SIGNIFICANT = 3.0  # sigma: what is less is left as it is, unless the profile is known to be wrong
_SANE = 2.0  # times: what is more is no error of the profile
_NORMAL = 1.4826


def missed_light(
    frame: Exposure,
    position: NDArray[np.float64],
    flux: NDArray[np.float64],
    clean: NDArray[np.bool_],
    profile: Profile,
    *,
    always: bool = False,
) -> tuple[float, float]:
    """
    Return how much more light there is in bright stars than their fluxes say.

    Parameters
    ----------
    frame : Exposure
    position : ndarray, shape (N, 2)
        ``(x, y)`` of all sources, px.
    flux : ndarray, shape (N,)
    clean : ndarray of bool, shape (N,)
        Which are whole and unsaturated stars.
    profile : Profile
        Their shape, roughly: that of the apertures and of the light of neighbors.
    always : bool
        Whether it is known that the stars do not have that shape.

    Returns
    -------
    factor : float
        One and the light that is left in an aperture after the profile, with that flux, is taken
        away, in units of the flux: the median of bright stars. 1 where it differs by chance, unless
        ``always``, or too few tell.
    error : float
        Standard error of a factor other than 1, from the scatter among the stars.

    Notes
    -----
    Fluxes of one profile compare well with each other. Between frames with different profiles, one
    of them trailed or out of focus, a profile that is not quite that of the stars shifts all fluxes
    of one of them. That apertures show what fits miss goes back to Howell (1989, PASP, 101, 616,
    doi:10.1086/132477).
    """
    radius = _radius(profile)
    longest = radius / np.sqrt(1 - profile.ellipticity)
    noise = median(frame.background.noise)
    variance = np.pi * radius**2 * noise**2 + frame.inverse_gain * np.maximum(flux, 0)
    ny, nx = frame.source.shape
    x, y = position.T
    within = np.minimum(np.minimum(x, nx - 1 - x), np.minimum(y, ny - 1 - y)) > _RING * longest
    bright = np.flatnonzero(clean & within & (flux > _BRIGHT_SNR * np.sqrt(variance)))
    bright = bright[np.argsort(-flux[bright], kind="stable")[:_MOST]]
    if len(bright) < _LEAST:
        return 1.0, 0.0
    pixel = np.round(position[bright]).astype(np.int64)
    stamps, _, saturated = frame.cutouts(pixel, int(np.ceil(_RING * longest)) + 1)
    size = stamps.shape[1]
    distance = _radii(profile, position[bright] - pixel, size)
    # pixels on the edge count by the part that is within
    weight = np.clip(radius + 0.5 - distance, 0, 1)
    star, other = _neighbors(position, flux, bright, 2 * _RING * longest)
    if len(star) > _MOST_PAIRS:
        return 1.0, 0.0
    foreign = np.zeros_like(distance)
    shape = profile.at(_radii(profile, position[other] - pixel[star], size))
    np.add.at(foreign, star, flux[other, np.newaxis, np.newaxis] * shape)
    own = flux[bright]
    rest = stamps - foreign - own[:, np.newaxis, np.newaxis] * profile.at(distance)
    ring = (distance > radius + 0.5) & (distance < _RING * radius) & np.isfinite(rest)
    # the profile is as wrong for the neighbors
    quiet = ring & (foreign < _QUIET * noise)
    dark = quiet.sum(axis=(1, 2)) > _LEAST_QUIET * ring.sum(axis=(1, 2))
    ring = np.where(dark[:, np.newaxis, np.newaxis], quiet, ring)
    usable = ~saturated.any(axis=(1, 2)) & ring.any(axis=(1, 2))
    usable &= ~(np.isnan(stamps) & (weight > 0)).any(axis=(1, 2))
    usable &= (foreign * weight).sum(axis=(1, 2)) < _FOREIGN * own
    if np.count_nonzero(usable) < _LEAST:
        return 1.0, 0.0
    rest, ring, weight, own = rest[usable], ring[usable], weight[usable], own[usable]
    excess = np.nan_to_num(rest) - _medians(rest, ring)[:, np.newaxis, np.newaxis]
    ratio = 1 + (excess * weight).sum(axis=(1, 2)) / own
    middle = median(ratio)
    scatter = _NORMAL * median(np.abs(ratio - middle))
    error = 1.2533 * scatter / np.sqrt(len(ratio))
    known = 1 / _SANE < middle < _SANE and (always or abs(middle - 1) > _SIGNIFICANT * error)
    return (middle, error) if known else (1.0, 0.0)


def light_in_wings(profile: Profile) -> float:
    """Return the share of a profile's light that lies beyond the apertures, where none is seen."""
    return profile.light_beyond(_radius(profile))


def _radius(profile: Profile) -> float:
    """Return the elliptical radius of the apertures, px."""
    return _RADIUS * float(np.hypot(profile.fwhm, 1.0))


def _neighbors(
    position: NDArray[np.float64], flux: NDArray[np.float64], bright: NDArray[np.intp], reach: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return pairs of a bright star, by its place among them, and a source whose light matters."""
    pointer, other = Neighbors(position).within(position[bright], reach)
    star = np.repeat(np.arange(len(bright)), np.diff(pointer))
    keep = (other != bright[star]) & (flux[other] > _FAINT * flux[bright[star]])
    return star[keep], other[keep]


def _medians(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the median of each plane where a mask is True."""
    flat = np.where(mask, values, np.inf).reshape(len(values), -1)
    flat.sort(axis=1)
    number = np.count_nonzero(mask, axis=(1, 2))
    rows = np.arange(len(values))
    return (flat[rows, (number - 1) // 2] + flat[rows, number // 2]) / 2


def _radii(profile: Profile, place: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return elliptical distances of the pixels of stamps from places relative to their middle."""
    offset = np.arange(size) - size // 2
    dx, dy = offset - place[:, :1], offset - place[:, 1:]
    dx, dy = dx[:, np.newaxis, :], dy[:, :, np.newaxis]
    a, b, c = profile.matrix()
    return np.sqrt(a * dx**2 + 2 * b * dx * dy + c * dy**2)
