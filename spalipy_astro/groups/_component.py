"""One connected part of a group: from links to alignments on one grid."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray
from scipy import sparse

from spalipy_astro.alignment import Alignment
from spalipy_astro.fitting import SplineSpace
from spalipy_astro.groups._alignments import alignments_of
from spalipy_astro.groups._blocks import levels_of
from spalipy_astro.groups._cameras import Undetermined, cameras_of
from spalipy_astro.groups._geometry import Lone, by_geometry
from spalipy_astro.groups._graph import Link, chain, closing
from spalipy_astro.groups._joint import JointErrors, place_group, solve_group
from spalipy_astro.groups._layout import Labels, frame_of, start
from spalipy_astro.groups._solution import Solution
from spalipy_astro.groups._tracks import Tracks, join, merge
from spalipy_astro.registration import StarFrame

__all__ = ["Component", "solve_component"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_COARSER = ((1, 3), (1, 2))  # cells and degrees of distortions of very many frames
_WIDEST = 4000  # unknowns of a level: 0.1 GB, and some seconds for a solution
_COARSE, _FINE = 0.5, 0.15  # px: errors of the maps when stars are joined
_ROUNDS = 8  # of placing frames with more and more links


@dataclass(frozen=True)
class Component:
    """
    Frames on one grid.

    Attributes
    ----------
    reference : int
    alignments : dict of int to Alignment
    links : list of (Link, float)
        Those that were used, with the rms of their stars after the joint solution, grid px.
    dropped : list of Link
        Those that contradict the others.
    cameras : dict of int to Alignment or Undetermined
        The distortion of each camera that frames share.
    errors : JointErrors
        Of all maps.
    by_geometry : frozenset of int
        Frames without stars in common with others, placed by the geometry of the chips.
    refused : dict of int to str
        Why others of that kind could not be placed so.
    """

    reference: int
    alignments: dict[int, Alignment]
    links: list[tuple[Link, float]]
    dropped: list[Link]
    cameras: dict[int, Alignment | Undetermined]
    errors: JointErrors
    by_geometry: frozenset[int]
    refused: dict[int, str]


def solve_component(
    frames: Sequence[StarFrame | None],
    links: Sequence[Link],
    root: int,
    *,
    labels: Labels,
    lone: Mapping[int, Lone],
    spline_order: int,
    options: Mapping[str, Any],
) -> Component:
    """
    Solve for the maps of all frames that are connected with one.

    Parameters
    ----------
    frames : sequence of StarFrame or None
    links : sequence of Link
        Those of this part, with the most stars first.
    root : int
        The reference.
    labels : Labels
        What frames share.
    lone : mapping of int to Lone
        Frames that no link connects; chips among them are placed by their geometry.
    spline_order : int
        0 if there are to be no distortions.
    options : mapping
        To be kept with the results.

    Returns
    -------
    Component
    """
    placed, kept, dropped = _place(frames, links, root)
    solution = start(frames, placed, root, labels)
    layout = solution.layout
    bent = spline_order > 0 and not set(layout.camera.values()) <= layout.straight
    tracks = _tracks_of(kept, frames)
    place_group(solution, *_seen(frames, tracks), bent=bent and not layout.own)
    tracks = _joined(solution, frames, _COARSE)
    if bent and layout.own:
        space = _space_for(solution, tracks)
        bent = space is not None
        if space is not None:
            solution.layout = replace(layout, space=space)
    place_group(solution, *_seen(frames, tracks), bent=bent)
    tracks = _joined(solution, frames, _FINE)
    solved = solve_group(solution, *_seen(frames, tracks), bent=bent)
    tracks = tracks.only(solved.used)
    alignments = alignments_of(solution, solved, frames, tracks, root, labels, kept, options)
    after = [(link, _gap(solution, frames, link)) for link in kept]
    cameras = cameras_of(solution, solved, frames)
    members = np.unique(tracks.frame).tolist()
    solved, more, refused = by_geometry(solution, solved, frames, labels, lone, members, alignments)
    return Component(
        root,
        {**alignments, **more},
        after,
        dropped,
        cameras,
        solved.errors,
        frozenset(more),
        refused,
    )


def _place(
    frames: Sequence[StarFrame | None], links: Sequence[Link], root: int
) -> tuple[dict[int, FloatArray], list[Link], list[Link]]:
    """
    Return affine maps of all frames, the links that agree with them, and the others.

    Along a chain errors add up, so that in a large group good links seem to contradict: all links
    that agree then place the frames anew, until no more of them do.
    """
    placed = chain(root, links)
    kept, dropped = closing(links, placed, frames)
    for _ in range(_ROUNDS):
        if not dropped:
            break
        solution = start(frames, placed, root, Labels())
        place_group(solution, *_seen(frames, _tracks_of(kept, frames)), bent=False)
        better = {}
        for k in placed:
            affine, middle = solution.affine(k), solution.layout.middle[k]
            linear = affine[1:] / solution.layout.radius
            better[k] = np.vstack((affine[:1] - middle @ linear, linear))
        again, left = closing(links, better, frames)
        if len(again) <= len(kept):
            break
        placed, kept, dropped = better, again, left
    return placed, kept, dropped


def _space_for(solution: Solution, tracks: Tracks) -> SplineSpace | None:
    """Return the finest space of distortions for which the solution fits into memory."""
    layout = solution.layout
    names = [k for k in sorted(layout.exposure) if layout.exposure[k] != layout.fixed_exposure]
    place = np.full(max(layout.exposure) + 1, -1)
    place[names] = np.arange(len(names))
    good = place[tracks.frame] >= 0
    shows = sparse.csr_matrix(
        (np.ones(np.count_nonzero(good)), (tracks.track[good], place[tracks.frame[good]]))
    )
    both = sparse.triu(shows.T @ shows, 1).tocoo()
    pairs = np.column_stack((both.row, both.col)).astype(np.intp)
    widest = max(len(level) for level in levels_of(len(names), pairs))
    box = np.array(layout.space.bounds).T
    coarser = (SplineSpace.covering(box, cells, degree) for cells, degree in _COARSER)
    for space in (layout.space, *coarser):
        if widest * space.size <= _WIDEST:
            return space
    warnings.warn(
        f"The maps of the frames are affine, without distortions: {widest} frames overlap in such "
        "a way that a distortion each is too much. If they are from one camera, camera='shared' "
        "solves for its distortion.",
        AstropyUserWarning,
        stacklevel=2,
    )
    return None


def _gap(solution: Solution, frames: Sequence[StarFrame | None], link: Link) -> float:
    """Return the rms distance of the stars of a link, grid px."""
    a = solution.apply(link.i, frame_of(frames, link.i).stars.xy[link.stars_i])
    b = solution.apply(link.j, frame_of(frames, link.j).stars.xy[link.stars_j])
    return float(np.sqrt(np.mean(np.sum((a - b) ** 2, axis=1))))


def _tracks_of(links: Sequence[Link], frames: Sequence[StarFrame | None]) -> Tracks:
    """Return the tracks of the stars that pairs have matched."""
    names = sorted({k for link in links for k in (link.i, link.j)})
    counts = [len(frame_of(frames, k).stars) for k in names]
    begin = dict(zip(names, np.cumsum([0, *counts]).tolist(), strict=False))
    frame = np.repeat(names, counts)
    star = np.concatenate([np.arange(n) for n in counts])
    pairs = [
        np.column_stack((begin[link.i] + link.stars_i, begin[link.j] + link.stars_j))
        for link in links
    ]
    return merge(frame, star, np.concatenate(pairs))


def _joined(solution: Solution, frames: Sequence[StarFrame | None], extra: float) -> Tracks:
    """Return the tracks of the stars that lie at one place, where maps are off by so many px."""
    names = sorted(solution.layout.exposure)
    at = {k: solution.apply(k, frame_of(frames, k).stars.xy) for k in names}
    err = {k: frame_of(frames, k).stars.search_err * solution.scale(k) for k in names}
    return join(at, err, extra)


def _seen(
    frames: Sequence[StarFrame | None], tracks: Tracks
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Return frame, track, position and error of each observation."""
    stars = {k: frame_of(frames, k).stars for k in np.unique(tracks.frame).tolist()}
    return tracks.frame, tracks.track, *tracks.positions(stars)
