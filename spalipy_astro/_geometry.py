"""Footprints, hulls and windows on the template's pixel grid."""

from __future__ import annotations

import numpy as np
from astropy.modeling import Model
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

__all__ = ["covered_fraction", "footprint", "has_hull", "hull_mask", "inside", "spread", "union"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_ROWS = 256  # rows mapped at once


def inside(x: FloatArray, y: FloatArray, shape: tuple[int, int]) -> BoolArray:
    """Whether positions fall on the pixels of a frame."""
    return (x >= -0.5) & (x <= shape[1] - 0.5) & (y >= -0.5) & (y <= shape[0] - 0.5)


def spread(shape: tuple[float, ...], number: int) -> tuple[FloatArray, FloatArray]:
    """Return ``number**2`` positions spread evenly over a frame, edge to edge: flat x and y."""
    x, y = np.meshgrid(*(np.linspace(0, size - 1, number) for size in shape[::-1]))
    return x.ravel(), y.ravel()


def footprint(backward: Model, source_shape: tuple[int, int], shape: tuple[int, int]) -> BoolArray:
    """Return which template pixels have their center on the source frame."""
    out = np.empty(shape, bool)
    x = np.arange(shape[1], dtype=float)[np.newaxis]
    for start in range(0, shape[0], _ROWS):
        y = np.arange(start, min(start + _ROWS, shape[0]), dtype=float)[:, np.newaxis]
        source_x, source_y = backward(*np.broadcast_arrays(x, y))
        out[start : start + len(y)] = inside(source_x, source_y, source_shape)
    return out


def has_hull(points: FloatArray) -> bool:
    """Whether there are three points that do not lie on one line."""
    if len(points) < 3:
        return False
    long, short = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(short > 1e-9 * long)


def hull_mask(points: FloatArray, shape: tuple[int, int]) -> BoolArray:
    """Return which pixels lie inside the convex hull of points ``(x, y)``; none on a line."""
    if not has_hull(points):
        return np.zeros(shape, bool)
    corners = points[ConvexHull(points).vertices]
    y = np.arange(shape[0], dtype=float)
    left, right = np.full(shape[0], np.inf), np.full(shape[0], -np.inf)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        rows = (y >= min(y1, y2)) & (y <= max(y1, y2))
        x = x1 + (y[rows] - y1) * (x2 - x1) / (y2 - y1)
        left[rows] = np.minimum(left[rows], x)
        right[rows] = np.maximum(right[rows], x)
    columns = np.arange(shape[1])
    return (columns >= left[:, np.newaxis]) & (columns <= right[:, np.newaxis])


def covered_fraction(
    backward: Model,
    points: FloatArray,
    source_shape: tuple[float, ...],
    template_shape: tuple[float, ...],
) -> float:
    """Return the share of the overlap of both frames that lies inside the hull of points."""
    x, y = spread(template_shape, 64)
    source_x, source_y = backward(x, y)
    overlap = inside(source_x, source_y, (int(source_shape[0]), int(source_shape[1])))
    if not overlap.any() or not has_hull(points):
        return 0.0
    facets = ConvexHull(points).equations
    grid = np.column_stack((x, y))[overlap]
    return float(np.mean(np.all(grid @ facets[:, :2].T + facets[:, 2] <= 0, axis=1)))


def union(
    transform: Model, source_shape: tuple[int, int], template_shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """
    Return the window on the template's grid that holds both frames.

    Returns
    -------
    offset : tuple of int
        Template pixel ``(x, y)`` of the window's pixel (0, 0).
    shape : tuple of int
        Shape ``(ny, nx)`` of the window.
    """
    ny, nx = source_shape
    x, y = np.linspace(-0.5, nx - 0.5, 129), np.linspace(-0.5, ny - 0.5, 129)
    edge_x = np.concatenate((x, x, np.full(129, x[0]), np.full(129, x[-1])))
    edge_y = np.concatenate((np.full(129, y[0]), np.full(129, y[-1]), y, y))
    corners = np.column_stack(transform(edge_x, edge_y))
    lower = np.minimum(np.ceil(corners.min(axis=0)), 0).astype(int)
    upper = np.maximum(np.floor(corners.max(axis=0)), np.array(template_shape[::-1]) - 1).astype(
        int
    )
    size = upper - lower + 1
    return (int(lower[0]), int(lower[1])), (int(size[1]), int(size[0]))
