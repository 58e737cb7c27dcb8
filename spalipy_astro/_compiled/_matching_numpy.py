"""The loops of matching in numpy: what they do, and what runs where nothing is compiled."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = [
    "count_on_lines",
    "encode_patterns",
    "equal_codes",
    "fit_similarities",
    "form_patterns",
    "witness_scores",
]

Array = NDArray[Any]
Cells = tuple[Array, Array, Array, tuple[float, ...], float, tuple[int, ...]]


def equal_codes(
    cells: Cells, codes: Array, radius: float, row: Array, index: Array, distance: Array
) -> int:
    """
    List all pairs of a code and a known one that are no farther apart than a radius.

    Parameters
    ----------
    cells : (points, numbers, starts, corner, side, counts)
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
    cells : (points, numbers, starts, corner, side, counts)
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


def form_patterns(near: Array, number: int, stars: Array, row: Array) -> int:
    """
    List the patterns of stars with their neighbors, each once.

    Parameters
    ----------
    near : (N, m) array of int64
        Stars, and behind each one its neighbors, any k - 1 of which make a pattern with it; -1
        where there are no more.
    number : int
        Of all stars.
    stars : (P, k) array of int64
        The patterns of k = 3 or 4 stars, in rising order. There must be room for all combinations.
    row : (P,) array of int64
        The first row of `near` that has the pattern.

    Returns
    -------
    int
        How many there are.
    """
    chosen = np.array(list(combinations(range(1, near.shape[1]), stars.shape[1] - 1)), np.intp)
    if not chosen.size or not near.size:
        return 0
    own = np.broadcast_to(near[:, :1, np.newaxis], (len(near), len(chosen), 1))
    found = np.concatenate((own, near[:, chosen]), axis=2).reshape(-1, stars.shape[1])
    rows = np.repeat(np.arange(len(near)), len(chosen))
    whole = (found >= 0).all(axis=1)
    found, rows = np.sort(found[whole], axis=1), rows[whole]
    _, index = np.unique(found, axis=0, return_index=True)
    index.sort()
    stars[: len(index)], row[: len(index)] = found[index], rows[index]
    return len(index)


def encode_patterns(xy: Array, stars: Array, codes: Array, size: Array) -> None:
    """
    Order the stars of patterns canonically, and compute the codes.

    Parameters
    ----------
    xy : (N, 2) array
        Positions.
    stars : (P, k) array of int64
        Patterns of k = 3 or 4 stars; is overwritten by A, B, C, (D). Of stars equally far apart the
        first two given are A and B.
    codes : (P, 2 (k - 2)) array
        Positions of C, (D) in the frame where A is at 0 and B at 1.
    size : (P,) array
        Distance between A and B. Where it is zero, so are the codes.
    """
    k = stars.shape[1]
    pairs = list(combinations(range(k), 2))
    apart = np.stack([xy[stars[:, i]] - xy[stars[:, j]] for i, j in pairs], axis=1)
    longest = np.argmax(apart[..., 0] * apart[..., 0] + apart[..., 1] * apart[..., 1], axis=1)
    order = np.array([[i, j, *(m for m in range(k) if m not in (i, j))] for i, j in pairs])[longest]
    ordered = np.take_along_axis(stars, order, axis=1)
    (dx, dy), (x, y) = (
        np.moveaxis(xy[ordered[:, part]] - xy[ordered[:, :1]], -1, 0)
        for part in (slice(1, 2), slice(2, None))
    )
    square = dx * dx + dy * dy
    length = np.where(square > 0, square, np.inf)
    re, im = (x * dx + y * dy) / length, (y * dx - x * dy) / length
    swap = re.sum(axis=1) > (k - 2) / 2
    re[swap], im[swap] = 1 - re[swap], -im[swap]
    ordered[swap, :2] = ordered[swap, 1::-1]
    along = np.argsort(re, axis=1, kind="stable")
    stars[:, :2], stars[:, 2:] = ordered[:, :2], np.take_along_axis(ordered[:, 2:], along, axis=1)
    codes[:, ::2] = np.take_along_axis(re, along, axis=1)
    codes[:, 1::2] = np.take_along_axis(im, along, axis=1)
    size[:] = np.sqrt(square[:, 0])


def fit_similarities(
    source: Array, template: Array, p: Array, q: Array, flip: Array, a: Array, b: Array, rms: Array
) -> None:
    """
    Fit a similarity ``a * z + b`` to each pair of patterns, by least squares.

    Parameters
    ----------
    source, template : (N, 2) and (M, 2) arrays
        Positions.
    p, q : (H, k) arrays of int64
        Stars of the source's and of the template's patterns, one to one.
    flip : (H,) array of bool
        Whether it is a similarity of the conjugate of z.
    a, b : (H, 2) arrays
        Real and imaginary part.
    rms : (H,) array
        How well the patterns agree, template px.
    """
    z, t = source[p] @ (1, 1j), template[q] @ (1, 1j)
    z = np.where(flip[:, np.newaxis], z.conj(), z)
    z0, t0 = z.mean(axis=1), t.mean(axis=1)
    zc, tc = z - z0[:, np.newaxis], t - t0[:, np.newaxis]
    factor = np.sum(zc.conj() * tc, axis=1) / np.sum(np.abs(zc) ** 2, axis=1)
    shift = t0 - factor * z0
    a[:], b[:] = (np.column_stack((part.real, part.imag)) for part in (factor, shift))
    rms[:] = np.sqrt(np.mean(np.abs(tc - factor[:, np.newaxis] * zc) ** 2, axis=1))
