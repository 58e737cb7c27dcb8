"""Inner loops of the fit of stars: private to `spalipy_astro.detection`.

The loops over the pixels of a star are many and short so that each has few arrays and can be
vectorized; one loop over everything takes six times as long.  Single precision is enough for sums
that only steer and weigh.
"""

from __future__ import annotations

import numpy as np

from spalipy_astro._loops._parts import part, vectorized
from spalipy_astro._loops.starcolumns import (
    CHI2,
    COMPANION,
    CONVERGED,
    CORE,
    DWIDTH,
    DX,
    DY,
    FOREIGN,
    GOOD,
    LIGHT,
    N_PARAMETERS,
    NOISE,
    REST,
    SHARPNESS,
    SLOPE,
    SNR,
    SUMS,
    VALUE,
    VARIANCE,
    VARIANCE_BY_LIGHT,
    VARIANCE_BY_SQUARE,
    WEIGHT,
    Q,
    X,
    Y,
)

__all__ = ["fit_batch"]


@vectorized
def _squared_radius(work, n, matrix, x0, y0, scale):
    """Fill in the squared elliptical radius of every pixel."""
    x, y, q = work[X], work[Y], work[Q]
    a, b, c = np.float32(matrix[0]), np.float32(matrix[1]), np.float32(matrix[2])
    px, py, f = np.float32(x0), np.float32(y0), np.float32(scale)
    for m in range(n):
        u = x[m] - px
        v = y[m] - py
        q[m] = (u * (a * u + b * v + b * v) + c * v * v) * f


@vectorized
def _look_up(work, n, table, step, scale):
    """Fill in the profile and its derivative by the squared radius."""
    q, light, slope = work[Q], work[LIGHT], work[SLOPE]
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
def _gradients(work, n, matrix, x0, y0, factor):
    """Fill in the derivatives of the model by position."""
    x, y, slope, dx, dy = work[X], work[Y], work[SLOPE], work[DX], work[DY]
    a, b, c = np.float32(matrix[0]), np.float32(matrix[1]), np.float32(matrix[2])
    px, py, f = np.float32(x0), np.float32(y0), np.float32(factor)
    for m in range(n):
        u = x[m] - px
        v = y[m] - py
        tilt = f * slope[m]
        dx[m] = tilt * (a * u + b * v)
        dy[m] = tilt * (b * u + c * v)


@vectorized
def _weigh(work, n, flux, sky, width, gain):
    """Fill in noise with that of the photons, weight, residual and the derivative by width."""
    value, variance = work[VALUE], work[VARIANCE]
    q, light, slope = work[Q], work[LIGHT], work[SLOPE]
    noise, weight, rest, dwidth = work[NOISE], work[WEIGHT], work[REST], work[DWIDTH]
    f, b, g = np.float32(flux), np.float32(sky), np.float32(gain)
    per_width = np.float32(-2 / width)
    glow = np.float32(max(sky, 0.0))
    for m in range(n):
        model = f * light[m]
        total = variance[m] + g * (glow + max(model, np.float32(0)))
        noise[m] = total
        weight[m] = np.float32(1) / total
        rest[m] = value[m] - model - b
        dwidth[m] = per_width * (model + f * slope[m] * q[m])


@vectorized
def _normal_equations(work, n, h, g):
    """Sum the lower triangle of the normal matrix and the right-hand side."""
    weight, dx, dy, light, dwidth = work[WEIGHT], work[DX], work[DY], work[LIGHT], work[DWIDTH]
    rest = work[REST]
    h00 = h10 = h11 = h20 = h21 = h22 = h30 = h31 = h32 = h33 = np.float32(0)
    h40 = h41 = h42 = h43 = h44 = g0 = g1 = g2 = g3 = g4 = np.float32(0)
    for m in range(n):
        w, d0, d1, t, d4, r = weight[m], dx[m], dy[m], light[m], dwidth[m], rest[m]
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
def _variance_sums(work, n, flux, out):
    """Find how the variance of x and y would grow with photon noise and errors of the model."""
    weight, dx, dy, light, noise = work[WEIGHT], work[DX], work[DY], work[LIGHT], work[NOISE]
    f, least = np.float32(flux), np.float32(1e-30)
    noise_x = noise_y = light_x = light_y = square_x = square_y = np.float32(0)
    for m in range(n):
        wx = weight[m] * dx[m]
        wy = weight[m] * dy[m]
        wx *= wx
        wy *= wy
        model = f * light[m]
        noise_x += wx * noise[m]
        noise_y += wy * noise[m]
        light_x += wx * model
        light_y += wy * model
        square_x += wx * model * model
        square_y += wy * model * model
    noise_x, noise_y = max(noise_x, least), max(noise_y, least)
    out[VARIANCE_BY_LIGHT] = max(light_x / noise_x, light_y / noise_y)
    out[VARIANCE_BY_SQUARE] = max(square_x / noise_x, square_y / noise_y)


@vectorized
def _core_sums(work, n, flux, model_error, out):
    """Sum up the core; return its chi-square and that of all pixels."""
    rest, noise, variance = work[REST], work[NOISE], work[VARIANCE]
    light, core = work[LIGHT], work[CORE]
    f = np.float32(flux)
    relative = np.float32(model_error * model_error)
    chi2 = chi2_all = n_core = square = dark = light_sum = light_square = np.float32(0)
    for m in range(n):
        model = f * light[m]
        rr = rest[m] * rest[m]
        z2 = rr / (noise[m] + relative * model * model)
        chi2_all += z2
        chi2 += core[m] * z2
        n_core += core[m]
        square += core[m] * rr
        dark += core[m] * variance[m]
        light_sum += core[m] * model
        light_square += core[m] * model * model
    out[0], out[1], out[2], out[3], out[4] = n_core, square, dark, light_sum, light_square
    return chi2, chi2_all


@vectorized
def _subtract(work, n, gain):
    """Take away a neighbor's light, known to a twentieth; return its part in the core."""
    light, core, value, variance = work[LIGHT], work[CORE], work[VALUE], work[VARIANCE]
    g = np.float32(gain)
    foreign = np.float32(0)
    for m in range(n):
        t = light[m]
        value[m] -= t
        variance[m] += g * t + np.float32(0.0025) * t * t
        foreign += core[m] * t
    return foreign


@vectorized
def _gather(stamp, variance, circle, x, y, core2, work):
    """List the good pixels of a stamp; return their number and that of those in the core."""
    many = variance.shape[0] > 1
    px, py = np.float32(x), np.float32(y)
    # a literal 0 would have all that follows compiled twice
    n = np.int64(0)
    for m in range(circle.shape[0]):
        i, j = circle[m, 0], circle[m, 1]
        value = stamp[i, j]
        if value != value:
            continue
        work[X, n] = j
        work[Y, n] = i
        work[VALUE, n] = value
        work[VARIANCE, n] = variance[i, j] if many else variance[0, 0]
        n += 1
    n_core = 0
    for m in range(n):
        u, v = work[X, m] - px, work[Y, m] - py
        inside = u * u + v * v < core2
        work[CORE, m] = np.float32(1) if inside else np.float32(0)
        n_core += 1 if inside else 0
    return n, n_core


@part
def _cholesky(h):
    """Factor the lower triangle in place; return False if it is singular."""
    regular = True
    for i in range(N_PARAMETERS):
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


@part
def _solve(h, g, d):
    """Solve with the Cholesky factor ``h``."""
    for i in range(N_PARAMETERS):
        value = g[i]
        for j in range(i):
            value -= h[i, j] * d[j]
        d[i] = value / h[i, i]
    for i in range(N_PARAMETERS - 1, -1, -1):
        value = d[i]
        for j in range(i + 1, N_PARAMETERS):
            value -= h[j, i] * d[j]
        d[i] = value / h[i, i]


@part
def _to_grid(work, values, n, grid):
    """Put values of the listed pixels back on a grid; NaN where there is none."""
    grid[:] = np.nan
    for m in range(n):
        grid[int(work[Y, m]), int(work[X, m])] = values[m]


@part
def _sharpness(grid, noise2, gain, matrix, table, step):
    """Find by how many sigma the brightest pixel of the middle stands out too much.

    Of all stars one that is centered on a pixel has the faintest neighbors, in each direction.
    Single pixels have fainter ones in every direction, thin lines in at least one.  A fifth is
    left to the error of the PSF.
    """
    center = grid.shape[0] // 2
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
        q = matrix[0] * dx * dx + 2 * matrix[1] * dx * dy + matrix[2] * dy * dy
        k = int(q / step)
        share = table[k, 0] + (q / step - k) * (table[k + 1, 0] - table[k, 0])
        share /= table[0, 0]
        pair = 0.5 * (grid[py + dy, px + dx] + grid[py - dy, px - dx])
        if pair != pair:
            continue
        n_ring += 1
        ring += pair
        ring_share += share
        expected = share * peak
        variance = (0.5 + share * share) * noise2 + gain * expected
        worst = max(worst, (expected - pair) / np.sqrt(variance + (0.2 * expected) ** 2))
    if n_ring == 4:
        share = ring_share / 4
        expected = share * peak
        variance = (0.125 + share * share) * noise2 + gain * expected
        excess = (expected - ring / 4) / np.sqrt(variance + (0.2 * expected) ** 2)
        # one test of eight pixels is worth more than the best of four
        worst = max(worst, 1.1 * excess)
    return worst


@part
def _companion(rest, weight, light, kernel, x, y, closest, reach, model_error, out):
    """Find the most significant peak of the residuals outside of the star's own center.

    Where the PSF is wrong, the residuals have structure of their own: in proportion to the model
    near the center, and more than that farther out.
    """
    size = rest.shape[0]
    radius = kernel.shape[0] // 2
    brightest = 0.0
    for i in range(size):
        for j in range(size):
            if light[i, j] > brightest:
                brightest = light[i, j]
    out[0] = 0.0
    for i in range(1, size - 1):
        for j in range(1, size - 1):
            # a peak worth 5 sigma is seen in its middle pixel
            if not rest[i, j] > 0 or rest[i, j] ** 2 * weight[i, j] < 1:
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
                    top += k * rest[p, q] * weight[p, q]
                    bottom += k * k * weight[p, q]
            if not bottom > 0:
                continue
            here = max(light[i, j], 0.0)
            doubt = model_error * (2 * here + np.sqrt(here * brightest))
            strength = top / np.sqrt(bottom + (bottom * doubt) ** 2)
            if strength > out[0]:
                out[0] = strength
                out[1] = j
                out[2] = i


def fit_batch(
    stamps, variance, corner, members, pointer, index, psf, law, window, search, room, tables
):
    """Fit x, y, flux, sky and width of star after star by Gauss-Newton steps.

    ``psf`` is the tuple of elliptical matrix, table, step and FWHM, ``law`` that of photon
    variance per unit of light and relative error of the model, ``window`` that of the pixels to
    use and of the kernel to search the residuals with, ``room`` that of arrays to work in,
    (N_ROWS, S * S) in float32 and thrice (S, S), (5, 5) and twice (5,) in float64 for stamps of
    S x S pixels,
    ``tables`` that of parameters, errors and qualities, whose rows of the members are updated.
    """
    matrix, table, step, fwhm = psf
    gain, model_error = law
    circle, kernel = window
    parameters, errors, quality = tables
    size = stamps.shape[1]
    work, grid, grid2, grid3, h, g, d = room
    core2 = max(0.85 * fwhm, 1.5) ** 2
    limit, farthest = max(0.25 * fwhm, 0.4), max(fwhm, 1.5)
    # stars narrower than a pixel have no width to measure
    prior = 0.3 if fwhm > 1.3 else 0.03
    for star in range(members.size):
        me = members[star]
        x0, y0 = corner[star, 0], corner[star, 1]
        x, y = parameters[me, 0] - x0, parameters[me, 1] - y0
        flux, sky, width = parameters[me, 2], parameters[me, 3], parameters[me, 4]
        n, n_core = _gather(stamps[star], variance[star], circle, x, y, core2, work)
        mine = quality[me]
        mine[:] = 0.0
        mine[GOOD] = n_core / (np.pi * core2)
        if n_core < 4 or n < 8:
            continue
        foreign = 0.0
        for other in index[pointer[me] : pointer[me + 1]]:
            if parameters[other, 2] > 0:
                scale = 1 / parameters[other, 4] ** 2
                ox, oy = parameters[other, 0] - x0, parameters[other, 1] - y0
                _squared_radius(work, n, matrix, ox, oy, scale)
                _look_up(work, n, table, step, scale * parameters[other, 2])
                foreign += _subtract(work, n, gain)
        x_start, y_start = x, y
        converged = False
        snr, last_flux = 0.0, flux
        for iteration in range(12):
            scale = 1 / width**2
            _squared_radius(work, n, matrix, x, y, scale)
            _look_up(work, n, table, step, scale)
            _gradients(work, n, matrix, x, y, -2 * flux * scale)
            _weigh(work, n, flux, sky, width, gain)
            _normal_equations(work, n, h, g)
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
        parameters[me, 0], parameters[me, 1] = x + x0, y + y0
        parameters[me, 2], parameters[me, 3], parameters[me, 4] = flux, sky, width
        for i in range(N_PARAMETERS):
            g[:] = 0.0
            g[i] = 1.0
            _solve(h, g, d)
            errors[me, i] = np.sqrt(max(d[i], 0.0))
        chi2, chi2_all = _core_sums(work, n, last_flux, model_error, mine[SUMS:])
        _variance_sums(work, n, last_flux, mine)
        mine[SNR] = snr
        mine[CHI2] = chi2 / max(mine[SUMS] - 3, 1)
        mine[CONVERGED] = 1.0 if converged else 0.0
        mine[FOREIGN] = foreign / max(flux, 1e-30)
        _to_grid(work, work[VALUE], n, grid)
        dark = mine[SUMS + 2] / max(mine[SUMS], 1)
        mine[SHARPNESS] = _sharpness(grid, dark, gain, matrix, table, step)
        if search and chi2_all > 1.15 * n:
            for m in range(n):
                work[LIGHT, m] *= last_flux
            _to_grid(work, work[REST], n, grid)
            _to_grid(work, work[WEIGHT], n, grid2)
            _to_grid(work, work[LIGHT], n, grid3)
            closest, out = max(0.6 * fwhm, 1.0), mine[COMPANION:]
            _companion(grid, grid2, grid3, kernel, x, y, closest, 0.5 * size, model_error, out)
            mine[COMPANION + 1] += x0
            mine[COMPANION + 2] += y0
