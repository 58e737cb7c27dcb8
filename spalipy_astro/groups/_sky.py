"""A catalog of the sky as one more frame of a group, whose positions do not move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.catalogs import as_stars, epoch_of, project_catalog
from spalipy_astro.errors import AlignmentError, NoMatchError
from spalipy_astro.groups._graph import Link, apply, chain, compose, parts_of
from spalipy_astro.matching import Priors, StarField, match_stars
from spalipy_astro.registration import FindOptions, StarFrame
from spalipy_astro.wcs import similarity_between

__all__ = ["Sky", "with_catalog"]

FloatArray = NDArray[np.float64]

_TRIES = 4  # frames of a part that are sought in the whole catalog before it is given up
_AROUND = 0.25  # of a frame's diagonal: what is looked at around where it should be
_OFF = 3.0  # px: by how much its place may be off, and ...
_OFF_SHARE = 0.02  # ... of its distance from the frame by which it is known
_SURE = 5.0  # deg of rotation
_MANY = 40  # stars by which a cubic map is known
_EXACT = 0.01  # px: smallest error of a catalog that tells none
_UNIT = (1 / 1.2, 1.2)  # scales where the size of the pixels is known


@dataclass(frozen=True)
class Sky:
    """
    A catalog among the frames of a group.

    Attributes
    ----------
    frame : StarFrame
        Its stars on a plane, with the WCS of that plane.
    links : list of Link
        Frames that show stars of it.
    """

    frame: StarFrame
    links: list[Link]


def with_catalog(
    catalog: Any,
    frames: Sequence[StarFrame | None],
    links: Sequence[Link],
    given: FindOptions,
) -> Sky:
    """
    Find the frames of a group in a catalog of the sky.

    Parameters
    ----------
    catalog : object
        As for `project_catalog`.
    frames : sequence of StarFrame or None
    links : sequence of Link
        Between frames, with the most stars first.
    given : FindOptions
        With the pointing, the pixel scale and the epoch, where they are known.

    Returns
    -------
    Sky
        Of a part of the group one frame is sought in all of the catalog; where the others are
        follows from it, so that they need few stars.

    Raises
    ------
    NoMatchError
        If no frame is found in it.
    CatalogError
        If the catalog lacks what it must have.
    """
    sky = dict(given.sky)
    if given.epoch is None:
        sky["epoch"] = _epoch(frames)
    parts = _parts(frames, links)
    tries = [frames[k] for part in parts for k in part[:_TRIES]]
    sizes = (_sought(catalog, frame, sky, given) for frame in tries)
    size = next((size for size in sizes if size is not None), None)
    if size is None:
        raise NoMatchError(
            f"reference: none of {len(tries)} frames that were tried is in the catalog. Check that "
            "it shows the part of the sky of the images, and give position=, radius= and "
            "pixel_scale= if it is wider than a few fields."
        )
    # all on pixels of the size of the frames'
    sky["pixel_scale"] = size
    plane = _plane(catalog, sky, given, None)
    found: list[Link] = []
    for part in parts:
        found += _links_of(part, frames, links, plane)
    if plane.stars.err is None:
        errors = np.full(len(plane.stars), _scatter(frames, found, plane))
        plane = replace(plane, stars=replace(plane.stars, err=errors))
    return Sky(plane, sorted(found, key=lambda link: (-len(link.stars_i), link.i)))


def _scatter(frames: Sequence[StarFrame | None], links: Sequence[Link], plane: StarFrame) -> float:
    """Return the error of a catalog that tells none, px: what frames' own do not explain."""
    excess, count = 0.0, 0
    for link in links:
        frame = frames[link.i]
        assert frame is not None
        s, t = frame.stars.xy[link.stars_i], plane.stars.xy[link.stars_j]
        u = (s - s.mean(axis=0)) / np.ptp(s, axis=0).max()
        degree = 3 if len(s) >= _MANY else 1
        powers = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
        terms = np.column_stack([u[:, 0] ** a * u[:, 1] ** b for a, b in powers])
        gap2 = np.sum((t - terms @ np.linalg.lstsq(terms, t, rcond=None)[0]) ** 2, axis=1)
        free = max(len(s) - len(powers), 1) / len(s)
        own = frame.stars.search_err[link.stars_i] ** 2 * abs(np.linalg.det(link.matrix[1:]))
        # half of the squares lie below 2 ln 2 of the variance along an axis
        excess += len(s) * (
            float(np.median(gap2)) / (2 * np.log(2.0) * free) - float(np.median(own))
        )
        count += len(s)
    return float(np.sqrt(max(excess / max(count, 1), _EXACT**2)))


def _epoch(frames: Sequence[StarFrame | None]) -> Any:
    """Return when the first frame of known time was taken."""
    known = (epoch_of(SimpleNamespace(meta=f.header)) for f in frames if f is not None)
    return next((epoch for epoch in known if epoch is not None), None)


def _parts(frames: Sequence[StarFrame | None], links: Sequence[Link]) -> list[list[int]]:
    """Return the connected frames, those with the most stars first."""
    label = parts_of(len(frames), links)
    there = [k for k, frame in enumerate(frames) if frame is not None]
    parts = [[k for k in there if label[k] == name] for name in dict.fromkeys(sorted(label))]
    return [sorted(part, key=lambda k: (-len(frames[k].stars), k)) for part in parts if part]  # type: ignore[union-attr]


def _plane(
    catalog: Any, sky: Mapping[str, Any], given: FindOptions, source: StarFrame | None
) -> StarFrame:
    """Return the catalog on a plane; with a source, what lies near where it points."""
    near: dict[str, Any] = {}
    if source is not None:
        shape = source.shape
        size = tuple(np.ptp(source.stars.xy, axis=0) + 1) if shape is None else shape[::-1]
        near = {"source_wcs": source.wcs, "source_size": size}
    plane = project_catalog(catalog, **near, **sky)
    stars = as_stars(plane.table, name="reference", select=given.select)
    return StarFrame(
        replace(stars, row=plane.row[stars.row]),
        StarField(stars.xy, stars.search_err),
        None,
        plane.wcs,
        len(plane.table),
        unit=plane.pixel_scale,
    )


def _sought(
    catalog: Any, frame: StarFrame | None, sky: Mapping[str, Any], given: FindOptions
) -> float | None:
    """Return the size of a frame's pixels, arcsec, if it is found in a catalog."""
    assert frame is not None
    try:
        plane = _plane(catalog, sky, given, frame)
        scale = _UNIT if sky["pixel_scale"] is not None else Priors.scale
        link = _whole(0, frame, 1, plane, scale)
    except NoMatchError:
        return None
    if link is None:
        return None
    return plane.unit * float(np.sqrt(abs(np.linalg.det(link.matrix[1:]))))


def _whole(
    i: int, frame: StarFrame, j: int, plane: StarFrame, scale: tuple[float, float]
) -> Link | None:
    """Seek a frame in all of a catalog, first where its WCS says."""
    known = similarity_between(frame.wcs, plane.wcs, frame.shape)
    priors = [Priors(scale)]
    if known is not None and frame.shape is not None:
        size, angle, sign, target = known
        reach = 0.25 * float(np.hypot(*frame.shape)) * size
        turned = (angle - _SURE, angle + _SURE)
        priors.insert(0, Priors((size / 1.1, size * 1.1), turned, sign, reach, target))
    for prior in priors:
        try:
            match = match_stars(frame.field, plane.field, priors=prior, source_shape=frame.shape)
        except AlignmentError:
            continue
        return Link.of(
            i, j, frame.stars.xy, plane.stars.xy, match.source, match.template, match.log_odds
        )
    return None


def _links_of(
    part: Sequence[int],
    frames: Sequence[StarFrame | None],
    links: Sequence[Link],
    plane: StarFrame,
) -> list[Link]:
    """Return the links of connected frames with a catalog."""
    sky = len(frames)
    first = None
    for k in part[:_TRIES]:
        frame = frames[k]
        assert frame is not None
        if (first := _whole(k, frame, sky, plane, _UNIT)) is not None:
            break
    if first is None:
        return []
    found = [first]
    placed = chain(first.i, [link for link in links if link.i in part])
    for k in part:
        frame = frames[k]
        if k == first.i or k not in placed or frame is None:
            continue
        link = _expected(k, frame, sky, plane, compose(placed[k], first.matrix), first.matrix[0])
        if link is not None:
            found.append(link)
    return found


def _expected(
    i: int, frame: StarFrame, j: int, plane: StarFrame, affine: FloatArray, origin: FloatArray
) -> Link | None:
    """Look for a frame in a catalog where it should be."""
    low, high = frame.stars.xy.min(axis=0), frame.stars.xy.max(axis=0)
    if frame.shape is not None:
        low, high = np.zeros(2), np.array(frame.shape[::-1]) - 1.0
    center = apply(affine, (low + high)[np.newaxis] / 2)[0]
    scale = float(abs(np.linalg.det(affine[1:])) ** 0.5)
    size = float(np.hypot(*(high - low))) * scale
    off = _OFF + _OFF_SHARE * float(np.hypot(*(center - origin)))
    stars = plane.stars
    inside = np.flatnonzero(np.hypot(*(stars.xy - center).T) < (0.5 + _AROUND) * size + off)
    if len(inside) < 3:
        return None
    angle = float(np.degrees(np.arctan2(affine[1, 1], affine[1, 0])))
    prior = Priors(
        (scale / 1.05, scale * 1.05),
        (angle - _SURE, angle + _SURE),
        1 if np.linalg.det(affine[1:]) > 0 else -1,
        off,
        (float(center[0]), float(center[1])),
    )
    field = StarField(stars.xy[inside], stars.search_err[inside])
    try:
        match = match_stars(frame.field, field, priors=prior, source_shape=frame.shape)
    except AlignmentError:
        return None
    return Link.of(
        i, j, frame.stars.xy, stars.xy, match.source, inside[match.template], match.log_odds
    )
