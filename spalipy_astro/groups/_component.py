"""One connected part of a group: from links to alignments on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.modeling.models import AffineTransformation2D, Identity
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro.alignment import (
    Alignment,
    ErrorTerm,
    box_of,
    center_of,
    figures_of,
    provenance,
)
from spalipy_astro.fitting import Covariance, SplineSpace
from spalipy_astro.groups._graph import Link, apply, chain, closing, compose, invert
from spalipy_astro.groups._joint import Layout, Solution, solve_group
from spalipy_astro.groups._tracks import Tracks, join, merge
from spalipy_astro.models import SplineDistortion2D
from spalipy_astro.registration import StarFrame

__all__ = ["Component", "solve_component"]

FloatArray = NDArray[np.float64]

_CELLS, _DEGREE = 3, 3
_MAX_BENT = 2500  # unknowns up to which each frame may have a distortion of its own
_COARSE, _FINE = 0.5, 0.15  # px: errors of the maps when stars are joined


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
    """

    reference: int
    alignments: dict[int, Alignment]
    links: list[tuple[Link, float]]
    dropped: list[Link]


def solve_component(
    frames: Sequence[StarFrame | None],
    links: Sequence[Link],
    root: int,
    *,
    cameras: Sequence[int] | None,
    chips: Sequence[int] | None,
    exposures: Sequence[int] | None,
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
    cameras, chips, exposures : sequence of int or None
        Labels of all frames.
    spline_order : int
        0 if there are to be no distortions.
    options : mapping
        To be kept with the results.

    Returns
    -------
    Component
    """
    placed = chain(root, links)
    kept, dropped = closing(links, placed, frames)
    solution = _start(frames, placed, root, cameras, chips, exposures)
    size = solution.layout.space.size - 3
    n_bent = len(set(solution.layout.camera.values()) - solution.layout.straight)
    bent = spline_order > 0 and 2 * size * n_bent + 6 * len(placed) <= _MAX_BENT
    tracks = _tracks_of(kept, frames)
    used = _solve(solution, frames, tracks, bent=bent and cameras is not None)
    for extra in (_COARSE, _FINE):
        at = {k: solution.apply(k, _frame(frames, k).stars.xy) for k in placed}
        err = {k: _frame(frames, k).stars.search_err * _scale_of(solution, k) for k in placed}
        tracks = join(at, err, extra)
        used = _solve(solution, frames, tracks, bent=bent)
    tracks = tracks.only(used)
    alignments = _alignments(solution, frames, tracks, root, kept, options)
    after = [(link, _gap(solution, frames, link)) for link in kept]
    return Component(root, alignments, after, dropped)


def _frame(frames: Sequence[StarFrame | None], k: int) -> StarFrame:
    frame = frames[k]
    assert frame is not None
    return frame


def _scale_of(solution: Solution, k: int) -> float:
    """Grid px per px of a frame."""
    return float(abs(np.linalg.det(solution.affine(k)[1:])) ** 0.5 / solution.layout.radius)


def _gap(solution: Solution, frames: Sequence[StarFrame | None], link: Link) -> float:
    """Return the rms distance of the stars of a link, grid px."""
    a = solution.apply(link.i, _frame(frames, link.i).stars.xy[link.stars_i])
    b = solution.apply(link.j, _frame(frames, link.j).stars.xy[link.stars_j])
    return float(np.sqrt(np.mean(np.sum((a - b) ** 2, axis=1))))


def _start(
    frames: Sequence[StarFrame | None],
    placed: Mapping[int, FloatArray],
    root: int,
    cameras: Sequence[int] | None,
    chips: Sequence[int] | None,
    exposures: Sequence[int] | None,
) -> Solution:
    """Return affine maps by the chain, in the form of the layout."""
    names = sorted(placed)
    exposure = {k: k if exposures is None else exposures[k] for k in names}
    chip = {k: 0 if chips is None else chips[k] for k in names}
    if cameras is not None:
        camera = {k: cameras[k] for k in names}
    else:
        camera = dict(chip) if chips is not None else {k: k for k in names}
    box: dict[int, list[FloatArray]] = {}
    for k in names:
        frame = _frame(frames, k)
        if frame.shape is None:
            corners = np.vstack((frame.stars.xy.min(axis=0), frame.stars.xy.max(axis=0)))
        else:
            corners = np.array([[0.0, 0.0], [frame.shape[1] - 1.0, frame.shape[0] - 1.0]])
        box.setdefault(camera[k], []).append(corners)
    sides = {
        c: np.vstack((np.min([b[0] for b in all_], axis=0), np.max([b[1] for b in all_], axis=0)))
        for c, all_ in box.items()
    }
    middle = {k: sides[camera[k]].mean(axis=0) for k in names}
    half = np.max([(s[1] - s[0]) / 2 for s in sides.values()], axis=0)
    radius = float(np.hypot(*half))
    space = SplineSpace.covering(np.vstack((-half, half)) / radius, _CELLS, _DEGREE)
    straight = {camera[root]} if cameras is None and chips is None else set()
    layout = Layout(
        exposure, chip, camera, exposure[root], chip[root], straight, middle, radius, space
    )
    plain = {
        k: np.vstack((apply(placed[k], middle[k][np.newaxis]), radius * placed[k][1:]))
        for k in names
    }
    first = {exposure[root]: plain[root]}
    second = {chip[root]: np.vstack((np.zeros(2), np.eye(2)))}
    while True:
        before = len(first), len(second)
        for k in names:
            if exposure[k] in first and chip[k] not in second:
                second[chip[k]] = compose(plain[k], invert(first[exposure[k]]))
            elif chip[k] in second and exposure[k] not in first:
                first[exposure[k]] = compose(invert(second[chip[k]]), plain[k])
        if (len(first), len(second)) == before:
            return Solution(layout, first, second)


def _tracks_of(links: Sequence[Link], frames: Sequence[StarFrame | None]) -> Tracks:
    """Return the tracks of the stars that pairs have matched."""
    names = sorted({k for link in links for k in (link.i, link.j)})
    counts = [len(_frame(frames, k).stars) for k in names]
    start = dict(zip(names, np.cumsum([0, *counts]).tolist(), strict=False))
    frame = np.repeat(names, counts)
    star = np.concatenate([np.arange(n) for n in counts])
    pairs = [
        np.column_stack((start[link.i] + link.stars_i, start[link.j] + link.stars_j))
        for link in links
    ]
    return merge(frame, star, np.concatenate(pairs))


def _positions(frames: Sequence[StarFrame | None], tracks: Tracks) -> tuple[FloatArray, FloatArray]:
    """Return positions and errors of all observations, px of their frames."""
    xy, err = np.empty((len(tracks), 2)), np.empty(len(tracks))
    for k in np.unique(tracks.frame):
        mine, stars = tracks.frame == k, _frame(frames, int(k)).stars
        xy[mine] = stars.xy[tracks.star[mine]]
        err[mine] = stars.search_err[tracks.star[mine]]
    return xy, err


def _solve(
    solution: Solution, frames: Sequence[StarFrame | None], tracks: Tracks, *, bent: bool
) -> NDArray[np.bool_]:
    xy, err = _positions(frames, tracks)
    return solve_group(solution, tracks.frame, tracks.track, xy, err, bent=bent)


def _model(solution: Solution, k: int) -> Model:
    """Return the map of a frame as a model: distortion, then affine."""
    layout = solution.layout
    a, middle, radius = solution.affine(k), layout.middle[k], layout.radius
    linear = a[1:] / radius
    affine = AffineTransformation2D(
        matrix=linear.T, translation=a[0] - middle @ linear, name="affine"
    )
    bent = solution.distortions.get(layout.camera[k])
    if bent is None:
        return affine
    space = _in_pixels(layout, k)
    shape = (space.n_y, space.n_x)
    distortion = SplineDistortion2D(
        radius * bent[:, 0].reshape(shape),
        radius * bent[:, 1].reshape(shape),
        bounds=space.bounds,
        degree=space.degree,
        name="distortion",
    )
    return distortion | affine


def _in_pixels(layout: Layout, k: int) -> SplineSpace:
    """Return the space of the distortion in pixels of a frame."""
    space, (x, y) = layout.space, layout.middle[k]
    (x0, x1), (y0, y1) = (
        (float(c + layout.radius * lo), float(c + layout.radius * hi))
        for c, (lo, hi) in zip((x, y), space.bounds, strict=True)
    )
    return SplineSpace(((x0, x1), (y0, y1)), space.n_x, space.n_y, space.degree)


def _alignments(
    solution: Solution,
    frames: Sequence[StarFrame | None],
    tracks: Tracks,
    root: int,
    links: Sequence[Link],
    options: Mapping[str, Any],
) -> dict[int, Alignment]:
    """Wrap the maps of all frames."""
    xy, err = _positions(frames, tracks)
    image, sigma = np.empty_like(xy), np.empty(len(xy))
    names = sorted(solution.layout.exposure)
    for k in names:
        mine = tracks.frame == k
        image[mine] = solution.apply(k, xy[mine])
        sigma[mine] = err[mine] * _scale_of(solution, k)
    weight = sigma**-2.0
    total = np.bincount(tracks.track, weight)[tracks.track] - weight
    others = np.column_stack(
        [np.bincount(tracks.track, weight * v)[tracks.track] - weight * v for v in image.T]
    )
    others /= total[:, np.newaxis]  # where the other frames see the star
    scatter = np.sqrt(solution.noise * (sigma**2 + 1 / total))
    top = _frame(frames, root)
    n_tracks = int(tracks.track.max(initial=-1)) + 1
    found = {}
    for k in names:
        frame, mine = _frame(frames, k), np.flatnonzero(tracks.frame == k)
        mine = mine[np.argsort(tracks.star[mine])]
        star = tracks.star[mine]
        transform = _model(solution, k)
        offsets = others[mine] - image[mine]
        matches = QTable(
            {
                "x_source": xy[mine, 0],
                "y_source": xy[mine, 1],
                "x_template": others[mine, 0],
                "y_template": others[mine, 1],
                "flux_source": frame.stars.flux[star],
                "flux_template": np.full(len(mine), np.nan),
                "source_row": frame.stars.row[star],
                "template_row": tracks.track[mine],
                "dx": offsets[:, 0],
                "dy": offsets[:, 1],
                "sigma": scatter[mine],
                "used": np.ones(len(mine), bool),
            }
        )
        affine = solution.affine(k)
        plain = solution.layout.plain(k, xy[mine])
        boxes = tuple(f.shape or box_of(f.stars.xy) for f in (frame, top))
        freedom = solution.freedom / 2 / len(names)
        summary = {
            "n_source": len(frame.stars),
            "n_template": n_tracks,
            "n_expected": len(mine),
            "excess_scatter": 0.0,
            "log_odds": float(max((n.log_odds for n in links if k in (n.i, n.j)), default=0.0)),
            "hypotheses": 0,
            "freedom": freedom,
            **figures_of(
                transform,
                matches,
                affine[1:].T / solution.layout.radius,
                np.ravel(transform(*center_of(boxes[0]))),
                affine[0] + plain @ affine[1:],
                boxes,
                freedom,
            ),
        }
        covariance = Covariance(_in_pixels(solution.layout, k), solution.factor(k))
        found[k] = Alignment(
            transform=transform,
            matches=matches,
            source_shape=frame.shape,
            template_shape=top.shape,
            original_wcs=top.wcs,
            _summary=summary,
            _errors=(ErrorTerm(covariance, Identity(2), 1.0),),
            provenance=provenance(options),
        )
    return found
