"""The inner loops of resampling: interpolation kernels over one tile of output pixels.

Pure arrays in and out.  A tile's source window arrives as a padded block in which everything that
must not be used (masked, infinite, outside of the image) is NaN.  The loops first take the plain
sum; only where that is not finite do they look for the bad pixels and renormalize.  A pixel whose
kernel holds no bad pixel is therefore computed by the same instructions whatever lies beyond it.

No ``fastmath``: the order of the operations is that of the code, so that results are the same to
the last bit for every tiling, number of threads and processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from spalipy_astro._loops._parts import part

__all__ = [
    "average_tile",
    "interpolate_tile",
]


class _Emitter:
    """Vector instructions on the arguments ``array, start, stride, table, kx, fx, ky, fy``."""

    def __init__(self, context, build, signature, args, lanes):
        array, start, self._stride, table = args[:4]
        self._build, self._lanes = build, lanes
        self._vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), lanes)
        self._index = context.get_value_type(types.intp)
        make = context.make_array
        self._start = build.gep(make(signature.args[0])(context, build, array).data, [start])
        self._table = make(signature.args[3])(context, build, table).data

    def load(self, pointer):
        value = self._build.load(self.cast(pointer))
        value.align = 4  # pixels are only aligned to themselves
        return value

    def cast(self, pointer):
        return self._build.bitcast(pointer, self._vector.as_pointer())

    def pick(self, value, lane_numbers):
        """Shuffle lanes of one vector into another."""
        chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(lane_numbers)), lane_numbers)
        return self._build.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), chosen)

    def splat(self, number):
        nothing, first = ir.Constant(self._vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        return self.pick(self._build.insert_element(nothing, number, first), [0] * self._lanes)

    def weights(self, k, f):
        """Interpolate between two rows of the table."""
        width = ir.Constant(self._index, self._lanes)
        pointer = self._build.gep(self._table, [self._build.mul(k, width)])
        low, high = self.load(pointer), self.load(self._build.gep(pointer, [width]))
        step = self._build.fmul(self.splat(f), self._build.fsub(high, low))
        return self._build.fadd(low, step)

    def rows(self, number):
        """Yield pointers to the first lane of each row of the array."""
        pointer = self._start
        for _ in range(number):
            yield pointer
            pointer = self._build.gep(pointer, [self._stride])


def _weighted_sum(rows: int, lanes: int, power: int) -> Any:
    """
    Make the sum of ``rows`` x ``lanes`` pixels under a separable kernel, in vector instructions.

    The loops of numba leave such short sums scalar, three times slower than the vector instructions
    that are spelled out here. ``lanes`` is the number of taps, rounded up to a power of two (the
    spare weights are zero); with ``power`` 2 the weights are squared.
    """

    @intrinsic
    def weighted_sum(typing, array, start, stride, table, kx, fx, ky, fy):
        number = array.dtype
        signature = number(
            array, types.intp, types.intp, table, types.intp, number, types.intp, number
        )

        def emit(context, build, signature, args):
            do = _Emitter(context, build, signature, args, lanes)
            along_x, along_y = do.weights(*args[4:6]), do.weights(*args[6:8])
            if power == 2:
                along_x, along_y = build.fmul(along_x, along_x), build.fmul(along_y, along_y)
            total = None
            for row, pointer in enumerate(do.rows(rows)):
                term = build.fmul(do.pick(along_y, [row] * lanes), do.load(pointer))
                total = term if total is None else build.fadd(total, term)
            total = build.fmul(total, along_x)
            size = lanes
            while size > 1:
                size //= 2
                low, high = list(range(size)), list(range(size, 2 * size))
                total = build.fadd(do.pick(total, low), do.pick(total, high))
            return build.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return signature, emit

    return weighted_sum


def _weight_adder(rows: int, lanes: int) -> Any:
    """Make a function that adds the weights of a separable kernel, times a factor, to an array."""

    @intrinsic
    def add_weights(typing, array, start, stride, table, kx, fx, ky, fy, factor):
        number = array.dtype
        signature = types.void(
            array, types.intp, types.intp, table, types.intp, number, types.intp, number, number
        )

        def emit(context, build, signature, args):
            do = _Emitter(context, build, signature, args, lanes)
            along_x, along_y = do.weights(*args[4:6]), do.weights(*args[6:8])
            along_x = build.fmul(along_x, do.splat(args[8]))
            for row, pointer in enumerate(do.rows(rows)):
                term = build.fmul(do.pick(along_y, [row] * lanes), along_x)
                store = build.store(build.fadd(do.load(pointer), term), do.cast(pointer))
                store.align = 4
            return context.get_dummy_value()

        return signature, emit

    return add_weights


_sum_6, _sum_6_squared, _add_6 = _weighted_sum(6, 8, 1), _weighted_sum(6, 8, 2), _weight_adder(6, 8)
_sum_4, _sum_4_squared, _add_4 = _weighted_sum(4, 4, 1), _weighted_sum(4, 4, 2), _weight_adder(4, 4)
_sum_2, _sum_2_squared, _add_2 = _weighted_sum(2, 2, 1), _weighted_sum(2, 2, 2), _weight_adder(2, 2)


@part
def _value(taps, pixels, start, stride, table, kx, fx, ky, fy):
    """Sum of weight x pixel; ``start`` is the place of the first tap."""
    if len(taps) == 6:
        return _sum_6(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 4:
        return _sum_4(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 2:
        return _sum_2(pixels, start, stride, table, kx, fx, ky, fy)
    return pixels[start]


@part
def _variance(taps, pixels, start, stride, table, kx, fx, ky, fy):
    """Sum of squared weight x pixel."""
    if len(taps) == 6:
        return _sum_6_squared(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 4:
        return _sum_4_squared(pixels, start, stride, table, kx, fx, ky, fy)
    if len(taps) == 2:
        return _sum_2_squared(pixels, start, stride, table, kx, fx, ky, fy)
    return pixels[start]


@part
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


@part
def _gradient(t, i, j):
    """Change of one source coordinate over one output pixel along x and along y."""
    return (t[i + 1, j + 2] - t[i + 1, j]) / 2, (t[i + 2, j + 1] - t[i, j + 1]) / 2


@part
def _shorten(a, b, longest):
    """Cut a vector to a length."""
    length = np.hypot(a, b)
    return (a, b) if length <= longest else (a * longest / length, b * longest / length)


def interpolate_tile(source, x, y, kernel, rule, box, room, outputs):
    """
    Interpolate the pixels of one tile.

    Parameters
    ----------
    source : (block, variance, corner, frame)
        The window of the source, (planes, h * w), NaN where a pixel is bad or outside of the frame;
        its variance in float64, zero where the window is NaN, or an array without planes; the
        source pixel ``(x, y)`` of the window's first and its width; width and height of the frame.
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
    room : (start, knots, phases, values, shares, spreads, weights, clean)
        To work in, in float64 if nothing else is said: (columns,) and (2, columns) in int64,
        (2, columns), thrice (columns,), (taps * lanes,), and as many in the type of the block.
    outputs : (out, bad, footprint, out_variance)
        Arrays (planes, ny, nx), of which the second and third may be without planes, and the
        variance of the tile, (planes, rows, columns) or without planes, NaN where bad.
    """
    block, variance, corner, frame = source
    taps, table, table64 = kernel
    start, knots, phases, values, shares, spreads, weights, clean = room
    columns, width, lanes = start.size, corner[2], table.shape[1]
    with_variance = variance.shape[0] > 0
    for i in range(x.shape[0] - 2):
        _plan_row(x[i + 1], y[i + 1], frame, corner, kernel, start, knots, phases)
        for p in range(block.shape[0]):
            pixels = block[p]
            shares[:] = 1
            _interpolate_row(taps, pixels, start, width, table, knots, phases, values)
            if with_variance:
                _interpolate_variances(
                    taps, variance[p], start, width, table64, knots, phases, spreads
                )
            for j in range(columns):
                if np.isfinite(values[j]):
                    continue
                if start[j] < 0:
                    shares[j] = -np.inf
                    continue
                kx, ky, px, py = knots[0, j], knots[1, j], phases[0, j], phases[1, j]
                weights[:] = 0
                clean[:] = 0
                _add_weights(taps, weights, 0, lanes, table64, kx, px, ky, py, 1.0)
                left, top = start[j] % width + corner[0], start[j] // width + corner[1]
                size = len(taps), lanes
                good, shares[j] = _good_weight(
                    pixels, start[j], width, weights, size, left, top, frame
                )
                _copy_good(pixels, start[j], width, len(taps), lanes, clean)
                fx, fy = block.dtype.type(px), block.dtype.type(py)
                values[j] = _value(taps, clean, 0, lanes, table, kx, fx, ky, fy) / good
                spreads[j] /= good**2
            _store_row(values, shares, spreads, x, y, i, p, rule, box, outputs)


@part
def _plan_row(x, y, frame, corner, kernel, start, knots, phases):
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
            start[j] = (int(top) - corner[1]) * corner[2] + int(left) - corner[0]
        else:
            start[j] = -1


@part
def _interpolate_row(taps, pixels, start, width, table, knots, phases, values):
    """Plain sums of one row, NaN outside of the frame."""
    for j in range(values.size):
        if start[j] >= 0:
            fx, fy = table.dtype.type(phases[0, j]), table.dtype.type(phases[1, j])
            values[j] = _value(
                taps, pixels, start[j], width, table, knots[0, j], fx, knots[1, j], fy
            )
        else:
            values[j] = np.nan


@part
def _interpolate_variances(taps, pixels, start, width, table, knots, phases, spreads):
    """Plain sums of one row with squared weights, NaN outside of the frame."""
    for j in range(spreads.size):
        if start[j] >= 0:
            spreads[j] = _variance(
                taps, pixels, start[j], width, table,
                knots[0, j], phases[0, j], knots[1, j], phases[1, j],
            )  # fmt: skip
        else:
            spreads[j] = np.nan


@part
def _good_weight(pixels, start, stride, weights, size, left, top, frame):
    """
    Sum the weights on good pixels, and one less the absolute weight on bad ones.

    The first is never smaller than the second. What lies outside of the frame counts for the first
    only: edges are as good as the pixels within.
    """
    missing = outside = bad = 0.0
    for row in range(size[0]):
        for column in range(size[1]):
            if not np.isfinite(pixels[start + row * stride + column]):
                weight = weights[row * size[1] + column]
                missing += weight
                if 0 <= left + column < frame[0] and 0 <= top + row < frame[1]:
                    bad += abs(weight)
                else:
                    outside += weight
    return 1 - missing, 1 - bad / (1 - outside)


@part
def _copy_good(pixels, start, stride, taps, lanes, clean):
    """Copy the good pixels under a kernel."""
    for row in range(taps):
        for column in range(taps):
            value = pixels[start + row * stride + column]
            if np.isfinite(value):
                clean[row * lanes + column] = value


@part
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


def average_tile(source, x, y, kernel, fine, rule, box, room, outputs):
    """
    Average the interpolated source over the pixels of one tile, where these are larger.

    Parameters are those of `interpolate_tile` but for three.

    Parameters
    ----------
    kernel : (taps, table, factors_x, factors_y, steps)
        The kernel of the interpolation, with the table in the type of the block, and that of the
        average: odd numbers of factors at equal steps from the pixel's center to both sides, and
        how many steps along x and along y make a pixel.
    fine : (planes, rows, columns) array
        The interpolated source at these steps, from the first to the last that the tile needs; NaN
        where a pixel under the kernel is bad.
    room : (line, values, shares, spreads, sums, weights)
        To work in, in float64 but for the last: as long as the steps of a row, thrice (planes,
        columns), and a row and all of the weights of one pixel, these in the type of the block.
    """
    block, variance, corner, frame = source
    factors_x, factors_y, steps = kernel[2:]
    line, values, shares, spreads, sums, weights = room
    planes, columns, width = block.shape[0], x.shape[1] - 2, corner[2]
    with_variance = variance.shape[0] > 0
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
            size, left, top = _pixel_weights(u, v, gradient, kernel, weights)
            start = (top - corner[1]) * width + left - corner[0]
            for p in range(planes):
                good = 1.0
                if np.isnan(values[p, j]):
                    good, shares[p, j] = _good_weight(
                        block[p], start, width, weights, size, left, top, frame
                    )
                    values[p, j] = _good_sum(block[p], start, width, weights, size) / good
                if with_variance:
                    total = _squared_sum(variance[p], start, width, weights, size, sums)
                    spreads[p, j] = total / good**2
        for p in range(planes):
            _store_row(values[p], shares[p], spreads[p], x, y, i, p, rule, box, outputs)


@part
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


@part
def _pixel_weights(u, v, gradient, kernel, weights):
    """
    Find the weights of source pixels in the average over one output pixel.

    Returns the numbers of rows and columns, and the first column and row.
    """
    taps, table, factors_x, factors_y, (n_x, n_y) = kernel
    shift, phases = 1 - len(taps) / 2, table.shape[0] - 2
    ends_x, ends_y = factors_x.size // 2, factors_y.size // 2
    a, b, c, d = gradient
    # the window holds no more; only where a map is wild between the points that were looked at
    a, c = _shorten(a, c, 1.5 * n_x)
    b, d = _shorten(b, d, 1.5 * n_y)
    a, b, c, d = a / n_x, b / n_y, c / n_x, d / n_y
    reach_x, reach_y = ends_x * abs(a) + ends_y * abs(b), ends_x * abs(c) + ends_y * abs(d)
    left, top = int(np.floor(u + shift - reach_x)), int(np.floor(v + shift - reach_y))
    # one more than needed: the last step may round up to the next pixel
    columns = int(np.floor(u + shift + reach_x)) - left + table.shape[1] + 1
    rows = int(np.floor(v + shift + reach_y)) - top + len(taps) + 1
    weights[: rows * columns] = 0
    for k in range(factors_y.size):
        for m in range(factors_x.size):
            factor = table.dtype.type(factors_x[m] * factors_y[k])
            if factor == 0:
                continue
            s = max(u + shift + (m - ends_x) * a + (k - ends_y) * b - left, 0.0)
            t = max(v + shift + (m - ends_x) * c + (k - ends_y) * d - top, 0.0)
            column, row = int(s), int(t)
            s, t = (s - column) * phases, (t - row) * phases
            kx, ky = int(s), int(t)
            fx, fy = table.dtype.type(s - kx), table.dtype.type(t - ky)
            at = row * columns + column
            _add_weights(taps, weights, at, columns, table, kx, fx, ky, fy, factor)
    return (rows, columns), left, top


@part
def _good_sum(pixels, start, stride, weights, size):
    """Sum of weight x pixel over the good pixels."""
    total = 0.0
    for row in range(size[0]):
        for column in range(size[1]):
            value = pixels[start + row * stride + column]
            if np.isfinite(value):
                total += weights[row * size[1] + column] * value
    return total


@part
def _squared_sum(variances, start, stride, weights, size, sums):
    """Sum of squared weight x variance."""
    sums = sums[: size[1]]  # a sum for each column: these vectorize
    sums[:] = 0
    for row in range(size[0]):
        for column in range(size[1]):
            weight = weights[row * size[1] + column]
            sums[column] += weight * weight * variances[start + row * stride + column]
    total = 0.0
    for column in range(size[1]):
        total += sums[column]
    return total
