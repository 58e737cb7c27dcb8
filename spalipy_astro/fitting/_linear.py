"""The linear part of a map between two planes, by least squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._choices import KINDS

__all__ = ["KINDS", "fit_linear"]

FloatArray = NDArray[np.float64]


def fit_linear(
    points: FloatArray,
    values: FloatArray,
    weights: FloatArray | None = None,
    *,
    kind: str = "affine",
    parity: int | None = None,
) -> tuple[FloatArray, FloatArray]:
    """
    Fit ``values = matrix @ points + offset`` by weighted least squares.

    Parameters
    ----------
    points, values : ndarray, shape (N, 2)
    weights : ndarray, shape (N,), optional
    kind : {"affine", "similarity", "rigid", "shift"}
        A similarity turns, scales and mirrors, a rigid map does not scale, and a shift has the
        unit matrix.
    parity : {1, -1}, optional
        That of a similarity or a rigid map, -1 for a mirrored one; by default the one that fits
        better.

    Returns
    -------
    matrix : ndarray, shape (2, 2)
    offset : ndarray, shape (2,)
    """
    w = np.ones(len(points)) if weights is None else weights
    w = w / np.sum(w)
    p0, v0 = w @ points, w @ values
    p, v = points - p0, values - v0
    cross = (w[:, None] * v).T @ p
    if kind == "shift":
        matrix = np.eye(2)
    elif kind in ("similarity", "rigid"):
        matrix = _best_similarity(cross, float(np.sum(w[:, None] * p**2)), parity)
        if kind == "rigid":  # of the rotations, the one nearest to the points has the same angle
            matrix = matrix / np.sqrt(abs(np.linalg.det(matrix)))
    else:
        solution = np.linalg.lstsq((w[:, None] * p).T @ p, cross.T, rcond=1e-12)[0]
        matrix = np.asarray(solution.T, dtype=float)
    return matrix, v0 - matrix @ p0


def _best_similarity(cross: FloatArray, spread: float, parity: int | None) -> FloatArray:
    """Return the similarity, by default of either parity, nearest to a cross-covariance."""
    proper = (cross[0, 0] + cross[1, 1], cross[1, 0] - cross[0, 1])
    mirror = (cross[0, 0] - cross[1, 1], cross[1, 0] + cross[0, 1])
    if parity is None:
        parity = 1 if np.hypot(*proper) >= np.hypot(*mirror) else -1
    if parity == 1:
        a, b = np.array(proper) / spread
        return np.array([[a, -b], [b, a]])
    a, b = np.array(mirror) / spread
    return np.array([[a, b], [b, -a]])
