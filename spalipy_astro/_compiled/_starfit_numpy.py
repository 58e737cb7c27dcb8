"""The fit of stars in numpy, see `spalipy_astro._compiled._detection_numpy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._compiled.starcolumns import (
    CHI2,
    COMPANION,
    CONVERGED,
    FOREIGN,
    GOOD,
    SHARPNESS,
    SNR,
    SUMS,
    VARIANCE_BY_LIGHT,
    VARIANCE_BY_SQUARE,
)

__all__ = ["fit_batch"]

Array = NDArray[Any]


def fit_batch(
    stamps: Array,
    variance: Array,
    corner: Array,
    members: Array,
    pointer: Array,
    index: Array,
    psf: tuple[Array, Array, float, float],
    law: tuple[float, float],
    window: tuple[Array, Array],
    search: bool,
    tables: tuple[Array, Array, Array],
) -> None:
    """
    Fit x, y, flux, sky and width of star after star by Gauss-Newton steps.

    Parameters
    ----------
    stamps : (N, S, S) float32 array
        Pixels around the members, less the sky; NaN where bad.
    variance : (N, S, S) or (N, 1, 1) float32 array
        Of the sky.
    corner : (N, 2) array
        Image position ``(x, y)`` of the first pixel of each stamp.
    members : (N,) array of int
        Which of the M stars to fit.
    pointer, index : (M + 1,) and (K,) arrays of int
        Neighbors of star m: ``index[pointer[m]:pointer[m + 1]]``.
    psf : (matrix, table, step, fwhm)
        That of the squared radius, (3,); profile and slope over it, (L, 2), in float32, and their
        step; width.
    law : (gain, model_error)
        Photon variance per unit of light, relative error of the model.
    window : (circle, kernel)
        Pixels ``(row, column)`` of a stamp to use; what to search the residuals with.
    search : bool
        Whether to search them.
    tables : (parameters, errors, quality)
        (M, 5), (M, 5) and (M, N_QUALITIES) arrays, whose rows of the members are updated.
    """
    fit = _StarFit(psf, law, window, search)
    # what is wild or without good pixels is not fitted well, which its row says
    with np.errstate(all="ignore"):
        for k, me in enumerate(members):
            neighbors = index[pointer[me] : pointer[me + 1]]
            fit.run(stamps[k], variance[k], corner[k], me, neighbors, tables)


class _StarFit:
    """How stars are fitted; arrays are in float32, sums and parameters in float64."""

    def __init__(self, psf: Any, law: Any, window: Any, search: bool) -> None:
        self._matrix, self._table, self._step, self._fwhm = psf
        self._gain, self._model_error = law
        (self._rows, self._columns), self._kernel = window[0].T, window[1]
        self._search = search

    def run(
        self,
        stamp: Array,
        variance: Array,
        corner: Array,
        me: int,
        neighbors: Array,
        tables: tuple[Array, Array, Array],
    ) -> None:
        """Fit one star."""
        parameters, errors, quality = tables
        core2 = max(0.85 * self._fwhm, 1.5) ** 2
        start = parameters[me] - [*corner, 0, 0, 0]
        good = ~np.isnan(stamp[self._rows, self._columns])
        i, j = self._rows[good], self._columns[good]
        value = stamp[i, j]
        noise = np.broadcast_to(variance, stamp.shape)[i, j]
        y, x = i.astype(np.float32), j.astype(np.float32)
        core = ((x - np.float32(start[0])) ** 2 + (y - np.float32(start[1])) ** 2) < core2
        mine = quality[me]
        mine[:] = 0
        mine[GOOD] = np.count_nonzero(core) / (np.pi * core2)
        if np.count_nonzero(core) < 4 or len(i) < 8:
            return
        foreign = 0.0
        for other in parameters[neighbors[parameters[neighbors, 2] > 0]]:
            scale = 1 / other[4] ** 2
            q = self._squared_radius(x, y, other[:2] - corner, scale)
            light = self._look_up(q, scale * other[2])[0]
            # known to a twentieth
            value = value - light
            noise = noise + np.float32(self._gain) * light + np.float32(0.0025) * light * light
            foreign += np.sum(light[core])
        pixels = x, y, value, noise
        state = self._iterate(pixels, start)
        parameters[me] = state["parameters"] + [*corner, 0, 0, 0]
        errors[me] = np.sqrt(np.maximum(np.diag(state["covariance"]), 0))
        weight, light, rest, total, dx, dy = state["pixels"]
        model = np.float32(state["flux"]) * light
        z2 = rest**2 / (total + np.float32(self._model_error**2) * model * model)
        mine[SUMS : SUMS + 5] = [
            np.count_nonzero(core),
            *(np.sum(t[core]) for t in (rest * rest, noise, model, model * model)),
        ]
        for column, factor in ((VARIANCE_BY_LIGHT, model), (VARIANCE_BY_SQUARE, model * model)):
            mine[column] = max(
                np.sum((weight * d) ** 2 * factor) / max(np.sum((weight * d) ** 2 * total), 1e-30)
                for d in (dx, dy)
            )
        mine[SNR] = state["snr"]
        mine[CHI2] = np.sum(z2[core]) / max(mine[SUMS] - 3, 1)
        mine[CONVERGED] = state["converged"]
        mine[FOREIGN] = foreign / max(state["parameters"][2], 1e-30)
        grid = np.full((4, *stamp.shape), np.nan)
        grid[:, i, j] = value, rest, weight, model
        mine[SHARPNESS] = self._sharpness(grid[0], mine[SUMS + 2] / max(mine[SUMS], 1))
        if self._search and np.sum(z2) > 1.15 * len(i):
            found = self._companion(grid[1], grid[2], grid[3], state["parameters"][:2])
            mine[COMPANION : COMPANION + 3] = found + np.array([0, *corner])

    def _squared_radius(self, x: Array, y: Array, place: Array, scale: float) -> Array:
        """Squared elliptical radius of every pixel."""
        a, b, c = self._matrix.astype(np.float32)
        u, v = x - np.float32(place[0]), y - np.float32(place[1])
        return (u * (a * u + b * v + b * v) + c * v * v) * np.float32(scale)

    def _look_up(self, q: Array, scale: float) -> tuple[Array, Array]:
        """Profile and its derivative by the squared radius."""
        per_step = np.float32(1 / self._step)
        place = np.nan_to_num(q * per_step, nan=np.inf)
        place = np.clip(place, 0, np.float32(len(self._table) - 2))
        k = place.astype(np.int64)
        low, high = self._table[k], self._table[k + 1]
        values = (low + (place - k)[:, np.newaxis] * (high - low)).astype(np.float32)
        return values[:, 0] * np.float32(scale), values[:, 1] * (np.float32(scale) * per_step)

    def _iterate(self, pixels: tuple[Array, ...], start: Array) -> dict[str, Any]:
        """Take steps until the position converges or the star is lost."""
        x, y, value, variance = pixels
        a, b, c = self._matrix.astype(np.float32)
        limit, farthest = max(0.25 * self._fwhm, 0.4), max(self._fwhm, 1.5)
        # stars narrower than a pixel have no width to measure
        prior = 0.3 if self._fwhm > 1.3 else 0.03
        at, state = start.copy(), {}
        for iteration in range(12):
            _, _, flux, sky, width = at
            scale = 1 / width**2
            q = self._squared_radius(x, y, at[:2], scale)
            light, slope = self._look_up(q, scale)
            u, v = x - np.float32(at[0]), y - np.float32(at[1])
            tilt = np.float32(-2 * flux * scale) * slope
            model = np.float32(flux) * light
            total = variance + np.float32(self._gain) * (
                np.float32(max(sky, 0)) + np.maximum(model, 0)
            )
            weight, rest = 1 / total, value - model - np.float32(sky)
            by = np.stack(
                [
                    tilt * (a * u + b * v),
                    tilt * (b * u + c * v),
                    light,
                    np.ones_like(light),
                    np.float32(-2 / width) * (model + np.float32(flux) * slope * q),
                ]
            )
            h, g = ((weight * by) @ by.T).astype(float), ((weight * by) @ rest).astype(float)
            state["snr"] = flux * np.sqrt(h[2, 2])
            small = max(0.05 / np.sqrt(max(min(h[0, 0], h[1, 1]), 1e-30)), 0.001)
            # a weak prior keeps the width of faint stars near that of the PSF
            h[4, 4] += 1 / prior**2
            g[4] -= (width - 1) / prior**2
            factor, regular = _cholesky(h)
            inverse = np.linalg.inv(factor)
            d = inverse.T @ (inverse @ g)
            state["covariance"], state["flux"] = inverse.T @ inverse, flux
            step = np.clip(d[:2], -limit, limit)
            at[:2] += step
            at[2:4] += d[2:4]
            at[4] = np.clip(width + np.clip(d[4], -0.25, 0.25), 0.3, 3.0)
            lost = bool(np.any(np.abs(at[:2] - start[:2]) > farthest))
            if lost:
                at[:2] = start[:2]
            small *= 1 if iteration < 8 else 3
            state["converged"] = regular and not lost and bool(np.all(np.abs(step) < small))
            if state["converged"] or lost or not regular:
                break
        return {**state, "parameters": at, "pixels": (weight, light, rest, total, by[0], by[1])}

    def _sharpness(self, grid: Array, noise2: float) -> float:
        """
        Find by how many sigma the brightest pixel of the middle stands out too much.

        Of all stars one that is centered on a pixel has the faintest neighbors, in each direction.
        Single pixels have fainter ones in every direction, thin lines in at least one. A fifth is
        left to the error of the PSF.
        """
        middle = slice(len(grid) // 2 - 1, len(grid) // 2 + 2)
        core = np.nan_to_num(grid[middle, middle], nan=-np.inf)
        peak = core.max()
        if not peak > 0:
            return 0.0
        py, px = np.add(np.unravel_index(core.argmax(), core.shape), middle.start)
        worst, pairs, shares = 0.0, [], []
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            a, b, c = self._matrix
            q = a * dx * dx + 2 * b * dx * dy + c * dy * dy
            place = min(max(q / self._step, 0), len(self._table) - 2)
            low, high = self._table[int(place) : int(place) + 2, 0].astype(float)
            share = (low + (place - int(place)) * (high - low)) / self._table[0, 0]
            pair = 0.5 * (grid[py + dy, px + dx] + grid[py - dy, px - dx])
            if np.isnan(pair):
                continue
            pairs.append(pair)
            shares.append(share)
            variance = (0.5 + share * share) * noise2 + self._gain * share * peak
            excess = (share * peak - pair) / np.sqrt(variance + (0.2 * share * peak) ** 2)
            worst = max(worst, float(excess))
        if len(pairs) == 4:
            share = float(np.mean(shares))
            variance = (0.125 + share * share) * noise2 + self._gain * share * peak
            excess = (share * peak - np.mean(pairs)) / np.sqrt(variance + (0.2 * share * peak) ** 2)
            # one test of eight pixels is worth more than the best of four
            worst = max(worst, float(1.1 * excess))
        return worst

    def _companion(self, rest: Array, weight: Array, light: Array, place: Array) -> Array:
        """
        Find the most significant peak of the residuals outside of the star's own center.

        Where the PSF is wrong, the residuals have structure of their own: in proportion to the
        model near the center, and more than that farther out.
        """
        size, closest, reach = len(rest), max(0.6 * self._fwhm, 1.0), 0.5 * len(rest)
        i, j = np.mgrid[:size, :size]
        rr = (i - place[1]) ** 2 + (j - place[0]) ** 2
        # a peak worth 5 sigma is seen in its middle pixel
        some = (rest > 0) & (rest**2 * weight >= 1)
        some &= (rr >= closest**2) & (rr <= (reach - 1) ** 2)
        some[0] = some[-1] = some[:, 0] = some[:, -1] = False
        zero = np.nan_to_num(weight)
        top = _correlate(np.nan_to_num(rest) * zero, self._kernel)
        bottom = _correlate(zero, self._kernel**2)
        here = np.maximum(light, 0)
        doubt = self._model_error * (2 * here + np.sqrt(here * np.nanmax(light, initial=0)))
        strength = np.where(some & (bottom > 0), top / np.sqrt(bottom + (bottom * doubt) ** 2), 0)
        best = np.unravel_index(strength.argmax(), strength.shape)
        return np.array([strength[best], best[1], best[0]] if strength[best] > 0 else [0.0] * 3)


def _cholesky(h: Array) -> tuple[Array, bool]:
    """Factor a matrix; what is singular has something in its place, and is said to be so."""
    factor, regular = np.tril(h), True
    for i, j in _lower(len(h)):
        total = factor[i, j] - factor[i, :j] @ factor[j, :j]
        if i != j:
            factor[i, j] = total / factor[j, j]
            continue
        if not total > 1e-10 * h[i, i]:
            regular, total = False, max(h[i, i], 1e-30)
        factor[i, i] = np.sqrt(total)
    return factor, regular


def _lower(size: int) -> Iterator[tuple[int, int]]:
    """Yield the places of a lower triangle, row by row."""
    for i in range(size):
        for j in range(i + 1):
            yield i, j


def _correlate(image: Array, kernel: Array) -> Array:
    """Correlate with a small kernel; beyond the edges there is nothing."""
    radius = len(kernel) // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, radius), kernel.shape)
    return np.einsum("ijkl,kl->ij", windows, kernel)
