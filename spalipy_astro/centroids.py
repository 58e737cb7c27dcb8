"""Positions, fluxes and widths of all stars at once: a weighted fit of the image's own PSF.

For a faint star on uniform sky noise a centroid in a Gaussian window is as good as a fit; for a
bright star, whose own photons are the noise, it loses a third of the precision, and a neighbor's
light shifts it.  So every star is fitted with an elliptical Moffat profile (Moffat 1969),
integrated over pixels, whose shape is measured on the image itself, with weights from sky and
photon noise, and with the light of its neighbors taken away (as in Stetson 1987).

References
----------
Moffat, A. F. J. 1969, A&A, 3, 455.
Stetson, P. B. 1987, PASP, 99, 191, doi:10.1086/131977.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Fits", "Profile", "fit_profile", "fit_stars", "noise_law", "phase_response"]

_STEPS_PER_FWHM2 = 200
_INTEGRATED_FWHM = 2.0
# Below this the light falls in one pixel or two, and there is no width to measure.
_SMALLEST_FWHM = 0.7
# NaN keeps its meaning: it marks bad pixels.
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


@dataclass(frozen=True)
class Profile:
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
        """``(a, b, c)`` of the squared radius ``a dx**2 + 2 b dx dy + c dy**2``."""
        e1, e2 = self.stretch
        e = np.hypot(e1, e2)
        sinc = np.sinh(e) / e if e > 1e-9 else 1.0
        return np.array([np.cosh(e) + e1 * sinc, e2 * sinc, np.cosh(e) - e1 * sinc])

    def table(self, reach: float = 6.0) -> tuple[NDArray[np.float64], float]:
        """Pixel-integrated profile over the squared radius, and the step of the table.

        The table ends at ``reach`` times the FWHM.
        """
        step = self.fwhm**2 / _STEPS_PER_FWHM2
        q = np.arange(int(reach**2 * _STEPS_PER_FWHM2) + 2) * step
        out = self._intensity(q)
        inner = q <= max(_INTEGRATED_FWHM * self.fwhm, 2.0) ** 2
        r = np.sqrt(q[inner])
        nodes, weights = np.polynomial.legendre.leggauss(3 if self.fwhm > 1.5 else 6)
        total = np.zeros_like(r)
        # these two directions average the fourfold part of the pixel's shape away
        for angle in (np.pi / 16, 3 * np.pi / 16):
            for u, wu in zip(nodes / 2, weights / 4, strict=True):
                for v, wv in zip(nodes / 2, weights / 4, strict=True):
                    rr = (r * np.cos(angle) + u) ** 2 + (r * np.sin(angle) + v) ** 2
                    total += 2 * wu * wv * self._intensity(rr)
        out[inner] = total
        return out, step

    def _intensity(self, rr: NDArray) -> NDArray:
        """Surface brightness at a squared radius."""
        ib = max(self.inverse_beta, 1e-4)
        alpha2 = (self.fwhm / 2) ** 2 / np.expm1(ib * np.log(2))
        return (1 / ib - 1) / (np.pi * alpha2) * np.exp(-np.log1p(rr / alpha2) / ib)


@dataclass(frozen=True)
class Fits:
    """Fitted parameters of N stars: arrays of length N.

    ``width`` is the width in units of the PSF's; ``errors`` has the columns of ``x, y, flux, sky,
    width``; ``snr`` is the flux over its error were all else known; of the core, ``chi2`` is the
    reduced chi-square, ``good`` the share of good pixels, ``neighbors`` the light of neighbors
    over that of the star, and ``sums`` has the columns: number of pixels and sums of squared
    residuals, of sky variance, of the model and of its square.
    """

    x: NDArray
    y: NDArray
    flux: NDArray
    sky: NDArray
    width: NDArray
    errors: NDArray
    snr: NDArray
    chi2: NDArray
    good: NDArray
    converged: NDArray
    neighbors: NDArray
    sums: NDArray

    def __getitem__(self, rows: NDArray) -> Fits:
        """Return some of the stars."""
        return Fits(*(getattr(self, field.name)[rows] for field in fields(self)))


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
    grid = np.arange(size) - size // 2
    star = np.array(start, dtype=float)
    good = np.isfinite(stamps)
    value = np.where(good, stamps, 0.0).astype(float)
    shape = np.array([np.log(profile.fwhm), *profile.stretch, profile.inverse_beta])
    prior = np.array([0.0, 0.0, 0.0, 0.25])
    prior_weight = np.array([0.0, 1 / 0.2**2, 1 / 0.2**2, 1 / 0.3**2])
    eye = np.eye(4)
    for _ in range(iterations):
        profile = Profile(float(np.exp(shape[0])), float(shape[3]), (shape[1], shape[2]))
        a, b, c = profile.matrix()
        u = grid[None, None, :] - star[:, 0, None, None]
        v = grid[None, :, None] - star[:, 1, None, None]
        q = a * u * u + 2 * b * u * v + c * v * v
        light, slope = _look_up(profile, q)
        tipped = replace(profile, inverse_beta=profile.inverse_beta + 0.02)
        flux = star[:, 2, None, None]
        model = flux * light
        r = value - model - star[:, 3, None, None]
        w = good / (variance + inverse_gain * np.abs(model) + (0.03 * model) ** 2)
        z2 = r * r * w
        w = np.where(z2 > 9, w * 3 / np.sqrt(np.maximum(z2, 9)), w)
        columns = [
            -2 * flux * slope * (a * u + b * v),
            -2 * flux * slope * (b * u + c * v),
            light,
            np.ones_like(light),
            -2 * flux * (light + slope * q),
            flux * slope * (u * u * a - v * v * c),
            flux * slope * (2 * u * v + b * (u * u + v * v)),
            flux * (_look_up(tipped, q)[0] - light) / 0.02,
        ]
        d = np.stack([k.reshape(n, -1) for k in columns], axis=1)
        wd = d * w.reshape(n, 1, -1)
        h = wd @ d.transpose(0, 2, 1)
        g = (wd @ r.reshape(n, -1, 1))[:, :, 0]
        h_star = h[:, :4, :4] + 1e-12 * eye * np.trace(h[:, :4, :4], axis1=1, axis2=2)[
            :, None, None
        ]
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


def noise_law(
    fits: Fits, *, inverse_gain: float, fixed_gain: bool
) -> tuple[float, float]:
    """Photon variance per unit of light and relative error of the model, from the residuals.

    The squared residuals in the cores of bright stars are regressed on the light and its square,
    with outliers clipped.
    """
    number, square, sky, light, light2 = fits.sums.T
    use = (fits.snr > 20) & (number >= 6) & (fits.flux > 0)
    if use.sum() < 8:
        return inverse_gain, 0.01
    freedom = (number[use] - 3.5) / number[use]
    y = square[use] / freedom - sky[use]
    design = np.column_stack((light[use], light2[use]))
    law = np.array([inverse_gain, 1e-4])
    keep = np.ones(len(y), dtype=bool)
    fit_gain = not fixed_gain and use.sum() >= 20
    for _ in range(10):
        expected = sky[use] + design @ law
        ratio = (y + sky[use]) / expected
        keep = ratio < 3 * np.median(ratio)
        w = keep / expected**2
        if fit_gain:
            normal = (design * w[:, None]).T @ design
            right = (design * w[:, None]).T @ y
            new = np.linalg.solve(normal + 1e-12 * np.diag(np.diag(normal)), right)
            if new[0] <= 0:
                new = np.array([0.0, (w * y * design[:, 1]).sum() / normal[1, 1]])
            elif new[1] <= 0:
                new = np.array([(w * y * design[:, 0]).sum() / normal[0, 0], 0.0])
            law = np.maximum(new, 0)
        else:
            rest = y - law[0] * design[:, 0]
            top = (w * rest * design[:, 1]).sum()
            law[1] = max(top / (w * design[:, 1] ** 2).sum(), 0.0)
    return float(law[0]), float(np.sqrt(np.clip(law[1], 0.003**2, 0.5**2)))


def phase_response(
    stamps: NDArray, variance: NDArray, phase: NDArray, parameters: NDArray, profile: Profile
) -> NDArray[np.float64]:
    """Sensitivity of the four pixels of a color filter array to star light, 1 in the mean.

    ``phase`` has the shape of ``stamps``, ``parameters`` are those of `fit_profile`'s ``start``.
    """
    size = stamps.shape[1]
    grid = np.arange(size) - size // 2
    a, b, c = profile.matrix()
    u = grid[None, None, :] - parameters[:, 0, None, None]
    v = grid[None, :, None] - parameters[:, 1, None, None]
    model = parameters[:, 2, None, None] * _look_up(
        profile, a * u * u + 2 * b * u * v + c * v * v
    )[0]
    good = np.isfinite(stamps)
    value = np.where(good, stamps - parameters[:, 3, None, None], 0)
    out = np.ones(4)
    for k in range(4):
        w = good * (phase == k) / (variance + (0.05 * model) ** 2)
        share = (w * value * model).sum(axis=(1, 2)) / np.maximum(
            (w * model**2).sum(axis=(1, 2)), 1e-30
        )
        out[k] = np.median(share)
    return np.clip(out / out.mean(), 0.05, 4)


def _look_up(profile: Profile, q: NDArray) -> tuple[NDArray, NDArray]:
    """Profile and its derivative at squared radii."""
    table, step = profile.table(4.0)
    f = np.minimum(q / step, len(table) - 2)
    k = f.astype(np.intp)
    low = table[k]
    slope = table[k + 1] - low
    return low + (f - k) * slope, slope / step


def fit_stars(
    stamps: NDArray[np.float32],
    variance: NDArray,
    corner: NDArray,
    parameters: NDArray,
    profile: Profile,
    *,
    first: int = 0,
    inverse_gain: float = 0.0,
    model_error: float = 0.01,
    radius: float | None = None,
    neighbors: tuple[NDArray, NDArray] | None = None,
    passes: int = 1,
) -> Fits:
    """Fit stars ``first`` to ``first + N`` of a list, brightest first.

    Parameters
    ----------
    stamps : `~numpy.ndarray`, shape (N, S, S)
        Pixels around the stars, less the sky; NaN for bad ones.
    variance : `~numpy.ndarray`, shape (N, S, S) or (N, 1, 1)
        Sky variance of the pixels.
    corner : `~numpy.ndarray`, shape (N, 2)
        Image position ``(x, y)`` of each stamp's first pixel.
    parameters : `~numpy.ndarray`, shape (M, 5)
        ``x, y, flux, sky, width`` of all stars of the list; those fitted are updated.
    """
    n = len(stamps)
    table, step = profile.table()
    if neighbors is None:
        neighbors = np.zeros(len(parameters) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    errors = np.zeros((n, 5))
    quality = np.zeros((n, 5))
    sums = np.zeros((n, 5))
    reach = radius if radius is not None else stamps.shape[1] / 2
    for k in range(passes):
        _fit_batch(
            stamps, np.ascontiguousarray(variance, dtype=np.float32),
            np.asarray(corner, dtype=np.float64), parameters, first, profile.matrix(),
            profile.fwhm, table.astype(np.float32), step, inverse_gain, model_error, reach,
            *neighbors, k > 0,
            12, errors, quality, sums,
        )
    return Fits(
        *parameters[first : first + n].T, errors, quality[:, 0], quality[:, 1], quality[:, 2],
        quality[:, 3].astype(bool), quality[:, 4], sums,
    )


# The loops below are many and short so that each has few arrays and can be vectorized; one loop
# over everything takes six times as long.  Single precision is enough for sums that only steer
# and weigh.  The rows of the work array, for the pixels of one star:
_X, _Y, _VALUE, _VARIANCE, _Q, _LIGHT, _SLOPE, _DX, _DY, _WEIGHT, _REST, _DW, _TOTAL = range(13)


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _squared_radius(x, y, n, matrix, x0, y0, scale, q):
    """Fill in the squared elliptical radius of every pixel."""
    a, b, c = np.float32(matrix[0]), np.float32(matrix[1]), np.float32(matrix[2])
    px, py, f = np.float32(x0), np.float32(y0), np.float32(scale)
    for m in range(n):
        u = x[m] - px
        v = y[m] - py
        q[m] = (u * (a * u + b * v + b * v) + c * v * v) * f


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _look_up_pixels(q, n, table, step, scale, light, slope):
    """Fill in the profile of unit flux and its derivative."""
    per_step = np.float32(1 / step)
    top = np.float32(table.size - 2)
    f = np.float32(scale)
    g = f * per_step
    for m in range(n):
        place = min(q[m] * per_step, top)
        k = int(place)
        low = table[k]
        rise = table[k + 1] - low
        light[m] = (low + (place - np.float32(k)) * rise) * f
        slope[m] = rise * g


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _gradients(x, y, n, matrix, x0, y0, factor, slope, dx, dy):
    """Fill in the derivatives of the model by position."""
    a, b, c = np.float32(matrix[0]), np.float32(matrix[1]), np.float32(matrix[2])
    px, py, f = np.float32(x0), np.float32(y0), np.float32(factor)
    for m in range(n):
        u = x[m] - px
        v = y[m] - py
        tilt = f * slope[m]
        dx[m] = tilt * (a * u + b * v)
        dy[m] = tilt * (b * u + c * v)


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _weigh(value, variance, n, light, q, slope, flux, sky, width, gain, total, weight, rest, dw):
    """Fill in variance with photon noise, weight, residual and the derivative by width."""
    f, b, g = np.float32(flux), np.float32(sky), np.float32(gain)
    per_width = np.float32(-2 / width)
    for m in range(n):
        model = f * light[m]
        noise = variance[m] + g * max(model, np.float32(0))
        total[m] = noise
        weight[m] = np.float32(1) / noise
        rest[m] = value[m] - model - b
        dw[m] = per_width * (model + f * slope[m] * q[m])


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _normal_equations(n, weight, dx, dy, light, dw, rest, h, g):
    """Sum the lower triangle of the normal matrix and the right-hand side."""
    h00 = h10 = h11 = h20 = h21 = h22 = h30 = h31 = h32 = h33 = np.float32(0)
    h40 = h41 = h42 = h43 = h44 = g0 = g1 = g2 = g3 = g4 = np.float32(0)
    for m in range(n):
        w, d0, d1, t, d4, r = weight[m], dx[m], dy[m], light[m], dw[m], rest[m]
        w0 = w * d0
        w1 = w * d1
        w2 = w * t
        w4 = w * d4
        h00 += w0 * d0
        h10 += w0 * d1
        h11 += w1 * d1
        h20 += w0 * t
        h21 += w1 * t
        h22 += w2 * t
        h30 += w0
        h31 += w1
        h32 += w2
        h33 += w
        h40 += w0 * d4
        h41 += w1 * d4
        h42 += w2 * d4
        h43 += w4
        h44 += w4 * d4
        g0 += w0 * r
        g1 += w1 * r
        g2 += w2 * r
        g3 += w * r
        g4 += w4 * r
    h[0, 0], h[1, 0], h[1, 1] = h00, h10, h11
    h[2, 0], h[2, 1], h[2, 2] = h20, h21, h22
    h[3, 0], h[3, 1], h[3, 2], h[3, 3] = h30, h31, h32, h33
    h[4, 0], h[4, 1], h[4, 2], h[4, 3], h[4, 4] = h40, h41, h42, h43, h44
    g[0], g[1], g[2], g[3], g[4] = g0, g1, g2, g3, g4


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _core_sums(work, n, x0, y0, flux, model_error, core2, out):
    """Sum up how well the core is fitted; return the chi-square and what the model's error does.

    An error of the model in proportion to itself, from the PSF or the flat field, adds to the
    variance of the right-hand sides of x and y; the larger of both shares is returned.
    """
    chi2 = 0.0
    spread_x = spread_y = sum_x = sum_y = 0.0
    for m in range(n):
        model = flux * work[_LIGHT, m]
        noise = work[_TOTAL, m]
        extra = noise + (model_error * model) ** 2
        wx = work[_WEIGHT, m] * work[_DX, m]
        wy = work[_WEIGHT, m] * work[_DY, m]
        spread_x += wx * wx * extra
        spread_y += wy * wy * extra
        sum_x += wx * wx * noise
        sum_y += wy * wy * noise
        u = work[_X, m] - x0
        v = work[_Y, m] - y0
        if u * u + v * v < core2:
            rr = work[_REST, m] ** 2
            chi2 += rr / extra
            out[0] += 1
            out[1] += rr
            out[2] += work[_VARIANCE, m]
            out[3] += max(model, 0.0)
            out[4] += model * model
    return chi2, max(spread_x / max(sum_x, 1e-30), spread_y / max(sum_y, 1e-30))


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _gather(
    stamp, variance, x0, y0, parameters, me, matrix, table, step, inverse_gain, reach,
    core2, others, work,
):
    """List the good pixels around a star, less its neighbors' light.

    Return their number, the number of those in the core and the light of neighbors there.
    """
    size = stamp.shape[0]
    many = variance.shape[0] > 1
    px, py = parameters[me, 0] - x0, parameters[me, 1] - y0
    n = 0
    n_core = 0
    for i in range(size):
        vv = (i - py) ** 2
        for j in range(size):
            rr = (j - px) ** 2 + vv
            value = stamp[i, j]
            if rr > reach * reach or value != value:
                continue
            work[_X, n] = j
            work[_Y, n] = i
            work[_VALUE, n] = value
            work[_VARIANCE, n] = variance[i, j] if many else variance[0, 0]
            n_core += 1 if rr < core2 else 0
            n += 1
    foreign = 0.0
    for other in others:
        flux = parameters[other, 2]
        if flux <= 0:
            continue
        scale = 1 / parameters[other, 4] ** 2
        ox, oy = parameters[other, 0] - x0, parameters[other, 1] - y0
        _squared_radius(work[_X], work[_Y], n, matrix, ox, oy, scale, work[_Q])
        _look_up_pixels(work[_Q], n, table, step, scale * flux, work[_LIGHT], work[_SLOPE])
        for m in range(n):
            light = work[_LIGHT, m]
            work[_VALUE, m] -= light
            work[_VARIANCE, m] += inverse_gain * light + 0.0025 * light * light
            if (work[_X, m] - px) ** 2 + (work[_Y, m] - py) ** 2 < core2:
                foreign += light
    return n, n_core, foreign


@numba.njit(cache=True, nogil=True)
def _cholesky(h):
    """Factor the lower triangle in place; False if it is singular."""
    regular = True
    for i in range(h.shape[0]):
        for j in range(i + 1):
            total = h[i, j]
            for k in range(j):
                total -= h[i, k] * h[j, k]
            if i == j:
                if not total > 1e-10 * h[i, i]:
                    regular = False
                    total = max(h[i, i], 1e-30)
                h[i, i] = np.sqrt(total)
            else:
                h[i, j] = total / h[j, j]
    return regular


@numba.njit(cache=True, nogil=True)
def _solve(h, g, d):
    """Solve with the Cholesky factor ``h``."""
    n = g.size
    for i in range(n):
        value = g[i]
        for j in range(i):
            value -= h[i, j] * d[j]
        d[i] = value / h[i, i]
    for i in range(n - 1, -1, -1):
        value = d[i]
        for j in range(i + 1, n):
            value -= h[j, i] * d[j]
        d[i] = value / h[i, i]


@numba.njit(cache=True, nogil=True)
def _fit_batch(
    stamps, variance, corner, parameters, first, matrix, fwhm, table, step, inverse_gain,
    model_error, reach, pointer, index, only_with_neighbors, iterations, errors, quality, sums,
):
    """Gauss-Newton fit of x, y, flux, sky and width, star after star."""
    n_stars, size = stamps.shape[0], stamps.shape[1]
    work = np.empty((13, size * size), dtype=np.float32)
    h = np.empty((5, 5))
    g = np.empty(5)
    d = np.empty(5)
    core2 = max(0.85 * fwhm, 1.5) ** 2
    core_area = np.pi * core2
    limit = 0.25 * fwhm
    for star in range(n_stars):
        me = first + star
        others = index[pointer[me] : pointer[me + 1]]
        if only_with_neighbors and others.size == 0:
            continue
        x0, y0 = corner[star]
        n, n_core, foreign = _gather(
            stamps[star], variance[star], x0, y0, parameters, me, matrix, table, step,
            inverse_gain, reach, core2, others, work,
        )
        quality[star] = 0.0
        quality[star, 2] = n_core / core_area
        if n_core < 4 or n < 8:
            continue
        x, y, flux, sky, width = parameters[me]
        x_start, y_start = x, y
        converged = False
        snr = 0.0
        for _ in range(iterations):
            u, v, scale = x - x0, y - y0, 1 / width**2
            _squared_radius(work[_X], work[_Y], n, matrix, u, v, scale, work[_Q])
            _look_up_pixels(work[_Q], n, table, step, scale, work[_LIGHT], work[_SLOPE])
            _gradients(
                work[_X], work[_Y], n, matrix, u, v, -2 * flux * scale, work[_SLOPE],
                work[_DX], work[_DY],
            )
            _weigh(
                work[_VALUE], work[_VARIANCE], n, work[_LIGHT], work[_Q], work[_SLOPE], flux,
                sky, width, inverse_gain, work[_TOTAL], work[_WEIGHT], work[_REST], work[_DW],
            )
            _normal_equations(
                n, work[_WEIGHT], work[_DX], work[_DY], work[_LIGHT], work[_DW], work[_REST],
                h, g,
            )
            snr = flux * np.sqrt(h[2, 2])
            small = max(0.05 / np.sqrt(max(min(h[0, 0], h[1, 1]), 1e-30)), 0.001)
            # a weak prior keeps the width of faint stars near that of the PSF
            h[4, 4] += 1 / 0.3**2
            g[4] -= (width - 1) / 0.3**2
            regular = _cholesky(h)
            _solve(h, g, d)
            dx = min(max(d[0], -limit), limit)
            dy = min(max(d[1], -limit), limit)
            last_flux = flux
            x += dx
            y += dy
            flux += d[2]
            sky += d[3]
            width = min(max(width + min(max(d[4], -0.25), 0.25), 0.3), 3.0)
            lost = abs(x - x_start) > fwhm or abs(y - y_start) > fwhm
            if lost:
                x, y = x_start, y_start
            converged = regular and not lost and abs(dx) < small and abs(dy) < small
            if converged or lost or not regular:
                break
        parameters[me] = x, y, flux, sky, width
        sums[star] = 0.0
        chi2, inflation = _core_sums(
            work, n, x - x0, y - y0, last_flux, model_error, core2, sums[star]
        )
        for i in range(5):
            g[:] = 0.0
            g[i] = 1.0
            _solve(h, g, d)
            errors[star, i] = np.sqrt(max(d[i], 0.0) * (inflation if i < 2 else 1.0))
        quality[star, 0] = snr
        quality[star, 1] = chi2 / max(sums[star, 0] - 3, 1)
        quality[star, 3] = 1.0 if converged else 0.0
        quality[star, 4] = foreign / max(flux, 1e-30)
