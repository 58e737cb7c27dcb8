"""
World coordinates: gwcs pipelines, and what FITS and other programs can take of them.

What needs gwcs is imported when it is asked for: that takes a while, and not every call needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spalipy_astro.wcs._carried import carried_wcs
from spalipy_astro.wcs._grid import SAME, Grid, regrid_backward
from spalipy_astro.wcs._regrid import regrid_wcs
from spalipy_astro.wcs._similarity import similarity_between

if TYPE_CHECKING:
    from spalipy_astro.wcs._celestial import celestial_grid, grid_to_grid, invertible
    from spalipy_astro.wcs._fits_header import FITSExport, to_fits_header
    from spalipy_astro.wcs._pipeline import build_wcs, pack_wcs, sky_transform, unpack_wcs
    from spalipy_astro.wcs._portable import PortableWCS, portable_wcs

__all__ = [
    "SAME",
    "FITSExport",
    "Grid",
    "PortableWCS",
    "build_wcs",
    "carried_wcs",
    "celestial_grid",
    "grid_to_grid",
    "invertible",
    "pack_wcs",
    "portable_wcs",
    "regrid_backward",
    "regrid_wcs",
    "similarity_between",
    "sky_transform",
    "to_fits_header",
    "unpack_wcs",
]

_LATE = {
    "FITSExport": "_fits_header",
    "PortableWCS": "_portable",
    "build_wcs": "_pipeline",
    "celestial_grid": "_celestial",
    "grid_to_grid": "_celestial",
    "invertible": "_celestial",
    "pack_wcs": "_pipeline",
    "portable_wcs": "_portable",
    "sky_transform": "_pipeline",
    "to_fits_header": "_fits_header",
    "unpack_wcs": "_pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
