"""
Geometric hashes of small star patterns, and an index of them.

A pattern is three or four stars. Its two most distant stars A and B span a complex coordinate
frame with A at 0 and B at 1; the positions of the others in it are the code, which no shift,
rotation or scale changes and which a mirror turns into its complex conjugate (Lang et al. 2010).
"""

from __future__ import annotations

from functools import cached_property
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro._neighbors import Neighbors
from spalipy_astro.matching._cells import Cells, sort_into_cells

__all__ = ["PatternIndex", "Patterns", "StarLevels", "find_patterns", "pattern_codes"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_LEVEL_RATIO = 1.6  # between the sizes of neighboring levels
_SMALLEST_LEVEL = 16
_PROBES = 200  # codes by which the number of pairs is foretold
_MOST_PAIRS = 1_000_000


class Patterns(NamedTuple):
    """
    Star patterns of one size and their codes.

    Attributes
    ----------
    stars : ndarray of int, shape (P, k)
        Indices of the stars, in the canonical order A, B, C, (D).
    codes : ndarray, shape (P, 2 * (k - 2))
        Real and imaginary parts of the positions of C, (D).
    level : ndarray of int, shape (P,)
        Index of the brightness level that the pattern is from.
    """

    stars: IntArray
    codes: FloatArray
    level: IntArray


def pattern_codes(xy: FloatArray, stars: IntArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """
    Order the stars of patterns canonically and compute the codes.

    Parameters
    ----------
    xy : ndarray, shape (N, 2)
        Positions.
    stars : ndarray of int, shape (P, k)
        Patterns of k = 3 or 4 stars.

    Returns
    -------
    stars : ndarray of int, shape (P, k)
        In canonical order.
    codes : ndarray, shape (P, 2 * (k - 2))
    size : ndarray, shape (P,)
        Distance between A and B, px.

    Notes
    -----
    The only division is by the distance between A and B, the largest in the pattern. The
    symmetries are broken as by Lang et al. (2010, AJ, 139, 1782,
    doi:10.1088/0004-6256/139/5/1782): the mean of the codes lies on A's side, and they are sorted
    along AB. A mirrored pattern is ordered in the same way.
    """
    ordered = np.array(stars, dtype=np.int64, order="C")
    codes = np.empty((len(ordered), 2 * ordered.shape[1] - 4))
    size = np.empty(len(ordered))
    _compiled.encode_patterns(np.ascontiguousarray(xy, dtype=float), ordered, codes, size)
    return ordered, codes, size


class StarLevels:
    """
    A star list seen at several depths, brightest stars first.

    A level holds the N brightest stars, for N growing by a constant factor: two images of unequal
    depth, field or scale share stars at some pair of levels.

    Parameters
    ----------
    xy : ndarray, shape (N, 2)
        Positions, brightest first.
    """

    def __init__(self, xy: FloatArray) -> None:
        self.xy = xy
        # Anchored at the smallest level, so that equal fields have equal levels.
        ladder = [_SMALLEST_LEVEL]
        while ladder[-1] * _LEVEL_RATIO < len(xy):
            ladder.append(round(ladder[-1] * _LEVEL_RATIO))
        self.sizes = [n for n in ladder if n < len(xy)] + ([len(xy)] if len(xy) <= 4000 else [])
        self._neighbors: dict[tuple[int, int], IntArray] = {}

    def neighbors(self, level: int, count: int) -> IntArray:
        """Return each star's nearest stars in its level, itself first: shape (size, count + 1)."""
        size = self.sizes[level]
        count = min(count, size - 1)
        key = (level, count)
        if key not in self._neighbors:
            xy = self.xy[:size]
            self._neighbors[key] = Neighbors(xy).nearest(xy, count + 1)[1]
        return self._neighbors[key]


def find_patterns(
    levels: StarLevels, *, k: int, neighbors: int, first: int = 0, last: int | None = None
) -> Patterns:
    """
    Form the patterns of each star with its nearest neighbors, level by level.

    Parameters
    ----------
    levels : StarLevels
    k : int
        Stars in a pattern, 3 or 4.
    neighbors : int
        How many neighbors of each star are combined with it.
    first, last : int, optional
        Range of levels, as of a slice.

    Returns
    -------
    Patterns
        Without duplicates. A pattern that stands in several levels is kept for the brightest.
    """
    numbers = range(len(levels.sizes))[first:last]
    nearest = [levels.neighbors(level, neighbors) for level in numbers]
    lengths = [len(part) for part in nearest]
    near = np.full((sum(lengths), neighbors + 1), -1, dtype=np.int64)
    room = end = 0
    for part in nearest:
        start, end = end, end + len(part)
        near[start:end, : part.shape[1]] = part
        room += len(part) * comb(part.shape[1] - 1, k - 1)
    stars, row = np.empty((room, k), dtype=np.int64), np.empty(room, dtype=np.int64)
    found = _compiled.form_patterns(near, len(levels.xy), stars, row)
    ordered, codes, size = pattern_codes(levels.xy, stars[:found])
    level = np.repeat(numbers, lengths)[row[:found]]
    if not size.all():  # two stars on one spot
        good = size > 0
        ordered, codes, level = ordered[good], codes[good], level[good]
    return Patterns(ordered, codes, level)


class PatternIndex:
    """
    The patterns of a star list, sorted by their codes.

    Parameters
    ----------
    patterns : Patterns
    """

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns

    @cached_property
    def _cells(self) -> Cells:
        return sort_into_cells(self.patterns.codes)

    def _within(
        self, codes: FloatArray, radius: float, room: int
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """Find all pairs of codes within a radius; `room` for so many may do."""
        while True:
            row, index = np.empty(room, np.int64), np.empty(room, np.int64)
            distance = np.empty(room)
            found = _compiled.equal_codes(self._cells, codes, radius, row, index, distance)
            if found <= room:
                return row[:found], index[:found], distance[:found]
            room = found

    def query(self, codes: FloatArray, radius: float) -> tuple[IntArray, IntArray, FloatArray]:
        """
        Find all pairs of codes within a radius.

        Parameters
        ----------
        codes : ndarray, shape (Q, 2 * (k - 2))
        radius : float

        Returns
        -------
        query, index : ndarray of int, shape (M,)
            Row of `codes` and of the index's own patterns.
        distance : ndarray, shape (M,)
        """
        if not len(codes) or not len(self.patterns.codes):
            empty = np.empty(0, np.intp)
            return empty, empty, np.empty(0)
        # All patterns of a lattice have a few codes, which would make as many pairs as there are
        # patterns squared.
        some = np.linspace(0, len(codes) - 1, min(len(codes), _PROBES)).astype(np.intp)
        probed = len(self._within(codes[some], radius, _PROBES)[0]) / len(some)
        step = max(1, int(probed * len(codes) // _MOST_PAIRS))
        room = int(1.5 * probed * len(codes) / step) + len(codes) // 8
        row, index, distance = self._within(codes[::step].copy(), radius, room)
        return row * step, index, distance
