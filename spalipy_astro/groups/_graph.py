"""Which frames show the same stars: links between pairs, checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spalipy_astro.errors import AlignmentError
from spalipy_astro.fitting import fit_linear
from spalipy_astro.matching import Priors, match_stars, pattern_votes
from spalipy_astro.registration import StarFrame

__all__ = ["Link", "chain", "closing", "find_links", "parts_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_LEAST_VOTES = 8
_MANY_VOTES = 25  # are no chance
_PARTNERS = 12  # most frames that one is compared with, by their votes ...
_LAST_PARTNERS = 6  # ... and once more, where it is not yet connected
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


def find_links(frames: Sequence[StarFrame | None], priors: Priors) -> list[Link]:
    """
    Find the pairs of frames that show the same stars.

    Parameters
    ----------
    frames : sequence of StarFrame or None
    priors : Priors

    Returns
    -------
    list of Link
        Those with the most stars first. Pairs with many quads in common are tried; then, while
        frames stay apart, those with few or none.
    """
    known = [k for k, frame in enumerate(frames) if frame is not None]
    if len(known) < 2:
        return []
    votes = pattern_votes([frames[k].field for k in known])  # type: ignore[union-attr]
    rank = np.argsort(np.argsort(-votes, axis=1, kind="stable"), axis=1)
    rank = np.minimum(rank, rank.T)
    rows, columns = np.triu_indices(len(known), 1)
    order = np.argsort(-votes[rows, columns], kind="stable")
    pairs = [(int(a), int(b)) for a, b in zip(rows[order], columns[order], strict=True)]
    # a quarter of the pairs shows what chance gives, or that all overlap: then few pairs suffice
    chance = float(np.quantile(votes[rows, columns], 0.25))
    least = max(_LEAST_VOTES, min(3 * chance, _MANY_VOTES))
    links: list[Link] = []
    tried = set()
    for a, b in pairs:
        if votes[a, b] >= least and rank[a, b] < _PARTNERS:
            tried.add((a, b))
            links += _link(frames, known[a], known[b], priors)
    part = parts_of(len(frames), links)
    for a, b in pairs:
        i, j = known[a], known[b]
        if part[i] != part[j] and (a, b) not in tried and rank[a, b] < _LAST_PARTNERS:
            if found := _link(frames, i, j, priors):
                links += found
                part = parts_of(len(frames), links)
    return sorted(links, key=lambda link: (-len(link.stars_i), link.i, link.j))


def _link(frames: Sequence[StarFrame | None], i: int, j: int, priors: Priors) -> list[Link]:
    """Return the link of two frames, if there is one."""
    one, two = frames[i], frames[j]
    assert one is not None
    assert two is not None
    try:
        match = match_stars(
            one.field, two.field, priors=priors, source_shape=one.shape, template_shape=two.shape
        )
    except AlignmentError:
        return []
    s, t = one.stars.xy[match.source], two.stars.xy[match.template]
    good = np.ones(len(s), bool)
    for _ in range(4):
        matrix, offset = fit_linear(s[good], t[good])
        distance = np.hypot(*(s @ matrix.T + offset - t).T)
        limit = 5 * max(float(np.median(distance)), 0.05)
        if np.count_nonzero(distance <= limit) < 4:
            break
        good = distance <= limit
    rms = float(np.sqrt(np.mean(distance[good] ** 2)))
    return [
        Link(
            i,
            j,
            match.source[good],
            match.template[good],
            match.log_odds,
            np.vstack((offset, matrix.T)),
            rms,
        )
    ]


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
