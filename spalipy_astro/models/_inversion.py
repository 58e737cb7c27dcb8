"""Inversion of smooth mappings of the plane, all points at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["invert_mapping"]

FloatArray = NDArray[np.float64]
Mapping = Callable[[FloatArray], FloatArray]
Test = Callable[[FloatArray], NDArray[np.bool_]]

TOLERANCE = 1e-9  # px: distance below which a point is found
_CHUNK = 262_144  # points solved for at once: bounds the memory
_MAX_CHORD_STEPS = 12
_MAX_NEWTON_STEPS = 50


def invert_mapping(
    mapping: Mapping,
    jacobian: Mapping,
    target: FloatArray,
    is_regular: Test | None = None,
) -> FloatArray:
    """
    Find the points that a mapping close to the identity sends to given ones.

    The iteration starts at the targets. It is a fixed-point iteration preconditioned by the
    Jacobian at the start; where that does not converge, damped Newton steps take over.

    Parameters
    ----------
    mapping : callable
        Takes and gives points of shape (2, N).
    jacobian : callable
        Takes points of shape (2, N), gives the derivatives, shape (N, 2, 2); an approximation costs
        steps, not accuracy.
    target : ndarray, shape (2, N)
        The points to reach, in pixels.
    is_regular : callable, optional
        Takes points, tells which of them are known to lie where the mapping is one-to-one, shape
        (N,). Elsewhere (by default everywhere) the determinant of the Jacobian must be positive.

    Returns
    -------
    ndarray, shape (2, N)
        The points, which the mapping sends to ``target`` within 1e-9 px (or within four units of
        the last place, where that is more); NaN where there is none.
    """
    solution = np.full(target.shape, np.nan)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # points that diverge
        for start in range(0, target.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            solution[:, part] = _invert_chunk(mapping, jacobian, target[:, part])
    suspects = np.isfinite(solution[0])
    if is_regular is not None:
        suspects &= ~is_regular(solution)
    rows = np.flatnonzero(suspects)
    if rows.size:
        folded = ~(np.linalg.det(jacobian(solution[:, rows])) > 0)
        solution[:, rows[folded]] = np.nan
    return solution


def _invert_chunk(mapping: Mapping, jacobian: Mapping, target: FloatArray) -> FloatArray:
    """Solve by preconditioned fixed-point steps, and by Newton steps what these leave over."""
    solution = np.full(target.shape, np.nan)
    finite = np.isfinite(target).all(axis=0)
    if finite.all():  # no selection: a grid stays a grid, which is fast
        active, points = np.arange(target.shape[1]), target
    else:
        active = np.flatnonzero(finite)
        points = target[:, active]
    tolerance = np.maximum(TOLERANCE, 4 * np.spacing(np.abs(target).max(axis=0)))
    inverse_jacobian = _inverse_2x2(jacobian(points))
    misses = points - mapping(points)
    for _ in range(_MAX_CHORD_STEPS):
        # A last step from within the tolerance costs nothing and gains several digits.
        step = np.einsum("nij,jn->in", inverse_jacobian, misses)
        distance = np.abs(misses).max(axis=0)
        done = distance <= tolerance[active]
        solution[:, active[done]] = points[:, done] + step[:, done]
        points, active = points[:, ~done] + step[:, ~done], active[~done]
        inverse_jacobian, distance = inverse_jacobian[~done], distance[~done]
        if not active.size:
            return solution
        misses = target[:, active] - mapping(points)
        if not (np.abs(misses).max(axis=0) < distance).all():
            break
    solution[:, active] = _newton(mapping, jacobian, target[:, active], tolerance[active])
    return solution


def _newton(
    mapping: Mapping, jacobian: Mapping, target: FloatArray, tolerance: FloatArray
) -> FloatArray:
    """Solve by Newton steps that are halved until the miss becomes smaller."""
    solution = np.full(target.shape, np.nan)
    active = np.arange(target.shape[1])
    points = target
    misses = points - mapping(points)
    damping = np.ones(active.size)
    for _ in range(_MAX_NEWTON_STEPS):
        step = np.einsum("nij,jn->in", _inverse_2x2(jacobian(points)), misses)
        done = np.abs(misses).max(axis=0) <= tolerance[active]
        solution[:, active[done]] = points[:, done] + step[:, done]
        points, misses, step = points[:, ~done], misses[:, ~done], step[:, ~done]
        damping, active = damping[~done], active[~done]
        if not active.size:
            break
        trial = points + damping * step
        trial_misses = target[:, active] - mapping(trial)
        better = np.hypot(*trial_misses) < np.hypot(*misses)
        points = np.where(better, trial, points)
        misses = np.where(better, trial_misses, misses)
        damping = np.where(better, np.minimum(2 * damping, 1.0), damping / 2)
    return solution


def _inverse_2x2(matrix: FloatArray) -> FloatArray:
    """Invert matrices of shape (N, 2, 2); singular ones become infinite or NaN."""
    (a, b), (c, d) = np.moveaxis(matrix, 0, -1)
    adjugate = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
    return adjugate / (a * d - b * c)[:, np.newaxis, np.newaxis]
