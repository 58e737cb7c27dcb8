"""Sums under separable kernels in vector instructions, for use in compiled code."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["weight_adder", "weighted_sum"]


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


def weighted_sum(rows: int, lanes: int, power: int) -> Any:
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


def weight_adder(rows: int, lanes: int) -> Any:
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
