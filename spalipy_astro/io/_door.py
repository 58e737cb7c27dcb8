"""The front door: paths, HDUs and HDULists become images, wherever an image is asked for."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from spalipy_astro._checks import check_hdu, check_mask, with_mask_apart
from spalipy_astro.errors import FormatError
from spalipy_astro.io._datamodels import as_nddata, is_datamodel
from spalipy_astro.io._fits import Extension, chip_of, read_image, read_mask
from spalipy_astro.io._open import OpenHDUs
from spalipy_astro.io._planes import OBSERVATORY

__all__ = ["is_file_like", "open_image", "open_mask"]

_IMAGE_HDU = fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU
_TABLE_HDU = fits.BinTableHDU | fits.TableHDU


def is_file_like(thing: Any) -> bool:
    """Tell whether something is a path, HDU, HDUList or data model, which have to be opened."""
    files = str | os.PathLike | fits.HDUList | _IMAGE_HDU | _TABLE_HDU
    return isinstance(thing, files) or is_datamodel(thing)


def open_image(
    thing: Any,
    *,
    name: str = "image",
    hdu: Extension | None = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
) -> Any:
    """
    Take an image out of what holds it.

    Parameters
    ----------
    thing : path, HDU, `~astropy.io.fits.HDUList`, data model or object
        HDUs are neither changed nor closed; their pixels are not copied unless they are stored in
        the other byte order. Data models are those of JWST and Roman.
    name : str, optional
        The argument, for error messages.
    hdu : int, str or (str, int), optional
        The extension of a file or an HDUList; by default the first image.
    ignore_flags, flag_name_map : optional
        Which flags do not make a pixel bad; as for `read_image`.

    Returns
    -------
    `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.table.Table` or object
        The image, with mask, uncertainty, unit and WCS as `read_image` finds them, of a data model
        as NDData with its gwcs; the table of a
        table HDU, which may be a catalog; arrays of `astropy.utils.masked` as NDData; anything
        else as it is.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is not a FITS file, is damaged, or has no such image. Both begin with ``name``.
    """
    check_hdu(hdu)
    if isinstance(thing, type):
        raise TypeError(f"{name} is an image; got the class {thing.__name__}, not one of its kind.")
    if not is_file_like(thing):
        return with_mask_apart(thing)
    flags = {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    try:
        if isinstance(thing, str | os.PathLike):
            return read_image(thing, hdu=hdu, **flags)
        if is_datamodel(thing):
            return as_nddata(thing, name=type(thing).__name__, **flags)
        hdus = _listed(thing)
        if (table := _table(hdus, hdu)) is not None:
            return table
        return read_image(OpenHDUs(hdus), hdu=hdu, **flags)
    except (FileNotFoundError, FormatError) as error:
        raise type(error)(f"{name}: {error}") from error


def open_mask(
    mask: Any,
    *,
    name: str = "mask",
    hdu: Extension | None = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
) -> Any:
    """
    Take the bad pixels out of what holds them.

    Parameters
    ----------
    mask : path, HDU, `~astropy.io.fits.HDUList`, array_like or None
    hdu : int, str or (str, int), optional
        The extension of the image to which the mask belongs: the same one of a file with several
        planes is taken, and the only plane of other files.
    name, ignore_flags, flag_name_map : optional
        As for `open_image`.

    Returns
    -------
    ndarray of bool or object
        True where a pixel of the file is bad: where it is not zero, or has a flag of its
        observatory that makes it so; anything else as it is.

    Raises
    ------
    FileNotFoundError, FormatError
        As `open_image`.
    TypeError
        If it is no array of truth values or numbers.
    """
    if not is_file_like(mask):
        if mask is not None:
            check_mask(mask, name=name)
        return mask
    path = mask if isinstance(mask, str | os.PathLike) else OpenHDUs(_listed(mask))
    try:
        chip = chip_of(path, hdu)
        return read_mask(path, hdu=chip, ignore_flags=ignore_flags, flag_name_map=flag_name_map)
    except (FileNotFoundError, FormatError) as error:
        raise type(error)(f"{name}: {error}") from error


def _listed(thing: Any) -> fits.HDUList:
    """Return an HDU as a list of one."""
    return thing if isinstance(thing, fits.HDUList) else fits.HDUList([thing])


def _table(hdus: fits.HDUList, hdu: Extension | None) -> Table | None:
    """Return the table where the HDU that is meant is one: the one named, or the only one."""
    if hdu is None and len(hdus) != 1:
        return None
    try:
        unit = hdus[0 if hdu is None else hdu]
    except (KeyError, IndexError):
        return None  # reading an image says what there is instead
    if not isinstance(unit, _TABLE_HDU) or isinstance(unit, _IMAGE_HDU):
        return None
    # without units, some of which no standard knows, as tables of files are read
    return Table(
        {c.name: np.array(unit.data[c.name]) for c in unit.columns if c.format[-1:] not in "PQ"}
    )
