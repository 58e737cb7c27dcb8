"""
Catalogs of positions on the sky as templates: projected onto a plane of pixels.

Points are ``(x, y)`` in pixels, 0-based, with pixel centers on integers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from spalipy_astro._checks import positive_number
from spalipy_astro.catalogs._dialects import recognize
from spalipy_astro.catalogs._read import as_table, is_catalog, is_frame
from spalipy_astro.catalogs._skycolumns import GALACTIC, sky_columns
from spalipy_astro.errors import CatalogError
from spalipy_astro.io import mid_exposure
from spalipy_astro.typing import CatalogLike

__all__ = ["SkyPlane", "epoch_of", "is_sky_catalog", "project_catalog"]

FloatArray = NDArray[np.float64]

_MOTIONS = (("pmra", "pmdec"), ("pmra", "pmde"), ("pm_ra_cosdec", "pm_dec"))
_ERRORS = (("ra_error", "e_ra_icrs", "e_raj2000"), ("dec_error", "e_de_icrs", "e_dej2000"))
_FLUXES = (
    *("flux", "phot_g_mean_flux", "phot_rp_mean_flux", "phot_bp_mean_flux"),
    *("fg", "psfflux", "flux_auto"),
)
_MAGNITUDES = (
    *("mag", "phot_g_mean_mag", "gmag", "phot_rp_mean_mag", "rpmag", "jmag", "rmag", "vmag"),
    *("vtmag", "hpmag", "imag", "f.mag", "mag_auto"),
)
_GAIA = {"I/337": 2015.0, "I/345": 2015.5, "I/350": 2016.0, "I/355": 2016.0}
"""Epochs of Gaia's catalogs at VizieR, whose tables do not have them as a column."""
_WIDEST = 60.0  # deg from the middle of a tangential plane
_LEAST_ERROR = 1e-3  # px: smaller ones say nothing about an image


class SkyPlane(NamedTuple):
    """
    A catalog seen on a tangential plane.

    Attributes
    ----------
    table : `~astropy.table.Table`
        ``x``, ``y`` (px) and, where the catalog tells them, ``flux``, ``x_err`` and ``y_err``.
    row : ndarray of int
        Rows of the catalog.
    wcs : `astropy.wcs.WCS`
        Gnomonic projection, ICRS, north up and east to the left.
    pixel_scale : float
        Side of its pixels, arcsec.
    guessed : bool
        Whether nothing was known of the source's pixel scale.
    """

    table: Table
    row: NDArray[np.intp]
    wcs: WCS
    pixel_scale: float
    guessed: bool


def is_sky_catalog(thing: Any) -> bool:
    """
    Tell a catalog of sky positions from images and from catalogs of pixel positions.

    Parameters
    ----------
    thing : object
        What was given as a template.

    Returns
    -------
    bool
        True for a `~astropy.coordinates.SkyCoord`, and for tables with sky positions and no pixel
        positions.
    """
    if isinstance(thing, SkyCoord):
        return True
    if not isinstance(thing, Table | Mapping | str | os.PathLike) and not is_frame(thing):
        return False
    if not is_catalog(thing):
        return False
    table = as_table(thing, name="template")
    return recognize(table) is None and _position_columns(table) is not None


def epoch_of(image: Any) -> Time | None:
    """
    Return when an image was taken, as its header has it.

    Parameters
    ----------
    image : object
        Anything; only what has a header in ``meta`` is looked at.

    Returns
    -------
    `~astropy.time.Time` or None
    """
    meta = getattr(image, "meta", None)
    if not isinstance(meta, Mapping):
        return None
    moment = mid_exposure(meta, to_the_day=True)
    return None if moment is None else Time(moment, format="mjd")


def sky_options(position: Any, radius: Any, pixel_scale: Any, epoch: Any) -> dict[str, Any]:
    """
    Check the options for the pointing and the epoch of the source.

    Parameters
    ----------
    position, radius, pixel_scale, epoch
        As for `project_catalog`.

    Returns
    -------
    dict
        The same; the radius in degrees, the pixel scale in arcsec and the epoch in Julian years as
        plain numbers.

    Raises
    ------
    TypeError, ValueError
        If one makes no sense.
    """
    if position is not None and not (isinstance(position, SkyCoord) and position.isscalar):
        raise TypeError(f"position is one SkyCoord; got {position!r}.")
    if radius is not None:
        radius = positive_number("radius", radius, "a positive angle, in deg by itself", u.deg)
    if pixel_scale is not None:
        size = "a positive angle, in arcsec by itself"
        pixel_scale = positive_number("pixel_scale", pixel_scale, size, u.arcsec, u.arcsec / u.pix)
    if isinstance(epoch, Time) and epoch.isscalar:
        epoch = float(epoch.jyear)
    elif epoch is not None:
        epoch = positive_number("epoch", epoch, "one Time, or a number of Julian years", u.yr)
    return {"position": position, "radius": radius, "pixel_scale": pixel_scale, "epoch": epoch}


def project_catalog(
    catalog: CatalogLike | SkyCoord,
    *,
    position: SkyCoord | None = None,
    radius: Any = None,
    pixel_scale: Any = None,
    epoch: Time | float | None = None,
    source_wcs: Any = None,
    source_size: tuple[float, float] | None = None,
) -> SkyPlane:
    """
    Project a catalog of sky positions onto pixels like those of the source.

    Parameters
    ----------
    catalog : `~astropy.table.Table`, path or `~astropy.coordinates.SkyCoord`
        Positions as a column of `~astropy.coordinates.SkyCoord`, or as columns ``ra`` and ``dec``
        (ICRS; degrees if they have no unit, text is sexagesimal with hours of right ascension; also
        by the names that VizieR, SExtractor, Pan-STARRS and LSST use), or galactic ``glon`` and
        ``glat``, ``l`` and ``b``. Proper motions ``pmra``,
        ``pmdec`` (with the factor cos dec; mas/yr if they have no unit) and ``ref_epoch`` (Julian
        years; of Gaia's tables at VizieR it is known), ``ra_error``, ``dec_error`` (mas), and
        ``flux`` or ``mag`` or Gaia's names of them are used where they are.
    position : `~astropy.coordinates.SkyCoord`, optional
        Where the source points, roughly; by default the middle of its WCS, or of the catalog.
    radius : `~astropy.units.Quantity` or float, optional
        How far around to look, in degrees if it has no unit; by default the diagonal of the source,
        or everywhere if no pixel scale is known.
    pixel_scale : `~astropy.units.Quantity` or float, optional
        Size of the source's pixels, in arcsec if it has no unit, within 20 %; an angle, or an angle
        per pixel. By default from its WCS, or guessed.
    epoch : `~astropy.time.Time` or float, optional
        When the source was taken, in Julian years if it is a number. Without it stars stay where
        the catalog has them.
    source_wcs : object, optional
        A WCS of the source, that may be off.
    source_size : tuple of float, optional
        Size ``(nx, ny)`` of the source, px.

    Returns
    -------
    SkyPlane

    Raises
    ------
    CatalogError
        If there are no positions, none near ``position``, or no epoch for proper motions.
    TypeError, ValueError
        If an option makes no sense.
    """
    if isinstance(catalog, SkyCoord):
        catalog = Table({"sky": np.atleast_1d(catalog)})
    given = sky_options(position, radius, pixel_scale, epoch)
    table = as_table(catalog, name="template")
    sky = _sky_of(table, given["epoch"])
    known = _seen_by(source_wcs, source_size)
    scale = given["pixel_scale"]
    if known is not None:
        position = known[0] if position is None else position
        scale = known[1] if scale is None else scale
    finite = np.flatnonzero(np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg))
    if not finite.size:
        raise CatalogError("no row of the template catalog has finite sky coordinates.")
    if position is None:
        x, y, z = sky[finite].cartesian.xyz.value.mean(axis=1)
        position = SkyCoord(x, y, z, representation_type="cartesian")
        position.representation_type = "unitspherical"
    middle = position.icrs
    distance = sky[finite].separation(middle).deg
    limit = _WIDEST
    if given["radius"] is not None:
        limit = min(limit, given["radius"])
    elif scale is not None and source_size is not None:
        limit = min(limit, float(np.hypot(*source_size)) * scale / 3600)
    rows = finite[distance <= limit]
    if not rows.size:
        raise CatalogError(
            f"no star of the template catalog lies within {limit:.3g} deg of "
            f"{middle.to_string('decimal')}, the nearest at {distance.min():.3g} deg; check "
            "position, or give a larger radius."
        )
    guessed = scale is None
    if scale is None:
        extent = 2 * 3600 * float(np.quantile(distance[distance <= limit], 0.95))
        # catalogs are cut out somewhat larger than the image
        scale = max(extent, 1.0) / (2 * max(source_size or (1000.0, 1000.0)))
    wcs = _plane(middle, scale)
    xy = np.column_stack(wcs.world_to_pixel(sky[rows]))
    _, first = np.unique(xy, axis=0, return_index=True)
    first.sort()
    rows, xy = rows[first], xy[first]
    # Counted from the corner of the stars, as pixels of an image are: none is negative.
    corner = np.floor(xy.min(axis=0))
    xy -= corner
    wcs.wcs.crpix -= corner
    wcs.wcs.set()
    out = Table({"x": xy[:, 0], "y": xy[:, 1]})
    return SkyPlane(*_with_fluxes(out, table, rows, scale), wcs, scale, guessed)


def _position_columns(table: Table) -> tuple[str, ...] | None:
    """Return the name of a column of SkyCoord, or those of two columns of angles."""
    for name in table.colnames:
        if isinstance(table[name], SkyCoord):
            return (name,)
    return sky_columns(table.colnames)


def _column(table: Table, name: str, unit: Any = None) -> FloatArray | None:
    """Return a column as numbers in a unit, NaN where it is masked; None if there is none."""
    names = {key.lower(): key for key in table.colnames}
    if name not in names:
        return None
    column = table[names[name]]
    own, mask = getattr(column, "unit", None), getattr(column, "mask", None)
    if isinstance(column, u.Quantity):
        column = np.asarray(getattr(column, "unmasked", column).value)
    if np.asarray(column).dtype.kind not in "iuf":
        raise CatalogError(f"column {names[name]!r} of the template catalog is not numeric.")
    values = np.array(column, dtype=float)
    if mask is not None:
        values[mask] = np.nan
    return values if unit is None or own is None else (values * own).to_value(unit)


def _pair(table: Table, names: tuple[tuple[str, str], ...], unit: Any) -> list[FloatArray] | None:
    """Return the first pair of columns that is there."""
    for pair in names:
        one, two = (_column(table, name, unit) for name in pair)
        if one is not None and two is not None:
            return [one, two]
    return None


def _angles(table: Table, name: str, of_text: u.UnitBase) -> FloatArray:
    """Return a column of angles in degrees: sexagesimal where it is text that is no number."""
    column = table[name]
    if np.asarray(column).dtype.kind not in "SUO":
        if getattr(column, "unit", None) == u.hour:  # of time, as which some write hours of angle
            hours = _column(table, name.lower())
            assert hours is not None  # as below
            return 15 * hours
        values = _column(table, name.lower(), u.deg)
        assert values is not None  # the name is that of a column
        return values
    gone = np.broadcast_to(getattr(column, "mask", False), len(column))
    texts = [
        "" if masked or text is None else _text(text).strip()
        for text, masked in zip(np.asarray(column), gone, strict=True)
    ]
    out = np.full(len(texts), np.nan)
    there = np.flatnonzero([text not in ("", "--", "nan") for text in texts])
    told = [texts[k] for k in there]
    try:
        out[there] = np.array(told, float)
    except ValueError:
        try:
            out[there] = Angle(told, unit=of_text).deg
        except (ValueError, TypeError, u.UnitsError) as error:
            raise CatalogError(
                f"column {name!r} of the template catalog is text that is no angle, such as "
                f"{told[0]!r}; write degrees, or hours or degrees, minutes and seconds."
            ) from error
    return out


def _refuse_possible_radians(table: Table, columns: tuple[str, ...]) -> None:
    """Raise CatalogError where LSST's names do not tell radians from degrees: it has used both."""
    if columns[0].lower() != "coord_ra" or any(getattr(table[c], "unit", None) for c in columns):
        return
    lon, lat = (np.abs(_angles(table, name, u.deg)) for name in columns)
    if np.all((lon <= 2 * np.pi) & (lat <= np.pi / 2) | np.isnan(lon) | np.isnan(lat)):
        raise CatalogError(
            f"columns {columns[0]} and {columns[1]} of the template catalog have no unit, and "
            "their values may be radians, as in afw tables, or degrees; say which, as with "
            f"table[{columns[0]!r}].unit = 'rad' and table[{columns[1]!r}].unit = 'rad'."
        )


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _reference_epoch(table: Table, lon: str) -> Any:
    """Return the epoch of positions in Julian years: a column, or what is known of the table."""
    since = _column(table, "ref_epoch", u.yr)
    if since is not None:
        return since
    if "ref_epoch" in table.meta:
        return float(table.meta["ref_epoch"])
    if "j2000" in lon:
        return 2000.0
    words = " ".join(str(table.meta.get(key, "")) for key in ("ID", "name", "description"))
    for catalog, epoch in _GAIA.items():
        if catalog in words:
            return epoch
    # that of DR3: DR2's is half a year earlier, which moves no star by more than its error shows
    return 2016.0 if lon == "ra_icrs" and "gmag" in map(str.lower, table.colnames) else None


def _sky_of(table: Table, epoch: float | None) -> SkyCoord:
    """Return the positions in ICRS, moved to the epoch where proper motions are known."""
    columns = _position_columns(table)
    if columns is None:
        raise CatalogError(
            "the template catalog has no sky positions: a column of SkyCoord, or columns ra and "
            f"dec; its columns are {', '.join(table.colnames)}."
        )
    if len(columns) == 1:
        column = table[columns[0]]
        moving = "s" in column.data.differentials
        sky = column.icrs
        motion = (sky.pm_ra_cosdec, sky.pm_dec) if moving else None
        rates = None if motion is None else [m.to_value(u.mas / u.yr) for m in motion]
        since = None if column.obstime is None else column.obstime.jyear
        sky = SkyCoord(sky.ra, sky.dec)
    else:
        galactic = tuple(name.lower() for name in columns) in GALACTIC
        _refuse_possible_radians(table, columns)
        lon = _angles(table, columns[0], u.deg if galactic else u.hourangle)
        lat = _angles(table, columns[1], u.deg)
        bad = ~(np.abs(lat) <= 90)
        frame = "galactic" if galactic else "icrs"
        sky = SkyCoord(lon, np.where(bad, np.nan, lat), unit=u.deg, frame=frame).icrs
        rates = _pair(table, _MOTIONS, u.mas / u.yr)
        since = _reference_epoch(table, columns[0].lower())
    if rates is None or epoch is None:
        return sky
    if since is None:
        raise CatalogError(
            "the template catalog has proper motions but no reference epoch: give it a "
            "column ref_epoch (Julian years), or obstime to its SkyCoord, or leave them out."
        )
    pm_ra, pm_dec = (np.nan_to_num(rate) for rate in rates)
    return _moved(sky, pm_ra, pm_dec, epoch - np.nan_to_num(since, nan=epoch))


def _moved(sky: SkyCoord, pm_ra: FloatArray, pm_dec: FloatArray, years: Any) -> SkyCoord:
    """Move positions by proper motions (mas/yr, with the factor cos dec) on straight lines."""
    ra, dec = sky.ra.rad, sky.dec.rad
    radians = years * (u.mas.to(u.rad))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    x, y, z = sky.cartesian.xyz.value + (pm_ra * east + pm_dec * north) * radians
    return SkyCoord(np.arctan2(y, x), np.arctan2(z, np.hypot(x, y)), unit=u.rad)


def _seen_by(wcs: Any, size: tuple[float, float] | None) -> tuple[SkyCoord, float] | None:
    """Return the middle of an image on the sky and its pixel scale in arcsec, by its WCS."""
    if wcs is None or size is None:
        return None
    x, y = ((n - 1) / 2 for n in size)
    try:
        sky = wcs.pixel_to_world([x, x + 1, x], [y, y, y + 1])
        along, across = sky[0].separation(sky[1:]).arcsec
    except Exception:  # a header can be wrong in any way; it is only a hint here
        return None
    scale = float(np.sqrt(along * across))
    return (sky[0], scale) if np.isfinite(scale) and scale > 0 else None


def _plane(middle: SkyCoord, scale: float) -> WCS:
    """Return the gnomonic projection with a position at pixel (0, 0) and square pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = middle.ra.deg, middle.dec.deg
    wcs.wcs.crpix = 1.0, 1.0
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    wcs.wcs.cunit = "deg", "deg"
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def _with_fluxes(
    out: Table, table: Table, rows: NDArray[np.intp], scale: float
) -> tuple[Table, NDArray[np.intp]]:
    """Add fluxes and errors of the catalog's rows to their positions."""
    flux = next((f for f in (_column(table, n) for n in _FLUXES) if f is not None), None)
    if flux is None:
        mag = next((m for m in (_column(table, n) for n in _MAGNITUDES) if m is not None), None)
        flux = None if mag is None else 10 ** (-0.4 * (mag - 15))
    for name, theirs in zip(("x_err", "y_err"), _ERRORS, strict=True):
        error = next((e for e in (_column(table, n, u.mas) for n in theirs) if e is not None), None)
        if error is not None:
            pixels = error[rows] / (1000 * scale)
            out[name] = np.maximum(np.nan_to_num(pixels, nan=0.0), _LEAST_ERROR)
    if flux is not None:
        out["flux"] = flux[rows]
        good = np.isfinite(flux[rows]) & (flux[rows] > 0)
        out, rows = out[good], rows[good]
    return out, rows
