"""What a catalog of stars is, and which of its rows to use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from spalipy_astro._checks import (
    check_names,
    checked_call,
    number,
    positive_number,
    whole_number,
)
from spalipy_astro._neighbors import neighbor_pairs
from spalipy_astro.catalogs._dialects import SPALIPY, translate, values_of
from spalipy_astro.catalogs._flags import UNUSABLE, StarFlag
from spalipy_astro.catalogs._read import as_table
from spalipy_astro.errors import CatalogError, TooFewStarsError
from spalipy_astro.typing import CatalogLike

__all__ = ["StarFlag", "Stars", "as_stars", "read_catalog", "select_stars"]

_DEFAULT_ERROR = 0.1  # px: position error of a catalog that gives none
_MIN_STARS = 3
_MOST_ERROR = 0.05  # of the field's width: a worse position does not tell one star from another
_LEAST_ERROR = 1e-9  # of the field's width: 1 / variance is a number beside those of other stars
_NO_FILTER: dict[str, Any] = {"bad_flags": 0, "min_fwhm": None, "min_sep": None, "brightest": None}


@dataclass(frozen=True)
class Stars:
    """
    Usable stars, brightest first.

    Attributes
    ----------
    xy : ndarray, shape (N, 2)
        Positions, 0-based px.
    err : ndarray or None, shape (N,)
        1-sigma position errors along each axis, px; None if the catalog has none.
    flux : ndarray, shape (N,)
        NaN if the catalog has none.
    flag : ndarray of int, shape (N,)
        `StarFlag` bits.
    row : ndarray of int, shape (N,)
        Rows of the catalog.
    """

    xy: NDArray[np.float64]
    err: NDArray[np.float64] | None
    flux: NDArray[np.float64]
    flag: NDArray[np.int64]
    row: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def search_err(self) -> NDArray[np.float64]:
        """Position errors, with a conservative guess if the catalog has none."""
        return np.full(len(self), _DEFAULT_ERROR) if self.err is None else self.err

    def take(self, index: NDArray[np.intp]) -> Stars:
        """Return a selection."""
        err = None if self.err is None else self.err[index]
        return Stars(self.xy[index], err, self.flux[index], self.flag[index], self.row[index])


@checked_call
def read_catalog(
    catalog: CatalogLike,
    *,
    format: str | None = None,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    origin: int | None = None,
    hdu: int | str | None = None,
    bad_flags: int = 0,
    min_fwhm: float | None = None,
    min_sep: float | None = None,
    brightest: float | None = None,
) -> QTable:
    """
    Read a catalog of stars, whatever program made it.

    Parameters
    ----------
    catalog : path, `~astropy.table.Table`, array or object with ``to_table``
        A file of SExtractor (``ASCII_HEAD``, ``ASCII``, ``FITS_LDAC``, ``FITS_1.0``), any other
        FITS table, ECSV, or whatever `astropy.table.Table.read` reads, also compressed; an array
        of ``sep.extract``; a ``SourceCatalog`` of photutils or a table of its finders; a table
        with spalipy's columns; positions of shape (N, 2).
    format : str, optional
        ``"ascii_head"``, ``"ascii"`` (no header: give ``columns``), ``"ldac"``, ``"fits"``,
        ``"ecsv"`` or a format of `astropy.table.Table.read`; by default found out.
    columns : sequence or mapping of str, optional
        Names of the columns of a file that has none, in their order; or, for columns of unknown
        names, ours to theirs: ``{"x": "XCEN", "y": "YCEN", "flux": "F"}``.
    origin : {0, 1}, optional
        Number of the catalog's first pixel; by default 1 for SExtractor's names, else 0.
    hdu : int or str, optional
        Extension of a FITS file; by default the first with positions of stars.
    bad_flags, min_fwhm, min_sep, brightest
        Which rows to leave out; see `select_stars`.

    Returns
    -------
    `~astropy.table.QTable`
        Brightest first: ``x``, ``y`` (0-based px, pixel centers on integers) and, where the
        catalog has them, ``flux``, ``flux_err``, ``fwhm`` (px), ``flag`` (`StarFlag` bits),
        ``x_err``, ``y_err`` (1-sigma, px); ``row`` is the row in ``catalog``. Rows without a finite
        position or a positive flux, and all but the brightest of those with one position, are left
        out. ``meta`` has ``dialect``, ``n_rows`` (of ``catalog``) and ``catalog`` (the path).

    Raises
    ------
    CatalogError
        If there are no positions, or a filter asks for a column that is not there.
    FormatError
        If a file cannot be read.
    FileNotFoundError
        If there is none.
    ValueError
        If a filter makes no sense.

    Notes
    -----
    Of several positions the most precise are taken: windowed ones, then those of a PSF fit, then
    isophotal ones. SExtractor's error ellipse (``ERRA``, ``ERRB``, ``ERRTHETA``) is projected onto
    the axes. Where there is no FWHM, it is that of a Gaussian with the catalog's half-light radius
    or moments.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable, Table
    >>> from spalipy_astro import read_catalog
    >>> sextractor = Table({"X_IMAGE": [11.0, 41.5], "Y_IMAGE": [21.0, 7.0],
    ...                     "FLUX_AUTO": [900.0, 2500.0], "FLAGS": [0, 4]})
    >>> stars = read_catalog(sextractor)
    >>> print(stars["x", "y", "flux", "flag"])
     x    y    flux  flag
    ---- ---- ------ ----
    40.5  6.0 2500.0    4
    10.0 20.0  900.0    0
    """
    if origin not in (None, 0, 1):
        raise ValueError(f"origin is the number of the first pixel, 0 or 1; got {origin!r}.")
    table = as_table(catalog, format=format, columns=columns, hdu=hdu)
    try:
        out = translate(table, origin=origin)
    except CatalogError as error:
        if not isinstance(catalog, str | os.PathLike):
            raise
        raise CatalogError(f"{os.fspath(catalog)!r}: {error}") from error
    rows = _sound_rows(out)
    out["row"] = np.arange(len(out))
    out.meta["n_rows"] = len(out)
    if isinstance(catalog, str | os.PathLike):
        out.meta["catalog"] = os.fspath(catalog)
    return select_stars(
        out[rows],
        bad_flags=bad_flags,
        min_fwhm=min_fwhm,
        min_sep=min_sep,
        brightest=brightest,
    )


def select_stars(
    table: Table,
    *,
    bad_flags: int = 0,
    min_fwhm: float | None = None,
    min_sep: float | None = None,
    brightest: float | None = None,
) -> Any:
    """
    Leave rows out of a catalog.

    Parameters
    ----------
    table : `~astropy.table.Table`
        As `read_catalog` and `detect_stars` return them.
    bad_flags : int, optional
        Rows are left out that have one of these `StarFlag` bits.
    min_fwhm : float, optional
        Smallest ``fwhm``, px.
    min_sep : float, optional
        Smallest distance between neighbors, px: both of a closer pair are left out.
    brightest : int or float, optional
        How many stars to keep of those that pass the other filters; a value up to 1 is the
        fraction to keep.

    Returns
    -------
    `~astropy.table.Table`
        Of the type of ``table``, in its order.

    Raises
    ------
    CatalogError
        If the table lacks the column that a filter asks for.
    ValueError
        If a filter makes no sense.
    """
    filters = {"bad_flags": bad_flags, "min_fwhm": min_fwhm}
    filters |= {"min_sep": min_sep, "brightest": brightest}
    return table[_selected(table, **as_filters(filters))]


def as_filters(filters: Any, *, prefix: str = "") -> dict[str, Any]:
    """
    Check the filters that select rows of a catalog.

    Parameters
    ----------
    filters : mapping
        Keyword arguments of `select_stars`; lengths may have units.
    prefix : str, optional
        What to put before their names in error messages.

    Returns
    -------
    dict
        All keyword arguments of `select_stars`, as plain numbers and None.

    Raises
    ------
    TypeError, ValueError
        If one is invalid.
    """
    if not isinstance(filters, Mapping):
        names = ", ".join(_NO_FILTER)
        raise TypeError(f"select is a mapping with one or more of {names}; got {filters!r}.")
    check_names("select", filters, _NO_FILTER)
    plain = {**_NO_FILTER, **filters}
    bits = "a sum of StarFlag bits"
    plain["bad_flags"] = whole_number(f"{prefix}bad_flags", plain["bad_flags"], bits, least=0)
    for label in ("min_fwhm", "min_sep"):
        if plain[label] is not None:
            length = number(f"{prefix}{label}", plain[label], "a length in px", u.pix)
            if not 0 <= length < np.inf:
                raise ValueError(f"{prefix}{label} is a length in px; got {plain[label]!r}.")
            plain[label] = length
    if plain["brightest"] is not None:
        rule = "a number of stars, or a fraction of them up to 1"
        few = positive_number(f"{prefix}brightest", plain["brightest"], rule)
        if few > 1 and few % 1:
            raise ValueError(f"{prefix}brightest is {rule}; got {plain['brightest']!r}.")
        plain["brightest"] = few
    return plain


def as_stars(
    catalog: Any, *, name: str = "catalog", select: Mapping[str, Any] | None = None
) -> Stars:
    """
    Take the usable stars of a catalog.

    Parameters
    ----------
    catalog : path, `~astropy.table.Table`, array or object with ``to_table``
        A table with columns ``x`` and ``y`` (0-based px), optionally ``flux``, ``x_err``,
        ``y_err`` and ``flag`` (`StarFlag` bits); positions of shape (N, 2), brightest first; or
        anything else that `read_catalog` reads. Rows that `read_catalog` leaves out are left out.
    name : str, optional
        Its name in error messages.
    select : mapping, optional
        Keyword arguments of `select_stars`.

    Returns
    -------
    Stars
        Without the rows whose flags say that they are not stars.

    Raises
    ------
    CatalogError
        If columns are missing, errors are negative, zero or as large as the field, or values are
        not finite, not positive or not distinct and too few rows are left.
    TooFewStarsError
        If fewer than three usable stars are left.
    """
    table = translate(as_table(catalog, name=name), name=name)
    rows = _sound_rows(table)
    n = len(table)
    flag = np.asarray(table["flag"], np.int64) if "flag" in table.colnames else np.zeros(n, int)
    if len(rows) < _MIN_STARS:
        _complain(table, name)
    unusable = int(UNUSABLE)
    if table.meta.get("dialect", SPALIPY.name) != SPALIPY.name:
        unusable |= int(StarFlag.BAD_PIXELS)  # other programs measure over them
    rows = rows[(flag[rows] & unusable) == 0]
    usable = len(rows)
    if select:
        rows = rows[_selected(table[rows], **as_filters(select))]
    xy = np.column_stack([values_of(table[column])[rows] for column in ("x", "y")])
    flux = np.full(len(rows), np.nan)
    if "flux" in table.colnames:
        flux = values_of(table["flux"])[rows]
    if len(rows) < _MIN_STARS:
        left = f", of which filters leave {len(rows)}" if len(rows) < usable else ""
        raise TooFewStarsError(
            f"the {name} has {usable} usable stars among {n} detections{left}; alignment needs at "
            f"least {_MIN_STARS}. If stars are detected, a lower threshold finds fainter ones."
        )
    spread = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False)
    if spread[1] < 1e-6 * spread[0]:
        raise CatalogError(
            f"all {len(rows)} positions in the {name} catalog lie on one line, so they do not "
            "determine a transform."
        )
    err = None
    if {"x_err", "y_err"} <= set(table.colnames):
        x_err, y_err = (values_of(table[column])[rows] for column in ("x_err", "y_err"))
        err = _plain_errors(np.hypot(x_err, y_err) / np.sqrt(2), xy, name)
    return Stars(xy, err, flux, flag[rows], rows)


def _sound_rows(table: Table) -> NDArray[np.intp]:
    """Return the rows with a position and a flux, brightest first, one for each position."""
    x, y = values_of(table["x"]), values_of(table["y"])
    good = np.isfinite(x) & np.isfinite(y)
    order = np.arange(len(table))
    if "flux" in table.colnames:
        flux = values_of(table["flux"])
        good &= np.isfinite(flux) & (flux > 0)
        order = np.argsort(-np.where(good, flux, 0), kind="stable")
    order = order[good[order]]
    xy = np.column_stack((x, y))[order]
    # the sort is stable: of equal positions the brightest comes first
    by_place = np.lexsort(xy.T)
    first = np.ones(len(xy), bool)
    first[by_place[1:]] = np.any(xy[by_place[1:]] != xy[by_place[:-1]], axis=1)
    return order[first]


def _selected(
    table: Table,
    bad_flags: int,
    min_fwhm: float | None,
    min_sep: float | None,
    brightest: float | None,
) -> NDArray[np.intp]:
    """Return the rows that pass the filters."""
    rows = np.arange(len(table))
    if bad_flags:
        flag = np.asarray(_asked_for(table, "flag", "bad_flags"), np.int64)
        rows = rows[(flag & int(bad_flags)) == 0]
    if min_fwhm:
        fwhm = values_of(_asked_for(table, "fwhm", "min_fwhm"))
        rows = rows[fwhm[rows] >= min_fwhm]
    if min_sep and len(rows):
        xy = np.column_stack((values_of(table["x"]), values_of(table["y"])))[rows]
        # the nearest double below: stars at that very distance stay
        rows = np.delete(rows, np.unique(neighbor_pairs(xy, float(np.nextafter(min_sep, 0)))))
    if brightest is not None:
        rows = rows[_brightest(table, rows, brightest)]
    return rows


def _brightest(table: Table, rows: NDArray[np.intp], count: float) -> NDArray[np.intp]:
    """Return which of the rows are the brightest; without fluxes the first ones are."""
    keep = int(count) if count > 1 else int(np.ceil(count * len(rows)))
    if "flux" not in table.colnames:
        return np.arange(len(rows))[:keep]
    flux = np.nan_to_num(values_of(table["flux"])[rows], nan=-np.inf)
    return np.sort(np.argsort(-flux, kind="stable")[:keep])


def _asked_for(table: Table, column: str, option: str) -> Any:
    """Return a column that a filter asks for."""
    if column not in table.colnames:
        raise CatalogError(
            f"{option} asks for a column {column}, which is not in the catalog; its columns are "
            f"{', '.join(table.colnames)}."
        )
    return table[column]


def _complain(table: Table, name: str) -> None:
    """Raise CatalogError, with counts, for values that no star has; they have left too few."""
    n = len(table)
    xy = np.column_stack((values_of(table["x"]), values_of(table["y"])))
    finite = np.isfinite(xy).all(axis=1)
    bad = n - int(np.count_nonzero(finite))
    if bad:
        raise CatalogError(
            f"{bad} of {n} positions in the {name} catalog are not finite, which leaves "
            f"{n - bad}; alignment needs at least {_MIN_STARS}."
        )
    if "flux" in table.colnames:
        flux = values_of(table["flux"])
        bad = n - int(np.count_nonzero(np.isfinite(flux) & (flux > 0)))
        if bad:
            raise CatalogError(
                f"{bad} of {n} fluxes in the {name} catalog are not positive and finite, which "
                f"leaves {n - bad}; drop the column flux and sort by brightness."
            )
    distinct = len(np.unique(xy, axis=0))
    if distinct < n:
        raise CatalogError(
            f"{n - distinct} of {n} positions in the {name} catalog are duplicates, which leaves "
            f"{distinct}; alignment needs at least {_MIN_STARS}."
        )


def _plain_errors(
    err: NDArray[np.float64], xy: NDArray[np.float64], name: str
) -> NDArray[np.float64]:
    """
    Return position errors within what the field can tell, in its units.

    Larger ones than the field say no more than that nothing is known, and of those that are far
    smaller than its numbers no sum of weights keeps more.
    """
    extent = float(np.ptp(xy, axis=0).max())
    useful = int(np.count_nonzero(err < _MOST_ERROR * extent))
    if useful < _MIN_STARS:
        raise CatalogError(
            f"x_err and y_err of the {name} catalog are {np.median(err):.3g} in the middle, in a "
            f"field {extent:.3g} wide: {useful} of {len(err)} positions are more precise than "
            f"{_MOST_ERROR:.0%} of that, where {_MIN_STARS} are needed. Errors are 1-sigma, in the "
            "unit of x and y; drop the columns if they are something else."
        )
    return np.clip(err, _LEAST_ERROR * extent, extent)
