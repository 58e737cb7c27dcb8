"""Star catalogs: every dialect read into one table, and positions on the sky onto a plane."""

from spalipy_astro.catalogs._catalog import Stars, as_filters, as_stars, read_catalog, select_stars
from spalipy_astro.catalogs._dialects import (
    Dialect,
    Position,
    register_dialect,
    translate,
    unregister_dialect,
)
from spalipy_astro.catalogs._flags import UNUSABLE, StarFlag
from spalipy_astro.catalogs._read import as_table, is_catalog, is_frame
from spalipy_astro.catalogs._sky import (
    SkyPlane,
    epoch_of,
    is_sky_catalog,
    project_catalog,
    sky_options,
)

__all__ = [
    "UNUSABLE",
    "Dialect",
    "Position",
    "SkyPlane",
    "StarFlag",
    "Stars",
    "as_filters",
    "as_stars",
    "as_table",
    "epoch_of",
    "is_catalog",
    "is_frame",
    "is_sky_catalog",
    "project_catalog",
    "read_catalog",
    "register_dialect",
    "select_stars",
    "sky_options",
    "translate",
    "unregister_dialect",
]
