"""Methods that make alignments of alignments: the way back, chains, other pixel grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.modeling import Model
from astropy.modeling.models import Identity
from astropy.table import QTable

from spalipy_astro._checks import check_shape, checked_call, is_whole, numbers_of_pixels
from spalipy_astro._neighbors import Neighbors
from spalipy_astro.alignment._error import ErrorTerm
from spalipy_astro.alignment._summary import derived_figures
from spalipy_astro.wcs import SAME, Grid, regrid_backward, regrid_wcs

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = ["binned", "cropped", "inverted", "rescaled", "shifted", "then"]

Shape = tuple[int, int]

_SAME_STAR = 1.0  # px: positions of one star in two catalogs of the image in the middle


def inverted(alignment: Alignment) -> Alignment:
    """Return the alignment of the template with the source."""
    transform = alignment.transform.inverse
    scale = alignment._summary["scale"]
    old = alignment.matches
    matches = old.copy()
    for name in ("x", "y", "flux"):
        matches[f"{name}_source"], matches[f"{name}_template"] = (
            old[f"{name}_template"],
            old[f"{name}_source"],
        )
    matches["source_row"], matches["template_row"] = old["template_row"], old["source_row"]
    matches["sigma"] = old["sigma"] / scale
    terms = tuple(
        ErrorTerm(term.covariance, Identity(2), term.scale / scale)
        if term.transform is alignment.transform and term.less is None
        else term.seen_from(transform, 1 / scale)
        for term in alignment._errors
    )
    known = dict(alignment._summary)
    if "freedom" in known:
        known["n_source"], known["n_template"] = known["n_template"], known["n_source"]
        known["excess_scatter"] /= scale
    return _derive(
        alignment,
        "inverse",
        transform=transform,
        matches=_with_residuals(matches, transform),
        shapes=(alignment.template_shape, alignment.source_shape),
        known=known,
        # the sky of the source is what the alignment made of it
        original_wcs=alignment.wcs if len(alignment.wcs.available_frames) > 2 else None,
        _errors=terms,
        extra=_swapped(alignment.provenance),
    )


def then(self: Alignment, other: Alignment) -> Alignment:
    """
    Chain two alignments: from this one's source to the other's template.

    Parameters
    ----------
    other : Alignment
        Its source is the template of this one, on the same pixels.

    Returns
    -------
    Alignment
        Its matches are the stars in both. Its errors combine those of both, assumed to be
        independent. Its odds are those of the less certain one.

    Raises
    ------
    ValueError
        If the shapes of the image in the middle differ.
    """
    if not hasattr(other, "source_shape"):
        raise TypeError(f"other is an Alignment; got {type(other).__name__}.")
    shapes = self.template_shape, other.source_shape
    if None not in shapes and shapes[0] != shapes[1]:
        raise ValueError(
            f"the first alignment ends on a frame of shape {shapes[0]}, the second starts on one "
            f"of shape {shapes[1]}; a.then(b) requires the template of a to be the source of b."
        )
    transform = self.transform | other.transform
    scale = other._summary["scale"]
    terms = [term.seen_from(scale=scale) for term in self._errors]
    terms += [term.seen_from(self.transform) for term in other._errors]
    a, b = self._summary, other._summary
    known: dict[str, Any] = {}
    if "freedom" in a and "freedom" in b:
        known = {
            "n_source": a["n_source"],
            "n_template": b["n_template"],
            "excess_scatter": float(np.hypot(a["excess_scatter"] * scale, b["excess_scatter"])),
            "freedom": max(a["freedom"], b["freedom"]),
        }
    if "log_odds" in a and "log_odds" in b:
        known |= {
            "n_expected": min(a["n_expected"], b["n_expected"]),
            "log_odds": min(a["log_odds"], b["log_odds"]),
            "hypotheses": max(a["hypotheses"], b["hypotheses"]),
        }
    return _derive(
        self,
        "then",
        transform=transform,
        matches=_with_residuals(_joined(self.matches, other.matches, scale), transform),
        shapes=(self.source_shape, other.template_shape),
        known=known,
        original_wcs=other.original_wcs,
        # of two terms one may know nothing of its error
        _errors=tuple(terms) if self._errors and other._errors else (),
        extra={"then": dict(other.provenance), **_joined_quality(self, other)},
    )


def shifted(
    self: Alignment,
    *,
    source: tuple[float, float] | None = None,
    template: tuple[float, float] | None = None,
    source_shape: tuple[int, int] | None = None,
    template_shape: tuple[int, int] | None = None,
) -> Alignment:
    """
    Return the alignment of images that have moved on their arrays.

    Parameters
    ----------
    source, template : tuple of float, optional
        Shift ``(dx, dy)`` in px: the pixel at ``(x, y)`` moves to ``(x + dx, y + dy)``.
    source_shape, template_shape : tuple of int, optional
        Shapes ``(ny, nx)`` of the new arrays, for example of the whole frames if the images
        are parts; by default they are kept.

    Returns
    -------
    Alignment
        The template's WCS moves along.

    Raises
    ------
    ValueError
        If a shift is not two finite numbers, or a shape not two positive integers.
    """
    grids = []
    for name, shift in (("source", source), ("template", template)):
        array = numbers_of_pixels(name, (0, 0) if shift is None else shift)
        if array.shape != (2,) or not np.isfinite(array).all():
            raise ValueError(f"{name} is a shift (dx, dy) in px; got {shift!r}.")
        grids.append(Grid((-float(array[0]), -float(array[1]))))
    what = f"shifted(source={source}, template={template})"
    shapes = {"source_shape": source_shape, "template_shape": template_shape}
    of_source, of_template = (
        getattr(self, name) if shape is None else check_shape(shape, name=name)
        for name, shape in shapes.items()
    )
    return _regridded(self, what, grids, (of_source, of_template))


@checked_call
def cropped(
    self: Alignment,
    *,
    source: tuple[slice, slice] | None = None,
    template: tuple[slice, slice] | None = None,
) -> Alignment:
    """
    Return the alignment of cut-outs.

    Parameters
    ----------
    source, template : tuple of slice, optional
        The slices, rows first, that cut the data: ``np.s_[100:300, 50:400]``, or the
        ``slices_original`` of a `~astropy.nddata.Cutout2D`.

    Returns
    -------
    Alignment
        It keeps the matched stars outside the cut-outs, since they support the transform.

    Raises
    ------
    ValueError
        If a window is not two slices with step 1, or has no pixels.
    """
    grids, shapes = [], []
    for name, window in (("source", source), ("template", template)):
        shape = getattr(self, f"{name}_shape")
        if window is None:
            grids.append(SAME)
            shapes.append(shape)
        else:
            (y0, y1), (x0, x1) = _bounds(window, shape, name)
            grids.append(Grid((float(x0), float(y0))))
            shapes.append((y1 - y0, x1 - x0))
    what = f"cropped(source={_text(source)}, template={_text(template)})"
    return _regridded(self, what, grids, (shapes[0], shapes[1]))


def binned(self: Alignment, *, source: int = 1, template: int = 1) -> Alignment:
    """
    Return the alignment of images with pixels binned.

    Parameters
    ----------
    source, template : int, optional
        How many pixels along each side become one, starting at pixel (0, 0); incomplete bins
        are cut off, as by `astropy.nddata.block_reduce`.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        If a number is not a whole one from 1 to the size of the image.
    """
    grids, shapes = [], []
    for name, n in (("source", source), ("template", template)):
        shape = getattr(self, f"{name}_shape")
        if not is_whole(n) or n < 1 or (shape and n > min(shape)):
            raise ValueError(
                f"{name} is the number of pixels along a side that become one, from 1 to the size "
                f"of the image; got {n!r} for the shape {shape}."
            )
        middle = (int(n) - 1) / 2
        grids.append(Grid((middle, middle), int(n)))
        shapes.append(None if shape is None else (shape[0] // int(n), shape[1] // int(n)))
    what = f"binned(source={source}, template={template})"
    return _regridded(self, what, grids, (shapes[0], shapes[1]))


def rescaled(alignment: Alignment, *, source: float = 1.0, template: float = 1.0) -> Alignment:
    """
    Return the alignment of positions in other units, by which those of this one are multiples.

    Parameters
    ----------
    alignment : Alignment
        Of lists of stars.
    source, template : float, optional
        New units per old one: new positions are old ones divided by these.

    Returns
    -------
    Alignment
        No step of it is noted: the units are those of the user's own lists.
    """
    grids = [Grid(step=source), Grid(step=template)]
    shapes = alignment.source_shape, alignment.template_shape
    new = _regridded(alignment, "", grids, shapes)
    return replace(new, provenance=alignment.provenance)


def _regridded(
    alignment: Alignment, what: str, grids: list[Grid], shapes: tuple[Shape | None, Shape | None]
) -> Alignment:
    """Return the alignment of other pixel grids of the same two images."""
    source, template = grids
    wcs = alignment.original_wcs
    if wcs is not None:
        wcs = regrid_wcs(wcs, template, shapes[1])
    transform = regrid_backward(alignment.transform.inverse, source, template).inverse
    matches = alignment.matches.copy()
    for name, grid in (("source", source), ("template", template)):
        xy = np.column_stack((matches[f"x_{name}"], matches[f"y_{name}"]))
        matches[f"x_{name}"], matches[f"y_{name}"] = grid.to_new(xy).T
    matches["sigma"] = matches["sigma"] / template.step
    terms = tuple(
        term.seen_from(None if source == SAME else source.model, 1 / template.step)
        for term in alignment._errors
    )
    known = dict(alignment._summary)
    if "freedom" in known:
        known["excess_scatter"] /= template.step
    return _derive(
        alignment,
        what,
        transform=transform,
        matches=_with_residuals(matches, transform),
        shapes=shapes,
        known=known,
        original_wcs=wcs,
        _errors=terms,
    )


def _derive(
    alignment: Alignment,
    what: str,
    *,
    transform: Model,
    matches: QTable,
    shapes: tuple[Shape | None, Shape | None],
    known: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Alignment:
    """Return an alignment that was made of another one."""
    steps = [*alignment.provenance.get("steps", []), what]
    return replace(
        alignment,
        transform=transform,
        matches=matches,
        source_shape=shapes[0],
        template_shape=shapes[1],
        _summary=derived_figures(known, transform, matches, *shapes),
        provenance={**alignment.provenance, "steps": steps, **(extra or {})},
        **fields,
    )


def _swapped(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return how good the images are, for the way back."""
    known = provenance.get("quality")
    if not known:
        return {}
    other = {"source": "template", "template": "source"}
    return {"quality": {other[side]: figures for side, figures in known.items()}}


def _joined_quality(first: Alignment, second: Alignment) -> dict[str, Any]:
    """Return how good the first image and the last one are."""
    sides = (("source", first), ("template", second))
    known = {side: one.provenance.get("quality", {}).get(side) for side, one in sides}
    known = {side: figures for side, figures in known.items() if figures}
    return {"quality": known} if known or "quality" in first.provenance else {}


def _with_residuals(matches: QTable, transform: Model) -> QTable:
    """Write the residuals of a transform into a table of matches."""
    x, y = transform(np.asarray(matches["x_source"]), np.asarray(matches["y_source"]))
    matches["dx"], matches["dy"] = matches["x_template"] - x, matches["y_template"] - y
    return matches


def _joined(first: QTable, second: QTable, scale: float) -> QTable:
    """Return the stars that both tables have, by their positions on the image in the middle."""
    a = np.column_stack((first["x_template"], first["y_template"]))
    b = np.column_stack((second["x_source"], second["y_source"]))
    out = first.copy()
    if len(a) and len(b):
        distance, there = Neighbors(b).nearest(a)
        _, back = Neighbors(a).nearest(b)
        rows = np.flatnonzero((distance <= _SAME_STAR) & (back[there] == np.arange(len(a))))
    else:
        rows = there = np.empty(0, dtype=int)
    out, other = out[rows], second[there[rows]]
    for name in ("x_template", "y_template", "flux_template", "template_row"):
        out[name] = other[name]
    out["sigma"] = np.hypot(out["sigma"] * scale, other["sigma"])
    out["used"] = out["used"] & other["used"]
    return out


def _bounds(window: Any, shape: Shape | None, name: str) -> tuple[Any, Any]:
    """Return first and last + 1 row and column of a window."""
    if not (
        isinstance(window, tuple)
        and len(window) == 2
        and all(isinstance(s, slice) and s.step in (None, 1) for s in window)
        and all(_is_edge(s.start) and _is_edge(s.stop) for s in window)
    ):
        raise ValueError(
            f"{name} is a window as two slices of whole numbers, rows and columns, such as "
            f"np.s_[10:200, 30:400] or the slices_original of a Cutout2D; got {window!r}."
        )
    if shape is None:
        if any(s.start is None or s.stop is None or min(s.start, s.stop) < 0 for s in window):
            raise ValueError(
                f"the {name} was a catalog and has no shape; give the window's first and last row "
                f"and column as numbers from 0, not {window!r}."
            )
        edges = tuple((s.start, s.stop) for s in window)
    else:
        edges = tuple(s.indices(n)[:2] for s, n in zip(window, shape, strict=True))
    if any(stop <= start for start, stop in edges):
        raise ValueError(f"{name} has no pixels in the window {window!r}; its shape is {shape}.")
    return edges[0], edges[1]


def _is_edge(edge: Any) -> bool:
    return edge is None or isinstance(edge, Integral)


def _text(window: Any) -> str:
    """Write a window as its slices are written."""
    if window is None:
        return "None"
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in window) + "]"
