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
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["flags_tile", "interpolate_tile", "smooth_tile", "source_extent"]


def _compile(function):
    """Compile without the GIL, kept on disk where there is a place to write."""
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")
    except RuntimeError:  # neither the package nor the user's cache directory is writable
        return numba.njit(function, nogil=True, error_model="numpy")


def _weighted_sum(rows: int, lanes: int, power: int):
    """
    Make the sum of ``rows`` x ``lanes`` pixels under a separable kernel, in vector instructions.

    The loops of numba leave such short sums scalar, three times slower than the
    vector instructions that are spelled out here.  ``lanes`` is the number of taps, rounded up to a
    power of two (the spare weights are zero); with ``power`` 2 the weights are squared.
    """

    @intrinsic
    def weighted_sum(typing, block, start, stride, table, kx, fx, ky, fy):
        number = block.dtype
        signature = number(
            block, types.intp, types.intp, table, types.intp, number, types.intp, number
        )

        def emit(context, build, signature, args):
            block, start, stride, table, kx, fx, ky, fy = args
            scalar = context.get_value_type(signature.return_type)
            vector = ir.VectorType(scalar, lanes)
            int32, intp = ir.IntType(32), context.get_value_type(types.intp)
            pixels = context.make_array(signature.args[0])(context, build, block).data
            weights = context.make_array(signature.args[3])(context, build, table).data

            def load(pointer):
                value = build.load(build.bitcast(pointer, vector.as_pointer()))
                value.align = 4  # pixels are only aligned to themselves
                return value

            def pick(value, lane_numbers):
                """Shuffle lanes of one vector into another."""
                chosen = ir.Constant(ir.VectorType(int32, len(lane_numbers)), lane_numbers)
                return build.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), chosen)

            def interpolated(k, f):
                """Weights between two rows of the table."""
                pointer = build.gep(weights, [build.mul(k, ir.Constant(intp, lanes))])
                low = load(pointer)
                high = load(build.gep(pointer, [ir.Constant(intp, lanes)]))
                f = build.insert_element(
                    ir.Constant(vector, ir.Undefined), f, ir.Constant(int32, 0)
                )
                step = build.fmul(pick(f, [0] * lanes), build.fsub(high, low))
                weight = build.fadd(low, step)
                return build.fmul(weight, weight) if power == 2 else weight

            along_x, along_y = interpolated(kx, fx), interpolated(ky, fy)
            pointer = build.gep(pixels, [start])
            total = None
            for row in range(rows):
                term = build.fmul(pick(along_y, [row] * lanes), load(pointer))
                total = term if total is None else build.fadd(total, term)
                pointer = build.gep(pointer, [stride])
            total = build.fmul(total, along_x)
            size = lanes
            while size > 1:
                size //= 2
                low, high = list(range(size)), list(range(size, 2 * size))
                total = build.fadd(pick(total, low), pick(total, high))
            return build.extract_element(total, ir.Constant(int32, 0))

        return signature, emit

    return weighted_sum


_sum_6, _sum_6_squared = _weighted_sum(6, 8, 1), _weighted_sum(6, 8, 2)
_sum_4, _sum_4_squared = _weighted_sum(4, 4, 1), _weighted_sum(4, 4, 2)
_sum_2, _sum_2_squared = _weighted_sum(2, 2, 1), _weighted_sum(2, 2, 2)


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


MAX_REACH = 64.0  # source pixels: kernels grow no wider for output pixels that are larger still


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
def _reach(t, i, j):
    """Extent of an output pixel along one axis of the source, between 1 and `MAX_REACH`."""
    size = np.hypot(t[i + 1, j + 2] - t[i + 1, j], t[i + 2, j + 1] - t[i, j + 1]) / 2
    return min(size, MAX_REACH) if size > 1 else 1.0


@_compile
def largest_reach(t):
    """Largest extent of a tile's pixels along one axis of the source."""
    largest = 1.0
    for i in range(t.shape[0] - 2):
        for j in range(t.shape[1] - 2):
            largest = max(largest, _reach(t, i, j))
    return largest


@_compile
def interpolate_tile(source, x, y, kernel, rule, box, outputs):
    """
    Interpolate the pixels of one tile.

    Parameters
    ----------
    source : (block, variance, corner, frame)
        The window of the source, (planes, h, w), NaN where a pixel is bad or outside of the frame;
        its variance in float64, NaN at the same pixels, or an array without planes; the source
        pixel ``(x, y)`` of the window's first; width and height of the frame.
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
    clean_variance = np.zeros((len(taps), table.shape[1]))
    weights_x, weights_y = np.empty(len(taps)), np.empty(len(taps))
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
                _phase_weights(table64, kx, px, weights_x)
                _phase_weights(table64, ky, py, weights_y)
                left, top = start[j] % width + corner[0], start[j] // width + corner[1]
                at = origin + start[j]
                good, shares[j] = _good_weight(
                    pixels, at, width, weights_x, weights_y, left, top, frame
                )
                _copy_good(pixels, at, width, len(taps), clean)
                fx, fy = block.dtype.type(px), block.dtype.type(py)
                lanes = clean.shape[1]
                values[j] = _value(taps, clean.ravel(), 0, lanes, table, kx, fx, ky, fy) / good
                if with_variance:
                    _copy_good(variances, at, width, len(taps), clean_variance)
                    spreads[j] = (
                        _variance(taps, clean_variance.ravel(), 0, lanes, table64, kx, px, ky, py)
                        / good**2
                    )
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
def _phase_weights(table, k, f, weights):
    """Interpolate the weights along one axis between two rows of the table."""
    for tap in range(weights.size):
        weights[tap] = table[k, tap] + f * (table[k + 1, tap] - table[k, tap])


@_compile
def _good_weight(pixels, start, stride, weights_x, weights_y, left, top, frame):
    """
    Sum the weights on good pixels, and one less the absolute weight on bad ones.

    The first is never smaller than the second. What lies outside of the frame counts for the first
    only: edges are as good as the pixels within.
    """
    missing = outside = bad = 0.0
    for row in range(weights_y.size):
        for column in range(weights_x.size):
            if not np.isfinite(pixels[start + row * stride + column]):
                weight = weights_y[row] * weights_x[column]
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
        usable = shares[j] >= least
        factor = 1.0
        if area:
            factor = 0.25 * abs(
                (x[i + 1, j + 2] - x[i + 1, j]) * (y[i + 2, j + 1] - y[i, j + 1])
                - (x[i + 2, j + 1] - x[i, j + 1]) * (y[i + 1, j + 2] - y[i + 1, j])
            )
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
def _smooth_weights(center, reach, radius, profile, weights):
    """Fill in the normalized weights of a widened kernel; returns the first tap and their number."""
    steps = (profile.size - 2) / radius
    first = int(np.ceil(center - radius * reach))
    number = int(np.floor(center + radius * reach)) - first + 1
    total = 0.0
    for tap in range(number):
        phase = abs(first + tap - center) / reach * steps
        k = int(phase)
        weights[tap] = profile[k] + (phase - k) * (profile[k + 1] - profile[k])
        total += weights[tap]
    for tap in range(number):
        weights[tap] /= total
    return first, number


@_compile
def _separable_sum(pixels, start, stride, weights_x, weights_y, power, columns):
    """Sum of weight**power x pixel; ``columns`` is scratch space, one for each weight along x."""
    columns[:] = 0
    for row in range(weights_y.size):
        weight = weights_y[row] ** power
        for column in range(weights_x.size):
            columns[column] += weight * pixels[start + row * stride + column]
    total = 0.0
    for column in range(weights_x.size):
        total += weights_x[column] ** power * columns[column]
    return total


@_compile
def smooth_tile(source, x, y, kernel, rule, box, outputs):
    """
    Resample one tile where output pixels are larger than source pixels: with widened kernels.

    Parameters are those of `interpolate_tile` but for ``kernel``, which is (radius, profile,
    largest): the radius of the kernel in pixels, its values at steps from 0 to the radius (and a
    zero), and the largest number of taps that the tile needs along either axis.
    """
    block, variance, corner, frame = source
    radius, profile, largest = kernel
    planes, height, width = block.shape
    columns = x.shape[1] - 2
    with_variance = variance.shape[0] > 0
    pixels, variances = block.ravel(), variance.ravel()
    values, shares, spreads = np.empty(columns), np.empty(columns), np.empty(columns)
    clean, clean_variance = np.zeros(largest**2, block.dtype), np.zeros(largest**2)
    all_x, all_y, all_sums = np.empty(largest), np.empty(largest), np.empty(largest)
    for i in range(x.shape[0] - 2):
        for p in range(planes):
            origin = p * height * width
            for j in range(columns):
                u, v = x[i + 1, j + 1], y[i + 1, j + 1]
                if not (-0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5):
                    shares[j] = -np.inf
                    continue
                left, n_x = _smooth_weights(u, _reach(x, i, j), radius, profile, all_x)
                top, n_y = _smooth_weights(v, _reach(y, i, j), radius, profile, all_y)
                weights_x, weights_y, sums = all_x[:n_x], all_y[:n_y], all_sums[:n_x]
                at = origin + (top - corner[1]) * width + left - corner[0]
                good, shares[j] = 1.0, 1.0
                value = _separable_sum(pixels, at, width, weights_x, weights_y, 1, sums)
                if np.isfinite(value):
                    if with_variance:
                        spreads[j] = _separable_sum(
                            variances, at, width, weights_x, weights_y, 2, sums
                        )
                else:
                    good, shares[j] = _good_weight(
                        pixels, at, width, weights_x, weights_y, left, top, frame
                    )
                    some = clean[: n_x * n_y]
                    _copy_good(pixels, at, width, n_x, some.reshape(n_y, n_x))
                    value = _separable_sum(some, 0, n_x, weights_x, weights_y, 1, sums)
                    if with_variance:
                        some_variance = clean_variance[: n_x * n_y]
                        _copy_good(variances, at, width, n_x, some_variance.reshape(n_y, n_x))
                        spreads[j] = _separable_sum(
                            some_variance, 0, n_x, weights_x, weights_y, 2, sums
                        )
                        spreads[j] /= good**2
                values[j] = value / good
            _store_row(values, shares, spreads, x, y, i, p, rule, box, outputs)


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
        0 for the nearest pixel's flags, else the bits of all pixels within this many pixels (of the
        source or of the output, the larger ones) along both axes.
    out : (ny, nx) integer array
        Flags; 0 outside of the frame.
    """
    for i in range(x.shape[0] - 2):
        for j in range(x.shape[1] - 2):
            u, v = x[i + 1, j + 1], y[i + 1, j + 1]
            bits = block[0, 0] & 0
            if -0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5:
                if radius == 0:
                    bits = block[int(np.floor(v + 0.5)) - corner[1], int(np.floor(u + 0.5)) - corner[0]]
                else:
                    reach_x, reach_y = radius * _reach(x, i, j), radius * _reach(y, i, j)
                    for row in range(int(np.floor(v - reach_y)) + 1, int(np.ceil(v + reach_y))):
                        for column in range(
                            int(np.floor(u - reach_x)) + 1, int(np.ceil(u + reach_x))
                        ):
                            bits |= block[row - corner[1], column - corner[0]]
            out[box[0] + i, box[1] + j] = bits
