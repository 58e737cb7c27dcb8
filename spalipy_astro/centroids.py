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
_TABLE_FWHM = 6.0
_INTEGRATED_FWHM = 2.5
# Below this the light falls in one pixel or two, and there is no width to measure.
_SMALLEST_FWHM = 0.7


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

    def table(self) -> tuple[NDArray[np.float64], float]:
        """Pixel-integrated profile over the squared radius, and the step of the table."""
        step = self.fwhm**2 / _STEPS_PER_FWHM2
        q = np.arange(int(_TABLE_FWHM**2 * _STEPS_PER_FWHM2) + 2) * step
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
        shape[3] = np.clip(shape[3], 1e-3, 0.7)
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
    table, step = profile.table()
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
            profile.fwhm, table, step, inverse_gain, model_error, reach, *neighbors, k > 0,
            12, errors, quality, sums,
        )
    return Fits(
        *parameters[first : first + n].T, errors, quality[:, 0], quality[:, 1], quality[:, 2],
        quality[:, 3].astype(bool), quality[:, 4], sums,
    )


@numba.njit(cache=True, nogil=True)
def _gather(
    stamp, variance, x0, y0, parameters, me, matrix, table, step, inverse_gain, reach,
    core2, others, pixels,
):
    """List the good pixels around a star, less its neighbors' light: position, value, variance.

    Return their number and the light of neighbors in the core.
    """
    size = stamp.shape[0]
    many = variance.shape[0] > 1
    a, b, c = matrix
    top = table.size - 2
    px, py = parameters[me, 0], parameters[me, 1]
    n = 0
    for i in range(size):
        v = y0 + i - py
        for j in range(size):
            u = x0 + j - px
            value = stamp[i, j]
            if u * u + v * v > reach * reach or value != value:
                continue
            pixels[0, n] = x0 + j
            pixels[1, n] = y0 + i
            pixels[2, n] = value
            pixels[3, n] = variance[i, j] if many else variance[0, 0]
            n += 1
    foreign = 0.0
    for other in others:
        flux = parameters[other, 2]
        if flux <= 0:
            continue
        s2 = parameters[other, 4] ** 2
        flux /= s2
        ox, oy = parameters[other, 0], parameters[other, 1]
        scale = 1 / (s2 * step)
        for m in range(n):
            u = pixels[0, m] - ox
            v = pixels[1, m] - oy
            f = (a * u * u + 2 * b * u * v + c * v * v) * scale
            if f < top:
                k = int(f)
                light = flux * (table[k] + (f - k) * (table[k + 1] - table[k]))
                pixels[2, m] -= light
                pixels[3, m] += inverse_gain * light + (0.05 * light) ** 2
                if (pixels[0, m] - px) ** 2 + (pixels[1, m] - py) ** 2 < core2:
                    foreign += light
    return n, foreign


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _accumulate(
    pixels, n, p, matrix, table, step, inverse_gain, model_error, core2, h, g, spread, sums
):
    """Normal equations of one star, and sums over its core.

    The weights are those of sky and photon noise.  An error in proportion to the model, of the
    PSF or the flat field, enters ``spread``: the variance of the right-hand sides of x and y.
    """
    a, b, c = matrix
    px, py, pf, pb, ps = p
    top = table.size - 2
    scale = 1 / (ps * ps)
    in_step = 1 / step
    h00 = h10 = h11 = h20 = h21 = h22 = h30 = h31 = h32 = h33 = 0.0
    h40 = h41 = h42 = h43 = h44 = g0 = g1 = g2 = g3 = g4 = 0.0
    spread_x = spread_y = 0.0
    chi2 = square = sky = light_sum = light_square = 0.0
    n_core = 0
    for m in range(n):
        u = pixels[0, m] - px
        v = pixels[1, m] - py
        au = a * u + b * v
        cv = b * u + c * v
        q = (au * u + cv * v) * scale
        f = min(q * in_step, float(top))
        k = int(f)
        low = table[k]
        slope = table[k + 1] - low
        t = (low + (f - k) * slope) * scale
        slope *= in_step * scale
        model = pf * t
        light = max(model, 0.0)
        variance = pixels[3, m] + inverse_gain * light
        extra = model_error * model * model
        w = 1 / variance
        r = pixels[2, m] - model - pb
        common = -2 * pf * slope * scale
        d0 = common * au
        d1 = common * cv
        d4 = -2 * (model + pf * slope * q) / ps
        w0, w1, w2, w4 = w * d0, w * d1, w * t, w * d4
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
        spread_x += w0 * w0 * (variance + extra)
        spread_y += w1 * w1 * (variance + extra)
        inside = 1 if u * u + v * v < core2 else 0
        n_core += inside
        chi2 += inside * r * r / (variance + extra)
        square += inside * r * r
        sky += inside * pixels[3, m]
        light_sum += inside * light
        light_square += inside * model * model
    h[0, 0], h[1, 0], h[1, 1] = h00, h10, h11
    h[2, 0], h[2, 1], h[2, 2] = h20, h21, h22
    h[3, 0], h[3, 1], h[3, 2], h[3, 3] = h30, h31, h32, h33
    h[4, 0], h[4, 1], h[4, 2], h[4, 3], h[4, 4] = h40, h41, h42, h43, h44
    g[0], g[1], g[2], g[3], g[4] = g0, g1, g2, g3, g4
    spread[0], spread[1] = spread_x, spread_y
    sums[0], sums[1], sums[2], sums[3], sums[4] = n_core, square, sky, light_sum, light_square
    return chi2


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
def _fit_batch(
    stamps, variance, corner, parameters, first, matrix, fwhm, table, step, inverse_gain,
    model_error, reach, pointer, index, only_with_neighbors, iterations, errors, quality, sums,
):
    """Gauss-Newton fit of x, y, flux, sky and width, star after star."""
    n_stars, size = stamps.shape[0], stamps.shape[1]
    pixels = np.empty((4, size * size))
    h = np.empty((5, 5))
    g = np.empty(5)
    d = np.empty(5)
    spread = np.empty(2)
    core2 = max(0.85 * fwhm, 1.5) ** 2
    core_area = np.pi * core2
    for star in range(n_stars):
        me = first + star
        others = index[pointer[me] : pointer[me + 1]]
        if only_with_neighbors and others.size == 0:
            continue
        p = parameters[me]
        x_start, y_start = p[0], p[1]
        n, foreign = _gather(
            stamps[star], variance[star], corner[star, 0], corner[star, 1], parameters, me,
            matrix, table, step, inverse_gain, reach, core2, others, pixels,
        )
        converged = False
        chi2, n_core = 0.0, 0.0
        for iteration in range(iterations + 1):
            chi2 = _accumulate(
                pixels, n, p, matrix, table, step, inverse_gain, model_error**2, core2, h, g,
                spread, sums[star],
            )
            n_core = sums[star, 0]
            if n_core < 4:
                break
            snr = p[2] * np.sqrt(h[2, 2])
            curvature = min(h[0, 0], h[1, 1])
            inflation = max(spread[0] / max(h[0, 0], 1e-30), spread[1] / max(h[1, 1], 1e-30))
            # a weak prior keeps the width of faint stars near that of the PSF
            h[4, 4] += 1 / 0.3**2
            g[4] -= (p[4] - 1) / 0.3**2
            regular = _cholesky(h)
            if converged or iteration == iterations or not regular:
                for i in range(5):
                    total = 0.0
                    for j in range(i, 5):
                        value = 1.0 if j == i else 0.0
                        for k in range(i, j):
                            value -= h[j, k] * d[k]
                        d[j] = value / h[j, j]
                        total += d[j] * d[j]
                    errors[star, i] = np.sqrt(total * (max(inflation, 1.0) if i < 2 else 1.0))
                quality[star, 0] = snr
                break
            for i in range(5):
                value = g[i]
                for j in range(i):
                    value -= h[i, j] * d[j]
                d[i] = value / h[i, i]
            for i in range(4, -1, -1):
                value = d[i]
                for j in range(i + 1, 5):
                    value -= h[j, i] * d[j]
                d[i] = value / h[i, i]
            limit = 0.25 * fwhm
            dx = min(max(d[0], -limit), limit)
            dy = min(max(d[1], -limit), limit)
            p[0] += dx
            p[1] += dy
            p[2] += d[2]
            p[3] += d[3]
            p[4] = min(max(p[4] + min(max(d[4], -0.25), 0.25), 0.3), 3.0)
            if abs(p[0] - x_start) > fwhm or abs(p[1] - y_start) > fwhm:
                p[0], p[1] = x_start, y_start
                break
            small = max(0.05 / np.sqrt(max(curvature, 1e-30)), 0.001)
            converged = abs(dx) < small and abs(dy) < small
        quality[star, 1] = chi2 / max(n_core - 3, 1)
        quality[star, 2] = n_core / core_area
        quality[star, 3] = 1.0 if converged else 0.0
        quality[star, 4] = foreign / max(p[2], 1e-30)
