"""The same star in all frames that show it: a track."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spalipy_astro._neighbors import Neighbors, neighbor_pairs
from spalipy_astro.catalogs import Stars

__all__ = ["Tracks", "join", "merge"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_MOST_PAIRS = 2_000_000  # of neighbors that are looked at one by one
_LIMIT = 25.0  # squared distance, in units of its variance, of stars that may be one


@dataclass(frozen=True)
class Tracks:
    """
    Stars that several frames show.

    Attributes
    ----------
    frame, star, track : ndarray of int, shape (N,)
        Of each observation: the frame, the star in it, and the number of its track.
    """

    frame: IntArray
    star: IntArray
    track: IntArray

    def __len__(self) -> int:
        return len(self.frame)

    def only(self, good: NDArray[np.bool_]) -> Tracks:
        """Return some of the observations, without those that are alone in their track then."""
        frame, star, track = self.frame[good], self.star[good], self.track[good]
        many = np.bincount(track)[track] > 1
        _, number = np.unique(track[many], return_inverse=True)
        return Tracks(frame[many], star[many], number)

    def positions(self, stars: Mapping[int, Stars]) -> tuple[FloatArray, FloatArray]:
        """Return positions, shape (N, 2), and errors of all observations, px of their frames."""
        xy, err = np.empty((len(self), 2)), np.empty(len(self))
        for k in np.unique(self.frame):
            mine, own = self.frame == k, stars[int(k)]
            xy[mine] = own.xy[self.star[mine]]
            err[mine] = own.search_err[self.star[mine]]
        return xy, err


def join(
    positions: Mapping[int, FloatArray],
    reach: Mapping[int, FloatArray],
    extra: float,
) -> Tracks:
    """
    Join stars of different frames that lie at one place.

    Parameters
    ----------
    positions : mapping of int to ndarray, shape (N, 2)
        The stars of each frame on the common grid, px.
    reach : mapping of int to ndarray, shape (N,)
        Their 1-sigma position errors there, px.
    extra : float
        Error of the maps to that grid, px.

    Returns
    -------
    Tracks
        Each with one star of a frame at most. Of a chain of stars that are neighbors, those pairs
        are joined that are nearest in units of their errors. Where hundreds of frames show the same
        stars there are too many pairs; frames are then joined one after the other.
    """
    names = sorted(positions)
    xy = np.concatenate([positions[k] for k in names])
    err = np.concatenate([reach[k] for k in names])
    frame = np.repeat(names, [len(positions[k]) for k in names])
    star = np.concatenate([np.arange(len(positions[k])) for k in names])
    gate = 5 * float(np.hypot(1.5 * np.percentile(err, 95), extra))
    if Neighbors(xy).count(xy, gate).sum() > 2 * _MOST_PAIRS:
        return _join_in_turn(frame, star, xy, err, gate, extra)
    near = np.column_stack(neighbor_pairs(xy, gate))
    near = near[frame[near[:, 0]] != frame[near[:, 1]]]
    gap2 = np.sum((xy[near[:, 0]] - xy[near[:, 1]]) ** 2, axis=1)
    variance = err[near[:, 0]] ** 2 + err[near[:, 1]] ** 2 + extra**2
    distance2 = gap2 / variance
    order = np.argsort(distance2, kind="stable")
    order = order[distance2[order] < _LIMIT]
    return merge(frame, star, near[order])


def _join_in_turn(
    frame: IntArray, star: IntArray, xy: FloatArray, err: FloatArray, gate: float, extra: float
) -> Tracks:
    """Join the stars of one frame after the other to those that are known by then."""
    track = np.empty(len(frame), dtype=np.intp)
    weight, sums = np.zeros(len(frame)), np.zeros((len(frame), 2))
    n = 0
    for k in np.unique(frame):
        mine = np.flatnonzero(frame == k)
        own = err[mine] ** 2
        to = np.full(len(mine), -1)
        if n:
            mean, variance = sums[:n] / weight[:n, np.newaxis], 1 / weight[:n]
            distance, near = Neighbors(mean).nearest(xy[mine])
            found = np.flatnonzero(distance < gate)
            known = near[found]
            distance2 = distance[found] ** 2 / (own[found] + variance[known] + extra**2)
            good = distance2 < _LIMIT
            found, known, distance2 = found[good], known[good], distance2[good]
            order = np.argsort(distance2, kind="stable")
            _, first = np.unique(known[order], return_index=True)  # the nearest one of each
            to[found[order][first]] = known[order][first]
        new = to < 0
        to[new] = n + np.arange(np.count_nonzero(new))
        n += int(np.count_nonzero(new))
        track[mine] = to
        weight[to] += 1 / own
        sums[to] += xy[mine] / own[:, np.newaxis]
    return Tracks(frame, star, track).only(np.ones(len(frame), bool))


def merge(frame: IntArray, star: IntArray, pairs: IntArray) -> Tracks:
    """
    Join observations by pairs, the first ones first.

    Parameters
    ----------
    frame, star : ndarray of int, shape (N,)
        Of each observation.
    pairs : ndarray of int, shape (P, 2)
        Observations of one star. A pair that would give a track two stars of a frame is left out.

    Returns
    -------
    Tracks
    """
    n, n_frames = len(frame), int(frame.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    track = connected_components(graph, directed=False)[1].astype(np.intp)
    # where all that is connected is of different frames, the order of the pairs makes no difference
    place = np.sort(track * n_frames + frame)
    mixed = np.zeros(n, bool)
    mixed[place[1:][place[1:] == place[:-1]] // n_frames] = True
    rest = np.flatnonzero(mixed[track])
    track[rest] = n + _in_order(frame, rest, pairs[mixed[track[pairs[:, 0]]]])
    return Tracks(frame, star, track).only(np.ones(n, bool))


def _in_order(frame: IntArray, some: IntArray, pairs: IntArray) -> IntArray:
    """Join some of the observations by pairs; return a number for each that its track shares."""
    members = {n: {f: n} for n, f in zip(some.tolist(), frame[some].tolist(), strict=True)}
    group = {n: n for n in members}
    for a, b in pairs.tolist():
        one, two = group[a], group[b]
        if one == two or members[one].keys() & members[two].keys():
            continue
        if len(members[one]) < len(members[two]):
            one, two = two, one
        members[one].update(members[two])
        for n in members[two].values():
            group[n] = one
    return np.array(list(group.values()), dtype=np.intp)
