"""Catalogs in files and in other packages' objects -> astropy tables, columns as they are."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io import ascii, fits
from astropy.nddata import NDData
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from spalipy_astro._files import is_remote, open_binary, require_file, suffix_path
from spalipy_astro.catalogs._dialects import recognize
from spalipy_astro.catalogs._skycolumns import sky_columns
from spalipy_astro.catalogs._text import (
    TEXT_FORMATS,
    guess_text_format,
    is_text,
    read_text,
    text_lines,
)
from spalipy_astro.errors import CatalogError, FormatError
from spalipy_astro.io import (
    head_of,
    image_hdus,
    is_datamodel_file,
    is_fits,
    is_picture,
    open_fits,
)

__all__ = ["as_table", "is_catalog"]

_FORMATS = ("ascii_head", "ascii", "ldac", "fits", "ecsv", "daophot", "iraf")
_SURPRISES = (AttributeError, LookupError, RecursionError, TypeError)
_NAME_OF_FITS = re.compile(r"\.(fits?|fts|fz)(\.\w+)?$", re.IGNORECASE)
_CHIPS = ("ext_number", "ccdnum", "chip", "detector")  # columns that tell chips apart


def _path(thing: str | os.PathLike[str]) -> Path | str:
    """Return a path, or a URL as it is."""
    return str(thing) if is_remote(thing) else Path(thing)


def is_catalog(thing: Any) -> bool:
    """
    Tell a catalog from an image.

    Parameters
    ----------
    thing : object
        Tables, data frames, mappings of columns, structured arrays, (N, 2) arrays, objects that
        have a ``to_table`` and files that are neither FITS images nor pictures are catalogs. A file
        with an image and tables beside it is an image.

    Returns
    -------
    bool
    """
    if isinstance(thing, NDData | type):
        return False
    if isinstance(thing, Table | Mapping) or hasattr(thing, "to_table") or is_frame(thing):
        return True
    if isinstance(thing, str | os.PathLike):
        path = _path(thing)
        if isinstance(path, Path):
            if not path.is_file() or is_picture(path) or is_datamodel_file(path):
                return False
        if not is_fits(path):
            return not _NAME_OF_FITS.search(str(path))  # an image that is damaged is no catalog
        return _holds_table(path) and not image_hdus(path)
    if getattr(getattr(thing, "dtype", None), "names", None):
        return True
    try:
        shape = np.shape(thing)
    except ValueError:  # rows of different lengths
        return False
    return len(shape) == 2 and shape[1] == 2


def _holds_table(path: Path | str) -> bool:
    """Tell whether there is a table in a FITS file."""
    with open_fits(path) as hdus:
        return bool(_table_hdus(hdus))


def is_frame(thing: Any) -> bool:
    """Tell a data frame, as of pandas or polars; neither is imported."""
    return hasattr(thing, "columns") and (hasattr(thing, "iloc") or hasattr(thing, "to_pandas"))


def as_table(
    catalog: Any,
    *,
    format: str | None = None,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    hdu: int | str | None = None,
    name: str = "catalog",
) -> Table:
    """
    Bring a catalog into a table, columns as they are; see `spalipy_astro.read_catalog`.

    Parameters
    ----------
    catalog : path, Table, data frame, structured array, (N, 2) array, or object with ``to_table``
    format : str, optional
    columns : sequence or mapping of str, optional
    hdu : int or str, optional
    name : str, optional
        What to call it in error messages.

    Returns
    -------
    `~astropy.table.Table`

    Raises
    ------
    CatalogError, FormatError, FileNotFoundError
    """
    if isinstance(catalog, str | os.PathLike):
        table = _read(_path(catalog), format, columns, hdu)
    elif isinstance(catalog, Table):
        table = catalog
    elif isinstance(catalog, Mapping):
        table = Table(dict(catalog))
    elif is_frame(catalog):
        table = _of_frame(catalog, name)
    elif hasattr(catalog, "to_table"):
        table = catalog.to_table()
        if (fwhm := getattr(catalog, "fwhm", None)) is not None and "fwhm" not in table.colnames:
            table["fwhm"] = fwhm
    elif getattr(getattr(catalog, "dtype", None), "names", None):
        table = Table(catalog)
    else:
        table = _positions(catalog, name)
    if isinstance(columns, Mapping):
        missing = [theirs for theirs in columns.values() if theirs not in table.colnames]
        if missing:
            raise CatalogError(
                f"the {name} catalog has no column {' and '.join(missing)}; its columns are "
                f"{', '.join(table.colnames)}."
            )
        table = Table({ours: table[theirs] for ours, theirs in columns.items()})
    _warn_of_chips(table, name)
    return table


def _of_frame(frame: Any, name: str) -> Table:
    """Make a table of a data frame; of one whose two columns have no names, of positions."""
    names = list(frame.columns)
    if len(names) == 2 and not any(isinstance(one, str) for one in names):
        return _positions(np.asarray(frame), name)
    if hasattr(frame, "iloc"):
        if not all(isinstance(one, str) for one in names):
            raise CatalogError(
                f"the {name} catalog is a data frame with columns {names}, which are no names; "
                "make it a Table, or an array if it is an image."
            )
        return Table.from_pandas(frame)
    return Table({str(one): np.asarray(frame[one]) for one in names})


def _warn_of_chips(table: Table, name: str) -> None:
    """Warn of a table with the stars of several chips, whose pixels lie over each other."""
    for column in table.colnames:
        if column.lower() in _CHIPS and len(np.unique(table[column])) > 1:
            warnings.warn(
                f"the {name} catalog has stars of {len(np.unique(table[column]))} chips, by its "
                f"column {column}; their pixels lie over each other. Give the rows of one chip, as "
                f"table[table[{column!r}] == {table[column][0]!r}].",
                AstropyUserWarning,
                stacklevel=3,
            )
            return


def _positions(catalog: Any, name: str) -> Table:
    """Make a table of an array of positions."""
    positions = np.asarray(catalog)
    if positions.ndim != 2 or positions.shape[1] != 2 or positions.dtype.kind not in "iuf":
        raise CatalogError(
            f"the {name} catalog is an array of shape {positions.shape} and type "
            f"{positions.dtype}; positions are numbers of shape (N, 2)."
        )
    if np.ma.is_masked(catalog):
        positions = np.where(np.ma.getmaskarray(catalog), np.nan, positions)
    return Table({"x": positions[:, 0], "y": positions[:, 1]})


def _guess_format(path: Path | str) -> str | None:
    """Tell a file's format by its beginning; None leaves it to astropy."""
    if is_fits(path):
        return "fits"
    head = head_of(path)
    if head.lstrip().startswith((b"<?xml", b"<VOTABLE")):
        return "votable"
    return guess_text_format(suffix_path(path), head)


def _read(path: Path | str, format: str | None, columns: Any, hdu: int | str | None) -> Table:
    """Read a file."""
    require_file(path, what="catalog")
    named = not isinstance(columns, Mapping | None)
    try:
        if format is None:
            format = _guess_format(path) or ("ascii" if named else None)
        if format in ("fits", "ldac"):
            return _read_fits(path, hdu)
        if format in TEXT_FORMATS:
            return read_text(path, format)
        if format == "ascii":
            if not named:
                raise CatalogError(
                    f"{str(path)!r} is to be read without a header; name its columns, as with "
                    "columns=['NUMBER', 'X_IMAGE', 'Y_IMAGE']."
                )
            table = ascii.read(text_lines(path), format="no_header", guess=False)
            if len(columns) != len(table.colnames):
                raise CatalogError(
                    f"{str(path)!r} has {len(table.colnames)} columns; {len(columns)} names were "
                    "given."
                )
            table.rename_columns(table.colnames, list(columns))
            return table
        if format is None and is_text(head_of(path)):
            return read_text(path, None)
        if is_remote(path):
            with open_binary(path) as file:
                return Table.read(BytesIO(file.read()), format=format)
        # absolute: a name is taken neither for a URL nor for somebody's home
        table = Table.read(Path(path).absolute(), format=format)
    except (CatalogError, FileNotFoundError, ImportError):
        raise
    except FormatError as error:
        if repr(str(path)) in str(error):
            raise
        raise FormatError(f"{str(path)!r} cannot be read as a catalog: {error}") from error
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0].strip()
        if isinstance(error, ascii.InconsistentTableError) and format is None:
            reason = "its text has no columns that are the same in all lines"
        elif isinstance(error, _SURPRISES):  # their words are the reader's, not about the file
            reason = f"what is in it is not what the format {format or 'of text'} asks for"
        raise FormatError(
            f"{str(path)!r} cannot be read as a catalog ({reason}). Say "
            f"what it is: format= {', '.join(_FORMATS)}, or a format of astropy's Table.read; "
            "for text without a header name its columns=."
        ) from error
    return table


def _table_hdus(hdus: fits.HDUList) -> list[int]:
    """
    Return the numbers of the HDUs that hold catalogs of stars; else that of the first table.

    Catalogs with positions in pixels come before those that have them on the sky alone.
    """
    tables = [number for number, unit in enumerate(hdus) if is_table_hdu(unit)]
    known = [k for k in tables if recognize(Table(names=hdus[k].columns.names)) is not None]
    known = known or [k for k in tables if sky_columns(hdus[k].columns.names) is not None]
    return known or tables[:1]


def is_table_hdu(unit: Any) -> bool:
    """Tell a table of a FITS file from images, also from compressed ones."""
    tables = fits.BinTableHDU | fits.TableHDU
    return isinstance(unit, tables) and not isinstance(unit, fits.CompImageHDU)


def _read_fits(path: Path | str, hdu: int | str | None) -> Table:
    """Read a table of a FITS file."""
    with open_fits(path) as hdus:
        found = _table_hdus(hdus) if hdu is None else [_index_of(hdus, hdu, path)]
        if not found:
            raise CatalogError(
                f"{str(path)!r} contains no table; if it is an image, read it with "
                "CCDData.read(path, unit='adu')."
            )
        if not is_table_hdu(hdus[found[0]]):
            raise CatalogError(f"HDU {hdu!r} of {str(path)!r} is an image, not a table.")
        table = _of_hdu(hdus[found[0]])
        for unit in (hdus[0], hdus[found[0]]):
            if "AN_FILE" in unit.header:
                table.meta["AN_FILE"] = unit.header["AN_FILE"]
    if len(found) > 1:
        warnings.warn(
            f"{str(path)!r} has stars in HDUs {', '.join(map(str, found))}, as catalogs of several "
            f"chips have; HDU {found[0]} is read. To read another one use "
            "read_catalog(path, hdu=...).",
            AstropyUserWarning,
            stacklevel=2,
        )
    return table


def _index_of(hdus: fits.HDUList, hdu: int | str, path: Path | str) -> int:
    """Return the number of the HDU that is asked for."""
    try:
        number = int(hdus.index_of(hdu))
        hdus[number]  # a number is looked up only now
    except (KeyError, IndexError) as error:
        names = ", ".join(f"{k} {unit.name}" for k, unit in enumerate(hdus))
        raise CatalogError(f"{str(path)!r} has no HDU {hdu!r}; it has {names}.") from error
    return number


def _of_hdu(unit: Any) -> Table:
    """Take the columns of a table, and those of their units that a standard knows."""
    table = Table()
    for column in unit.columns:
        if column.format[-1:] in "PQ":
            continue
        values = np.array(unit.data[column.name])
        if column.null is not None and values.dtype.kind in "iu":
            values = np.ma.masked_equal(values, column.null)
        table[column.name] = values
        known = u.Unit(column.unit or "", parse_strict="silent")
        if column.unit and not isinstance(known, u.UnrecognizedUnit):
            table[column.name].unit = known
    return table
