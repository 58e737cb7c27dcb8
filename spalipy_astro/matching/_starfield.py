"""A star list prepared for matching, and the odds of its neighbors against chance."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._neighbors import Neighbors, neighbor_pairs
from spalipy_astro.matching._cells import Cells, sort_into_cells
from spalipy_astro.matching._quads import PatternIndex, StarLevels, find_patterns

__all__ = [
    "DISTRACTORS",
    "PARTNERS",
    "SHARES",
    "StarField",
    "comparable",
    "hope_of",
    "log_ratios",
    "match_ratios",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

DISTRACTORS = 0.5  # share of stars that have no partner although the hypothesis is right
PARTNERS = 1 - DISTRACTORS
SHARES = (0.5, 0.8, 0.95)  # the same while a match grows
_DENSITY_NEIGHBORS = 8
_COMPARED = 150  # brightest stars whose differences are compared
_OFTEN, _OFTEN_SHARE = 8, 0.08  # pairs of one difference that chance does not give
_SHIFTS = 400
_BUCKETS = 65521  # a prime


class StarField:
    """
    A star list prepared for matching; its trees and hashes are made once, when first needed.

    Parameters
    ----------
    xy : ndarray, shape (N, 2)
        Positions, brightest first.
    err : ndarray, shape (N,)
        1-sigma position errors along each axis, px.
    """

    def __init__(self, xy: FloatArray, err: FloatArray) -> None:
        self.xy = np.ascontiguousarray(xy, dtype=float)
        self.err = np.ascontiguousarray(err, dtype=float)
        self.levels = StarLevels(self.xy)
        self._neighbors: dict[int, Neighbors] = {}
        self._cells: dict[int, Cells] = {}
        self._indices: dict[tuple[int, int, int | None], PatternIndex] = {}

    def __len__(self) -> int:
        return len(self.xy)

    def neighbors(self, size: int | None = None) -> Neighbors:
        """Return what finds those of the `size` brightest stars that are near places."""
        size = len(self) if size is None else min(size, len(self))
        if size not in self._neighbors:
            self._neighbors[size] = Neighbors(self.xy[:size])
        return self._neighbors[size]

    def cells(self, size: int) -> Cells:
        """Return the `size` brightest stars in cells."""
        size = min(size, len(self))
        if size not in self._cells:
            self._cells[size] = sort_into_cells(self.xy[:size])
        return self._cells[size]

    @cached_property
    def area(self) -> float:
        """Area of the box around the stars, px**2."""
        return float(np.prod(np.maximum(np.ptp(self.xy, axis=0), 1.0)))

    @cached_property
    def density(self) -> FloatArray:
        """Stars per px**2 around each star: locally measured, not below the field's mean."""
        n = len(self)
        k = min(_DENSITY_NEIGHBORS, n - 1)
        distance = self.neighbors().nearest(self.xy, k + 1)[0][:, k]
        local = k / (np.pi * np.maximum(distance, 1e-3) ** 2)
        return np.maximum(local, n / self.area)

    @cached_property
    def own_shifts(self) -> FloatArray:
        """
        Shifts that bring many stars onto others, as in a lattice; shape (S, 2), likeliest first.

        Most fields have none: of the brightest stars no more pairs have one difference than chance
        gives.
        """
        xy = self.xy[:_COMPARED]
        n = len(xy)
        cell = max(3 * float(np.median(self.err)), 1.5)
        shift = (xy[:, np.newaxis] - xy)[~np.eye(n, dtype=bool)]
        # Cells overlap by half, so that no difference lies at the edge of all that hold it.
        expected = n**2 * cell**2 / self.area
        enough = max(_OFTEN, _OFTEN_SHARE * n, 10 * expected)
        found = []
        for half in (0.0, 0.5):
            corner = np.floor(shift / cell + half).astype(np.int64) @ (1 << 32, 1)
            # Buckets of several cells are counted in no time, and rarely hold enough.
            bucket = corner % _BUCKETS
            some = np.flatnonzero(np.bincount(bucket, minlength=_BUCKETS)[bucket] >= enough)
            _, inverse, count = np.unique(corner[some], return_inverse=True, return_counts=True)
            often = np.flatnonzero(count >= enough)
            if len(often):
                mean = [
                    np.bincount(inverse, weights=axis)[often] / count[often]
                    for axis in shift[some].T
                ]
                found.append(np.column_stack((*mean, count[often])))
        if not found:
            return np.empty((0, 2))
        both = np.concatenate(found)
        both = both[np.argsort(-both[:, 2], kind="stable")]
        _, weaker = neighbor_pairs(both[:, :2], cell)
        return np.delete(both, np.unique(weaker), axis=0)[:_SHIFTS, :2]

    def index(self, k: int, neighbors: int, last: int | None) -> PatternIndex:
        """Return the index of the patterns of k stars; `last` ends the range of levels."""
        key = (k, neighbors, last)
        if key not in self._indices:
            self._indices[key] = PatternIndex(
                find_patterns(self.levels, k=k, neighbors=neighbors, last=last)
            )
        return self._indices[key]


def comparable(
    source: StarField, template: StarField, n_source: IntArray, scale: FloatArray
) -> IntArray:
    """
    Return how many of the brightest template stars the brightest source stars may be among.

    Parameters
    ----------
    source, template : StarField
    n_source : ndarray of int, shape (H,)
        Number of source stars.
    scale : ndarray, shape (H,)
        Template px per source px.

    Returns
    -------
    ndarray of int, shape (H,)
    """
    n = len(template)
    # Three times the density on the sky: room for unlike depths, colors and filters.
    density = n_source / (source.area * scale**2)
    among = np.clip(3 * density * template.area, min(100, n), n).astype(np.intp)
    return np.where(n_source == len(source), n, among)


def log_ratios(distance: FloatArray, density: FloatArray, sigma: FloatArray) -> FloatArray:
    """
    Log-likelihood ratios, match against chance, of nearest-neighbor distances.

    Parameters
    ----------
    distance : ndarray
        Distance from a predicted position to the nearest star, px.
    density : ndarray
        Number density of stars there, px**-2.
    sigma : ndarray
        1-sigma error of the distance along each axis, px.

    Returns
    -------
    ndarray

    Notes
    -----
    By chance the nearest neighbor's distance r has the density 2 pi rho r exp(-pi rho r**2). Where
    the star's partner is there as well, the nearest of the two is seen, which is more likely by the
    factor exp(-r**2 / 2 sigma**2) (1 + 1 / (2 pi rho sigma**2)). The ratio mixes this with a share
    of distractors, as Lang et al. (2010, doi:10.1088/0004-6256/139/5/1782, section 2.3) do; it has
    the expectation 1 under chance, so that a product of ratios above T comes by chance once in T
    trials at most (Markov's inequality). The local density keeps clusters from faking evidence.
    """
    peak = 1 + 1 / (2 * np.pi * density * sigma**2)
    match = np.exp(-0.5 * (distance / sigma) ** 2) * peak
    return np.log(DISTRACTORS + (1 - DISTRACTORS) * match)


def match_ratios(log_ratios: FloatArray) -> FloatArray:
    """Take the distractors out of `log_ratios`: 0 where the nearest star is no partner."""
    return np.maximum(np.exp(log_ratios) - DISTRACTORS, 0.0) / (1 - DISTRACTORS)


def hope_of(ratios: FloatArray) -> FloatArray:
    """
    Return the largest sum of log-likelihood ratios for any share of distractors.

    Parameters
    ----------
    ratios : ndarray, shape (..., N)
        Of each star, from `log_ratios`.

    Returns
    -------
    ndarray, shape (...)

    Notes
    -----
    Other filters and unlike depths show other stars, so that few may have partners where a growth
    begins. This tells whether it is worth going on with, and no more: where few stars need
    partners, a flexible map finds them by chance. What is accepted takes enough of `log_ratios`.
    """
    match = match_ratios(ratios)
    sums = [np.log(share + (1 - share) * match).sum(axis=-1) for share in SHARES]
    return np.max(sums, axis=0)
