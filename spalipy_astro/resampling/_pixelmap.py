"""The tiles of an output image, and the map of their pixels onto the source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from astropy.modeling import Model
from astropy.modeling.core import CompoundModel
from astropy.modeling.models import AffineTransformation2D
from astropy.units import Quantity
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.models import SplineDistortion2D, uniform_basis

__all__ = ["PixelMap", "Tile", "tiles"]

_ROWS, _COLUMNS = 128, 512  # of a tile: some MB with all that belongs to it
_NODES = 33

FloatArray = NDArray[np.floating[Any]]


class Tile(NamedTuple):
    """A rectangle of output pixels."""

    row: int
    column: int
    rows: int
    columns: int

    @property
    def slices(self) -> tuple[Any, slice, slice]:
        """Its place in arrays of shape (planes, ny, nx)."""
        return (
            slice(None),
            slice(self.row, self.row + self.rows),
            slice(self.column, self.column + self.columns),
        )

    @property
    def part(self) -> tuple[int, int, int, int]:
        """Its first row and column, and how many there are."""
        return self.row, self.column, self.rows, self.columns

    def quarters(self) -> list[Tile]:
        """Return the parts of the tile halved along both axes; none for a single pixel."""
        if self.rows * self.columns == 1:
            return []
        return [
            Tile(self.row + row, self.column + column, rows, columns)
            for row, rows in _halves(self.rows)
            for column, columns in _halves(self.columns)
        ]


def _halves(number: int) -> list[tuple[int, int]]:
    """Split a range into (start, size) of its halves, where it can be."""
    half = (number + 1) // 2
    return [(0, half), (half, number - half)] if number > 1 else [(0, number)]


def tiles(shape: tuple[int, int], steps: tuple[int, int] = (1, 1)) -> Iterator[Tile]:
    """Yield the tiles of an image, row by row, smaller ones for pixels of several steps."""
    (ny, nx), (steps_x, steps_y) = shape, steps
    rows, columns = max(_ROWS // steps_y, 1), max(_COLUMNS // steps_x, 1)
    for row in range(0, ny, rows):
        for column in range(0, nx, columns):
            yield Tile(row, column, min(rows, ny - row), min(columns, nx - column))


class PixelMap:
    """
    The map of an output grid onto the source.

    A spline, an affine transform and the two after each other, which is what alignments have, are
    evaluated in compiled code, exactly. Any other model is called.

    Parameters
    ----------
    backward : astropy.modeling.Model
        Template pixels ``(x, y)`` to source pixels.
    shape : (ny, nx)
        Size of the output.
    offset : (x0, y0)
        Template position of the output's pixel ``[0, 0]``.
    origin : (row, column)
        Pixel of the output that the map begins with; other than (0, 0) for a part of an output.
    """

    def __init__(
        self,
        backward: Model,
        shape: tuple[int, int],
        offset: tuple[float, float],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self._model = backward
        self.shape = shape
        # with a border of one pixel, for differences
        self._y, self._x = (
            np.arange(first - 1, first + number + 1) + float(start)
            for first, number, start in zip(origin, shape, offset[::-1], strict=True)
        )
        head, *self._affine = _split(backward)
        self._spline = head if isinstance(head, SplineDistortion2D) else None
        self._coefficients = [np.zeros((1, 1))] * 2
        if self._spline is not None:
            self._coefficients = [
                np.array(c.value, float, order="C")
                for c in (self._spline.coeff_x, self._spline.coeff_y)
            ]
        # what compiled code needs to find positions itself, or None for any other model
        self.grid: Any = None
        if head is None or self._spline is not None:
            self.grid = self._grid(self._x, self._y)

    def tile(self, tile: Tile) -> tuple[FloatArray, FloatArray]:
        """Source positions of a tile's pixels and of a border of one pixel around them."""
        columns = slice(tile.column, tile.column + tile.columns + 2)
        rows = slice(tile.row, tile.row + tile.rows + 2)
        if self.grid is None:
            return self._called(self._x[columns], self._y[rows])
        along_x, along_y = (
            tuple(np.ascontiguousarray(t[..., some]) for t in axis)
            for axis, some in zip(self.grid, (columns, rows), strict=False)
        )
        return _positions((along_x, along_y, *self.grid[2:]))

    def extent(self, tile: Tile) -> tuple[float, float, float, float]:
        """
        Return a box that holds the positions of a tile and its border, found without these.

        It is ``x_min, x_max, y_min, y_max``, infinite or NaN where nothing is known.
        """
        box = np.array([-np.inf, np.inf, -np.inf, np.inf])
        if self.grid is not None:
            _compiled.spline_extent(self.grid, tile.part, box)
        x_min, x_max, y_min, y_max = box.tolist()
        return x_min, x_max, y_min, y_max

    def fine_tile(
        self, tile: Tile, steps: tuple[int, int], ends: tuple[int, int]
    ) -> tuple[FloatArray, FloatArray]:
        """
        Source positions at fractions of pixels.

        There are ``steps`` along x and y to a pixel, ``ends`` more beyond the centers of the tile's
        outer pixels, and a border of one more.
        """
        x, y = (
            edge + np.arange(first * step - end - 1, (first + size - 1) * step + end + 2) / step
            for edge, first, size, step, end in (
                (self._x[1], tile.column, tile.columns, steps[0], ends[0]),
                (self._y[1], tile.row, tile.rows, steps[1], ends[1]),
            )
        )
        return self._on_grid(x, y)

    def _on_grid(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Source positions on any grid of template positions."""
        return self._called(x, y) if self.grid is None else _positions(self._grid(x, y))

    def _grid(self, x: FloatArray, y: FloatArray) -> tuple[Any, ...]:
        """Argument ``grid`` of `_compiled.spline_tile`."""
        axes = (x, *self._basis(x, axis=1)), (y, *self._basis(y, axis=0))
        return (*axes, *self._coefficients, *self._affine)

    def _basis(self, t: FloatArray, axis: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Basis functions of the spline along an axis, with a row of weights for each."""
        if self._spline is None:
            return np.zeros(t.size, np.int64), np.empty((0, t.size))
        low, high = self._spline.domain[1 - axis]
        number = self._coefficients[0].shape[axis]
        first, weights = uniform_basis(t, number, low, high, self._spline.degree)
        return first, np.ascontiguousarray(weights.T)

    def _called(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Evaluate any other model on a grid."""
        return _evaluate(self._model, x[np.newaxis, :], y[:, np.newaxis])

    def pixel_sizes(self) -> tuple[float, float]:
        """Largest lengths in the source of output pixels along x and y, from a coarse grid."""
        x, y = (np.unique(np.linspace(t[1], t[-2], _NODES)) for t in (self._x, self._y))
        along_x, along_y = (np.hypot(*change) for change in self._differences(x, y))
        return _largest(along_x), _largest(along_y)

    def central_matrix(self) -> FloatArray:
        """Return the derivatives of the source position, (2, 2), in the middle of the output."""
        x, y = np.mean(self._x, keepdims=True), np.mean(self._y, keepdims=True)
        return np.stack(self._differences(x, y), axis=1)[..., 0, 0]

    def _differences(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return how the source position ``(x, y)`` changes over one pixel along x and along y."""
        halves = np.array([-0.5, 0.0, 0.5])
        places = np.stack(
            self._on_grid(np.add.outer(x, halves).ravel(), np.add.outer(y, halves).ravel())
        )
        places = places.reshape(2, y.size, 3, x.size, 3)
        return (
            places[:, :, 1, :, 2] - places[:, :, 1, :, 0],
            places[:, :, 2, :, 1] - places[:, :, 0, :, 1],
        )


def _positions(grid: tuple[Any, ...]) -> tuple[FloatArray, FloatArray]:
    """Evaluate a spline and an affine transform on a grid."""
    out = np.empty((2, grid[1][0].size, grid[0][0].size))
    _compiled.spline_tile(grid, *out)
    return out[0], out[1]


def _largest(values: FloatArray) -> float:
    """Largest of the finite values, or zero."""
    return float(np.max(values, where=np.isfinite(values), initial=0.0))


def _split(backward: Model) -> tuple[Model | None, FloatArray, FloatArray]:
    """Take the affine transform off the end of a model: (what remains, matrix, shift)."""
    if isinstance(backward, AffineTransformation2D):
        head, affine = None, backward
    elif (
        isinstance(backward, CompoundModel)
        and backward.op == "|"
        and isinstance(backward.right, AffineTransformation2D)
    ):
        head, affine = backward.left, backward.right
    else:
        return backward, np.eye(2), np.zeros(2)
    matrix, shift = affine.matrix.value, affine.translation.value
    return head, np.array(matrix, float, order="C"), np.array(shift, float)


def _evaluate(model: Model, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Call a model on a grid; units that it attaches to pixels are stripped."""
    x, y = (np.ascontiguousarray(t) for t in np.broadcast_arrays(x, y))
    out = (t.value if isinstance(t, Quantity) else t for t in model(x, y))
    # arrays of their own in C order, which the loops take
    u, v = (np.array(np.broadcast_to(t, x.shape), float, order="C") for t in out)
    return u, v
