"""Names that catalogs give to the columns of positions on the sky."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["GALACTIC", "sky_columns"]

GALACTIC = (("glon", "glat"), ("_glon", "_glat"), ("l", "b"))
"""Those of galactic longitudes and latitudes; the others are right ascensions and declinations."""

_POSITIONS = (
    ("ra", "dec"),
    ("ra_icrs", "de_icrs"),
    ("raj2000", "dej2000"),
    ("alphawin_j2000", "deltawin_j2000"),
    ("alpha_j2000", "delta_j2000"),
    ("ramean", "decmean"),
    ("rastack", "decstack"),
    ("radeg", "dedeg"),
    ("radeg", "decdeg"),
    ("ra_deg", "dec_deg"),
    ("ra_j2000", "dec_j2000"),
    ("raj2000", "decj2000"),
    ("right_ascension", "declination"),
    ("rightascension", "declination"),
    ("sky_centroid.ra", "sky_centroid.dec"),
    ("coord_ra", "coord_dec"),
    ("s_ra", "s_dec"),
    ("x_world", "y_world"),
    # computed by VizieR for every catalog: where it has no columns of its own in degrees
    ("_raj2000", "_dej2000"),
    ("_ra.icrs", "_de.icrs"),
    ("_ra_icrs", "_de_icrs"),
    ("_ra", "_de"),
    *GALACTIC,
)


def sky_columns(names: Iterable[str]) -> tuple[str, str] | None:
    """
    Find the columns of two angles that are a position on the sky.

    Parameters
    ----------
    names : iterable of str
        Of all columns; their case does not matter.

    Returns
    -------
    (str, str) or None
        Longitude and latitude, as they are called; None where there are none.
    """
    known = {name.lower(): name for name in names}
    for lon, lat in _POSITIONS:
        if lon in known and lat in known:
            return known[lon], known[lat]
    return None
