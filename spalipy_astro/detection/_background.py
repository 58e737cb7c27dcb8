"""Sky level and noise of an image on a mesh: private to detection."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.detection._medians import median
from spalipy_astro.detection._pixels import PixelSource
from spalipy_astro.errors import ImageError

__all__ = ["Background", "estimate_background", "in_common", "windows", "with_common_noise"]

_WINDOWS = 6  # along a side, in which the noise of the filtered image is measured
_WINDOW = 96  # px
_SURPLUS = 1.15  # of the noise that neighbors alone let expect: less is not worth the change
_CORRELATED = 0.1
_REPEATED = 0.5  # share of equal neighbors
_FEWEST = 400  # differences of pixels that tell their width
_FEWEST_CUT = 0.05  # share of pixels at the smallest value, from which the sky is cut off there
_MOST_CUT = 0.9
_NEAR_CUT = 0.08  # least share of the others that are in the lower half of the way to their median
_STAR = 4.0  # times the noise above a sky that is cut off, where it ends
_RARE = 5.0  # sigma of normal noise: as rare is what counts as so many sigma of a sky cut off


class Background(NamedTuple):
    """Sky level and noise at the centers of the cells of a mesh, shape ``(my, mx)``.

    ``growth`` is by how much neighboring pixels have been found to have noise in common: 1 if they
    have none; ``cut`` whether the sky is cut off at the smallest value.
    """

    level: NDArray[np.float32]
    noise: NDArray[np.float32]
    cell: tuple[float, float]
    growth: float = 1.0
    cut: bool = False
    tail: float = 1.0

    def at(self, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """Level and noise at pixel positions."""
        x, y = (np.ascontiguousarray(t, np.float64) for t in (x, y))
        level, noise = np.empty(len(x)), np.empty(len(x))
        mesh = (np.ascontiguousarray(plane, np.float32) for plane in (self.level, self.noise))
        _compiled.mesh_values(*mesh, self.cell, x, y, level, noise)
        return level, noise

    def grid(self, y: NDArray, x: NDArray) -> tuple[NDArray, NDArray]:
        """Level and noise on a grid of rows and columns, shape ``(len(y), len(x))``."""
        weights = []
        for place, n, cell in zip((y, x), self.level.shape, self.cell, strict=True):
            f = np.clip((place + 0.5) / cell - 0.5, 0, n - 1)
            weights.append(np.maximum(1 - np.abs(f[:, None] - np.arange(n)), 0))
        level = weights[0] @ self.level @ weights[1].T
        return level, weights[0] @ self.noise @ weights[1].T


def estimate_background(source: PixelSource, *, cell: float = 64.0) -> Background:
    """Estimate sky level and noise on a mesh of about ``cell`` pixels.

    A cell's level is the mean of a normal distribution fitted to the lower side of the
    histogram of a quarter of its pixels, and its noise the root mean square of those below it:
    star light, which only adds, spoils neither even in crowded fields.  Where neighboring pixels
    have noise in common, as after resampling, the noise is that of a star's worth of pixels.
    Where the sky is cut off, as in pictures whose negative pixels became 0, that lower side is
    missing, and both follow from the other.
    """
    ny, nx = source.shape
    my, mx = max(1, round(ny / cell)), max(1, round(nx / cell))
    y_edges = np.round(np.linspace(0, ny, my + 1)).astype(np.int64)
    x_edges = np.round(np.linspace(0, nx, mx + 1)).astype(np.int64)
    level = np.full((my, mx), np.nan, dtype=np.float32)
    noise = np.full((my, mx), np.nan, dtype=np.float32)
    growth: list[float] = []
    tails: list[float] = []
    floor = _find_floor(source)
    # few values are spread over the step between them, so that center and width do not stick to one
    step = np.float32(_find_step(source))
    for k in range(my):
        rows = np.arange(y_edges[k], y_edges[k + 1])
        # pairs of neighboring rows
        rows = rows[rows % 8 // 2 == 1] if len(rows) >= 16 else rows
        values = np.ascontiguousarray(source.rows(rows))
        _compiled.mesh_row(values, _dither(values.shape, step), x_edges, level[k], noise[k])
        if floor is not None:
            cells = level[k], noise[k]
            neighbors, tail = _cut_row(values, floor, float(step), x_edges, *cells)
            growth.append(neighbors)
            tails.append(tail)
        elif k % max(1, my // 6) == 0:
            growth.append(_common_noise(values, rows, noise[k]))
    if not np.isfinite(level).any():
        raise ImageError(
            "no cell of the image has enough good pixels to estimate the sky; unmask pixels "
            "or give a larger image"
        )
    if floor is None:
        noise = np.sqrt(np.maximum(noise**2 - step**2 / 12, step**2 / 12))
    common = np.float32(np.nanmedian(growth) if np.isfinite(growth).any() else 1)
    tail = max(1.0, float(np.nanmedian(tails))) if np.isfinite(tails).any() else 1.0
    noise *= common
    level, noise = _smooth(level), _smooth(noise)
    # a simulated sky may be without noise
    least = max(1e-6 * float(np.abs(level).max()), 1e-6)
    noise = np.maximum(noise, np.float32(least))
    return Background(level, noise, (ny / my, nx / mx), float(common), floor is not None, tail)


def with_common_noise(source: PixelSource, background: Background, fwhm: float) -> Background:
    """Measure the noise that a filter for stars of a width sees, where the noise is not white.

    Smoothing, drizzling, interpolating the colors and enlarging give neighboring pixels noise in
    common, and a filter that adds them up sees more of it than in independent pixels. It is
    measured in two ways, of which the smaller counts. How much pixels have in common at each
    distance along x and y follows from their differences, which the light of stars hardly changes;
    but noise that is not the same everywhere, as that of compressed video, shows too much of it.
    The filtered image itself is below the sky only by its noise, but in crowded fields by the
    gaps between the stars, too.

    What is left of the noise of a sky that is cut off has a longer tail than normal noise, the more
    the fewer pixels the filter adds up.
    """
    background = _with_normal_tail(background, fwhm)
    if background.growth <= 1:
        return background
    from spalipy_astro.detection._peaks import gaussian_kernel

    kernel = gaussian_kernel(fwhm).astype(np.float64)
    overlap = np.correlate(kernel, kernel, "full")[len(kernel) :] / np.sum(kernel**2)
    parts = windows(source, background)
    cut = background.cut
    factor = _filtered_noise(parts, overlap, cut)
    factor *= _filtered_noise([part.T for part in parts], overlap, cut)
    surplus = np.sqrt(factor) / background.growth
    if surplus > _SURPLUS:
        surplus = min(surplus, _noise_below(parts, kernel) / background.growth)
    if surplus <= _SURPLUS:
        return background
    noise, growth = background.noise * np.float32(surplus), float(background.growth * surplus)
    return background._replace(noise=noise, growth=growth)


def _with_normal_tail(background: Background, fwhm: float) -> Background:
    """Raise the noise of a sky that is cut off, so that hardly any of it is beyond 5 sigma."""
    if background.tail <= 1:
        return background
    from spalipy_astro.detection._peaks import gaussian_kernel

    kernel = gaussian_kernel(fwhm).astype(np.float64)
    # a sum's skewness in units of that of its terms
    share = np.sum(kernel**3) ** 2 / np.sum(kernel**2) ** 3
    factor = np.float32(1 + (background.tail - 1) * share)
    return background._replace(noise=background.noise * factor)


def _noise_below(parts: list[NDArray], kernel: NDArray) -> float:
    """Return the noise of the filtered image below the sky, in units of that of white noise."""
    values = [np.zeros(0)]
    for part in parts:
        ny, nx = part.shape
        if min(ny, nx) < len(kernel):
            continue
        good = np.isfinite(part)
        down, across = (_sums(kernel, n) for n in (ny, nx))
        weight = down**2 @ good.astype(float) @ (across**2).T
        light = down @ np.where(good, part, 0) @ across.T
        known = weight > 0.5 * np.sum(kernel**2) ** 2
        values.append(light[known] / np.sqrt(weight[known]))
    filtered = np.concatenate(values)
    below = filtered[filtered < 0]
    return 1.4826 * median(-below) if len(below) >= _FEWEST else np.inf


def _sums(kernel: NDArray, length: int) -> NDArray:
    """Return the matrix that filters a row of pixels, where the filter lies within it."""
    rows = np.arange(length - len(kernel) + 1)
    out = np.zeros((len(rows), length))
    out[rows[:, None], rows[:, None] + np.arange(len(kernel))] = kernel
    return out


def windows(source: PixelSource, background: Background) -> list[NDArray]:
    """Cut windows out of the image less its sky, in units of the noise of a pixel."""
    parts = []
    ny, nx = source.shape
    for y in np.unique(np.linspace(0, max(ny - _WINDOW, 0), _WINDOWS).astype(int)):
        rows = np.arange(y, min(y + _WINDOW, ny))
        strip = np.asarray(source.rows(slice(y, y + len(rows))), np.float64)
        for x in np.unique(np.linspace(0, max(nx - _WINDOW, 0), _WINDOWS).astype(int)):
            columns = np.arange(x, min(x + _WINDOW, nx))
            level, noise = background.grid(rows, columns)
            parts.append((strip[:, columns] - level) / (noise / background.growth))
    return parts


def in_common(parts: list[NDArray], step: int, cut: bool = False) -> float:
    """Return how much pixels of windows have in common with those a step away along x.

    ``cut`` tells that the sky is cut off at the smallest value, as in `Background`.
    """
    widths = np.array([_difference_width(part, step, cut) for part in parts])
    widths = widths[np.isfinite(widths)]
    return 1 - 0.5 * median(widths) ** 2 if len(widths) else 0.0


def _filtered_noise(parts: list[NDArray], overlap: NDArray, cut: bool) -> float:
    """Return by what the variance of a sum along x exceeds that of independent pixels.

    ``overlap`` is that of the filter with itself shifted by 1, 2, ... pixels. Most images have
    noise in common with the next pixel or two, and the search ends where there is none.
    """
    factor = 1.0
    for step, weight in enumerate(overlap, 1):
        common = in_common(parts, step, cut)
        if common < _CORRELATED:
            break
        factor += 2 * common * weight
    return factor


def _difference_width(plane: NDArray, step: int, cut: bool) -> float:
    """Return the width of the differences of pixels a step apart along x; NaN of too few."""
    difference = plane[:, step:] - plane[:, :-step]
    difference = difference[np.isfinite(difference)]
    if len(difference) < _FEWEST:
        return np.nan
    if cut:  # most may be 0
        return float(np.sqrt(np.mean(difference[np.abs(difference) < _STAR] ** 2)))
    return 1.4826 * median(np.abs(difference - median(difference)))


def _find_step(source: PixelSource) -> float:
    """Step in which the sky was digitized, if the noise does not hide it; 0 if it does.

    A flat field turns whole numbers into values that crowd around them. So does a compression
    that loses something. Seen in most of 16 squares, it is the step.
    """
    if source.data.dtype.kind in "iu":
        return 1 / source.scale
    ny, nx = source.shape
    size = min(32, ny, nx)
    places = [(np.arange(4) + 0.5) / 4 * (n - size) for n in (ny, nx)]
    steps = []
    for y in places[0].astype(int):
        rows = source.rows(slice(y, y + size))
        for x in places[1].astype(int):
            values = np.sort(rows[:, x : x + size], axis=None)
            values = values[np.isfinite(values)]
            if len(values) < 64 or values[0] == values[-1]:
                continue
            low, high = values[[len(values) // 32, -1 - len(values) // 32]]
            gaps = np.diff(values[(values >= low) & (values <= high)])
            wide = gaps[gaps > 0.15 * (high - low)]
            even = len(wide) > 0 and wide.max() < 1.3 * wide.min()
            # what is between the gaps must be narrow
            steps.append(float(wide.max()) if even and wide.sum() > 0.8 * (high - low) else 0.0)
        if steps.count(0.0) >= 8:
            return 0.0  # it cannot be in most of them any more
    if np.count_nonzero(steps) <= len(steps) / 2:
        return 0.0
    return median(np.array([step for step in steps if step > 0]))


def _find_floor(source: PixelSource) -> float | None:
    """Find the value at which a sky was cut off, as where negative pixels became 0; None if none.

    It is the smallest, and many pixels have it, but not so many that nothing is left of the sky,
    which goes on right above it: dead pixels may be 0, too.
    """
    rows = source.rows(slice(0, None, max(1, source.shape[0] // 64)))
    values = rows[np.isfinite(rows)]
    if not values.size:
        return None
    floor = values.min()
    if not _FEWEST_CUT < 1 - np.count_nonzero(values > floor) / len(values) < _MOST_CUT:
        return None
    others = values[values > floor]
    middle = median(others)
    near = np.mean(others <= floor + 0.5 * (middle - floor)) > _NEAR_CUT
    # of whole numbers, the median may be the next
    following = source.data.dtype.kind in "iu" and middle - floor < 1.5 / source.scale
    return float(floor) if near or following else None


def _cut_row(
    values: NDArray, floor: float, step: float, edges: NDArray, level: NDArray, noise: NDArray
) -> tuple[float, float]:
    """Overwrite level and noise of those cells of a row whose sky is cut off at a floor.

    The sky is normal where it is not cut off: how many pixels are at the floor, and the value below
    which half of the others are, tell its mean and width, and these the mean and the scatter of
    what is left of it. Returned are by how much neighbors have their noise in common, and how
    much further its rare values reach than those of normal noise.
    """
    from scipy.special import ndtri  # takes a while to import, and is rarely needed

    growth, tails = [], []
    for j, (start, stop) in enumerate(pairwise(edges)):
        part = values[:, start:stop]
        good = np.sort(part[np.isfinite(part)])
        cut = np.searchsorted(good, floor, "right")
        if not 0.01 * len(good) < cut < _MOST_CUT * len(good) or len(good) < _FEWEST:
            continue
        middle = good[cut + (len(good) - cut) // 2]
        upper = np.searchsorted(good, middle, "right") / len(good)
        low, high = ndtri(cut / len(good)), ndtri(min(upper, 1 - 0.5 / len(good)))
        width = (middle - floor) / (high - low)
        above, density = 1 - cut / len(good), np.exp(-0.5 * low**2) / np.sqrt(2 * np.pi)
        first = width * (density - low * above)
        second = width**2 * ((1 + low**2) * above - low * density)
        # of digitized values, half a step is below the floor
        mean = first + 0.5 * step * above
        level[j] = floor + mean
        noise[j] = np.sqrt(max(second + step * first + 0.25 * step**2 * above - mean**2, 0))
        tails.append((floor + (_RARE - low) * width - level[j]) / (_RARE * noise[j]))
        sky = np.where(part < level[j] + _STAR * noise[j], part, np.nan)
        growth.append(_common_variance(sky))
    if not growth:
        return np.nan, np.nan
    return float(np.median(growth)), float(np.median(tails))


def _common_variance(sky: NDArray) -> float:
    """As `_common_noise`, from the variance of the differences: of any distribution."""
    factor = 1.0
    variance = np.nanvar(sky)
    if not variance > 0:
        return np.nan
    # rows come as pairs of neighbors
    for difference in (np.diff(sky, axis=1), sky[1::2] - sky[: len(sky) // 2 * 2 : 2]):
        known = difference[np.isfinite(difference)]
        correlation = 1 - 0.5 * np.mean(known**2) / variance if known.size else 0.0
        factor *= 1 + 1.3 * (correlation if correlation > _CORRELATED else 0.0)
    return float(np.sqrt(factor))


def _dither(shape: tuple[int, ...], step: np.float32) -> NDArray[np.float32]:
    """Return evenly spread numbers between -1/2 and 1/2 steps, always the same."""
    if step == 0:
        return np.zeros((1, shape[1]), dtype=np.float32)
    place = np.arange(shape[0])[:, None] * 0.7548776662 + np.arange(shape[1]) * 0.5698402910
    return step * (place % 1 - 0.5).astype(np.float32)


def _common_noise(values: NDArray, rows: NDArray, noise: NDArray) -> float:
    """By how much the noise of a star's worth of pixels exceeds that of independent ones.

    From the differences of neighbors, which star light hardly changes: the correlation in x and y,
    weighted with the overlap of a typical fit's weights with themselves shifted by a pixel.
    """
    sigma = median(noise[np.isfinite(noise)])
    if not sigma > 0:
        return np.nan
    widths = np.empty(2)
    pairs = np.flatnonzero(np.diff(rows) == 1)
    _compiled.difference_widths(values, pairs, float(sigma), widths)
    if np.isnan(widths[1]) and len(pairs):
        # enlarged by whole rows: neighbors do not differ at all
        equal = float(np.mean(values[pairs] == values[pairs + 1]))
        widths[1] = 0.0 if equal > _REPEATED else np.nan
    if np.isnan(widths).any():
        return np.nan
    factor = 1.0
    for width in widths:
        # of a normal distribution cut at 3 sigma
        correlation = 1 - 0.5 * (1.0136 * width / sigma) ** 2
        factor *= 1 + 1.3 * (correlation if 0.1 < correlation <= 1 else 0.0)
    return float(np.sqrt(factor))


def _smooth(plane: NDArray) -> NDArray:
    """Fill cells without an estimate from the nearest one and take the 3 x 3 median."""
    bad = ~np.isfinite(plane)
    if bad.any():
        from scipy import ndimage  # takes a while to import, and is rarely needed

        nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
        plane = plane[tuple(nearest)]
    around = [np.clip(np.arange(-1, n + 1), 0, n - 1) for n in plane.shape]
    padded, (my, mx) = plane[np.ix_(*around)], plane.shape
    cells = np.stack([padded[i : i + my, j : j + mx] for i in range(3) for j in range(3)], axis=2)
    return np.ascontiguousarray(np.sort(cells, axis=2)[..., 4])
