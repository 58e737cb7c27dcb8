"""The map from output pixels to source pixels, a tile at a time, and the windows that tiles need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from astropy.modeling import Model
from astropy.modeling.core import CompoundModel
from astropy.modeling.models import AffineTransformation2D
from astropy.units import Quantity
from numpy.typing import NDArray

from spalipy_astro.models import SplineDistortion2D, uniform_basis

__all__ = ["PixelMap", "Tile", "tiles"]

TILE = 256
_NODES = 33

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """A rectangle of output pixels."""

    row: int
    column: int
    rows: int
    columns: int

    def quarters(self) -> Iterator[Tile]:
        """Yield the parts of the tile halved along both axes, where it can be."""
        for part in tiles((self.rows, self.columns), max((max(self.rows, self.columns) + 1) // 2, 1)):
            yield Tile(self.row + part.row, self.column + part.column, part.rows, part.columns)


def tiles(shape: tuple[int, int], size: int = TILE) -> Iterator[Tile]:
    """Yield the tiles of an image, row by row."""
    ny, nx = shape
    for row in range(0, ny, size):
        for column in range(0, nx, size):
            yield Tile(row, column, min(size, ny - row), min(size, nx - column))


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
    """

    def __init__(
        self, backward: Model, shape: tuple[int, int], offset: tuple[float, float]
    ) -> None:
        self._model = backward
        # with a border of one pixel, for differences
        self._x = np.arange(-1, shape[1] + 1) + float(offset[0])
        self._y = np.arange(-1, shape[0] + 1) + float(offset[1])
        head, self._matrix, self._shift = _split(backward)
        self._spline = head if isinstance(head, SplineDistortion2D) else None
        self._affine_only = head is None
        if self._spline is not None:
            self._coefficients = [
                np.ascontiguousarray(c.value, float)
                for c in (self._spline.coeff_x, self._spline.coeff_y)
            ]
            n_y, n_x = self._coefficients[0].shape
            x_range, y_range = self._spline.domain
            degree = self._spline.degree
            self._basis_x = uniform_basis(self._x, n_x, *x_range, degree)
            self._basis_y = uniform_basis(self._y, n_y, *y_range, degree)

    def tile(self, tile: Tile) -> tuple[FloatArray, FloatArray]:
        """Source positions of a tile's pixels and of a border of one pixel around them."""
        columns = slice(tile.column, tile.column + tile.columns + 2)
        rows = slice(tile.row, tile.row + tile.rows + 2)
        x, y = self._x[columns], self._y[rows]
        if self._affine_only:
            (a, b), (c, d) = self._matrix
            x, y = x[np.newaxis, :], y[:, np.newaxis]
            return a * x + (b * y + self._shift[0]), c * x + (d * y + self._shift[1])
        if self._spline is None:
            return _evaluate(self._model, x[np.newaxis, :], y[:, np.newaxis])
        from spalipy_astro._kernels import spline_tile

        out = np.empty((2, y.size, x.size))
        along_x = (x, *(np.ascontiguousarray(t[columns]) for t in self._basis_x))
        along_y = (y, *(np.ascontiguousarray(t[rows]) for t in self._basis_y))
        spline_tile(along_x, along_y, *self._coefficients, self._matrix, self._shift, *out)
        return out[0], out[1]

    def largest_pixel(self) -> float:
        """Largest extent of an output pixel along an axis of the source, from a coarse grid."""
        x, y = (np.unique(np.linspace(t[1], t[-2], _NODES)) for t in (self._x, self._y))
        x, y = np.meshgrid(x, y)
        along_x = np.subtract(_evaluate(self._model, x + 0.5, y), _evaluate(self._model, x - 0.5, y))
        along_y = np.subtract(_evaluate(self._model, x, y + 0.5), _evaluate(self._model, x, y - 0.5))
        size = np.hypot(along_x, along_y)
        return float(np.max(size, where=np.isfinite(size), initial=1.0))


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
    return head, np.array(affine.matrix.value, float), np.array(affine.translation.value, float)


def _evaluate(model: Model, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Call a model on a grid; units that it attaches to pixels are stripped."""
    x, y = (np.ascontiguousarray(t) for t in np.broadcast_arrays(x, y))
    out = (t.value if isinstance(t, Quantity) else t for t in model(x, y))
    u, v = (np.ascontiguousarray(np.broadcast_to(np.asarray(t, float), x.shape)) for t in out)
    return u, v
