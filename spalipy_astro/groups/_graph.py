"""Which frames show the same stars: links between pairs, checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spalipy_astro.fitting import fit_linear
from spalipy_astro.registration import StarFrame

__all__ = ["Link", "chain", "closing", "parts_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_OPEN = 20.0  # px: a loop that does not close by more than that is no matter of distortion


@dataclass(frozen=True)
class Link:
    """
    A verified pair of frames.

    Attributes
    ----------
    i, j : int
        The frames, i < j.
    stars_i, stars_j : ndarray of int, shape (M,)
        The matched stars of both.
    log_odds : float
        Natural logarithm of the odds against chance.
    matrix : ndarray, shape (3, 2)
        ``(1, x, y) @ matrix`` sends positions of i to j, px.
    rms : float
        Of the stars about this affine map, px of j.
    """

    i: int
    j: int
    stars_i: IntArray
    stars_j: IntArray
    log_odds: float
    matrix: FloatArray
    rms: float

    @classmethod
    def of(
        cls,
        i: int,
        j: int,
        one: FloatArray,
        two: FloatArray,
        stars_i: IntArray,
        stars_j: IntArray,
        log_odds: float,
    ) -> Link:
        """
        Return the link of two frames by their stars, those left out that fit no affine map.

        Parameters
        ----------
        i, j : int
        one, two : ndarray, shape (N, 2), (M, 2)
            The stars of both, px.
        stars_i, stars_j : ndarray of int
            Those that were matched.
        log_odds : float
        """
        s, t = one[stars_i], two[stars_j]
        good = np.ones(len(s), bool)
        for _ in range(4):
            matrix, offset = fit_linear(s[good], t[good])
            distance = np.hypot(*(s @ matrix.T + offset - t).T)
            limit = 5 * max(float(np.median(distance)), 0.05)
            if np.count_nonzero(distance <= limit) < 4:
                break
            good = distance <= limit
        rms = float(np.sqrt(np.mean(distance[good] ** 2)))
        affine = np.vstack((offset, matrix.T))
        return cls(i, j, stars_i[good], stars_j[good], log_odds, affine, rms)


def parts_of(n: int, links: Sequence[Link]) -> IntArray:
    """Return the connected part that each of n frames belongs to, the largest part first."""
    i, j = [link.i for link in links], [link.j for link in links]
    graph = coo_matrix((np.ones(len(links)), (i, j)), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    names, first, count = np.unique(label, return_index=True, return_counts=True)
    order = np.lexsort((first, -count))
    new = np.empty(len(names), dtype=np.intp)
    new[names[order]] = np.arange(len(names))
    return new[label]


def chain(root: int, links: Sequence[Link]) -> dict[int, FloatArray]:
    """
    Place frames relative to one, along the links with the most stars.

    Parameters
    ----------
    root : int
    links : sequence of Link
        Those with the most stars first.

    Returns
    -------
    dict
        For each frame that is connected, the affine map, shape (3, 2), to pixels of the root.
    """
    placed = {root: np.vstack((np.zeros(2), np.eye(2)))}
    while True:  # Prim's algorithm: the strongest link that leads out of what is placed
        step = next((k for k in links if (k.i in placed) != (k.j in placed)), None)
        if step is None:
            return placed
        if step.j in placed:
            placed[step.i] = compose(step.matrix, placed[step.j])
        else:
            placed[step.j] = compose(invert(step.matrix), placed[step.i])


def closing(
    links: Sequence[Link], placed: dict[int, FloatArray], frames: Sequence[StarFrame | None]
) -> tuple[list[Link], list[Link]]:
    """Split links into those that agree with where frames are placed, and those that do not."""
    kept: list[Link] = []
    dropped: list[Link] = []
    for link in links:
        if link.i not in placed:
            continue
        one, two = frames[link.i], frames[link.j]
        assert one is not None
        assert two is not None
        a, b = one.stars.xy[link.stars_i], two.stars.xy[link.stars_j]
        gap = apply(placed[link.i], a) - apply(placed[link.j], b)
        scale = abs(np.linalg.det(placed[link.j][1:])) ** 0.5
        size = float(np.ptp(two.stars.xy, axis=0).max())
        reach = max(_OPEN, 0.05 * size) * scale
        (kept if np.median(np.hypot(*gap.T)) < reach else dropped).append(link)
    return kept, dropped


def apply(affine: FloatArray, xy: FloatArray) -> FloatArray:
    """Return ``(1, x, y) @ affine``."""
    return affine[0] + xy @ affine[1:]


def compose(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return one affine map after another."""
    return np.vstack((apply(second, first[:1]), first[1:] @ second[1:]))


def invert(affine: FloatArray) -> FloatArray:
    """Return the inverse of an affine map."""
    linear = np.linalg.inv(affine[1:])
    return np.vstack((-affine[:1] @ linear, linear))
