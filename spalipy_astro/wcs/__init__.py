"""
World coordinates: gwcs pipelines, and what FITS and other programs can take of them.

What needs gwcs is imported when it is asked for: that takes a while, and not every call needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spalipy_astro._late import late
from spalipy_astro.wcs._carried import carried_wcs
from spalipy_astro.wcs._grid import SAME, Grid, regrid_backward
from spalipy_astro.wcs._regrid import regrid_wcs
from spalipy_astro.wcs._similarity import similarity_between

if TYPE_CHECKING:
    from spalipy_astro.wcs._celestial import celestial_grid, grid_to_grid, invertible
    from spalipy_astro.wcs._fits_header import FITSExport, to_fits_header
    from spalipy_astro.wcs._pipeline import build_wcs, pack_wcs, sky_transform, unpack_wcs
    from spalipy_astro.wcs._portable import PortableWCS, portable_wcs
else:
    __getattr__, __dir__ = late(
        __name__,
        {
            "_celestial": ("celestial_grid", "grid_to_grid", "invertible"),
            "_fits_header": ("FITSExport", "to_fits_header"),
            "_pipeline": ("build_wcs", "pack_wcs", "sky_transform", "unpack_wcs"),
            "_portable": ("PortableWCS", "portable_wcs"),
        },
    )

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
