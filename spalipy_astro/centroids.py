"""Positions, fluxes and widths of all stars at once: a weighted fit of the image's own PSF.

For a star on uniform sky noise a Gaussian-windowed centroid is as good as a fit; for bright
stars, whose own photons are the noise, it loses a third of the precision, and a neighbor's light
shifts it.  So every star is fitted with an elliptical Moffat profile (Moffat 1969), integrated
over pixels, whose shape is measured on the image, with weights from sky and photon noise and the
light of the neighbors taken away.

References
----------
Moffat, A. F. J. 1969, A&A, 3, 455.
Stetson, P. B. 1987, PASP, 99, 191, doi:10.1086/131977.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Fits", "Profile", "fit_stars"]

_STEPS_PER_FWHM2 = 200
_TABLE_FWHM = 6.0


@dataclass(frozen=True)
class Profile:
    """Elliptical Moffat PSF of unit flux.

    ``fwhm`` is the geometric mean of both axes in px, ``beta`` the Moffat exponent (a Gaussian for
    large values) and ``shape`` the matrix ``(a, b, c)`` of unit determinant of the elliptical
    radius ``a dx**2 + 2 b dx dy + c dy**2``.
    """

    fwhm: float
    beta: float = 3.5
    shape: tuple[float, float, float] = (1.0, 0.0, 1.0)

    def table(self) -> tuple[NDArray[np.float64], float]:
        """Pixel-integrated profile over the squared radius, and the step of the table."""
        step = self.fwhm**2 / _STEPS_PER_FWHM2
        q = np.arange(int(_TABLE_FWHM**2 * _STEPS_PER_FWHM2) + 2) * step
        alpha2 = (self.fwhm / 2) ** 2 / (2 ** (1 / self.beta) - 1)
        norm = (self.beta - 1) / (np.pi * alpha2)
        r = np.sqrt(q)
        nodes, weights = np.polynomial.legendre.leggauss(3)
        total = np.zeros_like(q)
        angles = (np.arange(4) + 0.5) * np.pi / 16
        for angle in angles:
            cx, cy = r * np.cos(angle), r * np.sin(angle)
            for u, wu in zip(nodes / 2, weights / 2, strict=True):
                for v, wv in zip(nodes / 2, weights / 2, strict=True):
                    rr = (cx + u) ** 2 + (cy + v) ** 2
                    total += wu * wv * (1 + rr / alpha2) ** -self.beta
        return norm * total / len(angles), step


@dataclass(frozen=True)
class Fits:
    """Fitted parameters of N stars: arrays of length N.

    ``width`` is the width in units of the PSF's; ``errors`` has the columns of ``x, y, flux, sky,
    width``; ``chi2`` is the reduced chi-square in the core, ``peak_residual`` the largest positive
    residual there in units of its error, and ``n_good`` the share of good pixels in the core.
    """

    x: NDArray
    y: NDArray
    flux: NDArray
    sky: NDArray
    width: NDArray
    errors: NDArray
    chi2: NDArray
    peak_residual: NDArray
    good: NDArray
    converged: NDArray


def fit_stars(
    stamps: NDArray[np.float32],
    corner: NDArray,
    start: NDArray,
    noise: NDArray,
    profile: Profile,
    *,
    inverse_gain: float = 0.0,
    model_error: float = 0.02,
    radius: float | None = None,
    free_width: bool = True,
    neighbors: tuple[NDArray, NDArray] | None = None,
    passes: int = 1,
) -> Fits:
    """Fit all stars.

    Parameters
    ----------
    stamps : `~numpy.ndarray`, shape (N, S, S)
        Pixels around the stars, less the sky; NaN for bad ones.
    corner : `~numpy.ndarray`, shape (N, 2)
        Image position ``(x, y)`` of each stamp's first pixel.
    start : `~numpy.ndarray`, shape (N, 3)
        First guess ``(x, y, flux)``, image px.
    noise : `~numpy.ndarray`, shape (N,)
        Sky noise per pixel.
    """
    n = len(stamps)
    table, step = profile.table()
    parameters = np.zeros((n, 5))
    parameters[:, :3] = start
    parameters[:, 4] = 1.0
    if neighbors is None:
        neighbors = np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    errors = np.zeros((n, 5))
    quality = np.zeros((n, 4))
    reach = radius if radius is not None else stamps.shape[1] / 2
    for k in range(passes):
        _fit_batch(
            np.ascontiguousarray(stamps), corner.astype(np.float64), parameters,
            np.asarray(noise, dtype=np.float64), np.array(profile.shape), profile.fwhm,
            table, step, inverse_gain, model_error, reach, free_width,
            *neighbors, 12 if k == 0 else 6, errors, quality,
        )
    return Fits(
        *parameters.T, errors, quality[:, 0], quality[:, 1], quality[:, 2],
        quality[:, 3].astype(bool),
    )


@numba.njit(cache=True, nogil=True)
def _fit_batch(
    stamps, corner, parameters, noise, shape, fwhm, table, step, inverse_gain, model_error,
    reach, free_width, pointer, index, iterations, errors, quality,
):
    """Gauss-Newton fit of x, y, flux, sky and width, star after star."""
    n, size = stamps.shape[0], stamps.shape[1]
    top = table.size - 2
    pixels = np.empty((size, size))
    variance = np.empty((size, size))
    h = np.empty((5, 5))
    g = np.empty(5)
    d = np.empty(5)
    a, b, c = shape
    core2 = (0.85 * fwhm) ** 2
    for star in range(n):
        x0, y0 = corner[star]
        for i in range(size):
            for j in range(size):
                pixels[i, j] = stamps[star, i, j]
                variance[i, j] = noise[star] ** 2
        for m in range(pointer[star], pointer[star + 1]):
            other = index[m]
            ox, oy, of = parameters[other, 0], parameters[other, 1], parameters[other, 2]
            s2 = parameters[other, 4] ** 2
            if of <= 0:
                continue
            for i in range(size):
                v = y0 + i - oy
                for j in range(size):
                    u = x0 + j - ox
                    q = (a * u * u + 2 * b * u * v + c * v * v) / s2 / step
                    k = int(q)
                    if k <= top:
                        light = of / s2 * (table[k] + (q - k) * (table[k + 1] - table[k]))
                        pixels[i, j] -= light
                        variance[i, j] += inverse_gain * light + (0.05 * light) ** 2
        px, py, pf, pb, ps = parameters[star]
        start_x, start_y = px, py
        converged = False
        n_free = 5 if free_width else 4
        for iteration in range(iterations + 1):
            h[:] = 0.0
            g[:] = 0.0
            s2 = ps * ps
            chi2 = 0.0
            n_core = 0
            n_all = 0
            worst = 0.0
            for i in range(size):
                v = y0 + i - py
                for j in range(size):
                    u = x0 + j - px
                    rr = u * u + v * v
                    if rr > reach * reach:
                        continue
                    in_core = rr < core2
                    if in_core:
                        n_all += 1
                    value = pixels[i, j]
                    if value != value:
                        continue
                    q = (a * u * u + 2 * b * u * v + c * v * v) / s2
                    k = int(q / step)
                    if k > top:
                        continue
                    slope = (table[k + 1] - table[k]) / step
                    t = (table[k] + (q - k * step) * slope) / s2
                    slope /= s2
                    model = pf * t
                    light = max(model, 0.0)
                    weight = 1.0 / (
                        variance[i, j] + inverse_gain * light + (model_error * light) ** 2
                    )
                    r = value - model - pb
                    d[0] = -pf * slope * 2 * (a * u + b * v) / s2
                    d[1] = -pf * slope * 2 * (b * u + c * v) / s2
                    d[2] = t
                    d[3] = 1.0
                    d[4] = -pf * 2 * (t + slope * q) / ps
                    for k1 in range(n_free):
                        g[k1] += weight * d[k1] * r
                        for k2 in range(k1 + 1):
                            h[k1, k2] += weight * d[k1] * d[k2]
                    if in_core:
                        n_core += 1
                        z = r * np.sqrt(weight)
                        chi2 += z * z
                        worst = max(worst, z)
            # a weak prior keeps the width of faint stars near that of the PSF
            h[4, 4] += 1 / 0.3**2
            g[4] -= (ps - 1) / 0.3**2
            for k1 in range(n_free, 4):
                h[k1, k1] = 1.0
            if n_core < 4:
                break
            for k1 in range(5):
                h[k1, k1] = max(h[k1, k1], 1e-30)
            curvature = h[0, 0]
            # Cholesky factor in place
            singular = False
            for k1 in range(5):
                for k2 in range(k1 + 1):
                    total = h[k1, k2]
                    for k3 in range(k2):
                        total -= h[k1, k3] * h[k2, k3]
                    if k1 == k2:
                        if total <= 1e-12 * h[k1, k1]:
                            singular = True
                            total = max(h[k1, k1], 1e-30)
                        h[k1, k1] = np.sqrt(total)
                    else:
                        h[k1, k2] = total / h[k2, k2]
            if iteration == iterations or converged:
                # diagonal of the inverse
                for k1 in range(5):
                    total = 0.0
                    for k2 in range(5):
                        d[k2] = 1.0 if k2 == k1 else 0.0
                    for k2 in range(k1, 5):
                        value = d[k2]
                        for k3 in range(k1, k2):
                            value -= h[k2, k3] * d[k3]
                        d[k2] = value / h[k2, k2]
                        total += d[k2] * d[k2]
                    errors[star, k1] = np.sqrt(total)
                break
            for k1 in range(5):
                value = g[k1]
                for k2 in range(k1):
                    value -= h[k1, k2] * d[k2]
                d[k1] = value / h[k1, k1]
            for k1 in range(4, -1, -1):
                value = d[k1]
                for k2 in range(k1 + 1, 5):
                    value -= h[k2, k1] * d[k2]
                d[k1] = value / h[k1, k1]
            limit = 0.25 * fwhm
            dx = min(max(d[0], -limit), limit)
            dy = min(max(d[1], -limit), limit)
            px += dx
            py += dy
            pf += d[2]
            pb += d[3]
            ps = min(max(ps + min(max(d[4], -0.25), 0.25), 0.3), 3.0)
            if singular or abs(px - start_x) > fwhm or abs(py - start_y) > fwhm:
                px, py = start_x, start_y
                break
            small = 0.05 / np.sqrt(max(curvature, 1e-30))
            converged = abs(dx) < max(small, 0.001) and abs(dy) < max(small, 0.001)
        parameters[star] = px, py, pf, pb, ps
        quality[star, 0] = chi2 / max(n_core - 3, 1)
        quality[star, 1] = worst
        quality[star, 2] = n_core / max(n_all, 1)
        quality[star, 3] = 1.0 if converged else 0.0
