"""The same star in all frames that show it: a track."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Tracks", "join", "merge"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


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
        are joined that are nearest in units of their errors.
    """
    names = sorted(positions)
    xy = np.concatenate([positions[k] for k in names])
    err = np.concatenate([reach[k] for k in names])
    frame = np.repeat(names, [len(positions[k]) for k in names])
    star = np.concatenate([np.arange(len(positions[k])) for k in names])
    gate = 5 * float(np.hypot(1.5 * np.percentile(err, 95), extra))
    near = cKDTree(xy).query_pairs(gate, output_type="ndarray")
    near = near[frame[near[:, 0]] != frame[near[:, 1]]]
    gap2 = np.sum((xy[near[:, 0]] - xy[near[:, 1]]) ** 2, axis=1)
    variance = err[near[:, 0]] ** 2 + err[near[:, 1]] ** 2 + extra**2
    distance2 = gap2 / variance
    order = np.argsort(distance2, kind="stable")
    order = order[distance2[order] < 25]
    return merge(frame, star, near[order])


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
    members: list[dict[int, int]] = [{int(f): n} for n, f in enumerate(frame)]
    group = list(range(len(frame)))
    for a, b in pairs.tolist():
        one, two = group[a], group[b]
        if one == two or members[one].keys() & members[two].keys():
            continue
        if len(members[one]) < len(members[two]):
            one, two = two, one
        members[one].update(members[two])
        for n in members[two].values():
            group[n] = one
    everything = Tracks(frame, star, np.array(group, dtype=np.intp))
    return everything.only(np.ones(len(frame), bool))
