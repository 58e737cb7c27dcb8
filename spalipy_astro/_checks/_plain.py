"""Positions, paths and HDUs that users give, checked and made plain."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

import astropy.units as u
import numpy as np
from astropy.nddata import NDData
from astropy.table import Table
from astropy.utils.masked import Masked
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseLowLevelWCS
from numpy.typing import NDArray

from spalipy_astro._checks._matrix import require_sound_wcs

__all__ = [
    "check_hdu",
    "check_mask",
    "check_pixels",
    "check_wcs",
    "in_pixels",
    "is_template",
    "numbers_of_pixels",
    "path_of",
    "with_mask_apart",
]

_SAME = 1e-6  # px; noise keeps any two exposures further apart


def in_pixels(name: str, value: Any) -> Any:
    """
    Return positions, shifts or lengths as plain numbers of pixels.

    Parameters
    ----------
    name : str
        What the argument is called.
    value : array_like, `~astropy.units.Quantity` or `~astropy.table.Column`
        Numbers are px. A list or tuple may hold quantities.

    Returns
    -------
    array_like
        Without units; what has none is returned as it is.

    Raises
    ------
    ValueError
        If it has another kind of unit.
    """
    if isinstance(value, list | tuple) and any(isinstance(one, u.Quantity) for one in value):
        return type(value)(in_pixels(name, one) for one in value)
    unit = getattr(value, "unit", None)  # columns of tables have one, too
    if unit is None:
        return value
    try:
        if isinstance(value, u.Quantity):
            return value.to_value(u.pix)
        return np.ma.asarray(value) * u.Unit(unit).to(u.pix)
    except u.UnitConversionError:
        raise ValueError(f"{name} is in px; got {value!r}.") from None


def numbers_of_pixels(name: str, values: Any) -> NDArray[np.float64]:
    """
    Return positions, shifts or lengths as an array of float, px, NaN where they are masked.

    Parameters
    ----------
    name : str
        What the argument is called.
    values : array_like
        As for `in_pixels`.

    Returns
    -------
    ndarray of float

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If they have another kind of unit.
    """
    plain = in_pixels(name, values)
    try:
        array = np.ma.asarray(plain)
    except ValueError:  # rows of different lengths
        array = np.ma.asarray([None])
    if array.dtype.kind not in "fiu":
        is_list = isinstance(values, list | tuple | np.ndarray)
        shown = f"{type(values).__name__} of {array.dtype.name}" if is_list else repr(values)
        raise TypeError(f"{name} is in px, a number or an array of numbers; got {shown}.")
    return np.ma.filled(array.astype(float), np.nan)


def is_template(table: Table) -> NDArray[np.bool_]:
    """
    Tell which row of the table of a batch is its template, if one of the sources is.

    It has the template's name, or, where arrays have none and paths are written in two ways, lies
    on the template without a shift and without noise.
    """
    template = table.meta.get("template")
    same = np.zeros(len(table), bool)
    if template is not None and "source" in table.colnames:
        same = np.array([source == template for source in table["source"]], bool)
    if {"rms", "shift_x", "shift_y"} <= set(table.colnames):
        off = [np.abs(np.asarray(table[name], float)) for name in ("rms", "shift_x", "shift_y")]
        same |= np.max(off, axis=0) < _SAME
    return same


def path_of(name: str, value: Any) -> str:
    """Return a path as text; raise TypeError, with the argument's name, for anything else."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} is a path, as text or pathlib.Path; got {value!r}.") from None


def check_hdu(hdu: Any) -> None:
    """Raise TypeError for what cannot name an HDU."""
    pair = isinstance(hdu, tuple) and len(hdu) == 2 and isinstance(hdu[0], str)
    number = hdu[1] if pair else hdu
    is_number = isinstance(number, Integral) and not isinstance(number, bool)
    if not (hdu is None or is_number or (isinstance(hdu, str) and not pair)):
        raise TypeError(
            f"hdu is the number of an HDU, its name, or (name, EXTVER), such as ('SCI', 2); got "
            f"{hdu!r}."
        )


def check_mask(mask: Any, *, name: str) -> None:
    """Raise TypeError for what cannot say of each pixel whether it is bad."""
    try:
        array = mask if hasattr(mask, "dtype") else np.asarray(mask)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if getattr(array.dtype, "kind", "O") not in "biuf" or not array.ndim:
        raise TypeError(
            f"{name} is an array that is True where a pixel is bad, of the image's shape, or a "
            f"file of one; got {type(mask).__name__}."
        )


def check_pixels(image: Any, *, name: str) -> None:
    """Raise TypeError for what has no pixels, such as a catalog."""
    data = image.data if isinstance(image, NDData) else image
    dtype = getattr(data, "dtype", None) if getattr(data, "ndim", 1) else None
    dtype = None if isinstance(image, type) else dtype
    if dtype is None and not isinstance(data, Table) and data is not None:
        try:
            array = np.asarray(data)
            dtype = array.dtype if array.ndim else None
        except ValueError:  # rows of different lengths
            dtype = None
    if dtype is None or dtype.names is not None or dtype.kind not in "fiub":
        raise TypeError(
            f"{name} is an image: a path, an HDU or HDUList, CCDData, NDData or an array of shape "
            f"(ny, nx) of real numbers; got {type(image).__name__}."
        )


def with_mask_apart(image: Any) -> Any:
    """
    Return arrays and quantities of `astropy.utils.masked` as NDData, anything else as it is.

    To numpy they are arrays without a mask.
    """
    return NDData(image) if isinstance(image, Masked) else image


def check_wcs(wcs: Any, *, name: str = "wcs") -> None:
    """Raise TypeError for what is neither a WCS nor None, ValueError for one that has a flaw."""
    if not (wcs is None or isinstance(wcs, BaseHighLevelWCS | BaseLowLevelWCS)):
        raise TypeError(
            f"{name} is an astropy.wcs.WCS or a gwcs.WCS; got {type(wcs).__name__}. Of a header it "
            "is WCS(header)."
        )
    require_sound_wcs(wcs, name)
