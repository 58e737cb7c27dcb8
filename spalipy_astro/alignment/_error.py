"""The error of a transform at any point, from one or several fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.modeling import Model
from numpy.typing import NDArray

from spalipy_astro.errors import FormatError
from spalipy_astro.fitting import Covariance, SplineSpace

__all__ = ["ErrorTerm", "error_at"]

_MAX_DEGREE, _MAX_COEFFICIENTS = 5, 1000  # along an axis; more comes from a damaged file

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorTerm:
    """
    What one fit contributes to the error of a transform.

    Attributes
    ----------
    covariance : Covariance
        Of the fitted map, in the pixels of its own template.
    transform : astropy.modeling.Model
        From the source pixels of the alignment to those in which the covariance is given.
    scale : float
        Template pixels of the alignment per pixel of the covariance's errors.
    """

    covariance: Covariance
    transform: Model
    scale: float

    def variance(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the variance along each axis at source pixels, shape (N,), in template px**2."""
        points = np.column_stack([np.ravel(c) for c in self.transform(x, y)])
        return (self.covariance.error(points) * self.scale) ** 2

    def to_tree(self) -> dict[str, Any]:
        """Return its contents for an ASDF file."""
        space = self.covariance.space
        tree = {
            "bounds": [list(side) for side in space.bounds],
            "shape": [space.n_y, space.n_x],
            "degree": space.degree,
            "null_order": space.null_order,
            "factor": self.covariance.factor,
            "transform": self.transform,
            "scale": self.scale,
        }
        if self.covariance.bending is not None:
            tree["bending"] = self.covariance.bending
        return tree

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> ErrorTerm:
        """Rebuild from the contents of an ASDF file."""
        (x_lo, x_hi), (y_lo, y_hi) = tree["bounds"]
        bounds = ((float(x_lo), float(x_hi)), (float(y_lo), float(y_hi)))
        n_y, n_x = tree["shape"]
        degree = tree["degree"]
        if degree not in range(_MAX_DEGREE + 1) or not all(
            n in range(degree + 1, _MAX_COEFFICIENTS) for n in (n_x, n_y)
        ):
            raise FormatError(
                f"its errors have degree = {degree!r} and shape = {(n_y, n_x)!r}; a degree is 0 to "
                f"{_MAX_DEGREE}, and a shape two numbers above it, below {_MAX_COEFFICIENTS}."
            )
        space = SplineSpace(bounds, n_x, n_y, degree, tree["null_order"])
        bending = tree.get("bending")  # files of earlier versions have none
        covariance = Covariance(
            space,
            np.array(tree["factor"], dtype=float),
            None if bending is None else np.array(bending, dtype=float),
        )
        return cls(covariance, tree["transform"], float(tree["scale"]))


def error_at(terms: Sequence[ErrorTerm], x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the 1-sigma error along each axis at source pixels, in template px."""
    flat = np.ravel(x), np.ravel(y)
    total = np.zeros(flat[0].size)
    for term in terms:
        total += term.variance(*flat)
    return np.sqrt(total).reshape(np.shape(x))
