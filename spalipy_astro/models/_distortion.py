"""
The astropy models of an alignment.

Points are ``(x, y)`` in pixels, 0-based, with pixel centers on integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.modeling import Model, Parameter
from astropy.modeling.core import CompoundModel
from astropy.modeling.models import AffineTransformation2D
from numpy.typing import ArrayLike, NDArray

from spalipy_astro.models._bsplines import TensorSpline, uniform_basis
from spalipy_astro.models._fits_wcs import FITSWCSTransform, InverseFITSWCSTransform
from spalipy_astro.models._inversion import invert_mapping

__all__ = [
    "FITSWCSTransform",
    "InverseFITSWCSTransform",
    "InverseSplineDistortion2D",
    "SplineDistortion2D",
    "jacobian_determinant",
    "uniform_basis",
]

FloatArray = NDArray[np.float64]
Bounds = tuple[tuple[float, float], tuple[float, float]]


class SplineDistortion2D(Model):
    """
    Displacement of points by a uniform tensor-product B-spline.

    The model maps ``(x, y)`` to ``(x + dx(x, y), y + dy(x, y))``. Inside ``bounds`` the two
    displacements are B-splines on equal intervals; outside they continue linearly.

    Parameters
    ----------
    coeff_x, coeff_y : array_like, shape (n_y, n_x)
        B-spline coefficients of the displacements along x and y, in pixels. There are
        ``n_x - degree`` intervals along x and ``n_y - degree`` along y.
    bounds : ((x_lo, x_hi), (y_lo, y_hi))
        The rectangle that the spline covers, in pixels. It is found again as ``domain``, since
        ``bounds`` of an astropy model are the constraints of its parameters.
    degree : int, optional
        Degree of the spline, 1 to 5; default 3.
    **kwargs
        Keyword arguments of `astropy.modeling.Model`, as ``name`` and ``meta``.

    Raises
    ------
    ValueError
        If the shapes, the degree or the bounds do not make a spline.

    Notes
    -----
    Open grids (``x`` of shape ``(1, nx)``, ``y`` of shape ``(ny, 1)``), dense grids and raveled
    grids are evaluated as products of small matrices, ten times as fast as scattered points.

    The inverse is `InverseSplineDistortion2D`, exact to 1e-9 pixels.

    Units are stripped: inputs that are quantities are taken to be in pixels.

    References
    ----------
    .. [1] de Boor, C. 1978, "A Practical Guide to Splines", Springer,
       doi:10.1007/978-1-4612-6333-3

    Examples
    --------
    >>> import numpy as np
    >>> from spalipy_astro.models import SplineDistortion2D
    >>> coeff_x = np.zeros((5, 6))
    >>> coeff_x[2, 3] = 0.9
    >>> model = SplineDistortion2D(coeff_x, 0 * coeff_x, bounds=((0, 99), (0, 59)))
    >>> x, y = model(66.0, 29.5)
    >>> print(round(x, 6), y)
    66.4 29.5
    >>> x, y = model.inverse(x, y)
    >>> print(round(x, 6), round(y, 6))
    66.0 29.5
    """

    n_inputs = 2
    n_outputs = 2
    standard_broadcasting = False
    fittable = False
    _separable = False

    coeff_x = Parameter(default=np.zeros((4, 4)))
    coeff_y = Parameter(default=np.zeros((4, 4)))

    def __init__(
        self,
        coeff_x: ArrayLike,
        coeff_y: ArrayLike,
        *,
        bounds: Bounds,
        degree: int = 3,
        **kwargs: Any,
    ) -> None:
        arrays = [np.array(coeff, dtype=float) for coeff in (coeff_x, coeff_y)]
        self._degree = _check_degree(degree)
        self._domain = _check_bounds(bounds)
        _check_coefficients(arrays, self._degree)
        super().__init__(*arrays, **kwargs)
        self.inputs = ("x", "y")
        self.outputs = ("x", "y")

    @property
    def degree(self) -> int:
        """Degree of the spline."""
        return self._degree

    @property
    def domain(self) -> Bounds:
        """The rectangle that the spline covers, ``((x_lo, x_hi), (y_lo, y_hi))``, in pixels."""
        return self._domain

    @property
    def inverse(self) -> InverseSplineDistortion2D:
        """The inverse mapping; its own inverse is this very model."""
        return InverseSplineDistortion2D(self)

    # astropy takes annotations of ``evaluate`` for units
    def evaluate(self, x, y, coeff_x, coeff_y):
        """Add the displacement to the points; units are stripped."""
        x, y = (np.asarray(t, dtype=float) for t in (x, y))
        new_x, new_y = self._terms(x, y, coeff_x, coeff_y, ((0, 0, 0), (1, 0, 0)))
        new_x += x
        new_y += y
        return new_x, new_y

    def displacement(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """
        Evaluate the displacement alone.

        Parameters
        ----------
        x, y : array_like
            Points in pixels, of shapes that broadcast against each other.

        Returns
        -------
        dx, dy : ndarray
            Displacement in pixels along x and y.
        """
        dx, dy = self._own_terms(x, y, ((0, 0, 0), (1, 0, 0)))
        return dx, dy

    def jacobian(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """
        Evaluate the matrix of first derivatives of the mapping.

        Parameters
        ----------
        x, y : array_like
            Points in pixels, of shapes that broadcast against each other.

        Returns
        -------
        ndarray, shape (..., 2, 2)
            ``[..., i, j]`` is the derivative of output ``i`` along input ``j``, in the order
            ``(x, y)``.
        """
        derivatives = self._own_terms(x, y, ((0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1)))
        matrix = np.stack(derivatives, axis=-1)
        return matrix.reshape(*matrix.shape[:-1], 2, 2) + np.eye(2)

    def _own_terms(
        self, x: ArrayLike, y: ArrayLike, which: tuple[tuple[int, int, int], ...]
    ) -> list[FloatArray]:
        """Evaluate terms with the parameters of the model; see ``_terms``."""
        x, y = (np.asarray(t, dtype=float) for t in (x, y))
        return self._terms(x, y, self.coeff_x.value, self.coeff_y.value, which)

    def _terms(
        self,
        x: FloatArray,
        y: FloatArray,
        coeff_x: ArrayLike,
        coeff_y: ArrayLike,
        which: tuple[tuple[int, int, int], ...],
    ) -> list[FloatArray]:
        """Evaluate terms ``(0 for dx or 1 for dy, nu_x, nu_y)``."""
        # astropy puts an axis for sets of parameters in front of the arrays
        arrays: list[FloatArray] = [
            np.reshape(coeff, np.shape(coeff)[-2:]) for coeff in (coeff_x, coeff_y)
        ]
        n_y, n_x = arrays[0].shape
        spline = TensorSpline((n_y, n_x), self._domain, self._degree)
        return spline.evaluate(x, y, [(arrays[i], nu_x, nu_y) for i, nu_x, nu_y in which])

    def _is_contraction(self) -> bool:
        """Tell whether the displacement provably changes less than its argument in the domain."""
        total = 0.0
        for coeff in (self.coeff_x.value, self.coeff_y.value):
            for axis, (lo, hi) in zip((1, 0), self._domain, strict=True):
                step = (hi - lo) / (coeff.shape[axis] - self._degree)
                # derivatives of a B-spline lie within the hull of its scaled differences
                total += float(np.max(np.abs(np.diff(coeff, axis=axis))) / step) ** 2
        return total < 1.0

    def __repr__(self) -> str:
        """Give sizes instead of the arrays themselves."""
        n_y, n_x = self.coeff_x.shape
        name = f", name={self.name!r}" if self.name else ""
        return (
            f"<SplineDistortion2D({n_x} x {n_y} coefficients, bounds={self._domain}, "
            f"degree={self._degree}{name})>"
        )


class InverseSplineDistortion2D(Model):
    """
    The inverse of a `SplineDistortion2D`: the points that it displaces onto the given ones.

    Parameters
    ----------
    spline : SplineDistortion2D
        The model to invert; ``inverse`` gives it back.
    **kwargs
        Keyword arguments of `astropy.modeling.Model`, as ``name`` and ``meta``.

    Raises
    ------
    TypeError
        If ``spline`` is another kind of model.

    Notes
    -----
    Points are found by fixed-point iteration, preconditioned by the Jacobian where it starts, then
    by damped Newton steps where that is too slow, until the spline maps them onto the given points
    within 1e-9 pixels (or four units of the last place where coordinates are too large for that).
    Points for which no such point is found, or only one where the distortion folds the plane over
    (its Jacobian determinant is not positive), are NaN.
    """

    n_inputs = 2
    n_outputs = 2
    standard_broadcasting = False
    fittable = False
    _separable = False

    def __init__(self, spline: SplineDistortion2D, **kwargs: Any) -> None:
        if not isinstance(spline, SplineDistortion2D):
            raise TypeError(
                f"spline must be a SplineDistortion2D, got {type(spline).__name__}; the inverse of "
                "another model is its attribute 'inverse'."
            )
        self._spline = spline
        super().__init__(**kwargs)
        self.inputs = ("x", "y")
        self.outputs = ("x", "y")

    @property
    def spline(self) -> SplineDistortion2D:
        """The model that this one inverts."""
        return self._spline

    @property
    def inverse(self) -> SplineDistortion2D:
        """The model that this one inverts, the object itself."""
        return self._spline

    # astropy takes annotations of ``evaluate`` for units
    def evaluate(self, x, y):
        """Solve for the points; units are stripped, points that cannot be found are NaN."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        spline = self._spline
        is_contraction = spline._is_contraction()

        def mapping(points: FloatArray) -> FloatArray:
            return points + np.stack(spline.displacement(*points))

        def is_regular(points: FloatArray) -> NDArray[np.bool_]:
            if not is_contraction:
                return np.zeros(points.shape[1], dtype=bool)
            (x_lo, x_hi), (y_lo, y_hi) = spline.domain
            return (
                (x_lo <= points[0])
                & (points[0] <= x_hi)
                & (y_lo <= points[1])
                & (points[1] <= y_hi)
            )  # outside the domain nothing is proven

        target = np.stack([x.ravel(), y.ravel()])
        new_x, new_y = invert_mapping(
            mapping, lambda points: spline.jacobian(*points), target, is_regular
        )
        return new_x.reshape(x.shape), new_y.reshape(x.shape)

    def __repr__(self) -> str:
        """Give the model that this one inverts."""
        return f"<InverseSplineDistortion2D({self._spline!r})>"


def jacobian_determinant(model: Model, x: ArrayLike, y: ArrayLike) -> FloatArray:
    """
    Evaluate by what factor a mapping of the plane changes areas.

    Parameters
    ----------
    model : astropy.modeling.Model
        A mapping of two inputs onto two outputs. Splines, affine transforms and compounds of them
        are differentiated exactly, other models by central differences of a tenth of a pixel.
    x, y : array_like
        Points in pixels, of shapes that broadcast against each other; grids are fast, as in
        `SplineDistortion2D`.

    Returns
    -------
    ndarray
        The determinant, negative where the mapping mirrors, in the common shape of ``x`` and ``y``.

    Raises
    ------
    ValueError
        If ``model`` does not map two inputs onto two outputs.

    Examples
    --------
    >>> from astropy.modeling.models import AffineTransformation2D
    >>> from spalipy_astro.models import jacobian_determinant
    >>> print(jacobian_determinant(AffineTransformation2D([[2, 0], [1, 3]]), 5.0, 7.0))
    6.0
    """
    if (model.n_inputs, model.n_outputs) != (2, 2):
        raise ValueError(
            f"model must map two inputs onto two outputs, got {model.n_inputs} and "
            f"{model.n_outputs}."
        )
    x, y = (np.asarray(t, dtype=float) for t in (x, y))
    shape = np.broadcast_shapes(x.shape, y.shape)
    if isinstance(model, CompoundModel) and model.op == "|" and model.left.n_outputs == 2:
        left = jacobian_determinant(model.left, x, y)
        if isinstance(model.right, AffineTransformation2D):  # constant: needs no coordinates
            return left * np.linalg.det(model.right.matrix.value)
        if isinstance(model.left, AffineTransformation2D):
            x, y = (np.broadcast_to(t, shape) for t in (x, y))
        return left * jacobian_determinant(model.right, *model.left(x, y))
    if isinstance(model, AffineTransformation2D):
        return np.full(shape, np.linalg.det(model.matrix.value))
    if isinstance(model, SplineDistortion2D):
        xx, xy, yx, yy = model._own_terms(x, y, ((0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1)))
        return (1 + xx) * (1 + yy) - xy * yx
    if isinstance(model, InverseSplineDistortion2D):
        return 1 / jacobian_determinant(model.spline, *model(x, y))
    x, y = (np.broadcast_to(t, shape) for t in (x, y))
    half = 0.1
    (a, c), (e, g) = model(x + half, y), model(x - half, y)
    (b, d), (f, h) = model(x, y + half), model(x, y - half)
    return ((a - e) * (d - h) - (b - f) * (c - g)) / (2 * half) ** 2


def _check_degree(degree: int) -> int:
    """Return the degree as an int; raise where it is not 1 to 5."""
    if int(degree) != degree or not 1 <= degree <= 5:
        raise ValueError(f"degree must be a whole number from 1 to 5, got {degree!r}.")
    return int(degree)


def _check_bounds(bounds: Bounds) -> Bounds:
    """Return the bounds as floats; raise where they are not two increasing finite pairs."""
    array = np.asarray(bounds, dtype=float)
    if array.shape != (2, 2) or not np.isfinite(array).all() or (array[:, 0] >= array[:, 1]).any():
        raise ValueError(
            f"bounds must be ((x_lo, x_hi), (y_lo, y_hi)) with x_lo < x_hi and y_lo < y_hi, "
            f"got {bounds!r}."
        )
    (x_lo, x_hi), (y_lo, y_hi) = array.tolist()
    return (x_lo, x_hi), (y_lo, y_hi)


def _check_coefficients(arrays: list[FloatArray], degree: int) -> None:
    """Raise where two coefficient arrays do not make a spline of the degree."""
    coeff_x, coeff_y = arrays
    if coeff_x.ndim != 2 or coeff_x.shape != coeff_y.shape or min(coeff_x.shape) <= degree:
        raise ValueError(
            "coeff_x and coeff_y must have the same shape (n_y, n_x) with at least "
            f"degree + 1 = {degree + 1} along each axis, got {coeff_x.shape} and {coeff_y.shape}."
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("coeff_x and coeff_y must be finite, got NaN or infinity in them.")
