"""Catalogs in files and in other packages' objects -> astropy tables, columns as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import ascii, fits
from astropy.nddata import NDData
from astropy.table import Table
from astropy.utils.data import get_readable_fileobj

from spalipy_astro._files import require_file
from spalipy_astro.catalogs._dialects import recognize
from spalipy_astro.errors import CatalogError, FormatError
from spalipy_astro.io import head_of, image_hdus, is_fits, is_picture, open_fits

__all__ = ["as_table", "is_catalog"]

_FORMATS = ("ascii_head", "ascii", "ldac", "fits", "ecsv")
_HEADED = re.compile(rb"#\s*\d+\s+[A-Za-z]\w*")  # "#   1 NUMBER   Running object number"


def is_catalog(thing: Any) -> bool:
    """
    Tell a catalog from an image.

    Parameters
    ----------
    thing : object
        Tables, structured arrays, (N, 2) arrays, objects that have a ``to_table`` and files that
        are neither FITS images nor pictures are catalogs. A file with an image and tables beside
        it is an image.

    Returns
    -------
    bool
    """
    if isinstance(thing, NDData):
        return False
    if isinstance(thing, Table) or hasattr(thing, "to_table"):
        return True
    if isinstance(thing, str | os.PathLike):
        path = Path(thing)
        if not path.is_file() or is_picture(path):
            return False
        return not is_fits(path) or (_table_hdu(path, None) is not None and not image_hdus(path))
    if getattr(getattr(thing, "dtype", None), "names", None):
        return True
    shape = np.shape(thing)
    return len(shape) == 2 and shape[1] == 2


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
    catalog : path, Table, structured array, (N, 2) array, or object with ``to_table``
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
        table = _read(Path(catalog), format, columns, hdu)
    elif isinstance(catalog, Table):
        table = catalog
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
    return table


def _positions(catalog: Any, name: str) -> Table:
    """Make a table of an array of positions."""
    positions = np.asarray(catalog)
    if positions.ndim != 2 or positions.shape[1] != 2 or positions.dtype.kind not in "iuf":
        raise CatalogError(
            f"the {name} catalog is an array of shape {positions.shape} and type "
            f"{positions.dtype}; positions are numbers of shape (N, 2)."
        )
    return Table({"x": positions[:, 0], "y": positions[:, 1]})


def _guess_format(path: Path) -> str | None:
    """Tell a file's format by its beginning; None leaves it to astropy."""
    if is_fits(path):
        return "fits"
    head = head_of(path)
    if head.startswith(b"# %ECSV"):
        return "ecsv"
    if head.startswith(b"<?xml"):
        return "votable"
    return "ascii_head" if _HEADED.match(head) else None


def _read(path: Path, format: str | None, columns: Any, hdu: int | str | None) -> Table:
    """Read a file."""
    require_file(path, what="catalog")
    named = not isinstance(columns, Mapping | None)
    if format is None:
        format = _guess_format(path) or ("ascii" if named else None)
    try:
        if format in ("fits", "ldac"):
            return _read_fits(path, hdu)
        if format == "ascii_head":
            return ascii.read(_lines(path), format="sextractor", guess=False)
        if format == "ecsv":
            return ascii.read(_lines(path), format="ecsv", guess=False)
        if format == "ascii":
            if not named:
                raise CatalogError(
                    f"{str(path)!r} is to be read without a header; name its columns, as with "
                    "columns=['NUMBER', 'X_IMAGE', 'Y_IMAGE']."
                )
            table = ascii.read(_lines(path), format="no_header", guess=False)
            if len(columns) != len(table.colnames):
                raise CatalogError(
                    f"{str(path)!r} has {len(table.colnames)} columns; {len(columns)} names were "
                    "given."
                )
            table.rename_columns(table.colnames, list(columns))
            return table
        # absolute: a name is taken neither for a URL nor for somebody's home
        table = Table.read(path.absolute(), format=format)
    except (CatalogError, FormatError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise FormatError(
            f"{str(path)!r} cannot be read as a catalog ({type(error).__name__}: {reason}). Say "
            f"what it is: format= {', '.join(_FORMATS)}, or a format of astropy's Table.read; "
            "for text without a header name its columns=."
        ) from error
    return table


def _lines(path: Path) -> list[str]:
    """Read a text, also a compressed one: a name with a line break would be taken for the text."""
    with open(path, "rb") as file, get_readable_fileobj(file) as text:
        return text.read().splitlines()


def _table_hdu(path: Path, hdu: int | str | None) -> int | None:
    """Return the number of the first HDU that holds a catalog of stars, None if there is none."""
    with open_fits(path) as hdus:
        if hdu is not None:
            return hdus.index_of(hdu)
        tables = [
            number
            for number, unit in enumerate(hdus)
            if isinstance(unit, fits.BinTableHDU | fits.TableHDU)
            and not isinstance(unit, fits.CompImageHDU)
        ]
        for number in tables:
            if recognize(Table(names=hdus[number].columns.names)) is not None:
                return number
        return tables[0] if tables else None


def _read_fits(path: Path, hdu: int | str | None) -> Table:
    """Read a table of a FITS file without its units, some of which no standard knows."""
    number = _table_hdu(path, hdu)
    if number is None:
        raise CatalogError(
            f"{str(path)!r} contains no table; if it is an image, read it with "
            "CCDData.read(path, unit='adu')."
        )
    with open_fits(path) as hdus:
        unit = hdus[number]
        if not isinstance(unit, fits.BinTableHDU | fits.TableHDU):
            raise CatalogError(f"HDU {hdu!r} of {str(path)!r} is an image, not a table.")
        return Table(
            {c.name: np.array(unit.data[c.name]) for c in unit.columns if c.format[-1:] not in "PQ"}
        )
