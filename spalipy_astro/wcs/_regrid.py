"""WCS on another pixel grid of the same image: a window, a shift, binned pixels."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np
from astropy.modeling import Model
from astropy.modeling.models import Scale, Shift
from astropy.wcs import WCS, DistortionLookupTable, Sip
from numpy.typing import NDArray

from spalipy_astro._geometry import spread
from spalipy_astro.wcs._grid import Grid
from spalipy_astro.wcs._unwrap import has_units, unwrap_wcs

if TYPE_CHECKING:
    import gwcs

__all__ = ["regrid_fits_wcs", "regrid_wcs"]

FloatArray = NDArray[np.float64]

_LOOKUPS = ("cpdis1", "cpdis2", "det2im1", "det2im2")
_CHECKED = 1e-6  # px: a FITS WCS that comes out worse is not used (tables are single-precision)


def regrid_wcs(wcs: Any, grid: Grid, shape: tuple[int, int] | None) -> WCS | gwcs.WCS | None:
    """Put the WCS of an image, as NDData has it, on another grid of the image's pixels."""
    wcs = unwrap_wcs(wcs)
    if wcs is None:
        return None
    if isinstance(wcs, WCS):
        new = regrid_fits_wcs(wcs, grid, shape)
        if not wcs.has_celestial or _is_same_sky(new, wcs, grid, shape):
            return new
    return _regrid_steps(wcs, grid, shape)


def _regrid_steps(wcs: WCS | gwcs.WCS, grid: Grid, shape: tuple[int, int] | None) -> gwcs.WCS:
    """Put a gwcs on another grid, or a FITS WCS with distortions that only WCSLIB can read."""
    import gwcs  # takes a while, and most FITS WCS need none of it
    from gwcs.coordinate_frames import Frame2D

    from spalipy_astro.wcs._pipeline import sky_transform

    if isinstance(wcs, WCS):
        model, sky = sky_transform(wcs)
        steps = [(Frame2D(name="pixels", unit=(u.pix, u.pix)), _chain(grid) | model), (sky, None)]
    else:
        steps = [(copy.deepcopy(s.frame), copy.deepcopy(s.transform)) for s in wcs.pipeline]
        before = _chain(grid, u.pix if has_units(wcs) else 1)
        frame, model = steps[0]
        if model is not None:
            model.bounding_box = None
        steps[0] = (frame, before if model is None else before | model)
    out = gwcs.WCS(steps)
    if shape is not None:
        out.array_shape = shape
    return out


def regrid_fits_wcs(wcs: WCS, grid: Grid, shape: tuple[int, int] | None) -> WCS:
    """Put a FITS WCS of two axes on another grid, with SIP and lookup tables."""
    step = grid.step
    new = wcs.deepcopy()
    new.wcs.crpix = grid.to_new(wcs.wcs.crpix - 1) + 1
    if step != 1:
        if wcs.wcs.has_cd():
            new.wcs.cd = wcs.wcs.cd * step
        else:
            new.wcs.cdelt = wcs.wcs.cdelt * step
    if wcs.sip is not None:
        arrays = (getattr(wcs.sip, key) for key in ("a", "b", "ap", "bp"))
        new.sip = Sip(
            *(None if array is None else array * _powers(array, step) for array in arrays),
            grid.to_new(wcs.sip.crpix - 1) + 1,
        )
    for name in _LOOKUPS:
        table = getattr(wcs, name)
        if table is not None:
            crval = grid.to_new(np.subtract(table.crval, 1)) + 1
            cdelt = np.asarray(table.cdelt) / step
            data = np.asarray(table.data) / np.float32(step)
            lookup = DistortionLookupTable(data, table.crpix, tuple(crval), tuple(cdelt))
            setattr(new, name, lookup)
    new.pixel_bounds = None
    new.array_shape = shape
    new.wcs.set()
    return new


def _powers(array: FloatArray, step: float) -> FloatArray:
    """Give the factors of polynomial coefficients for lengths in units of `step` pixels."""
    p, q = np.indices(array.shape)
    return np.power(float(step), p + q - 1)


def _is_same_sky(new: WCS, old: WCS, grid: Grid, shape: tuple[int, int] | None) -> bool:
    """Compare two FITS WCS of one sky at positions of the new grid."""
    x, y = spread(shape or (1000, 1000), 7)
    there = np.array(old.all_pix2world(*grid.to_old(np.column_stack((x, y))).T, 0))
    ours = np.array(new.all_pix2world(x, y, 0))
    pixel = np.sqrt(np.abs(np.linalg.det(new.pixel_scale_matrix)))
    return np.allclose(ours, there, rtol=0, atol=_CHECKED * pixel + 1e-12, equal_nan=True)


def _chain(grid: Grid, unit: Any = 1) -> Model:
    """Give the map of new positions to old ones by models that also work with units."""
    x, y = (Shift(start * unit) for start in grid.start)
    if grid.step == 1:
        return x & y
    return (Scale(float(grid.step)) & Scale(float(grid.step))) | (x & y)
