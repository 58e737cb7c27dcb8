"""Moving targets: where a comet or an asteroid is at the middle of each exposure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.registry import IORegistryError
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.wcs.utils import skycoord_to_pixel
from numpy.typing import NDArray

from spalipy_astro import _geometry
from spalipy_astro._files import require_file
from spalipy_astro.alignment import Alignment
from spalipy_astro.catalogs import as_table, is_frame
from spalipy_astro.errors import AlignmentError, FormatError
from spalipy_astro.io import mid_exposure

__all__ = ["Target", "on_target", "target_of"]

_BEYOND = 0.1  # of the table's span, by which it is extrapolated
_TIMES = ("time", "mjd", "jd", "datetime_jd", "date", "datetime", "obstime")
"""Names of the column of times, in lower case; among them that of ephemerides of JPL Horizons."""
_YEARS, _LAST = (1800, 2200), 100_000.0  # MJD: numbers that are years, or seconds
_CUBIC = 4  # rows from which on a curve is drawn through them


@dataclass(frozen=True)
class Target:
    """
    A path on the template.

    Attributes
    ----------
    time : ndarray, shape (N,)
        MJD (UTC), increasing.
    xy : ndarray, shape (N, 2)
        Template px.
    reference : float
        MJD at which aligned frames show it where it was: that of the template.
    """

    time: NDArray[np.float64]
    xy: NDArray[np.float64]
    reference: float

    def at(self, time: float) -> NDArray[np.float64]:
        """Return the position at a time."""
        reach = _BEYOND * (self.time[-1] - self.time[0])
        if not self.time[0] - reach <= time <= self.time[-1] + reach:
            first, last = Time(self.time[[0, -1]], format="mjd").isot
            raise AlignmentError(
                f"the middle of the exposure, {Time(time, format='mjd').isot}, is not among the "
                f"times of the target, {first} to {last}; add rows to its table."
            )
        if len(self.time) >= _CUBIC:
            from scipy.interpolate import CubicSpline  # takes a while to import

            return np.asarray(CubicSpline(self.time, self.xy)(time))
        k = int(np.clip(np.searchsorted(self.time, time) - 1, 0, len(self.time) - 2))
        share = (time - self.time[k]) / (self.time[k + 1] - self.time[k])
        return np.asarray(self.xy[k] + share * (self.xy[k + 1] - self.xy[k]))

    def shift(self, header: Mapping[str, Any]) -> tuple[float, float]:
        """Return by how many template px a frame moves so that it stands on the target."""
        time = mid_exposure(header)
        if time is None:
            raise AlignmentError(
                "the header does not tell when the exposure was taken: target= needs DATE-AVG, "
                "MJD-AVG, or DATE-OBS or MJD-OBS with EXPTIME."
            )
        dx, dy = self.at(self.reference) - self.at(time)
        return float(dx), float(dy)


def target_of(target: Any, wcs: Any, header: Mapping[str, Any] | None) -> Target:
    """
    Read where a target is.

    Parameters
    ----------
    target : Table, data frame, mapping, path, or `~astropy.coordinates.SkyCoord` with ``obstime``
        With a column ``time`` (or ``mjd``, ``jd``, ``datetime_jd``, ``date``) and the columns ``x``
        and ``y`` (template px), or a column of `~astropy.coordinates.SkyCoord`, or ``ra`` and
        ``dec`` (deg, another unit, or sexagesimal).
    wcs : `~astropy.wcs.WCS` or None
        That of the template, for positions on the sky.
    header : mapping or None
        That of the template, for its time; without one, the time of the first row.

    Returns
    -------
    Target

    Raises
    ------
    TypeError, ValueError
        If there are less than two rows, columns are missing, or two times are equal.
    """
    if isinstance(target, str | os.PathLike):
        try:
            require_file(target)
            target = QTable.read(target)
        except UnicodeDecodeError as error:
            raise FormatError(f"target: {os.fspath(target)!r} is no table ({error}).") from error
        except (OSError, FormatError, IORegistryError, ValueError) as error:
            raise type(error)(f"target: {error}") from error
    if isinstance(target, SkyCoord) and target.obstime is not None and target.ndim == 1:
        target = QTable({"time": target.obstime, "position": target})
    if is_frame(target) or (isinstance(target, Mapping) and target):
        try:
            target = as_table(target, name="target")
        except (TypeError, ValueError) as error:
            raise type(error)(f"target is a table, of columns of one length ({error}).") from error
    if not isinstance(target, Table):
        raise TypeError(
            "target is a table with the columns time and x, y (template px), or time and a "
            f"SkyCoord, or a file of one; got {type(target).__name__}."
        )
    names = {name.lower(): name for name in target.colnames}
    known = next((name for name in _TIMES if name in names), None)
    if known is None:
        raise ValueError(f"target needs a column 'time'; it has {', '.join(target.colnames)}.")
    if len(target) < 2:
        raise ValueError(f"target needs two rows or more to tell a motion; got {len(target)}.")
    time = _times(target[names[known]])
    order = np.argsort(time)
    if not (np.diff(time[order]) > 0).all():
        raise ValueError("target: two rows have the same time, or a time is missing.")
    xy = _positions(target, names, wcs)
    if not np.isfinite(xy).all():
        raise ValueError("target: a position is not finite, or not on the template's sky.")
    reference = None if header is None else mid_exposure(header)
    return Target(time[order], xy[order], float(time[order][0]) if reference is None else reference)


def _times(column: Any) -> NDArray[np.float64]:
    """Return times as MJD (UTC)."""
    if not isinstance(column, Time):
        values = _plain(column, u.day, "time is MJD or JD, in days, or a unit of time")
        if values.dtype.kind in "SUO":
            try:
                try:
                    column = Time(values.astype(str), scale="utc")
                except ValueError:  # with a zone of time
                    moments = [datetime.fromisoformat(str(value)) for value in values.ravel()]
                    column = Time(moments, scale="utc")
            except ValueError:
                raise ValueError(
                    "target: time as text is ISO, such as 2026-03-01T20:00:00; got "
                    f"{str(values[0])!r}."
                ) from None
        elif values.dtype.kind == "M":
            column = Time(values.astype("datetime64[us]"), scale="utc")
        else:
            # both in use; no observation has a JD that could be an MJD
            kind = "jd" if values.min() > 2e6 else "mjd"
            column = Time(values.astype(float), format=kind, scale="utc")
            if (column.mjd > _LAST).any() or ((values > _YEARS[0]) & (values < _YEARS[1])).all():
                raise ValueError(
                    "target: time is MJD, JD, ISO or an astropy.time.Time; got numbers from "
                    f"{values.min():.10g} to {values.max():.10g}. Years, say, go into a Time: "
                    "Time(values, format='jyear')."
                )
    return np.atleast_1d(np.asarray(column.utc.mjd, float))


def _plain(column: Any, unit: u.UnitBase, rule: str) -> NDArray[Any]:
    """Return a column in a unit, if it has one of its own; NaN where it is masked."""
    own = getattr(column, "unit", None)
    values = getattr(column, "value", column) if isinstance(column, u.Quantity) else column
    masked = np.ma.getmaskarray(np.ma.asarray(values))
    values = np.array(np.ma.getdata(np.ma.asarray(values)))
    if own is not None:
        try:
            values = values * u.Unit(own).to(unit)
        except u.UnitConversionError:
            raise ValueError(f"target: {rule}; got {own}.") from None
    if masked.any() and values.dtype.kind in "iuf":
        values = np.where(masked, np.nan, values)
    return values


def _positions(target: Table, names: Mapping[str, str], wcs: Any) -> NDArray[np.float64]:
    """Return positions in template px."""
    if {"x", "y"} <= set(names):
        rule = "x and y are in px of the template"
        return np.column_stack([_plain(target[names[n]], u.pix, rule).astype(float) for n in "xy"])
    sky = next((target[n] for n in target.colnames if isinstance(target[n], SkyCoord)), None)
    if sky is None and {"ra", "dec"} <= set(names):
        ra, dec = (target[names[name]] for name in ("ra", "dec"))
        if np.asarray(ra).dtype.kind in "SU":  # as catalogs have them
            sky = SkyCoord(np.asarray(ra, str), np.asarray(dec, str), unit=(u.hourangle, u.deg))
        else:
            rule = "ra and dec are angles, in deg if they have no unit"
            sky = SkyCoord(_plain(ra, u.deg, rule), _plain(dec, u.deg, rule), unit="deg")
    if sky is None:
        raise ValueError(
            "target needs the columns x and y (template px), a column of SkyCoord, or ra and dec "
            f"(deg); it has {', '.join(target.colnames)}."
        )
    if wcs is None or not getattr(wcs, "has_celestial", False):
        raise ValueError(
            "target: positions on the sky need a template with a celestial WCS; give x and y."
        )
    return np.column_stack(skycoord_to_pixel(sky, wcs.celestial))


def on_target(alignment: Alignment, target: Target, image: CCDData) -> Alignment:
    """
    Move an aligned frame with a target; what moves has the template's sky.

    Raises
    ------
    AlignmentError
        If the frame does not show the target.
    """
    dx, dy = target.shift(image.meta)
    _require_target(alignment, target, dx, dy)
    moved = alignment.shifted(template=(dx, dy))
    steps = [*alignment.provenance.get("steps", []), f"target({dx:.4f}, {dy:.4f})"]
    provenance = {**moved.provenance, "steps": steps, "target_shift": [dx, dy]}
    return replace(moved, original_wcs=alignment.original_wcs, provenance=provenance)


def _require_target(alignment: Alignment, target: Target, dx: float, dy: float) -> None:
    """Raise where a frame does not show what it is to stand on."""
    if alignment.source_shape is None:
        return
    x, y = target.at(target.reference) - (dx, dy)
    u, v = (np.asarray(t, float) for t in alignment.transform.inverse(x, y))
    if not _geometry.inside(u, v, alignment.source_shape):
        raise AlignmentError(
            f"the target is not on this frame: at the middle of its exposure it is at ({x:.1f}, "
            f"{y:.1f}) px of the template."
        )
