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
    if taps == 6:
        return _sum_6(pixels, start, stride, table, kx, fx, ky, fy)
    if taps == 4:
        return _sum_4(pixels, start, stride, table, kx, fx, ky, fy)
    if taps == 2:
        return _sum_2(pixels, start, stride, table, kx, fx, ky, fy)
    return pixels[start]


@_compile
def _variance(taps, pixels, start, stride, table, kx, fx, ky, fy):
    """Sum of squared weight x pixel."""
    if taps == 6:
        return _sum_6_squared(pixels, start, stride, table, kx, fx, ky, fy)
    if taps == 4:
        return _sum_4_squared(pixels, start, stride, table, kx, fx, ky, fy)
    if taps == 2:
        return _sum_2_squared(pixels, start, stride, table, kx, fx, ky, fy)
    return pixels[start]


MAX_REACH = 64.0  # source pixels: kernels grow no wider for output pixels that are larger still


@_compile
def source_extent(x, y, frame):
    """
    Find the part of the frame that a tile needs.

    Returns the smallest box ``(x_min, x_max, y_min, y_max)`` of the positions on the frame (empty
    if ``x_max < x_min``) and how far an output pixel reaches at most along x and y of the source.
    """
    x_min, x_max, y_min, y_max = np.inf, -np.inf, np.inf, -np.inf
    reach_x, reach_y = 1.0, 1.0
    for i in range(x.shape[0] - 2):
        for j in range(x.shape[1] - 2):
            u, v = x[i + 1, j + 1], y[i + 1, j + 1]
            if -0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5:
                x_min, x_max = min(x_min, u), max(x_max, u)
                y_min, y_max = min(y_min, v), max(y_max, v)
                reach_x, reach_y = max(reach_x, _reach(x, i, j)), max(reach_y, _reach(y, i, j))
    return x_min, x_max, y_min, y_max, reach_x, reach_y


@_compile
def _reach(t, i, j):
    """Size of an output pixel along one axis of the source, between 1 and `MAX_REACH`."""
    size = np.hypot(t[i + 1, j + 2] - t[i + 1, j], t[i + 2, j + 1] - t[i, j + 1]) / 2
    return min(max(size, 1.0), MAX_REACH)


@_compile
def _area(x, y, i, j):
    """Area of an output pixel in the source, by central differences."""
    return (
        abs(
            (x[i + 1, j + 2] - x[i + 1, j]) * (y[i + 2, j + 1] - y[i, j + 1])
            - (x[i + 2, j + 1] - x[i, j + 1]) * (y[i + 1, j + 2] - y[i + 1, j])
        )
        / 4
    )


@_compile
def _phase_weights(table, k, f, weights):
    """Interpolate the weights of one axis between two rows of the table."""
    for tap in range(weights.size):
        weights[tap] = table[k, tap] + f * (table[k + 1, tap] - table[k, tap])


@_compile
def _sort_out(pixels, start, stride, weights_x, weights_y, left, top, frame, clean):
    """
    Copy the good pixels under a kernel, and zeros for the bad ones, to the rows of ``clean``.

    Returns the sum of the weights of the good pixels, and one less the absolute weight that lies on
    bad ones. The first is never smaller than the second. What lies outside of the frame counts for
    the first only: edges are as good as the pixels within.
    """
    missing = outside = bad = 0.0
    for row in range(weights_y.size):
        for column in range(weights_x.size):
            value = pixels[start + row * stride + column]
            weight = weights_y[row] * weights_x[column]
            usable = np.isfinite(value)
            clean[row, column] = value if usable else 0
            if not usable:
                missing += weight
                if 0 <= left + column < frame[0] and 0 <= top + row < frame[1]:
                    bad += abs(weight)
                else:
                    outside += weight
    return 1 - missing, 1 - bad / (1 - outside)


@_compile
def interpolate_tile(source, x, y, kernel, rule, box, outputs):
    """
    Interpolate the pixels of one tile.

    Parameters
    ----------
    source : (block, variance, corner, frame)
        The window of the source, (planes, h, w), NaN where a pixel is bad or outside of the frame;
        its variance in float64, or an array without planes; the source pixel ``(x, y)`` of the
        window's first; width and height of the frame.
    x, y : (rows + 2, columns + 2) float64 arrays
        Source positions of the tile's pixels and of a border of one pixel.
    kernel : (taps, table, table64)
        Number of taps (1, 2, 4 or 6); weights by phase, (steps + 2, lanes), in the type of the
        block and in float64.
    rule : (area, least, fill)
        Whether to multiply by the area of an output pixel in the source; the smallest share of the
        weight that must be on good pixels; the value of the outputs that have less.
    box : (row, column)
        Place of the tile in the outputs.
    outputs : (out, bad, footprint, out_variance)
        Arrays (planes, ny, nx), of which the second and third may be without planes, and the
        variance of the tile, (planes, rows, columns), NaN where bad.
    """
    block, variance, corner, frame = source
    taps, table, table64 = kernel
    area, least, fill = rule
    planes, height, width = block.shape
    lanes, steps = table.shape[1], table.shape[0] - 2
    pixels, variances = block.ravel(), variance.ravel()
    with_variance = variance.shape[0] > 0
    clean = np.zeros((taps, lanes), block.dtype)
    clean_variance = np.zeros((taps, lanes), np.float64)
    weights_x, weights_y = np.empty(taps), np.empty(taps)
    for i in range(x.shape[0] - 2):
        for j in range(x.shape[1] - 2):
            row, column = box[0] + i, box[1] + j
            u, v = x[i + 1, j + 1], y[i + 1, j + 1]
            if not (-0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5):
                for p in range(planes):
                    _store(outputs, (p, row, column, i, j), False, 0.0, fill, np.nan)
                continue
            u, v = u + 1 - taps / 2, v + 1 - taps / 2
            left, top = int(np.floor(u)), int(np.floor(v))
            phase_x, phase_y = (u - left) * steps, (v - top) * steps
            kx, ky = int(phase_x), int(phase_y)
            phase_x, phase_y = phase_x - kx, phase_y - ky
            fx, fy = block.dtype.type(phase_x), block.dtype.type(phase_y)
            factor = _area(x, y, i, j) if area else 1.0
            start = (top - corner[1]) * width + left - corner[0]
            for p in range(planes):
                share, good, spread = 1.0, 1.0, np.nan
                value = _value(taps, pixels, start, width, table, kx, fx, ky, fy)
                if np.isfinite(value):
                    if with_variance:
                        spread = _variance(
                            taps, variances, start, width, table64, kx, phase_x, ky, phase_y
                        )
                else:
                    _phase_weights(table64, kx, phase_x, weights_x)
                    _phase_weights(table64, ky, phase_y, weights_y)
                    good, share = _sort_out(
                        pixels, start, width, weights_x, weights_y, left, top, frame, clean
                    )
                    value = _value(taps, clean.ravel(), 0, lanes, table, kx, fx, ky, fy)
                    if with_variance:
                        _sort_out(
                            variances, start, width, weights_x, weights_y, left, top, frame,
                            clean_variance,
                        )  # fmt: skip
                        spread = _variance(
                            taps, clean_variance.ravel(), 0, lanes, table64, kx, phase_x, ky, phase_y
                        )
                place = (p, row, column, i, j)
                if share < least:
                    _store(outputs, place, False, share, fill, np.nan)
                else:
                    scale = factor / good
                    _store(outputs, place, True, share, value * scale, spread * scale**2)
                start += height * width


@_compile
def _store(outputs, place, usable, share, value, variance):
    """Write one output pixel; ``place`` is (plane, row, column, row and column in the tile)."""
    out, bad, footprint, out_variance = outputs
    plane, row, column, i, j = place
    out[plane, row, column] = value
    if bad.shape[0] > 0:
        bad[plane, row, column] = not usable
    if footprint.shape[0] > 0:
        footprint[plane, row, column] = max(share, 0.0)
    if out_variance.shape[0] > 0:
        out_variance[plane, i, j] = variance


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
    area, least, fill = rule
    planes, height, width = block.shape
    pixels, variances = block.ravel(), variance.ravel()
    with_variance = variance.shape[0] > 0
    clean = np.zeros((largest, largest), block.dtype)
    clean_variance = np.zeros((largest, largest), np.float64)
    all_x, all_y, all_columns = np.empty(largest), np.empty(largest), np.empty(largest)
    for i in range(x.shape[0] - 2):
        for j in range(x.shape[1] - 2):
            row, column = box[0] + i, box[1] + j
            u, v = x[i + 1, j + 1], y[i + 1, j + 1]
            if not (-0.5 <= u < frame[0] - 0.5 and -0.5 <= v < frame[1] - 0.5):
                for p in range(planes):
                    _store(outputs, (p, row, column, i, j), False, 0.0, fill, np.nan)
                continue
            left, number = _smooth_weights(u, _reach(x, i, j), radius, profile, all_x)
            weights_x, columns = all_x[:number], all_columns[:number]
            top, number = _smooth_weights(v, _reach(y, i, j), radius, profile, all_y)
            weights_y = all_y[:number]
            factor = _area(x, y, i, j) if area else 1.0
            start = (top - corner[1]) * width + left - corner[0]
            for p in range(planes):
                share, good, spread = 1.0, 1.0, np.nan
                value = _separable_sum(pixels, start, width, weights_x, weights_y, 1, columns)
                if np.isfinite(value):
                    if with_variance:
                        spread = _separable_sum(
                            variances, start, width, weights_x, weights_y, 2, columns
                        )
                else:
                    good, share = _sort_out(
                        pixels, start, width, weights_x, weights_y, left, top, frame, clean
                    )
                    value = _separable_sum(
                        clean.ravel(), 0, largest, weights_x, weights_y, 1, columns
                    )
                    if with_variance:
                        _sort_out(
                            variances, start, width, weights_x, weights_y, left, top, frame,
                            clean_variance,
                        )  # fmt: skip
                        spread = _separable_sum(
                            clean_variance.ravel(), 0, largest, weights_x, weights_y, 2, columns
                        )
                place = (p, row, column, i, j)
                if share < least:
                    _store(outputs, place, False, share, fill, np.nan)
                else:
                    scale = factor / good
                    _store(outputs, place, True, share, value * scale, spread * scale**2)
                start += height * width


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
