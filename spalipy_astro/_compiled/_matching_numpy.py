"""The loops of matching in numpy: what they do, and what runs where nothing is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["count_on_lines", "equal_codes", "witness_scores"]

Array = NDArray[Any]
Cells = tuple[Array, Array, Array, float, float, float, int]


def equal_codes(
    cells: Cells, codes: Array, radius: float, row: Array, index: Array, distance: Array
) -> int:
    """
    List all pairs of a code and a known one that are no farther apart than a radius.

    Parameters
    ----------
    cells : (points, numbers, starts, left, low, side, rows)
        The known codes, from `spalipy_astro.matching._cells.sort_into_cells`.
    codes : (Q, k) array
    radius : float
    row, index, distance : (M,) arrays of int64, int64 and float64
        Which code, which known one, and how far apart, code by code and cell by cell; of no more
        pairs than they have room for.

    Returns
    -------
    int
        How many pairs there are.
    """
    points, numbers = cells[:2]
    other = cKDTree(codes, balanced_tree=False, compact_nodes=False)
    pairs = other.sparse_distance_matrix(cKDTree(points), radius, output_type="ndarray")
    pairs = pairs[np.lexsort((pairs["j"], pairs["i"]))]
    room = slice(min(len(pairs), len(row)))
    row[room], index[room] = pairs["i"][room], numbers[pairs["j"][room]]
    distance[room] = pairs["v"][room]
    return len(pairs)


def witness_scores(
    cells: Cells,
    stars: tuple[Array, Array, Array, Array],
    frame: Array,
    shares: Array,
    bending: float,
    similarity: Array,
    witnesses: Array,
    pattern: Array,
    scores: Array,
) -> None:
    """
    Sum the log-likelihood ratios of the stars around patterns, match against chance.

    Parameters
    ----------
    cells : (points, numbers, starts, left, low, side, rows)
        The template's stars, from `spalipy_astro.matching._cells.sort_into_cells`.
    stars : (source, source_err, template_err, density)
        Positions of the source's stars, (N, 2), and their errors, (N,); errors of the template's
        stars and the density of stars around each.
    frame : (2, 2) array
        Lower and upper corner of the template's frame; stars that fall outside say nothing.
    shares : (S,) array
        Shares of stars without a partner, of which for each hypothesis the one counts that suits it
        best.
    bending : float
        How far distortion may move a star from where the hypothesis puts it: that times the square
        of its distance from the pattern over the scale.
    similarity : (H, 9) array
        Real and imaginary part of a and b of ``a * z + b``; -1 for a hypothesis that takes the
        conjugate of z, else 1; how well the patterns agree, px; middle (x, y) and size of the
        pattern in the template.
    witnesses : (H, W) array of int64
        The source's stars that are asked. Those of the pattern itself say nothing.
    pattern : (H, k) array of int64
    scores : (H,) array
        Is overwritten.
    """
    points, numbers = cells[:2]
    source, source_err, template_err, density = stars
    re, im, x0, y0, sign, rms, middle_x, middle_y, size = similarity.T[:, :, np.newaxis]
    z = source[witnesses] @ (1, 1j)
    image = (re + 1j * im) * np.where(sign < 0, z.conj(), z) + (x0 + 1j * y0)
    place = np.stack((image.real, image.imag), axis=-1)
    distance, nearest = cKDTree(points).query(place)
    nearest = numbers[nearest]
    scale = np.hypot(re, im)
    noise2 = (scale * source_err[witnesses]) ** 2 + template_err[nearest] ** 2 + rms**2 + 0.1**2
    away = np.abs(image - (middle_x + 1j * middle_y))
    variance = noise2 * (1 + away / size) ** 2 + (bending / scale * away**2) ** 2
    match = np.exp(-0.5 * distance**2 / variance)
    match *= 1 + 1 / (2 * np.pi * density[nearest] * variance)
    silent = np.any(witnesses[:, :, np.newaxis] == pattern[:, np.newaxis], axis=2)
    silent |= np.any((place < frame[0]) | (place > frame[1]), axis=-1)
    match[silent] = 1.0
    sums = [np.log(share + (1 - share) * match).sum(axis=1) for share in shares]
    scores[:] = np.max(sums, axis=0)


def count_on_lines(x: Array, y: Array, width: float, shortest: float, counts: Array) -> None:
    """
    Count the points that lie near the straight line through each two of them.

    Parameters
    ----------
    x, y : (N,) arrays
    width : float
        From the line, either side.
    shortest : float
        Two points that are no farther apart have no direction.
    counts : (N (N - 1) / 2,) array of int64
        For points 0 and 1, 0 and 2 and so on; -1 where there is no direction.
    """
    first, second = np.triu_indices(len(x), 1)
    dx, dy = x[second] - x[first], y[second] - y[first]
    size = np.sqrt(dx * dx + dy * dy)
    counts[:] = -1
    long = size > shortest
    across, up = -dy[long] / size[long], dx[long] / size[long]
    start = across * x[first[long]] + up * y[first[long]]
    distance = np.outer(across, x) + np.outer(up, y) - start[:, np.newaxis]
    counts[long] = np.count_nonzero(np.abs(distance) < width, axis=1)
