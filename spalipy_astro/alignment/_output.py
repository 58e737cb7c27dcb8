"""Onto which pixels an image is put: the template's, a window of them, finer ones, another WCS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.modeling import Model
from astropy.nddata import CCDData, NDData
from astropy.units import Quantity
from astropy.wcs import WCS

from spalipy_astro import _geometry
from spalipy_astro._checks import (
    check_shape,
    check_whole_offset,
    colors_go_last,
    positive_number,
    shape_of,
)
from spalipy_astro.alignment._photometry import Photometry

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = ["Output", "output_of", "resampled"]

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
    """

    backward: Model
    offset: tuple[int, int]
    shape: tuple[int, int]
    wcs: Any


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
    if output not in ("template", "union", "intersection"):
        raise ValueError(f"output is 'template', 'union' or 'intersection'; got {output!r}.")
    if output != "template" and (shape is not None or offset != (0, 0)):
        raise ValueError(f"output={output!r} finds its own grid; leave shape and offset out.")
    scale = positive_number("scale", scale, "output pixels per template pixel along each axis")
    if wcs is not None:
        if output != "template" or scale != 1:
            raise ValueError("wcs= is a grid of its own; leave output and scale out.")
        return _on_sky(alignment, wcs, offset, shape)
    if output == "union":
        offset, shape = union(alignment)
    elif output == "intersection":
        offset, shape = intersection(alignment)
    elif shape is None:
        shape = alignment.template_shape
    if shape is None:
        raise ValueError(
            "the template was a catalog and has no shape; give the output's as shape=(ny, nx)."
        )
    backward = alignment.transform.inverse
    if scale == 1:
        return Output(backward, offset, shape, alignment.original_wcs)
    return _finer(alignment, scale, offset, shape)


def union(alignment: Alignment) -> Window:
    """Return offset ``(x, y)`` and shape of the window that holds both frames."""
    if alignment.source_shape is None or alignment.template_shape is None:
        raise ValueError("output='union' needs the shapes of two images; one was a catalog.")
    return _geometry.union(alignment.transform, alignment.source_shape, alignment.template_shape)


def intersection(alignment: Alignment) -> Window:
    """Return offset ``(x, y)`` and shape of the largest window that lies on both frames."""
    if alignment.source_shape is None or alignment.template_shape is None:
        raise ValueError("output='intersection' needs the shapes of two images; one was a catalog.")
    outline = _geometry.outline(alignment.transform, alignment.source_shape)
    window = _geometry.intersection([outline], alignment.template_shape)
    if window is None:
        raise ValueError("output='intersection': the images have no pixel in common.")
    return window


def _finer(
    alignment: Alignment, scale: float, offset: tuple[int, int], shape: tuple[int, int]
) -> Output:
    """Return a window of the template with pixels of another size, from the same corner on."""
    from spalipy_astro.wcs import SAME, Grid, regrid_backward, regrid_wcs

    start = ((1 / scale - 1) / 2 + offset[0], (1 / scale - 1) / 2 + offset[1])
    grid = Grid(start, 1 / scale)
    size = (max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1))
    backward = regrid_backward(alignment.transform.inverse, SAME, grid)
    wcs = regrid_wcs(alignment.original_wcs, grid, size)
    return Output(backward, (0, 0), size, wcs)


class _Turned(Model):
    """Longitude and latitude from one celestial frame to another, degrees."""

    n_inputs = 2
    n_outputs = 2
    fittable = False
    _separable = False

    def __init__(self, old: Any, new: Any) -> None:
        self._old, self._new = old, new
        super().__init__()

    def evaluate(self, lon, lat):
        """Turn positions."""
        turned = SkyCoord(lon, lat, unit="deg", frame=self._old).transform_to(self._new)
        return turned.spherical.lon.deg, turned.spherical.lat.deg


def _on_sky(
    alignment: Alignment, wcs: Any, offset: tuple[int, int], shape: tuple[int, int] | None
) -> Output:
    """Return the grid of a WCS of the sky."""
    from spalipy_astro.wcs import sky_transform

    ours = alignment.wcs
    if len(ours.available_frames) < 3:
        raise ValueError(
            "wcs= needs an alignment whose template has a celestial WCS; this one has none."
        )
    wcs = getattr(wcs, "low_level_wcs", wcs)
    if shape is None and getattr(wcs, "array_shape", None) is not None:
        shape = check_shape(wcs.array_shape)
    if shape is None:
        raise ValueError("wcs= has no shape of its own; give the output's as shape=(ny, nx).")
    if isinstance(wcs, WCS):
        if not wcs.has_celestial or wcs.naxis != 2:
            raise ValueError(f"wcs must have two celestial axes; got {', '.join(wcs.wcs.ctype)}.")
        to_sky, frame = sky_transform(wcs, shape=shape)
    elif hasattr(wcs, "forward_transform"):
        to_sky, frame = wcs.forward_transform, wcs.output_frame
    else:
        raise TypeError(f"wcs is an astropy.wcs.WCS or a gwcs.WCS; got {type(wcs).__name__}.")
    middle, sky = ours.available_frames[-2:]
    from_sky = ours.get_transform(middle, sky).inverse
    old, new = frame.reference_frame, ours.output_frame.reference_frame
    turned = to_sky if old.is_equivalent_frame(new) else to_sky | _Turned(old, new)
    backward = turned | from_sky | alignment.transform.inverse
    return Output(backward, offset, shape, wcs)


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
    scale_flux, match_background, conserve_flux, fill_value, return_footprint, **options
        As for `Alignment.resample`.

    Returns
    -------
    image
        And its footprint, if that is asked for.
    """
    from spalipy_astro.resampling import conserves_flux, resample

    conserve_flux = conserves_flux(data) if conserve_flux is None else conserve_flux
    photometry = Photometry.of(alignment, conserve_flux=conserve_flux)
    wanted = {"scale_flux": scale_flux, "match_background": match_background}
    photometry.check(**wanted)
    if match_background and len([n for n in shape_of(data) if n > 1]) > 2:
        raise ValueError(
            f"match_background=True is for an image, got shape {shape_of(data)}: each color has a "
            "sky of its own. Align the planes one by one, or leave it out."
        )
    changed = scale_flux or match_background
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
        colors_last=colors_go_last(shape_of(data), alignment.source_shape),
        **options,
    )
    if not changed:
        return found
    image, footprint = found if return_footprint else (found, None)
    image = photometry.apply(image, **wanted)
    _fill(image, fill_value)
    return (image, footprint) if return_footprint else image


def _carried(output: Output, image: Any) -> Any:
    """Return the WCS of an aligned image, as the type of the image takes it."""
    if output.wcs is None or not isinstance(image, NDData):
        return None
    from spalipy_astro.wcs import carried_wcs  # gwcs comes in with it

    for_fits = isinstance(image, CCDData)
    return carried_wcs(output.wcs, output.offset, output.shape, meta=image.meta, for_fits=for_fits)


def _fill(image: Any, value: float) -> None:
    """Put a value into the pixels without data."""
    if np.isnan(value):
        return
    data = image.data if isinstance(image, NDData | np.ma.MaskedArray) else image
    data = data.value if isinstance(data, Quantity) else data
    data[np.isnan(data)] = value
