"""Which of many star lists share patterns: one index of all, in place of a search of each pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spalipy_astro.matching._quads import find_patterns
from spalipy_astro.matching._starfield import StarField

__all__ = ["pattern_votes"]

_LEVELS, _NEIGHBORS = 9, 5  # some 700 stars
_RADIUS = 0.004  # distance of codes that are taken for equal


def pattern_votes(fields: Sequence[StarField]) -> NDArray[np.intp]:
    """
    Count the quads that each two of many lists have in common, of either parity.

    Parameters
    ----------
    fields : sequence of StarField

    Returns
    -------
    ndarray of int, shape (N, N)
        Symmetric, with a diagonal of zeros. Few votes may be chance; many are a hint, no proof.

    Notes
    -----
    Quads and their codes are those of Lang et al. (2010, AJ, 139, 1782,
    doi:10.1088/0004-6256/139/5/1782), of all lists in one k-d tree.
    """
    n = len(fields)
    codes = [
        find_patterns(field.levels, k=4, neighbors=_NEIGHBORS, last=_LEVELS).codes
        for field in fields
    ]
    owner = np.repeat(np.arange(n), [len(c) for c in codes])
    votes = np.zeros((n, n), dtype=np.intp)
    if not len(owner):
        return votes
    tree = cKDTree(np.concatenate(codes))
    for i, mine in enumerate(codes):
        if not len(mine):
            continue
        for sign in (1, -1):
            near = tree.query_ball_point(mine * np.tile((1, sign), mine.shape[1] // 2), _RADIUS)
            for found in near:
                votes[i, np.unique(owner[found])] += 1
    votes = np.maximum(votes, votes.T)
    np.fill_diagonal(votes, 0)
    return votes
