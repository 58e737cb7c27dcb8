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

from spalipy_astro.models import SplineDistortion2D

__all__ = ["PixelMap", "Tile", "tiles"]

TILE = 256
_NODES = 17


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

    Parameters
    ----------
    backward : astropy.modeling.Model
        Template pixels ``(x, y)`` to source pixels.
    offset : (x0, y0)
        Template position of the output's pixel ``[0, 0]``.
    """

    def __init__(self, backward: Model, offset: tuple[float, float]) -> None:
        self._offset = offset
        # The affine part is applied here, in place: astropy's own makes six copies on the way.
        self._head: Model | None = backward
        self._matrix: NDArray[np.float64] | None = None
        if isinstance(backward, AffineTransformation2D):
            self._head, affine = None, backward
        elif (
            isinstance(backward, CompoundModel)
            and backward.op == "|"
            and isinstance(backward.right, AffineTransformation2D)
        ):
            self._head, affine = backward.left, backward.right
        else:
            return
        self._matrix = np.array(affine.matrix.value, float)
        self._shift = np.array(affine.translation.value, float)

    def tile(self, tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Source positions of a tile's pixels and of a border of one pixel around them."""
        x = np.arange(tile.column - 1, tile.column + tile.columns + 1) + float(self._offset[0])
        y = np.arange(tile.row - 1, tile.row + tile.rows + 1) + float(self._offset[1])
        return self(x[np.newaxis, :], y[:, np.newaxis])

    def __call__(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Source positions of an open grid of template positions."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        if self._head is not None:
            if not isinstance(self._head, SplineDistortion2D):  # others may not take open grids
                x, y = (np.ascontiguousarray(t) for t in np.broadcast_arrays(x, y))
            x, y = (_plain(t) for t in self._head(x, y))
        if self._matrix is not None:
            (a, b), (c, d) = self._matrix
            x, y = a * x + (b * y + self._shift[0]), c * x + (d * y + self._shift[1])
        return np.ascontiguousarray(np.broadcast_to(x, shape)), np.ascontiguousarray(
            np.broadcast_to(y, shape)
        )

    def largest_pixel(self, shape: tuple[int, int]) -> float:
        """Largest extent of an output pixel along an axis of the source, from a coarse grid."""
        rows, columns = (np.unique(np.linspace(0, n - 1, _NODES).round()) for n in shape)
        x = columns[np.newaxis, :] + float(self._offset[0])
        y = rows[:, np.newaxis] + float(self._offset[1])
        along_x = np.stack(self(x + 0.5, y)) - np.stack(self(x - 0.5, y))
        along_y = np.stack(self(x, y + 0.5)) - np.stack(self(x, y - 0.5))
        size = np.hypot(along_x, along_y)
        finite = np.isfinite(size)
        return float(size[finite].max()) if finite.any() else 1.0


def _plain(values: object) -> NDArray[np.float64]:
    """Strip the unit that a model may attach to pixels."""
    return np.asarray(values.value if isinstance(values, Quantity) else values, dtype=float)
