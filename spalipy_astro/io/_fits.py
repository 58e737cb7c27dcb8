"""Images in FITS files: found, read with mask, uncertainty and WCS, and written."""

from __future__ import annotations

import copy
import logging
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDUncertainty, StdDevUncertainty
from numpy.typing import NDArray

from spalipy_astro._checks import mask_like, plane_of
from spalipy_astro.errors import FormatError
from spalipy_astro.io._datamodels import is_datamodel_file, read_datamodel, wcs_beside
from spalipy_astro.io._headers import clean_header, inherited, unit_of
from spalipy_astro.io._open import OpenHDUs, open_fits
from spalipy_astro.io._pictures import is_picture, read_picture
from spalipy_astro.io._planes import (
    OBSERVATORY,
    Companions,
    Judge,
    companions_of,
    is_companion,
    plane_cards,
    without_impossible_unit,
)
from spalipy_astro.io._wcs_cards import TABLES, read_wcs, wcs_cards

__all__ = [
    "Extension",
    "chip_of",
    "image_hdus",
    "image_names",
    "read_image",
    "read_mask",
    "read_plane",
    "read_uncertainty",
    "to_hdus",
    "write_hdus",
]

log = logging.getLogger(__name__)

Extension = int | str | tuple[str, int]
"""Number, name, or name and EXTVER of an HDU."""


def image_hdus(path: str | os.PathLike[str] | fits.HDUList) -> list[int]:
    """
    List the HDUs of a file that hold images.

    Parameters
    ----------
    path : path-like or `~astropy.io.fits.HDUList`

    Returns
    -------
    list of int
        Numbers of the HDUs with two axes (leading ones of length one aside), except for those that
        belong to an image: uncertainties, masks, flags and weights; where there are none, of those
        with three.

    Raises
    ------
    FileNotFoundError, FormatError
    """
    return list(image_names(path))


def image_names(image: Any) -> dict[int, tuple[str, int]]:
    """
    Return name and version of each HDU that holds an image.

    Parameters
    ----------
    image : path-like or `~astropy.io.fits.HDUList`

    Returns
    -------
    dict
        ``(EXTNAME, EXTVER)`` by the number of the HDU, those of `image_hdus`; the name is empty
        where there is none. The only image of a picture or a data model has the number 0.

    Raises
    ------
    FileNotFoundError, FormatError
    """
    if not isinstance(image, fits.HDUList) and _kind_of_one(image):
        return {0: ("", 1)}
    with open_fits(OpenHDUs(image) if isinstance(image, fits.HDUList) else image) as hdus:
        images = [k for k, hdu in enumerate(hdus) if _is_image(hdu)]
        images = images or [k for k, hdu in enumerate(hdus) if _is_image(hdu, 3)]
        return {k: (_name_of(hdus[k]), int(hdus[k].ver)) for k in images}


def _kind_of_one(path: str | os.PathLike[str]) -> str:
    """Return what a file is that has one image and no HDUs; "" for all others."""
    return "picture" if is_picture(path) else "data model" if is_datamodel_file(path) else ""


def _name_of(hdu: Any) -> str:
    """Return the name that a file gives an HDU, not the one that astropy gives it."""
    return str(hdu.header.get("EXTNAME", "")).strip().upper()


def chip_of(path: str | os.PathLike[str], hdu: Extension | None) -> Extension | None:
    """
    Name the extension of a file of masks or the like that belongs to an extension of a source.

    Parameters
    ----------
    path : path-like
        A file whose extensions are those of the source, or one plane for all of them.
    hdu : int, str, (str, int) or None
        The extension of the source.

    Returns
    -------
    int, str, (str, int) or None
        None stands for the first plane.
    """
    if hdu is None:
        return None
    with open_fits(path) as hdus:
        planes = sum(len(_shape(unit)) >= 2 for unit in hdus)
    return hdu if planes > 1 else None


def read_image(
    path: str | os.PathLike[str],
    *,
    hdu: Extension | None = None,
    unit: Any = None,
    mask: Any = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
) -> CCDData:
    """
    Read an image with what belongs to it.

    Parameters
    ----------
    path : path-like
        FITS, also multi-extension, tile-compressed or gzipped; or PNG, JPEG or TIFF, as
        `read_picture` reads them; or ASDF, as `read_datamodel` does; or `OpenHDUs`.
    hdu : int, str or (str, int), optional
        The extension; by default the first image, or the first cube where there is no image.
    unit : unit-like, optional
        In place of ``BUNIT``; ``adu`` where neither is there.
    mask : array_like of bool, optional
        Bad pixels in addition to those of the file.
    ignore_flags, flag_name_map : optional
        Which bits of flags are no reason to call a pixel bad, as
        `astropy.nddata.bitmask.bitfield_to_boolean_mask` takes them; by default
        (``"observatory"``) those that are harmless in the images of the observatory.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Of shape (ny, nx), or (k, ny, nx) for a cube, with the celestial WCS of the header if it has
        one that is understood, and with the uncertainty, mask and flags that stand beside the image
        in the file, under the names that ccdproc, HST, JWST, LSST, DECam and DES give them. Pixels
        of value ``BLANK`` are masked. Cards that cannot be written again are left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is not a FITS file, is truncated, or has no such image.
    ValueError, TypeError
        If ``ignore_flags`` is no set of flags.
    """
    kind = _kind_of_one(path)
    if kind and hdu not in (None, 0):
        raise FormatError(f"{os.fspath(path)!r} is a {kind}: it has no extension {hdu!r}.")
    if kind == "picture":
        return read_picture(path, mask=mask)
    flags_of_file = {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    if kind:
        return read_datamodel(path, mask=mask, **flags_of_file)
    name = os.fspath(path)
    with open_fits(path) as hdus:
        index = _index(hdus, hdu, path)
        chosen = hdus[index]
        data, blank = _pixels(chosen, path)
        header = chosen.header
        if index > 0:  # an extension goes without what the primary header says of all of them
            header = inherited(header, hdus[0].header)
        header = clean_header(header, name)
        wcs = read_wcs(hdus, index, name) or wcs_beside(hdus, data.shape, name)
        planes = companions_of(hdus, index, data.shape)
        spread, flags, bad = planes.spread(), planes.bits(), planes.masks()
        plane = fits.Header() if planes.flags is None else planes.flags.header
        judge = Judge.of(header, plane, **flags_of_file)
        header.extend(plane_cards(planes.flags), update=True)
    flagged = judge.bad(flags) if flags is not None and planes.flags_tell else None
    masks = [
        mask_like(plane, data.shape) for plane in (blank, *bad, flagged, mask) if plane is not None
    ]
    found = _unit(header, unit, path)
    image = CCDData(
        data,
        unit=found,
        mask=np.logical_or.reduce(masks) if masks else None,
        uncertainty=None if spread is None else without_impossible_unit(spread, found),
        wcs=wcs,
        meta=header,
    )
    if flags is not None and flags.shape == data.shape:  # of the planes of a cube there are none
        image.flags = flags
    return image


def read_mask(
    path: str | os.PathLike[str],
    *,
    hdu: Extension | None = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
) -> NDArray[np.bool_]:
    """
    Read bad pixels from a file of their own.

    Parameters
    ----------
    path : path-like
        A mask, or flags such as those of DECam and ZTF.
    hdu : int, str or (str, int), optional
        The extension; by default the first image.
    ignore_flags, flag_name_map : optional
        As for `read_image`. Where the observatory is not known every pixel that is not 0 is bad.

    Returns
    -------
    ndarray of bool

    Raises
    ------
    FileNotFoundError, FormatError, ValueError, TypeError
        As `read_image`.
    """
    with open_fits(path) as hdus:
        index = _index(hdus, hdu, path, companions=True)
        header = inherited(hdus[index].header, hdus[0].header)
        judge = Judge.of(header, hdus[index].header, ignore_flags, flag_name_map)
        bits = _data(hdus[index], path)
    if bits.dtype.kind not in "iu":
        return bits != 0
    return judge.bad(bits)


def read_uncertainty(
    path: str | os.PathLike[str], *, hdu: Extension | None = None
) -> NDUncertainty:
    """
    Read an uncertainty from a file of its own.

    Parameters
    ----------
    path : path-like
    hdu : int, str or (str, int), optional
        The extension; by default the first image.

    Returns
    -------
    `~astropy.nddata.NDUncertainty`
        Of the kind that the name of the extension, or its card ``UTYPE``, says; an inverse
        variance where ``PRODTYPE`` is ``wtmap``; by default a standard deviation.

    Raises
    ------
    FileNotFoundError, FormatError
        As `read_image`.
    """
    with open_fits(path) as hdus:
        plane = hdus[_index(hdus, hdu, path, companions=True)]
        pixels = _data(plane, path)
        if "PRODTYPE" in hdus[0].header:
            plane.header.setdefault("PRODTYPE", hdus[0].header["PRODTYPE"])
        named = Companions(uncertainty=plane).kind()
    return (named or StdDevUncertainty)(pixels)


def read_plane(path: str | os.PathLike[str], *, hdu: Extension | None = None) -> np.ndarray:
    """Read the bare pixels of an image, of a picture's the mean; raises as `read_image` does."""
    if is_picture(path):
        return np.asarray(plane_of(read_picture(path)).data)
    with open_fits(path) as hdus:
        return _data(hdus[_index(hdus, hdu, path, companions=True)], path)


def to_hdus(
    image: CCDData, *, name: str | None = None, ver: int = 1, weights: Any = None
) -> list[Any]:
    """
    Turn an image into HDUs as CCDData does: data, ``MASK`` and ``UNCERT``; also ``FLAGS``.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
    name : str, optional
        Makes the first one an extension of that name, not a primary HDU.
    ver : int, optional
        ``EXTVER`` of these extensions.
    weights : ndarray, optional
        A weight map, which makes an extension ``WHT``.

    Returns
    -------
    list of HDUs
        With the tables that belong to the WCS.
    """
    plain = copy.copy(image)
    plain.wcs = None
    hdus = list(plain.to_hdu())
    told = str(image.header.get("BUNIT", "")).strip()
    if told and image.unit == u.adu and unit_of(told) is None:
        hdus[0].header["BUNIT"] = told  # a unit that only the file's owner knows
    flags = image.flags
    if isinstance(flags, Mapping):
        hdus += [fits.ImageHDU(np.asarray(f), name=f"FLAGS_{key}") for key, f in flags.items()]
    elif flags is not None:
        hdus.append(fits.ImageHDU(np.asarray(flags), name="FLAGS"))
    if weights is not None:
        hdus.append(fits.ImageHDU(np.asarray(weights), name="WHT"))
    cards, tables = wcs_cards(image.wcs, ver)
    hdus[0].header.extend(cards, useblanks=False, update=True)
    if name is not None:
        hdus[0] = fits.ImageHDU(hdus[0].data, hdus[0].header, name=name)
        for hdu in hdus:
            hdu.ver = ver
    return [*hdus, *tables]


def write_hdus(hdus: list[Any], path: str | os.PathLike[str]) -> None:
    """
    Write HDUs to a file: tile-compressed without loss if its name ends in ``.fz``.

    Parameters
    ----------
    hdus : list of HDUs
    path : path-like
        A file that is not there yet.
    """
    if os.fspath(path).endswith(".fz"):
        hdus = [_compressed(hdu) for hdu in hdus]
    if not isinstance(hdus[0], fits.PrimaryHDU):
        hdus = [fits.PrimaryHDU(), *hdus]
    fits.HDUList(hdus).writeto(path, output_verify="silentfix")


def _compressed(hdu: Any) -> Any:
    """Compress an image HDU without loss."""
    if hdu.data is None or hdu.name in TABLES:
        return hdu
    floating = hdu.data.dtype.kind == "f"
    return fits.CompImageHDU(
        hdu.data,
        hdu.header,
        name=hdu.name if hdu.name != "PRIMARY" else None,
        compression_type="GZIP_2" if floating else "RICE_1",
        quantize_level=0.0 if floating else None,
    )


def _shape(hdu: Any) -> tuple[int, ...]:
    """Return the shape of an image without leading axes of length one; () for other HDUs."""
    if not hdu.is_image and not isinstance(hdu, fits.CompImageHDU):
        return ()
    shape = tuple(hdu.shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _is_image(hdu: Any, axes: int = 2) -> bool:
    return len(_shape(hdu)) == axes and not is_companion(hdu)


def _index(hdus: Any, hdu: Extension | None, path: Any, *, companions: bool = False) -> int:
    """Return the number of the HDU asked for, or of the first image."""
    if hdu is not None:
        try:
            index = hdus.index_of(hdu)
            hdus[index]  # a file is read no further than it must
        except (KeyError, IndexError) as error:
            names = ", ".join(f"{k} {unit.name}" for k, unit in enumerate(hdus))
            raise FormatError(
                f"{os.fspath(path)!r} has no extension {hdu!r}; it has {names}."
            ) from error
        if len(_shape(hdus[index])) not in (2, 3):
            raise FormatError(
                f"extension {hdu!r} of {os.fspath(path)!r} is neither an image nor a cube; its "
                f"shape is {_shape(hdus[index])}."
            )
        return index
    for axes in (2, 3):  # a cube, such as one of colors, where there is no image
        for index, unit in enumerate(hdus):
            if _is_image(unit, axes) or (companions and len(_shape(unit)) == axes):
                return index
    shapes = ", ".join(str(_shape(unit)) for unit in hdus)
    raise FormatError(
        f"{os.fspath(path)!r} contains no image and no cube; the shapes of its extensions are "
        f"{shapes}."
    )


def _data(hdu: Any, path: Any) -> np.ndarray:
    """Read the pixels of an HDU, in the machine's byte order: they are looked at many times."""
    try:
        data = np.asarray(hdu.data).reshape(_shape(hdu))
    except (EOFError, OSError, TypeError, ValueError, zlib.error) as error:
        raise FormatError(
            f"{os.fspath(path)!r} is damaged or truncated: its pixels cannot be read ({error})."
        ) from error
    if data.dtype.isnative:
        return data
    native = data.dtype.newbyteorder("=")
    if data.flags.writeable and not isinstance(path, OpenHDUs):
        # the array is this function's own: nothing is copied
        return data.byteswap(inplace=True).view(native)
    return data.astype(native)


def _pixels(hdu: Any, path: Any) -> tuple[np.ndarray, NDArray[np.bool_] | None]:
    """Read the pixels of an HDU, and which of them are blank where astropy does not tell."""
    blank, zero, scale = (_whole(hdu.header.get(key)) for key in ("BLANK", "BZERO", "BSCALE"))
    data = _data(hdu, path)
    # integers that are stored without their sign, or with one that the file has no type for; or
    # whose BLANK is written as no integer
    if data.dtype.kind not in "iu" or blank is None or (scale or 1) != 1:
        return data, None
    value = blank + (zero or 0)
    limits = np.iinfo(data.dtype)
    if not limits.min <= value <= limits.max:
        return data, None
    return data, data == value


def _whole(value: Any) -> int | None:
    """Return the value of a card that is a whole number, in whatever form it is written."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(value if isinstance(value, int) else number) if number.is_integer() else None


def _unit(header: fits.Header, unit: Any, path: Any) -> u.UnitBase:
    """Return the unit of the pixels."""
    if unit is not None:
        return u.Unit(unit)
    text = str(header.get("BUNIT", "")).strip()
    known = unit_of(text) if text else u.adu
    if known is None:
        log.warning("%s: the unit %r is unknown; the data are taken as adu", path, text)
        return u.adu
    return known
