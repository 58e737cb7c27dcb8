"""Onto which pixels an image is put: the template's, a window of them, finer ones, another WCS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.modeling import Model
from astropy.nddata import CCDData, NDData
from astropy.units import Quantity

from spalipy_astro import _geometry
from spalipy_astro._checks import (
    check_room,
    check_shape,
    check_whole_offset,
    colors_go_last,
    positive_number,
    shape_of,
)
from spalipy_astro.alignment._photometry import Photometry
from spalipy_astro.wcs import SAME, Grid, carried_wcs, regrid_backward, regrid_wcs

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = ["Output", "check_grid", "finer_shape", "output_of", "resampled"]

_NO_SHAPES = (
    "output={!r} needs the shapes of two images, of which this alignment does not know both: a "
    "catalog has none, and pairs or a model have those of source_shape= and template_shape=."
)
Window = tuple[tuple[int, int], tuple[int, int]]


class Output(NamedTuple):
    """
    A grid of pixels.

    Attributes
    ----------
    backward : Model
        Its px, counted as the offset is, -> source px.
    offset : tuple of int
        ``(x, y)`` of its first pixel.
    shape : tuple of int
        ``(ny, nx)``.
    wcs : WCS or None
        Of the grid whose pixels the offset counts.
    pixel : float
        Area of a pixel in its middle, template px squared.
    asked : str
        The argument that says how large it is.
    """

    backward: Model
    offset: tuple[int, int]
    shape: tuple[int, int]
    wcs: Any
    pixel: float = 1.0
    asked: str = "shape"


def check_grid(
    output: Any, scale: Any, wcs: Any, *, names: tuple[str, str] = ("output", "scale")
) -> float:
    """
    Check which grid is asked for, before there is an alignment.

    Parameters
    ----------
    output, scale, wcs
        As for `Alignment.resample`.
    names : tuple of str, optional
        What the first two are called.

    Returns
    -------
    float
        The scale.

    Raises
    ------
    TypeError, ValueError
        If one makes no sense, or they do not go together.
    """
    if output not in ("template", "union", "intersection"):
        raise ValueError(f"{names[0]} is 'template', 'union' or 'intersection'; got {output!r}.")
    meaning = "output pixels per template pixel along each axis, such as 2"
    scale = positive_number(names[1], scale, meaning)
    if wcs is not None:
        if output != "template" or scale != 1:
            raise ValueError(
                f"wcs= is a grid of its own, with its own pixels and edges: leave {names[0]} and "
                f"{names[1]} out. Got {names[0]}={output!r} and {names[1]}={scale:g}."
            )
        from spalipy_astro.wcs import celestial_grid

        _, its_shape = celestial_grid(wcs)
        if its_shape is not None:
            check_room("wcs", check_shape(its_shape))
    return scale


def output_of(
    alignment: Alignment,
    *,
    output: str = "template",
    shape: Any = None,
    offset: Any = (0, 0),
    scale: Any = 1,
    wcs: Any = None,
) -> Output:
    """
    Return the grid that is asked for; the arguments are those of `Alignment.resample`.

    Raises
    ------
    ValueError
        If they do not go together, or there is no shape.
    """
    offset = check_whole_offset(offset)
    shape = None if shape is None else check_shape(shape)
    scale = check_grid(output, scale, wcs)
    if output != "template" and (shape is not None or offset != (0, 0)):
        raise ValueError(f"output={output!r} finds its own grid; leave shape and offset out.")
    if wcs is not None:
        return _on_sky(alignment, wcs, offset, shape)
    asked = "shape"
    if output == "union":
        offset, shape = union(alignment)
    elif output == "intersection":
        offset, shape = intersection(alignment)
    elif shape is None:
        asked, shape = "template_shape", alignment.template_shape
    if shape is None:
        raise ValueError(
            "shape is not known of this alignment's template: a catalog has none, and "
            "template_shape= was not given where pairs or a model were. Give the output's, "
            "shape=(ny, nx)."
        )
    if output != "template":
        asked = f"output={output!r}"
    backward = alignment.transform.inverse
    if scale == 1:
        return Output(backward, offset, shape, alignment.original_wcs, asked=asked)
    return _finer(alignment, scale, offset, shape)


def union(alignment: Alignment) -> Window:
    """Return offset ``(x, y)`` and shape of the window that holds both frames."""
    if alignment.source_shape is None or alignment.template_shape is None:
        raise ValueError(_NO_SHAPES.format("union"))
    return _geometry.union(alignment.transform, alignment.source_shape, alignment.template_shape)


def intersection(alignment: Alignment) -> Window:
    """Return offset ``(x, y)`` and shape of the largest window that lies on both frames."""
    if alignment.source_shape is None or alignment.template_shape is None:
        raise ValueError(_NO_SHAPES.format("intersection"))
    outline = _geometry.outline(alignment.transform, alignment.source_shape)
    window = _geometry.intersection([outline], alignment.template_shape)
    if window is None:
        raise ValueError("output='intersection': the images have no pixel in common.")
    return window


def finer_shape(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the shape of a grid with other pixels of the same area, ``scale`` to one."""
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def _finer(
    alignment: Alignment, scale: float, offset: tuple[int, int], shape: tuple[int, int]
) -> Output:
    """Return a window of the template with pixels of another size, from the same corner on."""
    start = ((1 / scale - 1) / 2 + offset[0], (1 / scale - 1) / 2 + offset[1])
    grid = Grid(start, 1 / scale)
    size = finer_shape(shape, scale)
    check_room("scale", size)
    backward = regrid_backward(alignment.transform.inverse, SAME, grid)
    wcs = regrid_wcs(alignment.original_wcs, grid, size)
    return Output(backward, (0, 0), size, wcs, scale**-2, "scale")


def _on_sky(
    alignment: Alignment, wcs: Any, offset: tuple[int, int], shape: tuple[int, int] | None
) -> Output:
    """Return the grid of a WCS of the sky."""
    from spalipy_astro.wcs import celestial_grid, grid_to_grid, invertible

    wcs, own = celestial_grid(wcs)
    shape = shape or own
    if shape is None:
        raise ValueError(
            "wcs= has no shape of its own; give the output's as wcs=(wcs, (ny, nx)), or as shape=."
        )
    shape = check_shape(shape)
    try:
        ours, its_shape = celestial_grid(alignment.original_wcs)
    except (TypeError, ValueError):
        raise ValueError(
            "wcs= needs an alignment whose template has a celestial WCS; this one has none."
        ) from None
    onto_template = grid_to_grid(wcs, shape, ours, alignment.template_shape or its_shape)
    x, y = offset[0] + (shape[1] - 1) / 2, offset[1] + (shape[0] - 1) / 2
    u, v = onto_template(np.array([x - 0.5, x + 0.5, x, x]), np.array([y, y, y - 0.5, y + 0.5]))
    pixel = abs((u[1] - u[0]) * (v[3] - v[2]) - (u[3] - u[2]) * (v[1] - v[0]))
    backward = invertible(onto_template | alignment.transform.inverse, shape)
    return Output(backward, offset, shape, wcs, float(pixel), "wcs")


def resampled(
    alignment: Alignment,
    data: Any,
    output: Output,
    *,
    scale_flux: bool = False,
    match_background: bool = False,
    cards: Mapping[str, Any] | None = None,
    conserve_flux: bool | None = None,
    fill_value: float = np.nan,
    return_footprint: bool = False,
    return_weights: bool = False,
    **options: Any,
) -> Any:
    """
    Put an image on a grid, with the flux scale and the sky that are asked for.

    Parameters
    ----------
    alignment : Alignment
    data : CCDData, NDData or array_like
    output : Output
    cards : mapping, optional
        More cards for its header.
    scale_flux, match_background, conserve_flux, fill_value, return_footprint, return_weights
        As for `Alignment.resample`.
    **options
        As for `spalipy_astro.resampling.resample`.

    Returns
    -------
    image
        And its footprint and its weights, if these are asked for.
    """
    from spalipy_astro.resampling import bytes_of_pixel, conserves_flux, resample

    conserve_flux = conserves_flux(data) if conserve_flux is None else conserve_flux
    photometry = Photometry.of(alignment, conserve_flux=conserve_flux, pixel=output.pixel)
    wanted = {"scale_flux": scale_flux, "match_background": match_background}
    photometry.check(**wanted)
    if match_background and len([n for n in shape_of(data) if n > 1]) > 2:
        raise ValueError(
            f"match_background=True is for an image, got shape {shape_of(data)}: each color has a "
            "sky of its own. Align the planes one by one, or leave it out."
        )
    changed = scale_flux or match_background
    check_room(output.asked, output.shape, bytes_of_pixel(data, options.get("uncertainty")))
    found = resample(
        data,
        output.backward,
        shape=output.shape,
        offset=output.offset,
        wcs=_carried(output, data),
        conserve_flux=conserve_flux,
        fill_value=np.nan if changed else fill_value,
        provenance={**alignment._cards(), **photometry.cards(**wanted), **(cards or {})},
        return_footprint=return_footprint,
        return_weights=return_weights,
        colors_last=colors_go_last(shape_of(data), alignment.source_shape),
        **options,
    )
    if not changed:
        return found
    image, *others = found if return_footprint or return_weights else (found,)
    image = photometry.apply(image, **wanted)
    _fill(image, fill_value)
    return (image, *others) if others else image


def _carried(output: Output, image: Any) -> Any:
    """Return the WCS of an aligned image, as the type of the image takes it."""
    if output.wcs is None or not isinstance(image, NDData):
        return None
    for_fits = isinstance(image, CCDData)
    return carried_wcs(output.wcs, output.offset, output.shape, meta=image.meta, for_fits=for_fits)


def _fill(image: Any, value: float) -> None:
    """Put a value into the pixels without data."""
    if np.isnan(value):
        return
    data = image.data if isinstance(image, NDData | np.ma.MaskedArray) else image
    data = data.value if isinstance(data, Quantity) else data
    data[np.isnan(data)] = value
