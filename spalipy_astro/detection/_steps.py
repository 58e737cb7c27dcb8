"""Amplifiers and chips side by side in one image, each with its own level: made level."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.detection._background import Background, estimate_background
from spalipy_astro.detection._medians import median
from spalipy_astro.detection._pixels import PixelSource, find_saturation, keep_saturated

__all__ = ["without_steps"]

_STEEP = 0.5  # of the noise between neighboring cells of the mesh: less does no harm
_LEAST = 0.3  # of the noise: smaller steps do no harm
_SURE = 7.0  # times what chance does to a step
_BANDS = 8  # along an edge: one that ends halfway shows itself in some of them
_LINES = 32  # of each band that are looked at
_WIDTH = 5  # px on either side of an edge, whose median neither a star nor a bad column is
_ASIDE = 8  # px from an edge, where what is no slope has ended
_APART = 16  # px: what ends sooner is an object
_OBJECT = 0.75  # of a step: one back as high as this, so near, ends an object
_ABRUPT = 0.4  # of a step is between two pixels, also in an interpolated image
_BESIDE = 3  # px from there, where nothing of it is left
_MOST = 64  # edges along an axis; where there are more they are stripes
_NORMAL = 1.4826
_OF_MEDIAN = 1.2533  # its standard error over that of the mean


def without_steps(
    source: PixelSource, background: Background, saturation: float
) -> tuple[PixelSource, Background, float]:
    """
    Subtract the steps of a sky that changes abruptly along straight lines of rows or columns.

    Parameters
    ----------
    source : PixelSource
    background : Background
        Its sky.
    saturation : float
        Value from which on pixels are saturated; infinity if it is not known.

    Returns
    -------
    PixelSource, Background, float
        The same objects if there are no steps; otherwise the image without them, with the level
        of its middle, in which saturated pixels have a value that no other reaches.

    Notes
    -----
    Raw frames of several amplifiers are made of rectangles whose bias and gain differ, and so are
    chips side by side, whether or not there is a gap of bad pixels between them. A sky that is
    interpolated between cells of a mesh cannot follow. Where neighboring cells differ by more
    than their noise, edges are sought: the medians of five pixels on either side are compared in
    bands of rows, and of columns; a slope is the same on both sides, and what ends within 16 px
    is an object, such as a bleed. All edges cut the image into rectangles, whose levels follow
    from the steps along their common borders by least squares.
    """
    if not _is_steep(background):
        return source, background, saturation
    noise = median(background.noise)
    image = np.array(source.rows(slice(None)))
    image[~np.isfinite(image)] = np.nan
    down, across = _edges(image.T, noise), _edges(image, noise)
    if not down and not across:
        return source, background, saturation
    if not np.isfinite(saturation):
        saturation = find_saturation(source)
    over = image >= np.float32(saturation)
    rows, columns = ([0, *edges, n] for edges, n in zip((down, across), image.shape, strict=True))
    levels = _levels(image, rows, columns)
    for j, (top, bottom) in enumerate(pairwise(rows)):
        for i, (left, right) in enumerate(pairwise(columns)):
            image[top:bottom, left:right] -= levels[j, i]
    saturation = keep_saturated(image, over, saturation)
    error = None if source.error is None else np.asarray(source.error) / source.scale
    plain = PixelSource(image, error=error)
    return plain, estimate_background(plain), saturation


def _is_steep(background: Background) -> bool:
    """Tell whether the sky of neighboring cells differs by more than its noise."""
    level = background.level
    limit = _STEEP * median(background.noise)
    return any(
        bool((np.abs(np.diff(level, axis=axis)) > limit).any())
        for axis in (0, 1)
        if level.shape[axis] > 1
    )


def _steps(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Return by how much each pixel and four after it exceed the five before, free of slopes.

    Shape ``(n, nx)`` gives ``(n, nx)``; NaN near the ends and beside bad pixels.
    """
    n = lines.shape[1]
    out = np.full(lines.shape, np.nan, np.float32)
    if n < 2 * (_WIDTH + _ASIDE):
        return out
    middle = _median_of_five([lines[:, k : n - _WIDTH + 1 + k] for k in range(_WIDTH)])
    rise = middle[:, _WIDTH:] - middle[:, :-_WIDTH]  # at the pixels from _WIDTH on
    slope = 0.5 * (rise[:, : -2 * _ASIDE] + rise[:, 2 * _ASIDE :])
    first = _WIDTH + _ASIDE
    out[:, first : first + slope.shape[1]] = rise[:, _ASIDE:-_ASIDE] - slope
    return out


def _median_of_five(v: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the medians of five arrays; NaN where one of them is."""
    low, high = np.minimum, np.maximum
    a, b = low(v[0], v[1]), high(v[0], v[1])
    c, d = low(v[2], v[3]), high(v[2], v[3])
    # neither the smallest nor the largest of four can be the median
    e, f = high(a, c), low(b, d)
    return high(low(e, f), low(high(e, f), v[4]))


def _edges(image: NDArray[np.float32], noise: float) -> list[int]:
    """Find the columns at which a level begins, in any band of rows."""
    ny = len(image)
    some = np.unique(np.linspace(0, ny - 1, min(ny, _BANDS * _LINES)).astype(int))
    lines = image[some]
    # of chips with a gap between them, what lies on either side of it
    good = np.flatnonzero(np.mean(np.isfinite(lines), axis=0) > 0.1)
    if not len(good):
        return []
    lines = lines[:, good]
    bands = np.array_split(lines, max(1, min(_BANDS, len(some) // 8)))
    found, errors = np.array([_medians(_steps(band)) for band in bands]).swapaxes(0, 1)
    mean = found.mean(axis=0, keepdims=True)
    error = np.sqrt(np.sum(errors**2, axis=0, keepdims=True)) / len(bands)
    found, errors = np.concatenate((found, mean)), np.concatenate((errors, error))
    bands.append(lines)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of bands without a good pixel
        spread = _NORMAL * np.nanmedian(np.abs(found), axis=1)
    # what differs from line to line, or from column to column, is no step
    errors = np.fmax(errors, np.fmax(spread, 1e-6 * noise)[:, np.newaxis])
    sure = np.abs(found) / errors
    sure = np.where((sure > _SURE) & (np.abs(found) > _LEAST * noise), sure, 0)
    best = np.argmax(sure, axis=0)
    columns = np.arange(len(good))
    strength, step = sure[best, columns], found[best, columns]
    edges: list[int] = []
    for x in np.argsort(-strength, kind="stable"):
        if not strength[x] > 0:
            break
        if any(abs(x - other) < _APART for other in edges):
            continue
        edges.append(int(x))
    beside = [slice(max(x - _APART, 0), x + _APART + 1) for x in edges]
    found = np.nan_to_num(found)
    back = [
        float(np.max(-np.sign(step[x]) * found[best[x], part]))
        for x, part in zip(edges, beside, strict=True)
    ]
    sharp = [x for x, b in zip(edges, back, strict=True) if b < _OBJECT * abs(step[x])]
    places = [_place(bands[best[x]], x, step[x]) for x in sharp]
    known = sorted(int(good[x]) for x in places if x is not None)
    return known if len(known) <= _MOST else []


def _place(lines: NDArray[np.float32], x: int, step: float) -> int | None:
    """Return the column at which a step is that was found near it; None of a slope, however short.

    Most of a step is between two neighboring pixels.
    """
    reach = _WIDTH // 2 + _BESIDE
    columns = np.arange(max(x - reach, 1), min(x + reach + 1, lines.shape[1]))
    rise = np.nan_to_num(_medians(lines[:, columns] - lines[:, columns - 1])[0]) * np.sign(step)
    # a slope goes on beside the step
    excess = rise[_BESIDE:-_BESIDE] - 0.5 * (rise[: -2 * _BESIDE] + rise[2 * _BESIDE :])
    highest = int(np.argmax(excess))
    return int(columns[highest + _BESIDE]) if excess[highest] > _ABRUPT * abs(step) else None


def _medians(
    lines: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Return the medians of columns and their standard errors.

    Both are NaN where less than a third of the values are known.
    """
    ordered = np.sort(lines, axis=0)  # what is not known comes last
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    columns = np.arange(lines.shape[1])
    last = np.maximum(count - 1, 0)
    low, high = (ordered[np.round(share * last).astype(int), columns] for share in (0.16, 0.84))
    middle = 0.5 * (ordered[last // 2, columns] + ordered[(last + 1) // 2, columns])
    few = count * 3 < len(lines)
    middle[few] = np.nan
    error = _OF_MEDIAN * 0.5 * (high - low) / np.sqrt(np.maximum(count, 1))
    error[few] = np.nan
    return middle, error.astype(np.float32)


def _levels(image: NDArray[np.float32], rows: list[int], columns: list[int]) -> NDArray[np.float32]:
    """Return the levels of the rectangles between edges, relative to that of most pixels."""
    shape = len(rows) - 1, len(columns) - 1
    number = np.arange(np.prod(shape)).reshape(shape)
    pairs, steps, weights = [], [], []
    for plane, along, beside, names in (
        (image, rows, columns, number),
        (image.T, columns, rows, number.T),
    ):
        for j, (start, stop) in enumerate(pairwise(along)):
            lines = plane[start:stop]
            lines = lines[np.linspace(0, len(lines) - 1, min(len(lines), 256)).astype(int)]
            good = np.flatnonzero(np.mean(np.isfinite(lines), axis=0) > 0.1)
            if not len(good):
                continue
            rise = _steps(lines[:, good])
            known = _medians(rise)[0]
            for i, edge in enumerate(beside[1:-1]):
                place = int(np.searchsorted(good, edge))
                if place < len(good) and np.isfinite(known[place]):
                    pairs.append((names[j, i], names[j, i + 1]))
                    steps.append(known[place])
                    weights.append(np.sqrt(np.count_nonzero(np.isfinite(rise[:, place]))))
    terms = np.zeros((len(pairs), number.size))
    for k, (before, after) in enumerate(pairs):
        terms[k, before], terms[k, after] = -weights[k], weights[k]
    # the smallest levels where a rectangle has no border with others
    found = np.linalg.lstsq(terms, np.multiply(steps, weights), rcond=None)[0].reshape(shape)
    size = np.outer(np.diff(rows), np.diff(columns)).ravel()
    order = np.argsort(found, axis=None)
    half = np.searchsorted(np.cumsum(size[order]), 0.5 * size.sum())
    return (found - found.ravel()[order[half]]).astype(np.float32)
