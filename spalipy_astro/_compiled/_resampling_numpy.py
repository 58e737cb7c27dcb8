"""
The loops of resampling in numpy: what they do, and what runs where nothing is compiled.

Pure arrays in and out. A tile's source window arrives as a padded block in which everything that
must not be used (masked, infinite, outside of the image) is NaN. The plain sum is taken first; only
where that is not finite, the bad pixels are looked for and the sum is renormalized. The operations
are those of the compiled loops, in their order, so that both give the same bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from spalipy_astro._compiled._positions_numpy import (
    Array,
    Grid,
    Part,
    flags_tile,
    on_frame,
    part_of_grid,
    source_extent,
    spline_extent,
    spline_tile,
)

__all__ = [
    "accept_uncertainties",
    "average_tile",
    "flags_tile",
    "interpolate_part",
    "interpolate_tile",
    "load_window",
    "source_extent",
    "spline_extent",
    "spline_tile",
]

Variances = tuple[Array, Array, float]
Source = tuple[Array, Variances, tuple[int, int, int], tuple[int, int]]
Rule = tuple[bool, float, float, str]

_AT_ONCE = 1 << 12  # pixels: some MB with all that belongs to them
_SINGLE = 2.0**-80, 2.0**80  # float32 variances of this range lose nothing that counts in a sum


def interpolate_tile(
    source: Source,
    x: Array,
    y: Array,
    kernel: tuple[int, Array, Array],
    rule: Rule,
    box: tuple[int, int],
    outputs: tuple[Array, Array, Array, Array],
) -> None:
    """
    Interpolate the pixels of one tile.

    Parameters
    ----------
    source : (block, (variance, wide, unit), corner, frame)
        The window of the source, (planes, h * w), NaN where a pixel is bad or outside of the frame;
        its variance in some unit, zero where the window is NaN, in float64 or, where the window is
        float32, in that, and the same in float64 if some of that is infinite; arrays without planes
        where there is none; the source pixel ``(x, y)`` of the window's first and its width; width
        and height of the frame.
    x, y : (rows + 2, columns + 2) float64 arrays
        Source positions of the tile's pixels and of a border of one pixel.
    kernel : (taps, table, table64)
        The number of taps, 1, 2, 4 or 6; weights by phase and how they change to the next one,
        (steps + 1, 2 * lanes), in the type of the block and in float64, where lanes are the taps
        rounded up to a power of two.
    rule : (area, least, fill, kind)
        Whether to multiply by the area of an output pixel in the source; the smallest share of the
        weight that must be on good pixels; the value of the outputs that have less; what the
        uncertainties are, ``"std"``, ``"var"`` or ``"ivar"``.
    box : (row, column)
        Place of the tile in the outputs.
    outputs : (out, bad, footprint, spread)
        Arrays (planes, ny, nx), of which all but the first may be without planes. Where a pixel is
        bad, the uncertainty is NaN, or an inverse variance 0.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        _interpolate(source, x, y, kernel, rule, box, outputs)


def interpolate_part(
    source: Source,
    grid: Grid,
    part: Part,
    kernel: tuple[int, Array, Array],
    rule: Rule,
    outputs: tuple[Array, Array, Array, Array],
) -> None:
    """
    Interpolate a part of the pixels of a grid.

    The others of the parameters are those of `interpolate_tile`.

    Parameters
    ----------
    grid : (along_x, along_y, coeff_x, coeff_y, matrix, shift)
        That of `spline_tile`: the pixels and a border of one pixel.
    part : (row, column, rows, columns)
        First row and column of the pixels, in the grid and in the outputs, and their number.
    """
    x, y = np.empty((2, part[2] + 2, part[3] + 2))
    spline_tile(part_of_grid(grid, part), x, y)
    interpolate_tile(source, x, y, kernel, rule, part[:2], outputs)


def _interpolate(
    source: Source,
    x: Array,
    y: Array,
    kernel: tuple[int, Array, Array],
    rule: Rule,
    box: tuple[int, int],
    outputs: tuple[Array, Array, Array, Array],
) -> None:
    """Interpolate, some rows at a time."""
    block, (variance, wide, unit), corner, frame = source
    step = max(_AT_ONCE // max(x.shape[1], 1), 1)
    for first in range(0, x.shape[0] - 2, step):
        rows = slice(first, min(first + step, x.shape[0] - 2))
        u, v = (t[rows.start + 1 : rows.stop + 1, 1:-1] for t in (x, y))
        plan = _plan(u, v, kernel, corner, frame)
        factor = _areas(x, y, rows, rule[0])
        for p, pixels in enumerate(block):
            values = _sums(pixels, plan, corner, kernel[1], kernel[0], power=1)
            values = np.where(plan.inside, values.astype(float), np.nan)
            spreads = np.zeros_like(values)
            if len(variance):
                spreads = _sums(variance[p], plan, corner, kernel[1], kernel[0], power=2)
                spreads = spreads.astype(float)
            if len(wide):
                beyond = np.nonzero(~np.isfinite(spreads))
                some = _Plan(*(part[beyond] for part in plan))
                spreads[beyond] = _sums(wide[p], some, corner, kernel[1], kernel[0], power=2)
            shares = np.where(plan.inside, 1.0, -np.inf)
            bad = np.nonzero(~np.isfinite(values) & plan.inside)
            if len(bad[0]):
                some = _Plan(*(part[bad] for part in plan))
                good, shares[bad] = _good_weights(pixels, some, corner, frame, kernel)
                values[bad] = (
                    _sums(pixels, some, corner, kernel[1], kernel[0], power=1, clean=True) / good
                )
                spreads[bad] /= good * good
            _store(values, shares, spreads, unit, factor, p, rows.start, rule, box, outputs)


class _Plan(NamedTuple):
    """First tap, place in the table and whether a pixel is on the frame, each for all pixels."""

    left: Array
    top: Array
    knot_x: Array
    knot_y: Array
    phase_x: Array
    phase_y: Array
    inside: Array


def _plan(u: Array, v: Array, kernel: tuple[int, Array, Array], corner: Any, frame: Any) -> _Plan:
    """Find where kernels begin; off the frame they are those of the window's first pixel."""
    taps, table, _ = kernel
    steps = len(table) - 1
    inside = on_frame(u, v, frame)
    u, v = (
        np.where(inside, t + (1 - taps / 2), first)
        for t, first in zip((u, v), corner[:2], strict=True)
    )
    left, top = np.floor(u), np.floor(v)
    s, t = (u - left) * steps, (v - top) * steps
    knot_x, knot_y = s.astype(np.int64), t.astype(np.int64)
    return _Plan(
        left.astype(np.int64), top.astype(np.int64), knot_x, knot_y, s - knot_x, t - knot_y, inside
    )


def _weights(table: Array, knot: Array, phase: Array) -> Array:
    """Weights of one axis, (..., lanes): those of a row of the table, and their change."""
    low, change = np.split(table[knot], 2, axis=-1)
    return low + phase.astype(table.dtype)[..., np.newaxis] * change


def _sums(
    pixels: Array,
    plan: _Plan,
    corner: Any,
    table: Array,
    taps: int,
    *,
    power: int,
    clean: bool = False,
) -> Array:
    """Sum of weight x pixel, with ``clean`` over the good pixels alone."""
    start = (plan.top - corner[1]) * corner[2] + plan.left - corner[0]
    if taps == 1:
        return np.where(np.isfinite(pixels[start]), pixels[start], 0) if clean else pixels[start]
    lanes = table.shape[1] // 2
    along_x = _weights(table, plan.knot_x, plan.phase_x)
    along_y = _weights(table, plan.knot_y, plan.phase_y)
    if power == 2:
        along_x, along_y = along_x * along_x, along_y * along_y
    windows = np.lib.stride_tricks.sliding_window_view(pixels, lanes)
    total = np.zeros(along_x.shape, pixels.dtype)
    for row in range(taps):
        values = windows[start + row * corner[2]]
        if clean:
            values = np.where(np.isfinite(values) & (np.arange(lanes) < taps), values, 0)
        term = along_y[..., row, np.newaxis] * values
        total = term if row == 0 else total + term
    total *= along_x
    while lanes > 1:
        lanes //= 2
        total = total[..., :lanes] + total[..., lanes:]
    return total[..., 0]


def _good_weights(
    pixels: Array, plan: _Plan, corner: Any, frame: Any, kernel: tuple[int, Array, Array]
) -> tuple[Array, Array]:
    """Sum the weights on good pixels, and one less the absolute weight on bad ones."""
    taps, _, table = kernel
    weights = np.ones((len(plan.left), 1, 1))
    if taps > 1:
        along_x = _weights(table, plan.knot_x, plan.phase_x)[:, :taps]
        weights = _weights(table, plan.knot_y, plan.phase_y)[:, :taps, np.newaxis]
        weights = weights * along_x[:, np.newaxis]
    return _good_weight(pixels, weights, plan.left, plan.top, corner, frame)


def _good_weight(
    pixels: Array, weights: Array, left: Array, top: Array, corner: Any, frame: Any
) -> tuple[Array, Array]:
    """
    Sum the weights on good pixels, and one less the absolute weight on bad ones.

    The first is never smaller than the second. What lies outside of the frame counts for the first
    only: edges are as good as the pixels within.
    """
    missing, outside, bad = np.zeros((3, len(left)))
    for row, column in np.ndindex(weights.shape[1:]):
        x, y = left + column, top + row
        at = (y - corner[1]) * corner[2] + x - corner[0]
        weight = np.where(np.isfinite(pixels[np.minimum(at, pixels.size - 1)]), 0, 1)
        weight = weight * weights[:, row, column]
        within = (x >= 0) & (x < frame[0]) & (y >= 0) & (y < frame[1])
        missing += weight
        bad += np.where(within, np.abs(weight), 0)
        outside += np.where(within, 0, weight)
    return 1 - missing, 1 - bad / (1 - outside)


def _areas(x: Array, y: Array, rows: slice, area: bool) -> Array:
    """Areas in the source of the output pixels of some rows."""
    x, y = x[rows.start : rows.stop + 2], y[rows.start : rows.stop + 2]
    if not area:
        return np.ones((len(x) - 2, x.shape[1] - 2))
    return 0.25 * np.abs(
        (x[1:-1, 2:] - x[1:-1, :-2]) * (y[2:, 1:-1] - y[:-2, 1:-1])
        - (x[2:, 1:-1] - x[:-2, 1:-1]) * (y[1:-1, 2:] - y[1:-1, :-2])
    )


def _store(
    values: Array,
    shares: Array,
    spreads: Array,
    unit: float,
    factor: Array,
    plane: int,
    first: int,
    rule: Rule,
    box: tuple[int, int],
    outputs: tuple[Array, Array, Array, Array],
) -> None:
    """Write some rows of a tile, scaled by area, filled where too little weight is good."""
    _, least, fill, kind = rule
    out, bad, footprint, spread = outputs
    # a factor that is NaN: at the edge of what the map is defined for
    shares = np.where(np.isnan(factor), -np.inf, shares)
    usable = shares >= least
    rows = slice(box[0] + first, box[0] + first + len(values))
    place = plane, rows, slice(box[1], box[1] + values.shape[1])
    out[place] = np.where(usable, values * factor, fill)
    if len(spread):
        variance = np.where(usable, spreads * (factor * factor), np.nan) * unit
        if kind == "std":
            variance = np.sqrt(variance)
        elif kind == "ivar":
            variance = np.where(np.isnan(variance), 0.0, 1 / variance)
        spread[place] = variance
    if len(bad):
        bad[place] = ~usable
    if len(footprint):
        footprint[place] = np.where(shares > 0, shares, 0)


def accept_uncertainties(kind: str, unit: float, block: Array, spread: Array) -> bool:
    """
    Convert the uncertainties of a window to variances, in place.

    Where they are negative or not finite, or a pixel is not, the pixel becomes NaN and its variance
    0. In float32 variances that are too small or too large for sums become infinite.

    Parameters
    ----------
    kind : {"std", "var", "ivar"}
        What the uncertainties are.
    unit : float
        Unit of the variances, a power of two.
    block : (planes, h * w) array
        The window of the source.
    spread : (planes, h * w) array
        The uncertainties, in float64, or float32 if the window is in that.

    Returns
    -------
    bool
        Whether some variances became infinite.
    """
    with np.errstate(all="ignore"):
        given = spread.astype(float)
        variance = given
        if kind == "std":
            variance = given * np.abs(given)  # negative ones stay negative
        elif kind == "ivar":
            variance = 1 / given
        bad = ~((variance >= 0) & np.isfinite(variance) & np.isfinite(block))
        variance = np.where(bad, 0.0, variance / unit)
    block[bad] = np.nan
    beyond = np.zeros(variance.shape, bool)
    if spread.dtype == np.float32:
        beyond = (variance != 0) & ~((variance >= _SINGLE[0]) & (variance <= _SINGLE[1]))
    spread[...] = np.where(beyond, np.inf, variance)
    return bool(beyond.any())


def load_window(
    kind: str,
    unit: float,
    pixels: Array,
    mask: Array,
    spreads: Array,
    corner: tuple[int, int],
    block: Array,
    spread: Array,
) -> bool:
    """
    Copy a window with its variances, as `accept_uncertainties` makes them, out of a plane.

    Parameters
    ----------
    kind, unit
        As for `accept_uncertainties`.
    pixels, mask, spreads : (ny, nx) arrays
        The plane, float32; True where it is bad, or an array without rows; uncertainties, float32.
    corner : (x, y)
        Place of the window's first pixel in the plane; the window may stick out of it.
    block, spread : (h, w) float32 arrays
        The window, NaN where a pixel is bad or beyond the plane, and its variances, there 0.

    Returns
    -------
    bool
        Whether some variances became infinite.
    """
    block[...], spread[...] = np.nan, 0
    (x, y), (height, width) = corner, block.shape
    rows, columns = slice(max(y, 0), max(y + height, 0)), slice(max(x, 0), max(x + width, 0))
    below, beside = max(-y, 0), max(-x, 0)
    some = pixels[rows, columns]
    place = slice(below, below + some.shape[0]), slice(beside, beside + some.shape[1])
    block[place], spread[place] = some, spreads[rows, columns]
    if len(mask):
        block[place][mask[rows, columns]] = np.nan
    return accept_uncertainties(kind, unit, block, spread)


def average_tile(
    source: Source,
    x: Array,
    y: Array,
    kernel: tuple[int, Array, Array, Array, tuple[int, int]],
    fine: Array,
    rule: Rule,
    box: tuple[int, int],
    outputs: tuple[Array, Array, Array, Array],
) -> None:
    """
    Average the interpolated source over the pixels of one tile, where these are larger.

    Parameters are those of `interpolate_tile` but for two.

    Parameters
    ----------
    kernel : (taps, table, factors_x, factors_y, steps)
        The kernel of the interpolation, with the table in the type of the block, and that of the
        average: odd numbers of factors at equal steps from the pixel's center to both sides, and
        how many steps along x and along y make a pixel, of 1.5 source pixels at the most.
    fine : (planes, rows, columns) array
        The interpolated source at these steps, from the first to the last that the tile needs; NaN
        where a pixel under the kernel is bad.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        _average(source, x, y, kernel, fine, rule, box, outputs)


def _average(
    source: Source,
    x: Array,
    y: Array,
    kernel: tuple[int, Array, Array, Array, tuple[int, int]],
    fine: Array,
    rule: Rule,
    box: tuple[int, int],
    outputs: tuple[Array, Array, Array, Array],
) -> None:
    """Average, row by row."""
    block, (variance, _, unit), corner, frame = source
    factors_x, factors_y, (steps_x, steps_y) = kernel[2:]
    planes, columns = len(block), x.shape[1] - 2
    for i in range(x.shape[0] - 2):
        line = np.zeros((planes, fine.shape[2]))
        for k, factor in enumerate(factors_y):
            line += factor * fine[:, i * steps_y + k]
        values = np.zeros((planes, columns))
        for k, factor in enumerate(factors_x):
            values += factor * line[:, k : k + (columns - 1) * steps_x + 1 : steps_x]
        on = on_frame(x[i + 1, 1:-1], y[i + 1, 1:-1], frame)
        shares = np.where(on, 1.0, np.full((planes, 1), -np.inf))
        spreads = np.zeros_like(values)
        some = np.flatnonzero(on & (np.isnan(values.sum(axis=0)) | (len(variance) > 0)))
        gradient = np.array(
            [
                [t[i + 1, some + 2] - t[i + 1, some], t[i + 2, some + 1] - t[i, some + 1]]
                for t in (x, y)
            ]
        )
        gradient /= 2
        defined = np.isfinite(gradient.sum(axis=(0, 1)))
        shares[:, some[~defined]] = -np.inf
        some, gradient = some[defined], gradient[..., defined]
        if len(some):
            place = x[i + 1, some + 1], y[i + 1, some + 1]
            weights, left, top = _pixel_weights(place, gradient, kernel)
            at = (top - corner[1]) * corner[2] + left - corner[0]
            for p in range(planes):
                good = np.ones(len(some))
                bad = np.flatnonzero(np.isnan(values[p, some]))
                if len(bad):
                    good[bad], shares[p, some[bad]] = _good_weight(
                        block[p], weights[bad], left[bad], top[bad], corner, frame
                    )
                    total = _good_sum(block[p], at[bad], corner[2], weights[bad])
                    values[p, some[bad]] = total / good[bad]
                if len(variance):
                    total = _squared_sum(variance[p], at, corner[2], weights)
                    spreads[p, some] = total / (good * good)
        factor = _areas(x, y, slice(i, i + 1), rule[0])
        for p in range(planes):
            _store(
                values[p : p + 1], shares[p : p + 1], spreads[p : p + 1], unit, factor, p, i, rule,
                box, outputs,
            )  # fmt: skip


def _pixel_weights(
    place: tuple[Array, Array], gradient: Array, kernel: tuple[int, Array, Array, Array, Any]
) -> tuple[Array, Array, Array]:
    """Find the weights of source pixels, (N, rows, columns), and the first column and row."""
    taps, table, factors_x, factors_y, (n_x, n_y) = kernel
    shift, phases, lanes = 1 - taps / 2, len(table) - 1, table.shape[1] // 2
    ends_x, ends_y = factors_x.size // 2, factors_y.size // 2
    u, v = (t + shift for t in place)
    # only where a map is wild between the points that were looked at
    a, c = _shortened(gradient[:, 0], 1.5 * n_x) / n_x
    b, d = _shortened(gradient[:, 1], 1.5 * n_y) / n_y
    reach_x, reach_y = (
        ends_x * np.abs(one) + ends_y * np.abs(two) for one, two in ((a, b), (c, d))
    )
    left, top = (np.floor(t - r).astype(np.int64) for t, r in ((u, reach_x), (v, reach_y)))
    columns = np.floor(u + reach_x).astype(np.int64) - left + lanes + 1
    rows = np.floor(v + reach_y).astype(np.int64) - top + taps + 1
    weights = np.zeros((len(u), rows.max(), columns.max()), table.dtype)
    each = np.arange(len(u))[:, np.newaxis, np.newaxis]
    down, across = np.arange(taps)[:, np.newaxis], np.arange(lanes)
    for k, m in np.ndindex(factors_y.size, factors_x.size):
        factor = table.dtype.type(factors_x[m] * factors_y[k])
        if factor == 0:
            continue
        s = np.maximum(u + (m - ends_x) * a + (k - ends_y) * b - left, 0.0)
        t = np.maximum(v + (m - ends_x) * c + (k - ends_y) * d - top, 0.0)
        column, row = s.astype(np.int64), t.astype(np.int64)
        s, t = (s - column) * phases, (t - row) * phases
        knot_x, knot_y = s.astype(np.int64), t.astype(np.int64)
        along_x = along_y = np.ones((len(u), 1), table.dtype)
        if taps > 1:
            along_x, along_y = (
                _weights(table, knot_x, s - knot_x),
                _weights(table, knot_y, t - knot_y)[:, :taps],
            )
        at = each, row[:, np.newaxis, np.newaxis] + down, column[:, np.newaxis, np.newaxis] + across
        weights[at] += along_y[:, :, np.newaxis] * (along_x * factor)[:, np.newaxis]
    return weights, left, top


def _shortened(vector: Array, longest: float) -> Array:
    """Cut vectors, (2, N), to a length."""
    length = np.hypot(*vector)
    return np.where(length <= longest, vector, vector * longest / length)


def _good_sum(pixels: Array, start: Array, stride: int, weights: Array) -> Array:
    """Sum of weight x pixel over the good pixels."""
    total = np.zeros(len(start))
    for row, column in np.ndindex(weights.shape[1:]):
        values = pixels[np.minimum(start + row * stride + column, pixels.size - 1)]
        total += weights[:, row, column] * np.where(np.isfinite(values), values, 0)
    return total


def _squared_sum(variances: Array, start: Array, stride: int, weights: Array) -> Array:
    """Sum of squared weight x variance, one for each column first."""
    total = np.zeros(len(start))
    for column in range(weights.shape[2]):
        column_total = np.zeros(len(start))
        for row in range(weights.shape[1]):
            weight = weights[:, row, column]
            at = np.minimum(start + row * stride + column, variances.size - 1)
            column_total += weight * weight * variances[at]
        total += column_total
    return total
