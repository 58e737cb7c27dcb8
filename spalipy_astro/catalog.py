"""What a catalog of stars is, and how tables and arrays are read into it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spalipy_astro.errors import CatalogError, TooFewStarsError

__all__ = ["StarFlag", "Stars", "as_stars"]


class StarFlag(IntFlag):
    """Bits of the ``flag`` column; the first four are those of SExtractor (Bertin & Arnouts 1996)."""

    NEIGHBOR = 1
    """The light of another source reaches into the measuring window."""
    BLENDED = 2
    """Two or more peaks share one segment of sky."""
    SATURATED = 4
    """At least one pixel is saturated."""
    EDGE = 8
    """The measuring window leaves the image."""
    BAD_PIXELS = 16
    """A masked or non-finite pixel lies in the core."""
    ARTIFACT = 32
    """Not a star: cosmic ray, hot pixel or bleeding trail."""
    EXTENDED = 64
    """Wider than the stars of the image: a galaxy or a nebula."""
    UNSTABLE = 128
    """The centroid did not converge."""


# Sources with these flags are no stars, or have no position worth the name.
UNUSABLE = StarFlag.ARTIFACT | StarFlag.UNSTABLE | StarFlag.BAD_PIXELS
_DEFAULT_ERROR = 0.1  # px: position error of a catalog that gives none
_MIN_STARS = 4


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
        """Position errors, with a cautious guess where the catalog has none."""
        return np.full(len(self), _DEFAULT_ERROR) if self.err is None else self.err

    def take(self, index: NDArray[np.intp]) -> Stars:
        """Return a selection."""
        err = None if self.err is None else self.err[index]
        return Stars(self.xy[index], err, self.flux[index], self.flag[index], self.row[index])


def as_stars(catalog: Any, *, name: str = "catalog") -> Stars:
    """
    Read a table or an array of positions.

    Parameters
    ----------
    catalog : `~astropy.table.Table` or array_like, shape (N, 2)
        A table with columns ``x`` and ``y`` (0-based px), optionally ``flux``, ``x_err``,
        ``y_err`` and ``flag`` (`StarFlag` bits); or positions, brightest first.
    name : str, optional
        What to call it in error messages.

    Returns
    -------
    Stars
        Without the rows whose flags say that they are no stars.

    Raises
    ------
    CatalogError
        If columns are missing, or values are not finite, not positive or not distinct.
    TooFewStarsError
        If fewer than four usable stars are left.
    """
    table = catalog if isinstance(catalog, Table) else _table_of_positions(catalog, name)
    missing = [column for column in ("x", "y") if column not in table.colnames]
    if missing:
        raise CatalogError(
            f"the {name} catalog has no column {' and '.join(missing)}; its columns are "
            f"{', '.join(table.colnames) or 'none'}. Rename those that hold 0-based pixels."
        )
    n = len(table)
    flag = np.asarray(table["flag"], np.int64) if "flag" in table.colnames else np.zeros(n, int)
    rows = np.flatnonzero((flag & int(UNUSABLE)) == 0)
    xy = np.column_stack([_values(table, column) for column in ("x", "y")])[rows]
    flux = _values(table, "flux")[rows] if "flux" in table.colnames else np.full(len(rows), np.nan)
    err = None
    if {"x_err", "y_err"} <= set(table.colnames):
        err = np.sqrt((_values(table, "x_err") ** 2 + _values(table, "y_err") ** 2) / 2)[rows]
    if len(rows) < _MIN_STARS:
        raise TooFewStarsError(
            f"the {name} has {len(rows)} usable stars among {n} detections; alignment takes at "
            f"least {_MIN_STARS}. A lower threshold finds fainter stars."
        )
    _check(xy, flux if "flux" in table.colnames else None, err, name)
    order = np.argsort(-flux, kind="stable") if np.isfinite(flux).all() else np.arange(len(rows))
    return Stars(xy, err, flux, flag[rows], rows).take(order)


def _table_of_positions(catalog: Any, name: str) -> Table:
    """Make a table of an array of positions."""
    positions = np.asarray(catalog)
    if positions.ndim != 2 or positions.shape[1] != 2 or positions.dtype.kind not in "iuf":
        raise CatalogError(
            f"the {name} catalog is an array of shape {positions.shape} and type "
            f"{positions.dtype}; positions are numbers of shape (N, 2)."
        )
    return Table({"x": positions[:, 0], "y": positions[:, 1]})


def _values(table: Table, column: str) -> NDArray[np.float64]:
    """Return a column as plain numbers; masked ones become NaN."""
    values = table[column]
    if hasattr(values, "filled"):
        values = values.astype(float).filled(np.nan)
    return np.asarray(getattr(values, "value", values), dtype=float)


def _check(
    xy: NDArray[np.float64],
    flux: NDArray[np.float64] | None,
    err: NDArray[np.float64] | None,
    name: str,
) -> None:
    """Raise CatalogError, with counts, for values that no star has."""
    n = len(xy)
    bad = n - int(np.count_nonzero(np.isfinite(xy).all(axis=1)))
    if bad:
        raise CatalogError(
            f"{bad} of {n} positions in the {name} catalog are not finite; leave those rows out."
        )
    if flux is not None:
        bad = n - int(np.count_nonzero(np.isfinite(flux) & (flux > 0)))
        if bad:
            raise CatalogError(
                f"{bad} of {n} fluxes in the {name} catalog are not positive and finite; leave "
                "those rows out, or drop the column and sort by brightness."
            )
    if err is not None:
        bad = n - int(np.count_nonzero(np.isfinite(err) & (err > 0)))
        if bad:
            raise CatalogError(
                f"{bad} of {n} position errors in the {name} catalog are not positive and finite; "
                "leave those rows out, or drop the columns x_err and y_err."
            )
    distinct = len(np.unique(xy, axis=0))
    if distinct < n:
        raise CatalogError(
            f"{n - distinct} of {n} positions in the {name} catalog are duplicates; keep one row "
            "for each star."
        )
    spread = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False)
    if spread[1] < 1e-6 * spread[0]:
        raise CatalogError(
            f"all {n} positions in the {name} catalog lie on one line; that fixes no transform."
        )
