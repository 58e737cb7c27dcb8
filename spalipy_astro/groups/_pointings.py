"""Where the WCSs of frames say that they point, and which pairs cannot overlap for that reason."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from spalipy_astro.groups._graph import Link
from spalipy_astro.registration import StarFrame

__all__ = ["Pointings"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_OFF = np.radians(0.25)  # by which the WCSs of a group may be wrong
_GAP = np.radians(1.0)  # between the edges of frames that certainly do not overlap


class Pointings:
    """
    What the WCSs of frames say, as far as their stars do not contradict.

    Parameters
    ----------
    frames : sequence of StarFrame or None
        Those with a shape, and a WCS with a sky and nothing else, count.
    """

    def __init__(self, frames: Sequence[StarFrame | None]) -> None:
        self._frames = frames
        self._gaps: dict[tuple[int, int], float] = {}

    @cached_property
    def _outlines(self) -> tuple[FloatArray, FloatArray]:
        """The centers, unit vectors of shape (N, 3), and radii, shape (N,), of all frames."""
        centers, radii = np.full((len(self._frames), 3), np.nan), np.full(len(self._frames), np.nan)
        for k, frame in enumerate(self._frames):
            if frame is None or frame.shape is None:
                continue
            ny, nx = frame.shape
            x, y = np.array([[nx / 2, 0, nx, 0, nx], [ny / 2, 0, 0, ny, ny]]) - 0.5
            sky = _on_sky(frame, x, y)
            centers[k], radii[k] = sky[0], np.max(_between(sky[:1], sky[1:]))
        return centers, radii

    def apart(self, links: Sequence[Link], i: IntArray, j: IntArray) -> NDArray[np.bool_]:
        """
        Return which pairs of frames certainly do not overlap.

        Parameters
        ----------
        links : sequence of Link
            Those that are known by now. Only the WCS of a frame is believed that has one that
            agrees, and none at all where one of them does not.
        i, j : ndarray of int, shape (P,)

        Returns
        -------
        ndarray of bool, shape (P,)
        """
        if not len(i):
            return np.zeros(0, bool)
        centers, radii = self._outlines
        sure = np.zeros(len(radii), bool)
        for link in links:
            gap = self._gap(link)
            if gap > _OFF:
                return np.zeros(len(i), bool)
            sure[[link.i, link.j]] |= gap <= _OFF
        far: NDArray[np.bool_] = _between(centers[i], centers[j]) > radii[i] + radii[j] + _GAP
        return far & sure[i] & sure[j]

    def _gap(self, link: Link) -> float:
        """Return how far apart two WCSs have the stars of a link; NaN where they say nothing."""
        pair = link.i, link.j
        if pair not in self._gaps:
            sky = []
            for k, stars in zip(pair, (link.stars_i, link.stars_j), strict=True):
                frame = self._frames[k]
                assert frame is not None
                sky.append(_on_sky(frame, *frame.stars.xy[stars].mean(axis=0)[:, np.newaxis]))
            self._gaps[pair] = float(_between(*sky)[0])
        return self._gaps[pair]


def _on_sky(frame: StarFrame, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return pixels as unit vectors, shape (N, 3); NaN where there is no sky."""
    none = np.full((len(x), 3), np.nan)
    if frame.wcs is None:
        return none
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sky = frame.wcs.pixel_to_world(x, y)
            if not isinstance(sky, SkyCoord):
                return none
            vectors: FloatArray = sky.icrs.cartesian.xyz.value.T
    except Exception:  # a header can be wrong in any way; it is only a hint here
        return none
    return vectors


def _between(one: FloatArray, two: FloatArray) -> FloatArray:
    """Return angles between unit vectors, radians."""
    half = np.linalg.norm(one - two, axis=1) / 2
    angles: FloatArray = 2 * np.arcsin(np.minimum(half, 1.0))
    return angles
