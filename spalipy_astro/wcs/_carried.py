"""
The WCS that goes with an aligned image: the sky of the template, and nothing else of it.

A WCS object also carries when and where its image was taken. For an aligned image that is what the
header of the source says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.modeling.models import AffineTransformation2D
from astropy.wcs import WCS

from spalipy_astro.errors import AlignmentError
from spalipy_astro.wcs._grid import Grid
from spalipy_astro.wcs._regrid import regrid_wcs
from spalipy_astro.wcs._unwrap import unwrap_wcs

__all__ = ["carried_wcs"]

log = logging.getLogger(__name__)

_TOLERANCE = 0.01  # px
# Times, places and velocities of an exposure, as WCSLIB calls them; it writes none that is empty
_TEXTS = (
    *("dateobs", "datebeg", "dateavg", "dateend", "dateref", "timesys", "timeunit"),
    *("trefpos", "trefdir", "plephem", "obsorbit", "specsys", "ssysobs", "ssyssrc"),
)
_NUMBERS = (
    *("mjdobs", "mjdbeg", "mjdavg", "mjdend", "jepoch", "bepoch", "tstart", "tstop"),
    *("xposure", "telapse", "timeoffs", "timsyer", "timrder", "timedel", "timepixr"),
    *("velosys", "velangl", "zsource"),
)


def carried_wcs(
    wcs: Any,
    offset: tuple[float, float],
    shape: tuple[int, int],
    *,
    meta: Mapping[str, Any],
    for_fits: bool,
) -> Any:
    """
    Give the WCS of an image on a window of a template's grid.

    Parameters
    ----------
    wcs : WCS or None
        The template's, as NDData keeps it.
    offset : (x0, y0)
        Template px of the window's first pixel.
    shape : tuple of int
        Shape ``(ny, nx)`` of the window.
    meta : mapping
        Header of the source.
    for_fits : bool
        Whether it must be one that a FITS header can hold, as CCDData demands. A gwcs, or tables of
        coordinates (-TAB), then become a gnomonic projection with SIP that is right to 0.01 px
        everywhere on the window.

    Returns
    -------
    `~astropy.wcs.WCS`, `gwcs.WCS` or None
        None if there is none; or, with a warning, if no FITS header is accurate enough.
    """
    wcs = unwrap_wcs(wcs)
    if wcs is None:
        return None
    shape = (int(shape[0]), int(shape[1]))
    out = regrid_wcs(wcs, Grid((float(offset[0]), float(offset[1]))), shape)
    if isinstance(out, WCS) and not (for_fits and out.wcs.tab):
        return _without_exposure(out, meta)
    if not for_fits:
        return out
    from spalipy_astro.wcs._fits_header import to_fits_header  # gwcs comes in with it

    try:
        header = to_fits_header(AffineTransformation2D(), out, shape, tolerance=_TOLERANCE).header
    except (AlignmentError, ValueError, TypeError, NotImplementedError) as error:
        log.warning("the template's WCS is left out, a FITS image cannot carry it: %s", error)
        return None
    return _without_exposure(WCS(header), meta)


def _without_exposure(wcs: WCS, meta: Mapping[str, Any]) -> WCS:
    """Clear what a WCS, which is changed, says of the exposure; MJDREF is that of the source."""
    for name in _TEXTS:
        setattr(wcs.wcs, name, "")
    for name in _NUMBERS:
        setattr(wcs.wcs, name, np.nan)
    wcs.wcs.restfrq = wcs.wcs.restwav = 0.0  # which WCSLIB takes for unknown
    wcs.wcs.obsgeo[:] = np.nan
    # WCSLIB writes one in any case, over that of the source
    try:
        whole, part = meta.get("MJDREF", meta.get("MJDREFI", 0.0)), meta.get("MJDREFF", 0.0)
        wcs.wcs.mjdref[:] = float(whole), float(part) if "MJDREF" not in meta else 0.0
    except (TypeError, ValueError):
        wcs.wcs.mjdref[:] = 0.0
    wcs.wcs.set()
    return wcs
