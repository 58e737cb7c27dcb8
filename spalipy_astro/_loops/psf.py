"""Inner loops of the fit of the PSF: private to `spalipy_astro.detection`."""

from __future__ import annotations

import numpy as np

from spalipy_astro._loops._parts import part, vectorized

__all__ = ["psf_equations"]


@vectorized
def _dot(a, b):
    """Sum the products of two arrays."""
    total = 0.0
    for m in range(a.size):
        total += a[m] * b[m]
    return total


@vectorized
def _scale(a, b, out):
    """Multiply two arrays."""
    for m in range(out.size):
        out[m] = a[m] * b[m]


@part
def _fill(
    stamp, variance, star, matrix, light_table, tipped_table, numbers, columns, weight, rest, misfit
):
    """Fill in the derivatives of the model of one star, weights, residuals and their squares."""
    step, tip, inverse_gain, model_error, outlying = numbers
    a, b, c = matrix[0], matrix[1], matrix[2]
    x0, y0, flux, sky = star[0], star[1], star[2], star[3]
    size = stamp.shape[0]
    middle = size // 2
    top = light_table.size - 2.0
    for i in range(size):
        v = i - middle - y0
        for j in range(size):
            m = i * size + j
            u = j - middle - x0
            q = a * u * u + 2 * b * u * v + c * v * v
            place = min(q / step, top)
            k = int(place)
            rise = light_table[k + 1] - light_table[k]
            light = light_table[k] + (place - k) * rise
            tipped = tipped_table[k] + (place - k) * (tipped_table[k + 1] - tipped_table[k])
            slope = rise / step
            tilt = -2 * flux * slope
            columns[0, m] = tilt * (a * u + b * v)
            columns[1, m] = tilt * (b * u + c * v)
            columns[2, m] = light
            columns[3, m] = 1.0
            columns[4, m] = -2 * flux * (light + slope * q)
            columns[5, m] = flux * slope * (u * u * a - v * v * c)
            columns[6, m] = flux * slope * (2 * u * v + b * (u * u + v * v))
            columns[7, m] = flux * (tipped - light) / tip
            value = np.float64(stamp[i, j])
            if value - value == 0:
                model = flux * light
                r = value - model - sky
                sky_variance = np.float64(variance[i % variance.shape[0], j % variance.shape[1]])
                w = 1 / (sky_variance + inverse_gain * abs(model) + (model_error * model) ** 2)
                # neighbors, cosmic rays and whole stars that are none lose their influence
                misfit[m] = r * r * w
                weight[m] = w / (1 + (misfit[m] / outlying) ** 2)
                rest[m] = r
            else:
                weight[m] = rest[m] = misfit[m] = 0.0


def psf_equations(stamps, variance, stars, matrix, tables, numbers, work, h, g, misfit):
    """
    Set up the normal equations of each star, for its own parameters and those of the PSF.

    Parameters
    ----------
    stamps : (N, S, S) array
        Pixels, NaN where bad.
    variance : (N, S, S) or (N, 1, 1) array
        Of the sky.
    stars : (N, 4) array
        ``x, y`` from the centers, ``flux`` and ``sky``.
    matrix : (3,) array
        Of the squared radius.
    tables : two (M,) arrays
        The profile over the squared radius, and one that has another inverse beta.
    numbers : (step, tip, inverse_gain, model_error, outlying)
        Step of the tables, difference of the inverse betas, photon variance per unit of light,
        relative error of the model, and the squared residual in sigma from which on a pixel loses
        influence.
    work : (8, S * S) array and three (S * S,) arrays
        To work in.
    h, g : (N, 8, 8) and (N, 8) arrays
        Matrices and right-hand sides.
    misfit : (N, S * S) array
        Squared residuals in units of their variance, 0 where the pixel is bad.
    """
    columns, weight, rest, weighted = work
    for s in range(stamps.shape[0]):
        _fill(
            stamps[s], variance[s], stars[s], matrix, *tables, numbers,
            columns, weight, rest, misfit[s],
        )  # fmt: skip
        for i in range(8):
            _scale(weight, columns[i], weighted)
            for j in range(i + 1):
                h[s, i, j] = h[s, j, i] = _dot(weighted, columns[j])
            g[s, i] = _dot(weighted, rest)
