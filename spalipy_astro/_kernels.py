"""The inner loops of resampling: interpolation kernels over one tile of output pixels.

Pure arrays in and out.  A tile's source window arrives as a padded block in which everything that
must not be used (masked, infinite, outside of the image) is NaN.  The loops first take the plain
sum; only where that is not finite do they look for the bad pixels and renormalize.  A pixel whose
kernel holds no bad pixel is therefore computed by the same instructions whatever lies beyond it.

No ``fastmath``: the order of the operations is that of the code, so that results are the same to
the last bit for every tiling, number of threads and processor.
"""

from __future__ import annotations

import numba
import numpy as np

from spalipy_astro._vectors import weight_adder, weighted_sum

__all__ = [
    "average_tile",
    "flags_tile",
    "interpolate_tile",
    "source_extent",
    "spline_tile",
]


def _compile(function):
    """Compile without the GIL, kept on disk where there is a place to write."""
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")
    except RuntimeError:  # neither the package nor the user's cache directory is writable
        return numba.njit(function, nogil=True, error_model="numpy")


_sum_6, _sum_6_squared, _add_6 = weighted_sum(6, 8, 1), weighted_sum(6, 8, 2), weight_adder(6, 8)
_sum_4, _sum_4_squared, _add_4 = weighted_sum(4, 4, 1), weighted_sum(4, 4, 2), weight_adder(4, 4)
_sum_2, _sum_2_squared, _add_2 = weighted_sum(2, 2, 1), weighted_sum(2, 2, 2), weight_adder(2, 2)


@_compile
def _value(taps, pixels, start, stride, table, kx, fx, ky, fy):
    """Sum of weight x pixel; ``start`` is the place of the first tap."""
    if len(taps) == 6:
        return _sum_6(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 4:
        return _sum_4(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 2:
        return _sum_2(pixels, start, stride, table, kx, fx, ky, fy)
    return pixels[start]


@_compile
def _variance(taps, pixels, start, stride, table, kx, fx, ky, fy):
    """Sum of squared weight x pixel."""
    if len(taps) == 6:
        return _sum_6_squared(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 4:
        return _sum_4_squared(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 2:
        return _sum_2_squared(pixels, start, stride, table, kx, fx, ky, fy)
    return pixels[start]


@_compile
def _add_weights(taps, array, start, stride, table, kx, fx, ky, fy, factor):
    """Add factor x weight to an array."""
    if len(taps) == 6:
        _add_6(array, start, stride, table, kx, fx, ky, fy, factor)
    elif len(taps) == 4:
        _add_4(array, start, stride, table, kx, fx, ky, fy, factor)
    elif len(taps) == 2:
        _add_2(array, start, stride, table, kx, fx, ky, fy, factor)
    else:
        array[start] += factor


@_compile
def spline_tile(along_x, along_y, coeff_x, coeff_y, matrix, shift, out_x, out_y):
    """
    Source positions of a tile under a tensor-product spline followed by an affine transform.

    Parameters
    ----------
    along_x, along_y : (positions, first, weights)
        The axes of the tile: template positions, the index of the first basis function at each and
        the weights of the functions from there on.
    coeff_x, coeff_y : (n_y, n_x) arrays
        Coefficients of the displacements.
    matrix, shift : (2, 2) and (2,) arrays
        The affine transform.
    out_x, out_y : (rows, columns) arrays
        The positions.
    """
    x, first_x, weights_x = along_x
    y, first_y, weights_y = along_y
    order = weights_x.shape[1]
    line_x, line_y = np.empty(coeff_x.shape[1]), np.empty(coeff_x.shape[1])
    for i in range(y.size):
        line_x[:] = 0
        line_y[:] = 0
        for k in range(order):
            weight, row = weights_y[i, k], first_y[i] + k
            for column in range(line_x.size):
                line_x[column] += weight * coeff_x[row, column]
                line_y[column] += weight * coeff_y[row, column]
        for j in range(x.size):
            u, v = x[j], y[i]
            for k in range(order):
                u += weights_x[j, k] * line_x[first_x[j] + k]
                v += weights_x[j, k] * line_y[first_x[j] + k]
            out_x[i, j] = matrix[0, 0] * u + matrix[0, 1] * v + shift[0]
            out_y[i, j] = matrix[1, 0] * u + matrix[1, 1] * v + shift[1]


@_compile
def source_extent(x, y, frame):
    """Smallest box ``(x_min, x_max, y_min, y_max)`` of a tile's positions that are on the frame."""
    x_min, x_max, y_min, y_max = np.inf, -np.inf, np.inf, -np.inf
    for i in range(1, x.shape[0] - 1):
        for j in range(1, x.shape[1] - 1):
            u, v = x[i, j], y[i, j]
            if -0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5:
                x_min, x_max = min(x_min, u), max(x_max, u)
                y_min, y_max = min(y_min, v), max(y_max, v)
    return x_min, x_max, y_min, y_max


@_compile
def _gradient(t, i, j):
    """Change of one source coordinate over one output pixel along x and along y."""
    return (t[i + 1, j + 2] - t[i + 1, j]) / 2, (t[i + 2, j + 1] - t[i, j + 1]) / 2


@_compile
def _shorten(a, b, longest):
    """Cut a vector to a length."""
    length = np.hypot(a, b)
    return (a, b) if length <= longest else (a * longest / length, b * longest / length)


@_compile
def interpolate_tile(source, x, y, kernel, rule, box, outputs):
    """
    Interpolate the pixels of one tile.

    Parameters
    ----------
    source : (block, variance, corner, frame)
        The window of the source, (planes, h, w), NaN where a pixel is bad or outside of the frame;
        its variance in float64, zero where the window is NaN, or an array without planes; the
        source pixel ``(x, y)`` of the window's first; width and height of the frame.
    x, y : (rows + 2, columns + 2) float64 arrays
        Source positions of the tile's pixels and of a border of one pixel.
    kernel : (taps, table, table64)
        The numbers of the taps, a tuple of 1, 2, 4 or 6 (its length is known when compiling);
        weights by phase, (steps + 2, lanes), in the type of the block and in float64.
    rule : (area, least, fill)
        Whether to multiply by the area of an output pixel in the source; the smallest share of the
        weight that must be on good pixels; the value of the outputs that have less.
    box : (row, column)
        Place of the tile in the outputs.
    outputs : (out, bad, footprint, out_variance)
        Arrays (planes, ny, nx), of which the second and third may be without planes, and the
        variance of the tile, (planes, rows, columns) or without planes, NaN where bad.
    """
    block, variance, corner, frame = source
    taps, table, table64 = kernel
    planes, height, width = block.shape
    columns = x.shape[1] - 2
    with_variance = variance.shape[0] > 0
    pixels, variances = block.ravel(), variance.ravel()
    start, knots, phases = (
        np.empty(columns, np.intp), np.empty((2, columns), np.intp), np.empty((2, columns))
    )  # fmt: skip
    values, shares, spreads = np.empty(columns), np.empty(columns), np.empty(columns)
    clean = np.zeros((len(taps), table.shape[1]), block.dtype)
    lanes = table.shape[1]
    weights = np.empty((len(taps), lanes))
    for i in range(x.shape[0] - 2):
        _plan_row(x[i + 1], y[i + 1], frame, corner, width, kernel, start, knots, phases)
        for p in range(planes):
            origin = p * height * width
            shares[:] = 1
            _interpolate_row(taps, pixels, origin, start, width, table, knots, phases, values)
            if with_variance:
                _interpolate_variances(
                    taps, variances, origin, start, width, table64, knots, phases, spreads
                )
            for j in range(columns):
                if np.isfinite(values[j]):
                    continue
                if start[j] < 0:
                    shares[j] = -np.inf
                    continue
                (kx, ky), (px, py) = knots[:, j], phases[:, j]
                weights[:] = 0
                _add_weights(taps, weights.ravel(), 0, lanes, table64, kx, px, ky, py, 1.0)
                left, top = start[j] % width + corner[0], start[j] // width + corner[1]
                at = origin + start[j]
                good, shares[j] = _good_weight(pixels, at, width, weights, left, top, frame)
                _copy_good(pixels, at, width, len(taps), clean)
                fx, fy = block.dtype.type(px), block.dtype.type(py)
                values[j] = _value(taps, clean.ravel(), 0, lanes, table, kx, fx, ky, fy) / good
                spreads[j] /= good**2
            _store_row(values, shares, spreads, x, y, i, p, rule, box, outputs)


@_compile
def _plan_row(x, y, frame, corner, width, kernel, start, knots, phases):
    """Find the first tap (-1 outside of the frame) and the weights' place in the table."""
    taps, table, _ = kernel
    shift, steps = 1 - len(taps) / 2, table.shape[0] - 2
    for j in range(start.size):
        u, v = x[j + 1], y[j + 1]
        if -0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5:
            u, v = u + shift, v + shift
            left, top = np.floor(u), np.floor(v)
            u, v = (u - left) * steps, (v - top) * steps
            kx, ky = int(u), int(v)
            knots[0, j], knots[1, j] = kx, ky
            phases[0, j], phases[1, j] = u - kx, v - ky
            start[j] = (int(top) - corner[1]) * width + int(left) - corner[0]
        else:
            start[j] = -1


@_compile
def _interpolate_row(taps, pixels, origin, start, width, table, knots, phases, values):
    """Plain sums of one row, NaN outside of the frame."""
    for j in range(values.size):
        if start[j] >= 0:
            fx, fy = table.dtype.type(phases[0, j]), table.dtype.type(phases[1, j])
            values[j] = _value(
                taps, pixels, origin + start[j], width, table, knots[0, j], fx, knots[1, j], fy
            )
        else:
            values[j] = np.nan


@_compile
def _interpolate_variances(taps, pixels, origin, start, width, table, knots, phases, spreads):
    """Plain sums of one row with squared weights, NaN outside of the frame."""
    for j in range(spreads.size):
        if start[j] >= 0:
            spreads[j] = _variance(
                taps, pixels, origin + start[j], width, table,
                knots[0, j], phases[0, j], knots[1, j], phases[1, j],
            )  # fmt: skip
        else:
            spreads[j] = np.nan


@_compile
def _good_weight(pixels, start, stride, weights, left, top, frame):
    """
    Sum the weights on good pixels, and one less the absolute weight on bad ones.

    The first is never smaller than the second. What lies outside of the frame counts for the first
    only: edges are as good as the pixels within.
    """
    missing = outside = bad = 0.0
    for row in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            if not np.isfinite(pixels[start + row * stride + column]):
                weight = weights[row, column]
                missing += weight
                if 0 <= left + column < frame[0] and 0 <= top + row < frame[1]:
                    bad += abs(weight)
                else:
                    outside += weight
    return 1 - missing, 1 - bad / (1 - outside)


@_compile
def _copy_good(pixels, start, stride, columns, clean):
    """Copy the good pixels under a kernel, and zeros for the bad ones."""
    for row in range(clean.shape[0]):
        for column in range(columns):
            value = pixels[start + row * stride + column]
            clean[row, column] = value if np.isfinite(value) else 0


@_compile
def _store_row(values, shares, spreads, x, y, i, plane, rule, box, outputs):
    """Write one row of a tile, scaled by area, filled where too little weight is good."""
    area, least, fill = rule
    out, bad, footprint, out_variance = outputs
    row, first = box[0] + i, box[1]
    for j in range(values.size):
        factor = 1.0
        if area:
            factor = 0.25 * abs(
                (x[i + 1, j + 2] - x[i + 1, j]) * (y[i + 2, j + 1] - y[i, j + 1])
                - (x[i + 2, j + 1] - x[i, j + 1]) * (y[i + 1, j + 2] - y[i + 1, j])
            )
            if np.isnan(factor):
                shares[j] = -np.inf  # at the edge of what the map is defined for
        usable = shares[j] >= least
        out[plane, row, first + j] = values[j] * factor if usable else fill
        if out_variance.shape[0] > 0:
            out_variance[plane, i, j] = spreads[j] * factor**2 if usable else np.nan
    if bad.shape[0] > 0:
        for j in range(values.size):
            bad[plane, row, first + j] = not shares[j] >= least
    if footprint.shape[0] > 0:
        for j in range(values.size):
            footprint[plane, row, first + j] = max(shares[j], 0.0)


@_compile
def average_tile(source, x, y, kernel, fine, rule, box, outputs):
    """
    Average the interpolated source over the pixels of one tile, where these are larger.

    Parameters are those of `interpolate_tile` but for two.

    Parameters
    ----------
    kernel : (taps, table, factors_x, factors_y, steps)
        The kernel of the interpolation, with the table in the type of the block, and that of the
        average: odd numbers of factors at equal steps from the pixel's center to both sides, and
        how many steps along x and along y make a pixel.
    fine : (planes, rows, columns) array
        The interpolated source at these steps, from the first to the last that the tile needs; NaN
        where a pixel under the kernel is bad.
    """
    block, variance, corner, frame = source
    factors_x, factors_y, steps = kernel[2:]
    planes, height, width = block.shape
    columns = x.shape[1] - 2
    with_variance = variance.shape[0] > 0
    pixels, variances = block.ravel(), variance.ravel()
    values, shares, spreads = (
        np.empty((planes, columns)), np.empty((planes, columns)), np.empty((planes, columns))
    )  # fmt: skip
    line = np.empty(fine.shape[2])
    for i in range(x.shape[0] - 2):
        for p in range(planes):
            _average_row(fine[p, i * steps[1] :], factors_x, factors_y, steps[0], line, values[p])
        shares[:] = 1
        for j in range(columns):
            u, v = x[i + 1, j + 1], y[i + 1, j + 1]
            if not (-0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5):
                shares[:, j] = -np.inf
                continue
            if not (with_variance or np.isnan(values[:, j].sum())):
                continue
            gradient = *_gradient(x, i, j), *_gradient(y, i, j)
            if not np.isfinite(sum(gradient)):
                shares[:, j] = -np.inf
                continue
            weights, left, top = _pixel_weights(u, v, gradient, kernel)
            start = (top - corner[1]) * width + left - corner[0]
            for p in range(planes):
                at, good = start + p * height * width, 1.0
                if np.isnan(values[p, j]):
                    good, shares[p, j] = _good_weight(pixels, at, width, weights, left, top, frame)
                    values[p, j] = _good_sum(pixels, at, width, weights) / good
                if with_variance:
                    spreads[p, j] = _squared_sum(variances, at, width, weights) / good**2
        for p in range(planes):
            _store_row(values[p], shares[p], spreads[p], x, y, i, p, rule, box, outputs)


@_compile
def _average_row(fine, factors_x, factors_y, steps, line, values):
    """Average one row of output pixels, of which ``fine`` begins with the first step."""
    line[:] = 0
    for k in range(factors_y.size):
        for column in range(line.size):
            line[column] += factors_y[k] * fine[k, column]
    for j in range(values.size):
        total = 0.0
        for k in range(factors_x.size):
            total += factors_x[k] * line[j * steps + k]
        values[j] = total


@_compile
def _pixel_weights(u, v, gradient, kernel):
    """Weights of source pixels in the average over one output pixel, and the first of them."""
    taps, table, factors_x, factors_y, (n_x, n_y) = kernel
    shift, phases = 1 - len(taps) / 2, table.shape[0] - 2
    ends_x, ends_y = factors_x.size // 2, factors_y.size // 2
    a, b, c, d = gradient
    a, c = _shorten(a, c, n_x)
    b, d = _shorten(b, d, n_y)
    a, b, c, d = a / n_x, b / n_y, c / n_x, d / n_y
    reach_x, reach_y = ends_x * abs(a) + ends_y * abs(b), ends_x * abs(c) + ends_y * abs(d)
    left, top = int(np.floor(u + shift - reach_x)), int(np.floor(v + shift - reach_y))
    # one more than needed: the last step may round up to the next pixel
    columns = int(np.floor(u + shift + reach_x)) - left + table.shape[1] + 1
    rows = int(np.floor(v + shift + reach_y)) - top + len(taps) + 1
    weights = np.zeros((rows, columns), table.dtype)
    flat = weights.ravel()
    for k in range(factors_y.size):
        for m in range(factors_x.size):
            factor = factors_x[m] * factors_y[k]
            if factor == 0:
                continue
            s = max(u + shift + (m - ends_x) * a + (k - ends_y) * b - left, 0.0)
            t = max(v + shift + (m - ends_x) * c + (k - ends_y) * d - top, 0.0)
            column, row = int(s), int(t)
            s, t = (s - column) * phases, (t - row) * phases
            kx, ky = int(s), int(t)
            fx, fy = table.dtype.type(s - kx), table.dtype.type(t - ky)
            at = row * columns + column
            _add_weights(taps, flat, at, columns, table, kx, fx, ky, fy, table.dtype.type(factor))
    return weights, left, top


@_compile
def _good_sum(pixels, start, stride, weights):
    """Sum of weight x pixel over the good pixels."""
    total = 0.0
    for row in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            value = pixels[start + row * stride + column]
            if np.isfinite(value):
                total += weights[row, column] * value
    return total


@_compile
def _squared_sum(variances, start, stride, weights):
    """Sum of squared weight x variance."""
    sums = np.zeros(weights.shape[1])  # a sum for each column: these vectorize
    for row in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            weight = weights[row, column]
            sums[column] += weight * weight * variances[start + row * stride + column]
    return sums.sum()


@_compile
def flags_tile(block, corner, frame, x, y, radius, box, out):
    """
    Resample a plane of flag bits.

    Parameters
    ----------
    block : (h, w) integer array
        Window of the flags, 0 outside of the frame.
    corner, frame, x, y, box
        As for `interpolate_tile`.
    radius : float
        0 for the nearest pixel's flags, else the bits of all pixels closer than this along both
        axes of the source.
    out : (ny, nx) integer array
        Flags; 0 outside of the frame.
    """
    for i in range(x.shape[0] - 2):
        for j in range(x.shape[1] - 2):
            u, v = x[i + 1, j + 1], y[i + 1, j + 1]
            bits = block[0, 0] & 0
            if -0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5:
                if radius == 0:
                    bits = block[
                        int(np.floor(v + 0.5)) - corner[1], int(np.floor(u + 0.5)) - corner[0]
                    ]
                else:
                    for row in range(int(np.floor(v - radius)) + 1, int(np.ceil(v + radius))):
                        for column in range(
                            int(np.floor(u - radius)) + 1, int(np.ceil(u + radius))
                        ):
                            bits |= block[row - corner[1], column - corner[0]]
            out[box[0] + i, box[1] + j] = bits
