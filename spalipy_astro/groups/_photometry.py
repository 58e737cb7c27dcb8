"""One flux scale for a group: how bright its stars are in each frame, and how good the frames."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spalipy_astro.alignment import Alignment, flux_ratio
from spalipy_astro.batch import quality_of
from spalipy_astro.groups._sources import Sheet

__all__ = ["on_one_scale", "quality_columns", "with_fluxes"]

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_QUALITY = (
    *("n_stars", "fwhm", "fwhm_arcsec", "ellipticity", "orientation", "background", "noise"),
    *("depth", "flux_ratio", "flux_ratio_err", "exptime"),
)
_SMALLEST = 1e-4  # error of a ratio, so that no pair outweighs all others


def on_one_scale(
    alignments: Mapping[int, Alignment],
    links: Table,
    top: int,
    quality: Mapping[int, Mapping[str, float]],
) -> dict[int, Alignment]:
    """
    Give the alignments of a component the fluxes of their stars in the reference.

    Parameters
    ----------
    alignments : mapping of int to Alignment
        The frames of the component; ``template_row`` of their matches is the number of a star.
    links : `~astropy.table.Table`
        As that of a group; those that were used connect the frames.
    top : int
        The reference.
    quality : mapping of int to mapping
        How good each frame is; see `measure_quality`.

    Returns
    -------
    dict of int to Alignment
        ``flux_template`` of a match is the mean of what the other frames show, on the scale of the
        reference; NaN where that is not known. ``provenance`` has the quality of both frames.

    Notes
    -----
    The robust mean ratios of all pairs, by least squares of their logarithms.
    """
    frames = sorted(alignments)
    scale = _scales(alignments, frames, links, top)
    rows, fluxes, owners = [], [], []
    for k in frames:
        matches = alignments[k].matches
        rows.append(np.asarray(matches["template_row"], int))
        fluxes.append(np.asarray(matches["flux_source"], float) / scale[k])
        owners.append(np.full(len(matches), k))
    star, flux, owner = (np.concatenate(parts) for parts in (rows, fluxes, owners))
    good = np.isfinite(flux) & (flux > 0)
    size = int(star.max(initial=-1)) + 1
    total = np.bincount(star[good], flux[good], size)
    number = np.bincount(star[good], minlength=size)
    mean = np.full(len(star), np.nan)
    others = number[star] - good
    np.divide(total[star] - np.where(good, flux, 0.0), others, out=mean, where=others > 0)
    found = {}
    for k in frames:
        matches = QTable(alignments[k].matches)
        own = owner == k
        matches["flux_template"] = matches["flux_source"] if k == top else mean[own]
        known = {"source": quality.get(k), "template": quality.get(top)}
        known = {side: dict(figures) for side, figures in known.items() if figures}
        record: dict[str, Any] = dict(alignments[k].provenance)
        if known:
            record["quality"] = known
        found[k] = replace(alignments[k], matches=matches, provenance=record)
    return found


def _scales(
    alignments: Mapping[int, Alignment], frames: Sequence[int], links: Table, top: int
) -> dict[int, float]:
    """Return the flux of stars in each frame over that in the reference; NaN if not known."""
    place = {k: n for n, k in enumerate(frames)}
    rows, values, pairs = [np.eye(len(frames))[place[top]]], [0.0], []
    for i, j, used in zip(links["i"], links["j"], links["used"], strict=True):
        if not used or i not in place or j not in place:
            continue
        ratio, error = _ratio(alignments[i].matches, alignments[j].matches)
        if not (np.isfinite(ratio) and np.isfinite(error)):
            continue
        weight = 1 / max(error / ratio, _SMALLEST)
        row = np.zeros(len(frames))
        row[place[i]], row[place[j]] = weight, -weight
        rows.append(row)
        values.append(weight * np.log(ratio))
        pairs.append((place[i], place[j]))
    # the reference is held as firmly as the best pair
    rows[0] /= _SMALLEST
    scale = np.exp(np.linalg.lstsq(np.array(rows), np.array(values))[0])
    one, two = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(one)), (one, two)), shape=(len(frames),) * 2)
    part = connected_components(graph, directed=False)[1]
    scale[part != part[place[top]]] = np.nan
    return {k: float(scale[n]) for n, k in enumerate(frames)}


def _ratio(one: Table, two: Table) -> tuple[float, float]:
    """Return how much brighter the stars are in one frame than in another, and its error."""
    _, a, b = np.intersect1d(one["template_row"], two["template_row"], return_indices=True)
    if not len(a):
        return np.nan, np.nan
    columns = {
        "flux_source": np.asarray(one["flux_source"], float)[a],
        "flux_template": np.asarray(two["flux_source"], float)[b],
        "used": np.asarray(one["used"], bool)[a] & np.asarray(two["used"], bool)[b],
    }
    return flux_ratio(QTable(columns))


def quality_columns(
    alignments: Sequence[Alignment | None], quality: Mapping[int, Mapping[str, float]]
) -> dict[str, NDArray[Any]]:
    """
    Return the columns that tell how good frames are, as `align_many` has them.

    Parameters
    ----------
    alignments : sequence of Alignment or None
    quality : mapping of int to mapping
        Of the frames whose stars were found.

    Returns
    -------
    dict of str to ndarray
        NaN, and 0 stars, where nothing is known.
    """
    rows = []
    for k, alignment in enumerate(alignments):
        row = quality_of(quality.get(k, {}))
        if alignment is not None:
            row["flux_ratio"], row["flux_ratio_err"] = alignment.flux_ratio
        rows.append(row)
    return {
        name: np.array([row.get(name, 0 if name == "n_stars" else np.nan) for row in rows])
        for name in _QUALITY
    }


def with_fluxes(
    placed: Sequence[tuple[int, Sheet, Alignment]],
) -> list[tuple[int, Sheet, Alignment]]:
    """Leave out frames that were placed without a star in common with others, and say so."""
    kept = [one for one in placed if len(one[2].matches)]
    if not kept:  # what lacks fluxes is told of when they are resampled
        return list(placed)
    for k, _, alignment in placed:
        if not len(alignment.matches):
            log.warning("scale_flux: image %d is left out, since no star tells its flux scale.", k)
    return kept
