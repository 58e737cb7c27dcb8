"""Chips without stars in common with other frames, placed by the geometry of their camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spalipy_astro._geometry import inside
from spalipy_astro._neighbors import Neighbors
from spalipy_astro.alignment import Alignment
from spalipy_astro.groups._alignments import errors_of, model_of
from spalipy_astro.groups._joint import Solved
from spalipy_astro.groups._layout import Labels, frame_of
from spalipy_astro.groups._solution import Layout, Solution
from spalipy_astro.registration import StarFrame

__all__ = ["Lone", "by_geometry"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_BRIGHTEST = 50  # stars of a chip that are looked for in other frames
_TELLING = 8  # of them where other frames should show them, too, tell whether the chip is there
_SEEN = 0.25  # share of these that must be there
_NEAR = 1.0, 5.0  # px, and sigma of the place: how near


@dataclass(frozen=True)
class Lone:
    """
    A frame that no star connects with any other.

    Attributes
    ----------
    shape : (ny, nx)
        Of its image.
    reason : str
        What is wrong with its stars.
    """

    shape: tuple[int, int]
    reason: str


def by_geometry(
    solution: Solution,
    solved: Solved,
    frames: Sequence[StarFrame | None],
    labels: Labels,
    lone: Mapping[int, Lone],
    members: Sequence[int],
    known: Mapping[int, Alignment],
) -> tuple[Solved, dict[int, Alignment], dict[int, str]]:
    """
    Place frames that have a chip and an exposure which other frames of a component place.

    Parameters
    ----------
    solution : Solution
        Its layout gets the frames that are placed.
    solved : Solved
    frames : sequence of StarFrame or None
    labels : Labels
    lone : mapping of int to Lone
        The frames that no star connects.
    members : sequence of int
        Frames of the component with stars that were used.
    known : mapping of int to Alignment
        Those of the component.

    Returns
    -------
    solved : Solved
        With the errors of these frames.
    alignments : dict of int to Alignment
        Of those that could be placed; without matches.
    reasons : dict of int to str
        Why others, whose chip and exposure are there, could not be.

    Notes
    -----
    The place of a chip in an exposure follows only if a chain of frames, each of which has the chip
    or the exposure of the next, leads from the one to the other. Its error is that of the chip and
    that of the pointing, from the joint covariance. Where its own stars should be in other frames,
    too, and are not, its labels are wrong, or its image is, and it is not placed.
    """
    placed = _placed(solution.layout, labels, frames, lone, members)
    if not placed:
        return solved, {}, {}
    layout = solution.layout
    mate = {camera: k for k, camera in layout.camera.items()}
    solution.layout = replace(
        layout,
        exposure={**layout.exposure, **{k: labels.exposure(k) for k in placed}},
        chip={**layout.chip, **{k: labels.chip(k) for k in placed}},
        camera={**layout.camera, **{k: labels.camera(k) for k in placed}},
        middle={**layout.middle, **{k: layout.middle[mate[labels.camera(k)]] for k in placed}},
    )
    maps = {**solved.errors.maps, **{k: solved.equations.maps(k) for k in placed}}
    errors = replace(solved.errors, maps=maps)
    each = {**solved.each, **{k: errors.factors(k)[0] for k in placed}}
    solved = replace(solved, errors=errors, each=each)
    top = next(iter(known.values()))
    found, reasons = {}, {}
    for k in placed:
        try:
            alignment = Alignment.from_transform(
                model_of(solution, k),
                source_shape=lone[k].shape,
                template_shape=top.template_shape,
                wcs=top.original_wcs,
            )
        except ValueError as error:
            reasons[k] = f"where the geometry of the chips puts it: {error}"
            continue
        terms = errors_of(solution, solved, labels, k)
        alignment = replace(alignment, _errors=terms, provenance=dict(top.provenance))
        frame = frames[k]
        if frame is not None and not _agrees(alignment, frame, frames, known):
            reasons[k] = (
                "its stars are not those that other frames show where the geometry of the chips "
                "puts it: check its labels of chip and exposure."
            )
            continue
        found[k] = alignment
    return solved, found, reasons


def _placed(
    layout: Layout,
    labels: Labels,
    frames: Sequence[StarFrame | None],
    lone: Mapping[int, Lone],
    members: Sequence[int],
) -> list[int]:
    """Return the frames whose chip and exposure are known relative to each other."""
    if labels.chips is None:
        return []
    exposures = {e: n for n, e in enumerate(sorted({layout.exposure[k] for k in members}))}
    chips = {c: n for n, c in enumerate(sorted({layout.chip[k] for k in members}))}
    size = len(exposures) + len(chips)
    rows = [exposures[layout.exposure[k]] for k in members]
    columns = [len(exposures) + chips[layout.chip[k]] for k in members]
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    part = connected_components(graph, directed=False)[1]
    cameras = {layout.camera[k] for k in members}
    shape = {layout.chip[k]: frame_of(frames, k).shape for k in members}
    return [
        k
        for k, one in sorted(lone.items())
        if labels.exposure(k) in exposures
        and labels.chip(k) in chips
        and labels.camera(k) in cameras
        and part[exposures[labels.exposure(k)]] == part[len(exposures) + chips[labels.chip(k)]]
        and shape[labels.chip(k)] == one.shape
    ]


def _agrees(
    alignment: Alignment,
    frame: StarFrame,
    frames: Sequence[StarFrame | None],
    known: Mapping[int, Alignment],
) -> bool:
    """Tell whether a frame's stars are where other frames have some, if these show the place."""
    xy = frame.stars.xy[:_BRIGHTEST]
    sky = np.column_stack(alignment.transform(*xy.T))
    near = _NEAR[0] + _NEAR[1] * np.asarray(alignment.error(*xy.T))
    shown, seen = np.zeros(len(xy), bool), np.zeros(len(xy), bool)
    for k, other in known.items():
        if other.source_shape is None:
            continue
        there = np.column_stack(other.transform.inverse(*sky.T))
        gap, _ = Neighbors(frame_of(frames, k).stars.xy).nearest(there)
        shown |= inside(there[:, 0], there[:, 1], other.source_shape)
        seen |= gap * other.scale < near
    number = int(np.count_nonzero(shown))
    return number < _TELLING or int(np.count_nonzero(seen & shown)) >= _SEEN * number
