"""Which of many star lists share patterns: one index of all, in place of a search of each pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spalipy_astro.matching._quads import StarLevels, find_patterns
from spalipy_astro.matching._starfield import StarField

__all__ = ["pattern_votes"]

_LEVELS, _NEIGHBORS = 9, 5  # some 700 stars
_CELL = 0.006  # codes in one cell of that size are taken for equal
_RANGE = 1024  # cells along an axis: codes lie between -1.5 and 1.5
_CROWD, _MOST_PAIRS = 32, 200_000_000  # lists in a cell, pairs of lists in all of them

IntArray = NDArray[np.intp]


def pattern_votes(fields: Sequence[StarField], *, parity: int | None = None) -> IntArray:
    """
    Count the quads that each two of many lists have in common.

    Parameters
    ----------
    fields : sequence of StarField
    parity : {1, -1}, optional
        Whether no list is a mirror image of another, or each; by default it is not known.

    Returns
    -------
    ndarray of int, shape (N, N)
        Symmetric, with a diagonal of zeros. Few votes may be chance; many are a hint, no proof. Of
        quads that very many lists share only some are counted.

    Notes
    -----
    Quads and their codes are those of Lang et al. (2010, AJ, 139, 1782,
    doi:10.1088/0004-6256/139/5/1782). Those of all lists are sorted into cells, on two grids that
    lie half a cell apart, since equal codes differ by their noise; the grid with more votes counts.
    """
    n = len(fields)
    keys = [_keys(field) for field in fields]
    owner = np.repeat(np.arange(n), [key.shape[-1] for key in keys])
    votes = np.zeros((n, n), dtype=np.intp)
    if not len(owner):
        return votes
    for own, mirrored in np.concatenate(keys, axis=-1):  # of each grid
        cells, place = np.unique(own, return_inverse=True)
        plain = _members(owner, place, (n, len(cells)))
        wanted = []
        if parity != -1:
            wanted.append(plain)
        if parity != 1:
            place = np.minimum(np.searchsorted(cells, mirrored), len(cells) - 1)
            there = cells[place] == mirrored
            wanted.append(_members(owner[there], place[there], plain.shape))
        kept = _thinned(np.max([lists.getnnz(axis=0) for lists in (plain, *wanted)], axis=0))
        shared = sum((plain[:, kept] @ lists[:, kept].T).toarray() for lists in wanted)
        votes = np.maximum(votes, shared)
    votes = np.maximum(votes, votes.T)
    np.fill_diagonal(votes, 0)
    return votes


def _keys(field: StarField) -> NDArray[np.int64]:
    """
    Return the cells of the codes of a list's quads, shape (2, 2, N).

    On both grids, as they are and mirrored. No more is kept of a list, nor its neighbors.
    """
    levels = StarLevels(field.xy)
    codes = find_patterns(levels, k=4, neighbors=_NEIGHBORS, last=_LEVELS).codes
    mirror = codes * np.tile((1, -1), codes.shape[1] // 2)
    return np.array([[_cells(c, shift) for c in (codes, mirror)] for shift in (0.0, 0.5)])


def _cells(codes: NDArray[np.float64], shift: float) -> NDArray[np.int64]:
    """Return a number for the cell of each code; `shift` moves the grid, in cells."""
    along = np.floor(codes / _CELL + shift).astype(np.int64) + _RANGE // 2
    return along @ _RANGE ** np.arange(codes.shape[1], dtype=np.int64)


def _members(owner: IntArray, cell: IntArray, shape: tuple[int, int]) -> csr_matrix:
    """Return which lists have a code in which cells: ones, shape (lists, cells)."""
    lists = csr_matrix((np.ones(len(owner), dtype=np.intp), (owner, cell)), shape=shape)
    lists.sum_duplicates()
    lists.data[:] = 1
    return lists


def _thinned(crowd: IntArray) -> IntArray:
    """Return the cells that count: of those with very many lists no more than can be afforded."""
    crowded = np.flatnonzero(crowd > _CROWD)
    pairs = int(np.sum(crowd[crowded].astype(float) ** 2))
    step = 1 + pairs // _MOST_PAIRS
    return np.sort(np.concatenate((np.flatnonzero(crowd <= _CROWD), crowded[::step])))
