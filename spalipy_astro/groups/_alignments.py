"""The maps of a group as alignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from spalipy_astro.fitting import Covariance
from spalipy_astro.groups._graph import Link
from spalipy_astro.groups._joint import JointErrors, Solved
from spalipy_astro.groups._layout import Labels, frame_of
from spalipy_astro.groups._solution import Layout, Solution
from spalipy_astro.groups._tracks import Tracks
from spalipy_astro.models import SplineDistortion2D
from spalipy_astro.registration import StarFrame

__all__ = ["alignments_of", "between", "distortion_of", "errors_of", "model_of"]

FloatArray = NDArray[np.float64]


def distortion_of(layout: Layout, k: int, coefficients: FloatArray) -> SplineDistortion2D:
    """Return a distortion in pixels of a frame."""
    space = layout.in_pixels(k)
    shape = (space.n_y, space.n_x)
    return SplineDistortion2D(
        layout.radius * coefficients[:, 0].reshape(shape),
        layout.radius * coefficients[:, 1].reshape(shape),
        bounds=space.bounds,
        degree=space.degree,
        name="distortion",
    )


def model_of(solution: Solution, k: int) -> Model:
    """Return the map of a frame as a model: distortion, then affine."""
    layout = solution.layout
    a, middle = solution.affine(k), layout.middle[k]
    linear = a[1:] / layout.radius
    affine = AffineTransformation2D(
        matrix=linear.T, translation=a[0] - middle @ linear, name="affine"
    )
    name = layout.camera[k]
    if (known := layout.known.get(name)) is not None:
        return known.copy() | affine
    if (bent := solution.distortions.get(name)) is not None:
        return distortion_of(layout, k, bent) | affine
    return affine


def alignments_of(
    solution: Solution,
    solved: Solved,
    frames: Sequence[StarFrame | None],
    tracks: Tracks,
    root: int,
    labels: Labels,
    links: Sequence[Link],
    options: Mapping[str, Any],
) -> dict[int, Alignment]:
    """
    Wrap the maps of all frames.

    Parameters
    ----------
    solution : Solution
    solved : Solved
    frames : sequence of StarFrame or None
    tracks : Tracks
        Of the stars that were used.
    root : int
        The reference.
    labels : Labels
    links : sequence of Link
        Those that were used.
    options : mapping
        To be kept with the results.

    Returns
    -------
    dict of int to Alignment
        Of each frame, not of a catalog.
    """
    names = sorted(solution.layout.exposure)
    xy, err = tracks.positions({k: frame_of(frames, k).stars for k in names})
    image, sigma = np.empty_like(xy), np.empty(len(xy))
    for k in names:
        mine = tracks.frame == k
        image[mine] = solution.apply(k, xy[mine])
        sigma[mine] = err[mine] * solution.scale(k)
    weight = sigma**-2.0
    total = np.bincount(tracks.track, weight)[tracks.track] - weight
    others = np.column_stack(
        [np.bincount(tracks.track, weight * v)[tracks.track] - weight * v for v in image.T]
    )
    others /= total[:, np.newaxis]  # where the other frames see the star
    scatter = np.sqrt(solution.noise * (sigma**2 + 1 / total))
    top = frame_of(frames, root)
    n_tracks = int(tracks.track.max(initial=-1)) + 1
    odds = dict.fromkeys(names, 0.0)
    for link in links:
        for k in (link.i, link.j):
            odds[k] = max(odds[k], float(link.log_odds))
    found = {}
    for k in names:
        if k == labels.sky:
            continue
        frame, mine = frame_of(frames, k), np.flatnonzero(tracks.frame == k)
        mine = mine[np.argsort(tracks.star[mine])]
        star = tracks.star[mine]
        transform = model_of(solution, k)
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
            "log_odds": odds[k],
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
        found[k] = Alignment(
            transform=transform,
            matches=matches,
            source_shape=frame.shape,
            template_shape=top.shape,
            original_wcs=top.wcs,
            _summary=summary,
            _errors=errors_of(solution, solved, labels, k),
            provenance=provenance(options),
        )
    return found


def errors_of(solution: Solution, solved: Solved, labels: Labels, k: int) -> tuple[ErrorTerm, ...]:
    """Return the errors of a frame's map: of its own, and of the camera that was given."""
    layout = solution.layout
    covariance = Covariance(layout.in_pixels(k), solved.each[k])
    camera = labels.known.get(layout.camera[k])
    if camera is None:
        return (ErrorTerm(covariance, Identity(2), 1.0),)
    own = ErrorTerm(covariance, camera.transform, 1.0)
    return (own, *(term.seen_from(scale=solution.scale(k)) for term in camera._errors))


def between(one: Alignment, two: Alignment, joint: JointErrors, i: int, j: int) -> Alignment:
    """
    Return the alignment of two frames of a group with the errors that they do not share.

    Parameters
    ----------
    one, two : Alignment
        Theirs with the grid.
    joint : JointErrors
        Of all maps.
    i, j : int
        Their numbers there.

    Returns
    -------
    Alignment
        From pixels of i to pixels of j.
    """
    both = one.then(two.inverse)
    own, other = joint.factors(i, j)
    scale = 1 / two.scale
    first = one._errors[0]._replace(covariance=one._errors[0].covariance._replace(factor=own))
    second = two._errors[0]._replace(covariance=two._errors[0].covariance._replace(factor=other))
    joint_term = first.seen_from(scale=scale)._replace(less=second.seen_from(both.transform, scale))
    return replace(both, _errors=(joint_term, *_camera_errors(one, two, both)))


def _camera_errors(one: Alignment, two: Alignment, both: Alignment) -> list[ErrorTerm]:
    """Return the errors of the cameras that were given, at two places of one camera or of two."""
    scale = 1 / two.scale
    here = one._errors[1:]
    there = [term.seen_from(both.transform) for term in two._errors[1:]]
    same = len(here) == len(there) and all(
        np.array_equal(a.covariance.factor, b.covariance.factor) and a.covariance.bending is None
        for a, b in zip(here, there, strict=True)
    )
    if not same:
        return [term.seen_from(scale=scale) for term in (*here, *there)]
    # turned against each other, an axis of one goes with both of the other; mirrored, with none
    angle = np.radians(both.rotation) if both._summary["parity"] > 0 else np.pi / 2
    terms = []
    for a, b in zip(here, there, strict=True):
        along, across = (scale * float(f(angle)) for f in (np.cos, np.sin))
        terms.append(a.seen_from(scale=scale)._replace(less=b.seen_from(scale=along)))
        terms.append(b.seen_from(scale=across))
    return terms
