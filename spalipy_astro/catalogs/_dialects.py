"""What other programs call the columns of a catalog, and how those are turned into ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from spalipy_astro.catalogs._flags import StarFlag
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


@dataclass(frozen=True)
class Position:
    """
    Two columns of positions, and those that may hold their errors.

    Attributes
    ----------
    x, y : str
        Columns of positions, px.
    axes : tuple of str
        Standard deviations along x and y.
    variances : tuple of str
        Variances along x and y.
    ellipse : tuple of str
        Standard deviations along the axes of the error ellipse, and the angle in degrees of its
        major axis.
    """

    x: str
    y: str
    axes: tuple[str, ...] = ()
    variances: tuple[str, ...] = ()
    ellipse: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """
    The columns of one program; of each tuple the first that a catalog has is taken.

    Names of columns are compared without regard to case.

    Attributes
    ----------
    name : str
        What ``meta["dialect"]`` of a catalog says.
    origin : {0, 1}
        Number of the first pixel.
    positions : tuple of Position
        Columns of positions, the best ones first.
    key : tuple of str
        Columns without which it is not this dialect.
    flux : tuple of (str, str)
        Columns of flux and of its error.
    magnitude : tuple of str
        Columns of magnitudes, used if there is no flux.
    fwhm : tuple of str
        Columns of the full width at half maximum, px.
    half_light_radius : tuple of str
        Twice this is the FWHM of a Gaussian.
    moments : tuple of str
        Standard deviations along both axes of the profile.
    flag : tuple of str
        Columns of flags.
    bits : dict
        The dialect's flag bits in ours; empty if they are the same.

    Raises
    ------
    ValueError
        If the origin is neither 0 nor 1, or there are no positions.
    """

    name: str
    origin: int
    positions: tuple[Position, ...]
    key: tuple[str, ...] = ()
    flux: tuple[tuple[str, str], ...] = ()
    magnitude: tuple[str, ...] = ()
    fwhm: tuple[str, ...] = ()
    half_light_radius: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    flag: tuple[str, ...] = ()
    bits: Mapping[int, StarFlag] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.origin not in (0, 1):
            raise ValueError(
                f"origin is the number of the first pixel, 0 or 1; got {self.origin!r}."
            )
        if not self.positions or not all(isinstance(one, Position) for one in self.positions):
            raise ValueError(
                f"positions is a tuple of at least one Position; got {self.positions!r}."
            )


def _sextractor_position(kind: str) -> Position:
    """Return the columns of one kind of SExtractor's positions."""
    return Position(
        f"X{kind}_IMAGE",
        f"Y{kind}_IMAGE",
        variances=(f"ERRX2{kind}_IMAGE", f"ERRY2{kind}_IMAGE"),
        ellipse=(f"ERRA{kind}_IMAGE", f"ERRB{kind}_IMAGE", f"ERRTHETA{kind}_IMAGE"),
    )


SPALIPY = Dialect(
    "spalipy",
    0,
    (Position("x", "y", axes=("x_err", "y_err")),),
    flux=(("flux", "flux_err"),),
    fwhm=("fwhm",),
    flag=("flag",),
)
"""Our own columns, which include those of spalipy."""

SEXTRACTOR = Dialect(
    "sextractor",
    1,
    tuple(_sextractor_position(kind) for kind in ("WIN", "PSF", "")),
    flux=tuple(
        (f"FLUX_{kind}", f"FLUXERR_{kind}")
        for kind in "AUTO BEST PSF PETRO WIN APER ISOCOR ISO MODEL MAX".split()
    ),
    magnitude=("MAG_AUTO", "MAG_BEST", "MAG_PSF", "MAG_APER", "MAG_ISOCOR", "MAG_ISO"),
    fwhm=("FWHM_IMAGE",),
    half_light_radius=("FLUX_RADIUS",),
    moments=("A_IMAGE", "B_IMAGE"),
    flag=("FLAGS",),
    bits={
        1: StarFlag.NEIGHBOR,
        2: StarFlag.BLENDED,
        4: StarFlag.SATURATED,
        8: StarFlag.EDGE,
        16: StarFlag.EDGE,  # aperture data are incomplete: photometry alone suffers
        32: StarFlag.BAD_PIXELS,  # isophotal data are, and the position with them
        64: StarFlag.BLENDED,  # memory overflow while deblending
        128: StarFlag.UNSTABLE,  # memory overflow while extracting
    },
)
"""SExtractor 2 (Bertin & Arnouts 1996, A&AS, 117, 393, doi:10.1051/aas:1996164)."""

SEP = Dialect(
    "sep",
    0,
    (
        Position("xwin", "ywin", variances=("errx2", "erry2")),
        Position("x", "y", variances=("errx2", "erry2")),
    ),
    key=("x", "y", "tnpix", "cxx"),
    flux=(("flux", "flux_err"),),
    fwhm=("fwhm",),
    moments=("a", "b"),
    flag=("flag",),
    bits={
        1: StarFlag.BLENDED,
        2: StarFlag.EDGE,
        4: StarFlag.BLENDED,
        8: StarFlag.ARTIFACT,  # pixels on one line
        16: StarFlag.EDGE,
        32: StarFlag.BAD_PIXELS,
        64: StarFlag.BAD_PIXELS,
    },
)
"""The arrays of sep.extract (Barbary 2016, JOSS, 1, 58, doi:10.21105/joss.00058)."""

PHOTUTILS = Dialect(
    "photutils",
    0,
    tuple(
        Position(f"x{gap}centroid{kind}", f"y{gap}centroid{kind}")
        for kind in ("_win", "_quad", "")
        for gap in ("_", "")
    ),
    flux=(
        ("flux", "flux_err"),
        ("kron_flux", "kron_flux_err"),
        ("kron_flux", "kron_fluxerr"),
        ("segment_flux", "segment_flux_err"),
        ("segment_flux", "segment_fluxerr"),
    ),
    fwhm=("fwhm",),
    moments=("semimajor_axis", "semiminor_axis"),
)
"""Tables of photutils' SourceCatalog, DAOStarFinder, IRAFStarFinder and StarFinder."""

PSF_PHOTOMETRY = Dialect(
    "photutils.psf",
    0,
    (Position("x_fit", "y_fit", axes=("x_err", "y_err")),),
    flux=(("flux_fit", "flux_err"),),
    flag=("flags",),
    bits={
        1: StarFlag.EDGE,
        2: StarFlag.UNSTABLE,
        8: StarFlag.UNSTABLE,
        64: StarFlag.BAD_PIXELS,
        128: StarFlag.BAD_PIXELS,
        256: StarFlag.BAD_PIXELS,
        512: StarFlag.UNSTABLE,
    },
)
"""Tables of photutils' PSFPhotometry."""

DIALECTS = (SEP, SPALIPY, SEXTRACTOR, PSF_PHOTOMETRY, PHOTUTILS)
"""Asked in this order: an array of sep has columns x and y, too, but other flags."""

_registered: dict[str, Dialect] = {}


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
    known = _lookup(table)
    for dialect in _dialects():
        if all(name.lower() in known for name in dialect.key) and _position(known, dialect):
            return dialect
    return None


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
            + "; ".join(f"{p.x}, {p.y}" for d in _dialects() for p in d.positions[-1:])
            + ". Say which to take, as with columns={'x': 'XCEN', 'y': 'YCEN'}, and origin=1 if "
            "the first pixel has the number 1."
        )
    known = _lookup(table)
    position = _position(known, dialect)
    assert position is not None  # recognize asked for it
    first = dialect.origin if origin is None else origin
    out = QTable(
        {
            "x": values_of(known[position.x.lower()]) - first,
            "y": values_of(known[position.y.lower()]) - first,
        },
        meta={"dialect": dialect.name},
    )
    found = {
        **_brightness(known, dialect),
        **_width(known, dialect),
        **_flags(known, dialect),
        **_errors(known, position, name),
    }
    for column, values in found.items():
        out[column] = values
    return out


def values_of(column: Any) -> FloatArray:
    """Return a column as plain numbers: NaN where masked, the first of a vector of apertures."""
    if hasattr(column, "filled"):
        column = column.astype(float).filled(np.nan)
    values = np.asarray(getattr(column, "value", column), dtype=float)
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
