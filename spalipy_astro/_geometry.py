"""Footprints, hulls and windows on the template's pixel grid."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from astropy.modeling import Model
from numpy.typing import NDArray

__all__ = [
    "covered_fraction",
    "footprint",
    "has_hull",
    "hull",
    "hull_mask",
    "inside",
    "intersection",
    "outline",
    "spread",
    "union",
]

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
    corners = hull(points)
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
    x, y = (t.reshape(64, 64) for t in spread(template_shape, 64))
    source_x, source_y = backward(x, y)
    overlap = inside(source_x, source_y, (int(source_shape[0]), int(source_shape[1])))
    if not overlap.any() or not has_hull(points):
        return 0.0
    held = overlap.copy()
    corners = hull(points)
    for one, two in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # `_cross` >= 0, of which either term is that of a row or of a column
        along = (two[0] - one[0]) * (y[:, :1] - one[1])
        held &= along >= (two[1] - one[1]) * (x[:1] - one[0])
    return float(np.count_nonzero(held) / np.count_nonzero(overlap))


def _cross(one: Any, two: Any, point: Any) -> Any:
    """Return twice the area of a triangle, positive where a point is left of the way to `two`."""
    return (two[0] - one[0]) * (point[1] - one[1]) - (two[1] - one[1]) * (point[0] - one[0])


def hull(points: FloatArray) -> FloatArray:
    """
    Return the corners of the convex hull, counter-clockwise; its points must not lie on a line.

    Notes
    -----
    Points within the octagon of the outermost ones are left out first (Akl & Toussaint 1978,
    Inf. Process. Lett., 7, 219, doi:10.1016/0020-0190(78)90003-0); the chain of the others is that
    of Andrew (1979, Inf. Process. Lett., 9, 216, doi:10.1016/0020-0190(79)90072-3).
    """
    directions = np.array([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]])
    octagon = points[np.argmax(points @ directions.T, axis=0)]
    inner = np.ones(len(points), bool)
    for one, two in zip(octagon, np.roll(octagon, -1, axis=0), strict=True):
        if (one != two).any():  # one point may be the outermost one in several directions
            inner &= _cross(one, two, points.T) > 0
    rest = sorted({(x, y) for x, y in points[~inner].tolist()})
    chains = []
    for ordered in (rest, rest[::-1]):
        chain: list[tuple[float, float]] = []
        for point in ordered:
            while len(chain) > 1 and _cross(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        chains.append(chain[:-1])
    return np.array(chains[0] + chains[1])


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
    corners = outline(transform, source_shape)
    lower = np.minimum(np.ceil(corners.min(axis=0)), 0).astype(int)
    upper = np.maximum(np.floor(corners.max(axis=0)), np.array(template_shape[::-1]) - 1).astype(
        int
    )
    size = upper - lower + 1
    return (int(lower[0]), int(lower[1])), (int(size[1]), int(size[0]))


def outline(transform: Model, source_shape: tuple[int, int]) -> FloatArray:
    """Return the outline of a frame on the template, shape (N, 2), as a closed polygon."""
    ny, nx = source_shape
    x, y = np.linspace(-0.5, nx - 0.5, 129), np.linspace(-0.5, ny - 0.5, 129)
    edge_x = np.concatenate((x, np.full(128, x[-1]), x[-2::-1], np.full(128, x[0])))
    edge_y = np.concatenate((np.full(129, y[0]), y[1:], np.full(128, y[-1]), y[-2::-1]))
    return np.column_stack(transform(edge_x, edge_y))


def intersection(
    outlines: Iterable[FloatArray], template_shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """
    Return the largest window of the template whose pixels all lie within outlines.

    Parameters
    ----------
    outlines : iterable of ndarray, shape (N, 2)
        Closed polygons, each of which a row of pixels crosses once.
    template_shape : tuple of int
        Shape ``(ny, nx)`` of the template.

    Returns
    -------
    offset : tuple of int
        Template pixel ``(x, y)`` of the window's pixel (0, 0).
    shape : tuple of int
        Shape ``(ny, nx)`` of the window. None in place of both if there is no such pixel.
    """
    ny, nx = template_shape
    first, last = np.zeros(ny, int), np.full(ny, nx - 1)
    for polygon in outlines:
        left, right = _row_ends(polygon, ny)
        first = np.maximum(first, np.ceil(np.clip(left, -1, nx)).astype(int))
        last = np.minimum(last, np.floor(np.clip(right, -1, nx)).astype(int))
    best, window = 0, None
    for low in np.flatnonzero(first <= last):
        start = np.maximum.accumulate(first[low:])
        width = np.minimum.accumulate(last[low:]) - start + 1
        area = np.maximum(width, 0) * np.arange(1, ny - low + 1)
        k = int(area.argmax())
        if area[k] > best:
            best = int(area[k])
            window = (int(start[k]), int(low)), (k + 1, int(width[k]))
    return window


def _row_ends(polygon: FloatArray, ny: int) -> tuple[FloatArray, FloatArray]:
    """Return where each row enters and leaves a polygon; a row that misses it ends before."""
    left, right = np.full(ny, np.inf), np.full(ny, -np.inf)
    for (x1, y1), (x2, y2) in pairwise(polygon):
        low, high = int(np.ceil(max(min(y1, y2), 0))), int(np.floor(min(max(y1, y2), ny - 1)))
        if low > high or y1 == y2:
            continue
        rows = np.arange(low, high + 1)
        x = x1 + (rows - y1) * (x2 - x1) / (y2 - y1)
        left[rows], right[rows] = np.minimum(left[rows], x), np.maximum(right[rows], x)
    return left, right
