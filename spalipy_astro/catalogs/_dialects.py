"""Which dialect a catalog has, and how its columns are turned into ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from spalipy_astro._checks import checked_call
from spalipy_astro.catalogs._dialect import Dialect, Position
from spalipy_astro.catalogs._programs import DIALECTS, SPALIPY
from spalipy_astro.errors import CatalogError

__all__ = [
    "SPALIPY",
    "Dialect",
    "Position",
    "recognize",
    "register_dialect",
    "translate",
    "unregister_dialect",
    "values_of",
]

FloatArray = NDArray[np.float64]


_registered: dict[str, Dialect] = {}


@checked_call
def register_dialect(dialect: Dialect, *, overwrite: bool = False) -> None:
    """
    Teach the package the columns of another program.

    Parameters
    ----------
    dialect : Dialect
        What it calls its columns. It is asked before those that come with the package and those
        that were registered earlier: give it a ``key`` if its positions have common names.
    overwrite : bool, optional
        Whether to replace one of the same name that was registered.

    Raises
    ------
    TypeError
        If it is not a dialect.
    ValueError
        If there is one of this name.

    Notes
    -----
    It holds for this process. Worker processes of `~spalipy_astro.align_many` know it if a module
    that they import registers it.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from spalipy_astro import read_catalog
    >>> from spalipy_astro.catalogs import Dialect, Position, register_dialect, unregister_dialect
    >>> positions = (Position("XCENTER", "YCENTER"),)
    >>> register_dialect(Dialect("daofind", origin=1, positions=positions, magnitude=("MAG",)))
    >>> stars = read_catalog(Table({"XCENTER": [11.0], "YCENTER": [21.0], "MAG": [-5.0]}))
    >>> stars.meta["dialect"], float(stars["x"][0]), float(stars["flux"][0])
    ('daofind', 10.0, 100.0)
    >>> unregister_dialect("daofind")
    """
    if not isinstance(dialect, Dialect):
        raise TypeError(f"dialect is a Dialect; got {type(dialect).__name__}.")
    if dialect.name in {own.name for own in DIALECTS}:
        raise ValueError(
            f"dialect {dialect.name!r} comes with the package; give yours another name."
        )
    if dialect.name in _registered and not overwrite:
        raise ValueError(
            f"dialect {dialect.name!r} is registered already; overwrite=True replaces it."
        )
    _registered.pop(dialect.name, None)
    _registered[dialect.name] = dialect


def unregister_dialect(name: str) -> None:
    """
    Forget a dialect that was registered.

    Parameters
    ----------
    name : str
        Its name.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    if name not in _registered:
        known = ", ".join(map(repr, _registered)) or "none"
        raise ValueError(f"name is that of a registered dialect ({known}); got {name!r}.")
    del _registered[name]


def _dialects() -> tuple[Dialect, ...]:
    """Return all dialects in the order in which they are asked."""
    return (*reversed(_registered.values()), *DIALECTS)


def recognize(table: Table) -> Dialect | None:
    """
    Tell a catalog's dialect by its columns.

    Parameters
    ----------
    table : `~astropy.table.Table`

    Returns
    -------
    Dialect or None
        None if no pair of columns is known to hold positions.
    """
    known, cased = _lookup(table), set(table.colnames)
    for dialect in _dialects():
        keys = set(dialect.key) <= cased if dialect.cased else _holds(known, dialect.key)
        signed = all(sign in table.meta for sign in dialect.signs)
        if keys and signed and _position(known, dialect):
            return dialect
    return None


def _holds(known: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return all(name.lower() in known for name in names)


def translate(table: Table, *, origin: int | None = None, name: str = "catalog") -> QTable:
    """
    Turn a catalog into one with our columns.

    Parameters
    ----------
    table : `~astropy.table.Table`
    origin : {0, 1}, optional
        Number of the first pixel; by default that of the dialect.
    name : str, optional
        What to call it in error messages.

    Returns
    -------
    `~astropy.table.QTable`
        ``x``, ``y`` and, where there are such data, ``flux``, ``flux_err``, ``fwhm``, ``flag``,
        ``x_err`` and ``y_err``; a row for each row of `table`.

    Raises
    ------
    CatalogError
        If there are no positions.
    """
    dialect = recognize(table)
    if dialect is None:
        raise CatalogError(
            f"the {name} catalog has no known position columns; it has "
            f"{', '.join(table.colnames) or 'none'}. Known are "
            + "; ".join(
                dict.fromkeys(f"{p.x}, {p.y}" for d in _dialects() for p in d.positions[-1:])
            )
            + ". Say which to take, as with columns={'x': 'XCEN', 'y': 'YCEN'}, and origin=1 if "
            "the first pixel has the number 1. A catalog of the sky has ra and dec, or a column of "
            "SkyCoord; it is a template."
        )
    known = _lookup(table)
    position = _position(known, dialect)
    assert position is not None  # recognize asked for it
    if origin is None and dialect is SPALIPY and {"X", "Y"} <= set(table.colnames):
        warnings.warn(
            f"the {name} catalog has columns X and Y, which some programs count from 0 and others "
            "from 1; they are taken to count from 0. To be sure, read it with "
            "read_catalog(..., origin=0) or origin=1.",
            AstropyUserWarning,
            stacklevel=2,
        )
    first = dialect.origin if origin is None else origin
    return QTable(
        {
            "x": values_of(known[position.x.lower()]) - first,
            "y": values_of(known[position.y.lower()]) - first,
            **_brightness(known, dialect),
            **_width(known, dialect),
            **_flags(known, dialect),
            **_errors(known, position, name),
        },
        meta={"dialect": dialect.name},
    )


def values_of(column: Any) -> FloatArray:
    """Return a column as plain numbers: NaN where masked, the first of a vector of apertures."""
    try:
        if not hasattr(column, "dtype"):  # times and positions on the sky can be filled, too
            raise TypeError(f"it holds {type(column).__name__}")
        if hasattr(column, "filled"):
            numbers = column if column.dtype.kind == "O" else column.astype(float)
            column = numbers.filled(np.nan)
        values = np.asarray(getattr(column, "value", column), dtype=float)
    except (TypeError, ValueError) as error:
        name = getattr(getattr(column, "info", None), "name", None)
        raise CatalogError(
            f"the column {name} has something in it that is no number ({error}); leave those rows "
            "out, or name another column with columns=."
        ) from error
    return values if values.ndim == 1 else values.reshape(len(values), -1)[:, 0]


def _lookup(table: Table) -> dict[str, Any]:
    """Return columns by lower-case names: data bases change the case."""
    return {name.lower(): table[name] for name in reversed(table.colnames)}


def _position(known: Mapping[str, Any], dialect: Dialect) -> Position | None:
    """Return the best positions that there are."""
    for position in dialect.positions:
        if position.x.lower() in known and position.y.lower() in known:
            return position
    return None


def _first(known: Mapping[str, Any], names: tuple[str, ...]) -> FloatArray | None:
    """Return the first column there is."""
    for name in names:
        if name.lower() in known:
            return values_of(known[name.lower()])
    return None


def _brightness(known: Mapping[str, Any], dialect: Dialect) -> dict[str, FloatArray]:
    """Return flux and its error."""
    for flux, error in dialect.flux:
        if flux.lower() in known:
            out = {"flux": values_of(known[flux.lower()])}
            if error.lower() in known:
                out["flux_err"] = values_of(known[error.lower()])
            return out
    magnitude = _first(known, dialect.magnitude)
    if magnitude is None:
        return {}
    # SExtractor writes 99 where there is no flux
    return {"flux": np.where(magnitude < 90, 10 ** (-0.4 * magnitude), np.nan)}


def _width(known: Mapping[str, Any], dialect: Dialect) -> dict[str, FloatArray]:
    """Return the FWHM: as measured, or of the Gaussian with that radius or those moments."""
    fwhm = _first(known, dialect.fwhm)
    if fwhm is None:
        radius = _first(known, dialect.half_light_radius)
        fwhm = None if radius is None else 2 * radius
    if fwhm is None and dialect.moments:
        a, b = (_first(known, (name,)) for name in dialect.moments)
        if a is not None and b is not None:
            fwhm = np.sqrt(4 * np.log(2) * (a**2 + b**2))
    return {} if fwhm is None else {"fwhm": fwhm}


def _flags(known: Mapping[str, Any], dialect: Dialect) -> dict[str, NDArray[np.int64]]:
    """Return the flags in our bits."""
    marks = {name: bit for name, bit in dialect.marks.items() if name.lower() in known}
    if marks:
        marked = np.zeros(len(known[next(iter(marks)).lower()]), np.int64)
        for name, bit in marks.items():
            marked[values_of(known[name.lower()]) > 0] |= int(bit)
        return {"flag": marked}
    values = _first(known, dialect.flag)
    if values is None:
        return {}
    flags = np.nan_to_num(values).astype(np.int64)
    if not dialect.bits:
        return {"flag": flags}
    out = np.zeros(len(flags), np.int64)
    for theirs, ours in dialect.bits.items():
        out[(flags & theirs) != 0] |= int(ours)
    return {"flag": out}


def _errors(known: Mapping[str, Any], position: Position, owner: str) -> dict[str, FloatArray]:
    """
    Return the position errors; those that are not known become the largest of the others.

    An error of one axis alone holds for both. Programs that measure stars write zeros and negative
    numbers where they could not tell; in columns of our own names these are mistakes.
    """
    pair: tuple[FloatArray, ...] | None = None
    for names, root in ((position.axes, False), (position.variances, True)):
        there = [name for name in names or () if name.lower() in known]
        if there and (len(there) == 2 or not root):
            pair = tuple(values_of(known[name.lower()]) for name in (there[0], there[-1]))
            if position is SPALIPY.positions[0]:
                _refuse_impossible(dict(zip(there, pair, strict=False)), owner)
            if root:
                pair = tuple(np.sqrt(np.maximum(values, 0)) for values in pair)
            break
    else:
        if position.ellipse and all(name.lower() in known for name in position.ellipse[:2]):
            a, b = (values_of(known[name.lower()]) for name in position.ellipse[:2])
            theta = _first(known, position.ellipse[2:])
            angle = np.pi / 4 if theta is None else np.deg2rad(theta)
            pair = (
                np.hypot(a * np.cos(angle), b * np.sin(angle)),
                np.hypot(a * np.sin(angle), b * np.cos(angle)),
            )
    if pair is None:
        return {}
    good = np.logical_and.reduce([np.isfinite(values) & (values > 0) for values in pair])
    if not good.any():
        return {}
    x, y = (np.where(good, values, values[good].max()) for values in pair)
    return {"x_err": x, "y_err": y}


def _refuse_impossible(errors: Mapping[str, FloatArray], owner: str) -> None:
    """Raise CatalogError for errors that are negative or zero."""
    for column, values in errors.items():
        bad = int(np.count_nonzero(values <= 0))
        if bad:
            raise CatalogError(
                f"{bad} of {len(values)} position errors in the {owner} catalog, column {column}, "
                f"are not positive, the smallest {np.nanmin(values):.3g}; errors are 1-sigma. Make "
                "unknown ones NaN, or drop the columns x_err and y_err."
            )
