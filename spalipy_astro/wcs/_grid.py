"""Pixel grids that are laid over that of an image, and maps between such grids."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from astropy.modeling import Model
from astropy.modeling.core import CompoundModel
from astropy.modeling.models import AffineTransformation2D
from numpy.typing import NDArray

from spalipy_astro.models import SplineDistortion2D

__all__ = ["SAME", "Grid", "regrid_backward"]

FloatArray = NDArray[np.float64]


class Grid(NamedTuple):
    """A grid of pixels that is laid over that of an image."""

    start: tuple[float, float] = (0.0, 0.0)
    """Old position ``(x, y)`` of the new pixel (0, 0)."""
    step: float = 1
    """Old pixels per new pixel."""

    def to_old(self, xy: Any) -> FloatArray:
        """Give old positions of new ones, shape (N, 2)."""
        return np.asarray(xy, dtype=float) * self.step + self.start

    def to_new(self, xy: Any) -> FloatArray:
        """Give new positions of old ones, shape (N, 2)."""
        return (np.asarray(xy, dtype=float) - self.start) / self.step

    @property
    def model(self) -> AffineTransformation2D:
        """The map of new positions to old ones."""
        return AffineTransformation2D(np.eye(2) * self.step, self.start)


SAME = Grid()


def regrid_backward(backward: Model, source: Grid, template: Grid) -> Model:
    """
    Put a map of template pixels to source pixels on new grids of both.

    A spline before an affine transform, or the latter alone, stay what they are; other models are
    put between affine ones.
    """
    spline, affine = None, backward
    if isinstance(backward, CompoundModel) and backward.op == "|":
        spline, affine = backward.left, backward.right
    plain = isinstance(affine, AffineTransformation2D)
    if not plain or not (spline is None or isinstance(spline, SplineDistortion2D)):
        before = [] if template == SAME else [template.model]
        after = [] if source == SAME else [source.model.inverse]
        chain = [*before, backward.copy(), *after]
        whole = chain[0]
        for model in chain[1:]:
            whole = whole | model
        return whole
    matrix = affine.matrix.value
    offset = matrix @ np.asarray(template.start) + affine.translation.value
    affine = AffineTransformation2D(
        matrix * (template.step / source.step), (offset - source.start) / source.step
    )
    if spline is None:
        return affine
    x, y = zip(*template.to_new(np.transpose(spline.domain)).tolist(), strict=True)
    coeff = (c.value / template.step for c in (spline.coeff_x, spline.coeff_y))
    return SplineDistortion2D(*coeff, bounds=(x, y), degree=spline.degree) | affine
