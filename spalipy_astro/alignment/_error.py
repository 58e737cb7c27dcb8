"""The error of a transform at any point, from one or several fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from astropy.modeling import Model
from numpy.typing import NDArray

from spalipy_astro import _geometry
from spalipy_astro.errors import FormatError
from spalipy_astro.fitting import N_TERMS, Covariance, SplineSpace

__all__ = ["ErrorTerm", "error_at", "error_over"]

_GRID = 11  # points along an axis, where the error of a whole frame is looked at
_MAX_DEGREE, _MAX_COEFFICIENTS = 5, 1000  # along an axis; more comes from a damaged file

FloatArray = NDArray[np.float64]


class ErrorTerm(NamedTuple):
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
    less : ErrorTerm, optional
        What is subtracted from these errors, where two maps have errors in common: the columns of
        both factors go together.
    """

    covariance: Covariance
    transform: Model
    scale: float
    less: ErrorTerm | None = None

    def variance(
        self, x: FloatArray, y: FloatArray, points: FloatArray | None = None
    ) -> FloatArray:
        """
        Return the variance along each axis at source pixels, shape (N,), in template px**2.

        ``points``, shape (N, 2), is where `transform` puts them, if that is known.
        """
        if self.less is not None:
            difference = self._errors(x, y) - self.less._errors(x, y)
            return np.einsum("nk,nk->n", difference, difference)
        points = self._points(x, y) if points is None else points
        return (self.covariance.error(points) * self.scale) ** 2

    def _points(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return np.column_stack([np.ravel(c) for c in self.transform(x, y)])

    def _errors(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the independent errors at source pixels, shape (N, k), in template px."""
        design = self.covariance.space.at(self._points(x, y))
        return design.evaluate(self.covariance.factor) * self.scale

    def seen_from(self, through: Model | None = None, scale: float = 1.0) -> ErrorTerm:
        """
        Return the same errors for another alignment.

        Parameters
        ----------
        through : `~astropy.modeling.Model`, optional
            From its source pixels to those of this one; by default they are the same.
        scale : float, optional
            Its template pixels per template pixel of this one.
        """
        return ErrorTerm(
            self.covariance,
            self.transform if through is None else through | self.transform,
            self.scale * scale,
            None if self.less is None else self.less.seen_from(through, scale),
        )

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
        if self.less is not None:
            tree["less"] = self.less.to_tree()
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
        factor = np.array(tree["factor"], dtype=float)
        bending = tree.get("bending")  # files of earlier versions have none
        bending = None if bending is None else np.array(bending, dtype=float)
        if (
            factor.ndim != 2
            or len(factor) != space.size
            or (bending is not None and bending.shape != (N_TERMS, factor.shape[1]))
        ):
            raise FormatError(
                f"its errors have a factor of shape {factor.shape}, and a bending, that do not go "
                f"with {space.size} coefficients."
            )
        covariance = Covariance(space, factor, bending)
        less = tree.get("less")
        return cls(
            covariance,
            tree["transform"],
            float(tree["scale"]),
            None if less is None else cls.from_tree(less),
        )


def error_at(terms: Sequence[ErrorTerm], x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the 1-sigma error along each axis at source pixels, in template px."""
    flat = np.ravel(x), np.ravel(y)
    total = sum((term.variance(*flat) for term in terms), np.zeros(flat[0].size))
    return np.sqrt(total).reshape(np.shape(x))


def error_over(
    terms: Sequence[ErrorTerm],
    transform: Model,
    source_shape: tuple[int, int] | None,
    template_shape: tuple[int, int] | None,
    stars: tuple[FloatArray, FloatArray],
) -> float:
    """
    Return the error of a transform in one number.

    Parameters
    ----------
    terms : sequence of ErrorTerm
        At least one.
    transform : `~astropy.modeling.Model`
        Source px -> template px.
    source_shape, template_shape : tuple of int or None
        Shapes ``(ny, nx)``.
    stars : tuple of ndarray, shape (N,)
        Positions ``x, y`` of the matched stars, source px.

    Returns
    -------
    float
        Expected rms distance between where the transform puts a point and where it belongs,
        template px, over the overlap of both frames; over the source where they do not overlap or
        the template has no shape, and over the stars where the source has none. NaN where there are
        no stars either, as for lists of two fields.
    """
    x, y = stars
    images = None  # where the transform puts them
    if source_shape is not None:
        x, y = _geometry.spread(source_shape, _GRID)
        if template_shape is not None:
            # not source pixels that lie on the template: the inverse is the direct way
            grid = _geometry.spread(template_shape, _GRID)
            x_back, y_back = transform.inverse(*grid)
            inside = _geometry.inside(x_back, y_back, source_shape)
            if inside.any():
                x, y = x_back[inside], y_back[inside]
                images = np.column_stack([np.ravel(c)[inside] for c in grid])
    if not len(x):
        return np.nan
    variances = (
        term.variance(x, y, images if term.transform is transform else None) for term in terms
    )
    return float(np.sqrt(2 * np.mean(sum(variances))))
