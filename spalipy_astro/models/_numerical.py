"""The inverse of a model that has none of its own, found point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.modeling import Model
from numpy.typing import ArrayLike, NDArray

from spalipy_astro.models._inversion import invert_mapping

__all__ = ["NumericalInverse2D"]

FloatArray = NDArray[np.float64]

_STEP = 0.05  # px: half the distance over which derivatives are taken


class NumericalInverse2D(Model):
    """
    The inverse of a mapping of the plane that is smooth and one-to-one, solved for numerically.

    Parameters
    ----------
    forward : `~astropy.modeling.Model`
        The model to invert, of two inputs and two outputs in px; ``inverse`` gives it back.
    matrix : array_like, shape (2, 2)
        Its linear part.
    offset : array_like, shape (2,)
        ``forward(p)`` is about ``matrix @ p + offset``, where the search begins.
    **kwargs
        Keyword arguments of `astropy.modeling.Model`, as ``name`` and ``meta``.

    Raises
    ------
    TypeError
        If ``forward`` is no model.
    ValueError
        If it does not map two inputs onto two outputs, or the matrix is singular.

    Notes
    -----
    Fixed-point iteration, then damped Newton steps where that is too slow, until the model maps the
    points onto the given ones within 1e-9 px of its inputs. Points for which none is found, or only
    one where the model folds the plane over, are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.modeling.models import Mapping, Polynomial2D
    >>> from spalipy_astro.models import NumericalInverse2D
    >>> bent = Mapping((0, 1, 0, 1)) | (
    ...     Polynomial2D(2, c0_0=3, c1_0=1, c2_0=1e-4) & Polynomial2D(2, c0_1=1, c1_1=-1e-4)
    ... )
    >>> back = NumericalInverse2D(bent, np.eye(2), [3, 0])
    >>> print(np.round(back(*bent(50.0, 80.0)), 9))
    [50. 80.]
    """

    n_inputs = 2
    n_outputs = 2
    standard_broadcasting = False
    fittable = False
    _separable = False

    def __init__(self, forward: Model, matrix: ArrayLike, offset: ArrayLike, **kwargs: Any) -> None:
        if not isinstance(forward, Model):
            raise TypeError(f"forward must be an astropy model; got {type(forward).__name__}.")
        if (forward.n_inputs, forward.n_outputs) != (2, 2):
            raise ValueError(
                "forward must map two inputs onto two outputs; got "
                f"{forward.n_inputs} and {forward.n_outputs}."
            )
        matrix, offset = np.array(matrix, dtype=float), np.array(offset, dtype=float)
        if matrix.shape != (2, 2) or not abs(np.linalg.det(matrix)) > 0:
            raise ValueError(f"matrix must be a regular one of shape (2, 2); got {matrix!r}.")
        if offset.shape != (2,):
            raise ValueError(f"offset must be two numbers; got {offset!r}.")
        self._forward, self._matrix, self._offset = forward, matrix, offset
        super().__init__(**kwargs)
        self.inputs = ("x", "y")
        self.outputs = ("x", "y")

    @property
    def forward(self) -> Model:
        """The model that this one inverts."""
        return self._forward

    @property
    def matrix(self) -> FloatArray:
        """Its linear part, shape (2, 2)."""
        return self._matrix.copy()

    @property
    def offset(self) -> FloatArray:
        """Where its linear part sends the origin, shape (2,)."""
        return self._offset.copy()

    @property
    def inverse(self) -> Model:
        """A copy of the model that this one inverts, with this one as its inverse."""
        forward = self._forward.copy()
        forward.inverse = self
        return forward

    # astropy takes annotations of ``evaluate`` for units
    def evaluate(self, x, y):
        """Solve for the points; those that cannot be found are NaN."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        back = np.linalg.inv(self._matrix)

        def mapping(points: FloatArray) -> FloatArray:
            images = np.stack([np.asarray(c, dtype=float) for c in self._forward(*points)])
            return back @ (images - self._offset[:, np.newaxis])

        def jacobian(points: FloatArray) -> FloatArray:
            columns = []
            for axis in np.eye(2):
                step = _STEP * axis[:, np.newaxis]
                columns.append((mapping(points + step) - mapping(points - step)) / (2 * _STEP))
            return np.moveaxis(np.stack(columns, -1), 0, 1)

        target = back @ (np.stack([x.ravel(), y.ravel()]) - self._offset[:, np.newaxis])
        if not target.size:
            return x.copy(), y.copy()
        new_x, new_y = invert_mapping(mapping, jacobian, target)
        return new_x.reshape(x.shape), new_y.reshape(x.shape)

    def __repr__(self) -> str:
        """Give the model that this one inverts."""
        return f"<NumericalInverse2D({self._forward!r})>"
