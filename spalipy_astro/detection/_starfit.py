"""Positions, fluxes and widths of all stars at once: a weighted fit of the image's own PSF.

For a faint star on uniform sky noise a centroid in a Gaussian window is as good as a fit; for a
bright star, whose own photons are the noise, it loses a third of the precision, and a neighbor's
light shifts it.  So every star is fitted with the PSF measured on the image, with weights from
sky and photon noise, and with the light of its neighbors taken away (as in Stetson 1987).

References
----------
Stetson, P. B. 1987, PASP, 99, 191, doi:10.1086/131977.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro._compiled import starcolumns as columns
from spalipy_astro.detection._psf import Profile

__all__ = ["Fits", "fit_stars"]


@dataclass(frozen=True)
class Fits:
    """What is known of N stars; `fit_stars` updates the rows of the arrays.

    Parameters
    ----------
    parameters : `~numpy.ndarray`, shape (N, 5)
        ``x, y`` (px), ``flux``, ``sky`` (above the mesh, per pixel) and ``width`` (in units of the
        PSF's).
    errors : `~numpy.ndarray`, shape (N, 5)
        Their errors.
    quality : `~numpy.ndarray`
        The properties below.
    """

    parameters: NDArray[np.float64]
    errors: NDArray[np.float64]
    quality: NDArray[np.float64]

    @classmethod
    def start(cls, position: NDArray, flux: NDArray) -> Fits:
        """Make a list of first guesses; ``position`` has the shape (N, 2)."""
        n = len(flux)
        parameters = np.column_stack((position, flux, np.zeros(n), np.ones(n)))
        return cls(parameters, np.zeros((n, 5)), np.zeros((n, columns.N_QUALITIES)))

    def append(self, other: Fits) -> Fits:
        """Return both lists as one."""
        return Fits(
            np.concatenate((self.parameters, other.parameters)),
            np.concatenate((self.errors, other.errors)),
            np.concatenate((self.quality, other.quality)),
        )

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, rows: NDArray | slice) -> Fits:
        return Fits(self.parameters[rows], self.errors[rows], self.quality[rows])

    @property
    def position(self) -> NDArray:
        """``(x, y)`` in px, shape (N, 2)."""
        return self.parameters[:, :2]

    @property
    def flux(self) -> NDArray:
        """Total flux."""
        return self.parameters[:, 2]

    @property
    def sky(self) -> NDArray:
        """Sky above the mesh, per pixel."""
        return self.parameters[:, 3]

    @property
    def width(self) -> NDArray:
        """Width in units of the PSF's."""
        return self.parameters[:, 4]

    @property
    def width_error(self) -> NDArray:
        """Error of the width."""
        return self.errors[:, 4]

    @property
    def snr(self) -> NDArray:
        """Flux over its error if all else were known."""
        return self.quality[:, columns.SNR]

    @property
    def chi2(self) -> NDArray:
        """Reduced chi-square in the core."""
        return self.quality[:, columns.CHI2]

    @property
    def good(self) -> NDArray:
        """Share of good pixels in the core."""
        return self.quality[:, columns.GOOD]

    @property
    def converged(self) -> NDArray:
        """Whether the position converged."""
        return self.quality[:, columns.CONVERGED] > 0

    @property
    def foreign(self) -> NDArray:
        """Light of neighbors in the core over that of the star."""
        return self.quality[:, columns.FOREIGN]

    @property
    def sharpness(self) -> NDArray:
        """By how many sigma a pixel stands out more from those around it than in any star."""
        return self.quality[:, columns.SHARPNESS]

    @property
    def companion(self) -> NDArray:
        """Significance and position ``(x, y)`` of the largest residual peak, shape (N, 3)."""
        return self.quality[:, columns.COMPANION : columns.COMPANION + 3]

    @property
    def sums(self) -> NDArray:
        """Over the core, shape (N, 5).

        Number of pixels, sums of squared residuals, of sky variance, of the model and of its
        square.
        """
        return self.quality[:, columns.SUMS : columns.SUMS + 5]

    def position_errors(self, more_photon_noise: float, model_error: float) -> NDArray:
        """Errors of x and y, shape (N, 2).

        More (or less) photon variance per unit of light than the fit assumed, and an error of
        the model in proportion to itself, from the PSF or the flat field, add to the variance.
        """
        growth = (
            1
            + more_photon_noise * self.quality[:, columns.VARIANCE_BY_LIGHT]
            + model_error**2 * self.quality[:, columns.VARIANCE_BY_SQUARE]
        )
        return self.errors[:, :2] * np.sqrt(np.maximum(growth, 0.1))[:, None]


@lru_cache(maxsize=4)
def _tabulated(
    profile: Profile,
) -> tuple[NDArray[np.float64], NDArray[np.float32], float, float]:
    """Return matrix, table, its step and FWHM of a profile.

    The table holds the profile and its slope, which must be continuous to avoid cycles in the fit.
    """
    values, step = profile.table()
    table = np.empty((len(values), 2), np.float32)
    table[:, 0] = values
    table[1:-1, 1] = (values[2:] - values[:-2]) / 2
    table[[0, -1], 1] = values[1] - values[0], values[-1] - values[-2]
    # with numbers that are almost zero processors are slow
    table[np.abs(table) < np.float32(1e-30)] = 0
    return profile.matrix(), table, step, float(profile.fwhm)


@lru_cache(maxsize=4)
def _window(size: int, fwhm: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """List the pixels of a stamp that are fitted, and make the filter for companions."""
    offset = np.arange(size) - size // 2
    circle = np.argwhere(offset[:, None] ** 2 + offset**2 <= 0.25 * size**2)
    near = np.arange(-1, 2) if fwhm < 2 else np.arange(-2, 3)
    kernel = np.exp(-0.5 * (near[:, None] ** 2 + near**2) * (2.3548 / fwhm) ** 2)
    return np.ascontiguousarray(circle, np.int64), kernel


def fit_stars(
    fits: Fits,
    members: NDArray,
    stamps: NDArray[np.float32],
    variance: NDArray[np.float32],
    corner: NDArray,
    profile: Profile,
    neighbors: tuple[NDArray, NDArray],
    *,
    inverse_gain: float,
    model_error: float,
    search: bool = False,
) -> None:
    """Fit some of the stars in turn, each with the light of its neighbors subtracted.

    Parameters
    ----------
    fits : Fits
        All stars; the rows of the members are updated.
    members : `~numpy.ndarray` of int, shape (N,)
        Which stars to fit.
    stamps : `~numpy.ndarray`, shape (N, S, S)
        Pixels around the members, less the sky; NaN for bad ones.
    variance : `~numpy.ndarray`, shape (N, S, S) or (N, 1, 1)
        Sky variance of the pixels.
    corner : `~numpy.ndarray`, shape (N, 2)
        Image position ``(x, y)`` of each stamp's first pixel.
    profile : Profile
        The PSF.
    neighbors : tuple of `~numpy.ndarray`
        For each of all stars, its neighbors: pointers into one array of star numbers.
    inverse_gain : float
        Photon variance per unit of light.
    model_error : float
        Relative error of the PSF; it enters chi-square and companions, not the weights.
    search : bool, optional
        Look for companions in the residuals.
    """
    _compiled.fit_batch(
        np.ascontiguousarray(stamps, dtype=np.float32),
        np.ascontiguousarray(variance, dtype=np.float32),
        np.ascontiguousarray(corner, dtype=np.float64),
        np.ascontiguousarray(members),
        *neighbors,
        _tabulated(profile),
        (float(inverse_gain), float(model_error)),
        _window(stamps.shape[1], profile.fwhm),
        search,
        (fits.parameters, fits.errors, fits.quality),
    )
