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

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._compiled import compiled, vectorized
from spalipy_astro.psf import Profile

__all__ = ["Fits", "fit_stars"]

# Columns of the table of qualities.
(
    _SNR, _CHI2, _GOOD, _CONVERGED, _FOREIGN, _SHARPNESS, _COMPANION, _COMPANION_X, _COMPANION_Y,
    _N_CORE, _SQUARE, _DARK, _LIGHT_SUM, _LIGHT_SQUARE, _BY_LIGHT, _BY_SQUARE,
) = range(16)
_N_QUALITIES = 16


@dataclass(frozen=True)
class Fits:
    """What is known of N stars; `fit_stars` updates the rows of the arrays.

    ``parameters`` has the columns ``x, y`` (px), ``flux``, ``sky`` (above the mesh, per pixel) and
    ``width`` (in units of the PSF's), ``errors`` their errors, ``quality`` the properties below.
    """

    parameters: NDArray[np.float64]
    errors: NDArray[np.float64]
    quality: NDArray[np.float64]

    @classmethod
    def start(cls, x: NDArray, y: NDArray, flux: NDArray) -> Fits:
        """First guesses."""
        n = len(x)
        parameters = np.column_stack((x, y, flux, np.zeros(n), np.ones(n)))
        return cls(parameters, np.zeros((n, 5)), np.zeros((n, _N_QUALITIES)))

    def append(self, other: Fits) -> Fits:
        """More stars."""
        return Fits(
            np.concatenate((self.parameters, other.parameters)),
            np.concatenate((self.errors, other.errors)),
            np.concatenate((self.quality, other.quality)),
        )

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, rows: NDArray) -> Fits:
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
        return self.quality[:, _SNR]

    @property
    def chi2(self) -> NDArray:
        """Reduced chi-square in the core."""
        return self.quality[:, _CHI2]

    @property
    def good(self) -> NDArray:
        """Share of good pixels in the core."""
        return self.quality[:, _GOOD]

    @property
    def converged(self) -> NDArray:
        """Whether the position converged."""
        return self.quality[:, _CONVERGED] > 0

    @property
    def foreign(self) -> NDArray:
        """Light of neighbors in the core over that of the star."""
        return self.quality[:, _FOREIGN]

    @property
    def sharpness(self) -> NDArray:
        """By how many sigma a pixel stands out more from those around it than in any star."""
        return self.quality[:, _SHARPNESS]

    @property
    def companion(self) -> NDArray:
        """Significance and position ``(x, y)`` of the largest residual peak, shape (N, 3)."""
        return self.quality[:, _COMPANION : _COMPANION_Y + 1]

    def position_errors(self, more_photon_noise: float, model_error: float) -> NDArray:
        """Errors of x and y, shape (N, 2).

        More (or less) photon variance per unit of light than the fit assumed, and an error of
        the model in proportion to itself, from the PSF or the flat field, add to the variance.
        """
        growth = (
            1
            + more_photon_noise * self.quality[:, _BY_LIGHT]
            + model_error**2 * self.quality[:, _BY_SQUARE]
        )
        return self.errors[:, :2] * np.sqrt(np.maximum(growth, 0.1))[:, None]

    @property
    def sums(self) -> NDArray:
        """Over the core, shape (N, 5).

        Number of pixels, sums of squared residuals, of sky variance, of the model and of its
        square.
        """
        return self.quality[:, _N_CORE : _LIGHT_SQUARE + 1]


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
    iterations: int = 12,
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
    search : bool
        Look for companions in the residuals.
    iterations : int
        Largest number of Gauss-Newton steps.
    """
    values, step = profile.table()
    # the slope must be continuous, or the iteration ends in a cycle
    table = np.column_stack((values, np.gradient(values))).astype(np.float32)
    _fit_batch(
        stamps, variance, np.asarray(corner, dtype=np.float64), np.asarray(members), *neighbors,
        profile.matrix(), profile.fwhm, table, step, float(inverse_gain), float(model_error),
        iterations, search, fits.parameters, fits.errors, fits.quality,
    )


# The loops below are many and short so that each has few arrays and can be vectorized; one loop
# over everything takes six times as long.  Single precision is enough for sums that only steer
# and weigh.  The rows of the work array, for the pixels of one star:
(
    _X, _Y, _VALUE, _VARIANCE, _Q, _LIGHT, _SLOPE, _DX, _DY, _WEIGHT, _REST, _DW, _TOTAL, _CORE,
) = range(14)
_N_ROWS = 14


@vectorized
def _squared_radius(x, y, n, matrix, x0, y0, scale, q):
    """Fill in the squared elliptical radius of every pixel."""
    a, b, c = np.float32(matrix[0]), np.float32(matrix[1]), np.float32(matrix[2])
    px, py, f = np.float32(x0), np.float32(y0), np.float32(scale)
    for m in range(n):
        u = x[m] - px
        v = y[m] - py
        q[m] = (u * (a * u + b * v + b * v) + c * v * v) * f


@vectorized
def _look_up_pixels(q, n, table, step, scale, light, slope):
    """Fill in the profile of unit flux and its derivative."""
    per_step = np.float32(1 / step)
    top = np.float32(table.shape[0] - 2)
    f = np.float32(scale)
    g = f * per_step
    for m in range(n):
        place = min(q[m] * per_step, top)
        k = int(place)
        part = place - np.float32(k)
        light[m] = (table[k, 0] + part * (table[k + 1, 0] - table[k, 0])) * f
        slope[m] = (table[k, 1] + part * (table[k + 1, 1] - table[k, 1])) * g


@vectorized
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


@vectorized
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


@vectorized
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


@vectorized
def _noise_sums(n, weight, dx, dy, light, total, flux):
    """By how much photon noise and errors of the model would add to the variance of x and y."""
    f = np.float32(flux)
    noise_x = noise_y = light_x = light_y = square_x = square_y = np.float32(0)
    for m in range(n):
        wx = weight[m] * dx[m]
        wy = weight[m] * dy[m]
        wx *= wx
        wy *= wy
        model = f * light[m]
        noise_x += wx * total[m]
        noise_y += wy * total[m]
        light_x += wx * model
        light_y += wy * model
        square_x += wx * model * model
        square_y += wy * model * model
    noise_x, noise_y = max(noise_x, np.float32(1e-30)), max(noise_y, np.float32(1e-30))
    return max(light_x / noise_x, light_y / noise_y), max(square_x / noise_x, square_y / noise_y)


@vectorized
def _core_sums(n, rest, total, variance, light, core, flux, model_error, out):
    """Sum up the core; return its chi-square and that of all pixels."""
    f = np.float32(flux)
    relative = np.float32(model_error * model_error)
    chi2 = chi2_all = n_core = square = dark = light_sum = light_square = np.float32(0)
    for m in range(n):
        model = f * light[m]
        rr = rest[m] * rest[m]
        z2 = rr / (total[m] + relative * model * model)
        chi2_all += z2
        chi2 += core[m] * z2
        n_core += core[m]
        square += core[m] * rr
        dark += core[m] * variance[m]
        light_sum += core[m] * model
        light_square += core[m] * model * model
    out[_N_CORE], out[_SQUARE], out[_DARK] = n_core, square, dark
    out[_LIGHT_SUM], out[_LIGHT_SQUARE] = light_sum, light_square
    return chi2, chi2_all


@vectorized
def _gather(
    stamp, variance, circle, x0, y0, parameters, me, matrix, table, step, inverse_gain, core2,
    others, work,
):
    """List the good pixels around a star, less its neighbors' light.

    Return their number, the number of those in the core and the light of neighbors there.
    """
    many = variance.shape[0] > 1
    px, py = np.float32(parameters[me, 0] - x0), np.float32(parameters[me, 1] - y0)
    # a literal 0 would have the loops below compiled twice
    n = np.int64(0)
    for m in range(circle.shape[0]):
        i, j = circle[m, 0], circle[m, 1]
        value = stamp[i, j]
        if value != value:
            continue
        work[_X, n] = j
        work[_Y, n] = i
        work[_VALUE, n] = value
        work[_VARIANCE, n] = variance[i, j] if many else variance[0, 0]
        n += 1
    n_core = 0
    for m in range(n):
        u, v = work[_X, m] - px, work[_Y, m] - py
        inside = u * u + v * v < core2
        work[_CORE, m] = np.float32(1) if inside else np.float32(0)
        n_core += 1 if inside else 0
    foreign = np.float32(0)
    gain = np.float32(inverse_gain)
    for other in others:
        flux = parameters[other, 2]
        if flux <= 0:
            continue
        scale = 1 / parameters[other, 4] ** 2
        ox, oy = parameters[other, 0] - x0, parameters[other, 1] - y0
        _squared_radius(work[_X], work[_Y], n, matrix, ox, oy, scale, work[_Q])
        _look_up_pixels(work[_Q], n, table, step, scale * flux, work[_LIGHT], work[_SLOPE])
        foreign += _subtract(
            n, work[_LIGHT], gain, work[_CORE], work[_VALUE], work[_VARIANCE]
        )
    return n, n_core, foreign


@vectorized
def _subtract(n, light, gain, core, value, variance):
    """Take away a neighbor's light, known to a twentieth; return its part in the core."""
    foreign = np.float32(0)
    for m in range(n):
        t = light[m]
        value[m] -= t
        variance[m] += gain * t + np.float32(0.0025) * t * t
        foreign += core[m] * t
    return foreign


@compiled
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


@compiled
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


@compiled
def _spread(values, work, n, size, grid):
    """Put a list of pixels back on a grid; NaN where there is none."""
    grid[:] = np.nan
    for m in range(n):
        grid[int(work[_Y, m]), int(work[_X, m])] = values[m]


@compiled
def _sharpness(grid, noise2, inverse_gain, matrix, table, step):
    """By how many sigma the brightest pixel of the middle stands out too much.

    Of all stars one that is centered on a pixel has the faintest neighbors, in each direction.
    Single pixels have fainter ones in every direction, thin lines in at least one.  A fifth is
    left to the error of the PSF.
    """
    size = grid.shape[0]
    a, b, c = matrix[0], matrix[1], matrix[2]
    center = size // 2
    peak, py, px = -np.inf, center, center
    for i in range(center - 1, center + 2):
        for j in range(center - 1, center + 2):
            if grid[i, j] > peak:
                peak, py, px = grid[i, j], i, j
    if not peak > 0:
        return 0.0
    worst = 0.0
    ring, ring_share, n_ring = 0.0, 0.0, 0
    for direction in range(4):
        dy = (0, 1, 1, 1)[direction]
        dx = (1, 0, 1, -1)[direction]
        f = (a * dx * dx + 2 * b * dx * dy + c * dy * dy) / step
        k = int(f)
        share = (table[k, 0] + (f - k) * (table[k + 1, 0] - table[k, 0])) / table[0, 0]
        pair = 0.5 * (grid[py + dy, px + dx] + grid[py - dy, px - dx])
        if pair != pair:
            continue
        n_ring += 1
        ring += pair
        ring_share += share
        expected = share * peak
        variance = (0.5 + share * share) * noise2 + inverse_gain * expected
        excess = (expected - pair) / np.sqrt(variance + (0.2 * expected) ** 2)
        worst = max(worst, excess)
    if n_ring == 4:
        share = ring_share / 4
        expected = share * peak
        variance = (0.125 + share * share) * noise2 + inverse_gain * expected
        excess = (expected - ring / 4) / np.sqrt(variance + (0.2 * expected) ** 2)
        # one test of eight pixels is worth more than the best of four
        worst = max(worst, 1.1 * excess)
    return worst


@compiled
def _companion(rest, inverse_variance, kernel, x, y, closest, reach, out):
    """Find the most significant peak of the residuals outside of the star's own center."""
    size = rest.shape[0]
    radius = kernel.shape[0] // 2
    out[0] = 0.0
    for i in range(1, size - 1):
        for j in range(1, size - 1):
            # a peak worth 5 sigma is seen in its middle pixel
            if not rest[i, j] > 0 or rest[i, j] ** 2 * inverse_variance[i, j] < 1:
                continue
            rr = (i - y) ** 2 + (j - x) ** 2
            if rr < closest**2 or rr > (reach - 1) ** 2:
                continue
            top = 0.0
            bottom = 0.0
            for p in range(max(i - radius, 0), min(i + radius + 1, size)):
                for q in range(max(j - radius, 0), min(j + radius + 1, size)):
                    if rest[p, q] != rest[p, q]:
                        continue
                    k = kernel[p - i + radius, q - j + radius]
                    top += k * rest[p, q] * inverse_variance[p, q]
                    bottom += k * k * inverse_variance[p, q]
            if bottom > 0 and top / np.sqrt(bottom) > out[0]:
                out[0] = top / np.sqrt(bottom)
                out[1] = j
                out[2] = i


@compiled
def _fit_batch(
    stamps, variance, corner, members, pointer, index, matrix, fwhm, table, step, inverse_gain,
    model_error, iterations, search, parameters, errors, quality,
):
    """Gauss-Newton fit of x, y, flux, sky and width, star after star."""
    size = stamps.shape[1]
    work = np.empty((_N_ROWS, size * size), dtype=np.float32)
    h = np.empty((5, 5))
    g = np.empty(5)
    d = np.empty(5)
    grid = np.empty((size, size))
    grid2 = np.empty((size, size))
    reach = size / 2
    core2 = max(0.85 * fwhm, 1.5) ** 2
    core_area = np.pi * core2
    # stars narrower than a pixel have no width to measure
    prior = 0.3 if fwhm > 1.3 else 0.03
    limit = max(0.25 * fwhm, 0.4)
    farthest = max(fwhm, 1.5)
    circle = np.empty((size * size, 2), dtype=np.int64)
    n = 0
    for i in range(size):
        for j in range(size):
            if (i - size // 2) ** 2 + (j - size // 2) ** 2 <= reach * reach:
                circle[n, 0] = i
                circle[n, 1] = j
                n += 1
    circle = circle[:n]
    middle = 1 if fwhm < 2 else 2
    kernel = np.empty((2 * middle + 1, 2 * middle + 1))
    for i in range(-middle, middle + 1):
        for j in range(-middle, middle + 1):
            kernel[i + middle, j + middle] = np.exp(-0.5 * (i * i + j * j) * (2.3548 / fwhm) ** 2)
    for star in range(members.size):
        me = members[star]
        x0, y0 = corner[star, 0], corner[star, 1]
        n, n_core, foreign = _gather(
            stamps[star], variance[star], circle, x0, y0, parameters, me, matrix, table, step,
            inverse_gain, core2, index[pointer[me] : pointer[me + 1]], work,
        )
        mine = quality[me]
        mine[:] = 0.0
        mine[_GOOD] = n_core / core_area
        if n_core < 4 or n < 8:
            continue
        x, y = parameters[me, 0], parameters[me, 1]
        flux, sky, width = parameters[me, 2], parameters[me, 3], parameters[me, 4]
        x_start, y_start = x, y
        converged = False
        snr = 0.0
        for iteration in range(iterations):
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
            h[4, 4] += 1 / prior**2
            g[4] -= (width - 1) / prior**2
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
            lost = abs(x - x_start) > farthest or abs(y - y_start) > farthest
            if lost:
                x, y = x_start, y_start
            small *= 1 if iteration < 8 else 3
            converged = regular and not lost and abs(dx) < small and abs(dy) < small
            if converged or lost or not regular:
                break
        parameters[me, 0], parameters[me, 1] = x, y
        parameters[me, 2], parameters[me, 3], parameters[me, 4] = flux, sky, width
        chi2, chi2_all = _core_sums(
            n, work[_REST], work[_TOTAL], work[_VARIANCE], work[_LIGHT], work[_CORE], last_flux,
            model_error, mine,
        )
        mine[_BY_LIGHT], mine[_BY_SQUARE] = _noise_sums(
            n, work[_WEIGHT], work[_DX], work[_DY], work[_LIGHT], work[_TOTAL], last_flux
        )
        for i in range(5):
            g[:] = 0.0
            g[i] = 1.0
            _solve(h, g, d)
            errors[me, i] = np.sqrt(max(d[i], 0.0))
        mine[_SNR] = snr
        mine[_CHI2] = chi2 / max(mine[_N_CORE] - 3, 1)
        mine[_CONVERGED] = 1.0 if converged else 0.0
        mine[_FOREIGN] = foreign / max(flux, 1e-30)
        _spread(work[_VALUE], work, n, size, grid)
        mine[_SHARPNESS] = _sharpness(
            grid, mine[_DARK] / max(mine[_N_CORE], 1), inverse_gain, matrix, table, step
        )
        if search and chi2_all > 1.15 * n:
            _spread(work[_REST], work, n, size, grid)
            for m in range(n):
                model = 3 * model_error * last_flux * work[_LIGHT, m]
                work[_TOTAL, m] = 1 / (work[_TOTAL, m] + model * model)
            _spread(work[_TOTAL], work, n, size, grid2)
            _companion(
                grid, grid2, kernel, x - x0, y - y0, max(0.6 * fwhm, 1.0), reach,
                mine[_COMPANION:],
            )
            mine[_COMPANION_X] += x0
            mine[_COMPANION_Y] += y0
