"""Images in FITS files: found, read with mask, uncertainty and WCS, and written."""

from __future__ import annotations

import copy
import gzip
import logging
import lzma
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDUncertainty, StdDevUncertainty
from astropy.utils.data import get_readable_fileobj
from numpy.typing import NDArray

from spalipy_astro._checks import mask_like, plane_of
from spalipy_astro._files import open_binary, require_file, size_of
from spalipy_astro.errors import AlignmentError, FormatError
from spalipy_astro.io._fitscheck import BLOCK, MAGIC, check_fits, unpack_fits
from spalipy_astro.io._headers import clean_header, inherited, unit_of
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
    "OpenHDUs",
    "chip_of",
    "image_hdus",
    "image_names",
    "is_complete",
    "open_fits",
    "read_image",
    "read_mask",
    "read_plane",
    "read_uncertainty",
    "to_hdus",
    "write_hdus",
]

log = logging.getLogger(__name__)

_PACKED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00")
_PACKING = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What reading a damaged compressed file raises."""
Extension = int | str | tuple[str, int]
"""Number, name, or name and EXTVER of an HDU."""


@dataclass(frozen=True)
class OpenHDUs(os.PathLike[str]):
    """
    HDUs that a user has opened, or made, in place of a path.

    Attributes
    ----------
    hdus : `~astropy.io.fits.HDUList`
        It stays the user's: it is neither changed nor closed.
    """

    hdus: fits.HDUList

    def __fspath__(self) -> str:
        """Return what to call them in messages: their file if they have one."""
        return self.hdus.filename() or "HDUList"


def image_hdus(path: str | os.PathLike[str]) -> list[int]:
    """
    List the HDUs of a file that hold images.

    Parameters
    ----------
    path : path-like

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
        where there is none.

    Raises
    ------
    FileNotFoundError, FormatError
    """
    with open_fits(OpenHDUs(image) if isinstance(image, fits.HDUList) else image) as hdus:
        images = [k for k, hdu in enumerate(hdus) if _is_image(hdu)]
        images = images or [k for k, hdu in enumerate(hdus) if _is_image(hdu, 3)]
        return {k: (_name_of(hdus[k]), int(hdus[k].ver)) for k in images}


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
        `read_picture` reads them; or `OpenHDUs`.
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
    if is_picture(path):
        if hdu is not None:
            raise FormatError(f"{os.fspath(path)!r} is a picture: it has no extension {hdu!r}.")
        return read_picture(path, mask=mask)
    name = os.fspath(path)
    with open_fits(path) as hdus:
        index = _index(hdus, hdu, path)
        chosen = hdus[index]
        data, blank = _pixels(chosen, path)
        header = chosen.header
        if index > 0:  # an extension goes without what the primary header says of all of them
            header = inherited(header, hdus[0].header)
        header = clean_header(header, name)
        wcs = read_wcs(hdus, index, name)
        planes = companions_of(hdus, index, data.shape)
        spread, flags, bad = planes.spread(), planes.bits(), planes.masks()
        plane = fits.Header() if planes.flags is None else planes.flags.header
        judge = Judge.of(header, plane, ignore_flags, flag_name_map)
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
        Of the kind that the name of the extension, or its card ``UTYPE``, says; by default a
        standard deviation.

    Raises
    ------
    FileNotFoundError, FormatError
        As `read_image`.
    """
    with open_fits(path) as hdus:
        plane = hdus[_index(hdus, hdu, path, companions=True)]
        pixels = _data(plane, path)
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


def head_of(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a file, decompressed."""
    try:
        # an open file: a name might be taken for a URL
        with (
            open_binary(path) as file,
            get_readable_fileobj(file, encoding="binary") as stream,
        ):
            head = stream.read(BLOCK)
    except _PACKING as error:
        raise _unpackable(path, error) from error
    if head.startswith(_PACKED):  # what cannot be unpacked at all comes as it is
        raise _unpackable(path, EOFError("its first bytes are those of a compressed file"))
    return head


def _unpackable(path: str | os.PathLike[str], error: Exception) -> FormatError:
    """Return the error for a file whose compression is damaged."""
    return FormatError(
        f"{os.fspath(path)!r} is truncated or damaged: it cannot be unpacked ({error})."
    )


def is_fits(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins like a FITS file."""
    return head_of(path).startswith(MAGIC)


def is_complete(path: str | os.PathLike[str]) -> bool:
    """
    Tell whether a file has all the bytes that its headers promise.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
        Also True for files that are compressed as a whole, which are not looked into.
    """
    with open(path, "rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return True
        stream.seek(0)
        try:
            check_fits(stream, os.path.getsize(path), os.fspath(path))
        except FormatError:
            return False
    return True


@contextmanager
def open_fits(path: str | os.PathLike[str]) -> Iterator[fits.HDUList]:
    """
    Open a FITS file whose headers promise no more than there is.

    Parameters
    ----------
    path : path-like
        Also compressed as a whole; or `OpenHDUs`.

    Yields
    ------
    `~astropy.io.fits.HDUList`
        Whatever goes wrong with it in the block, which for a damaged file may be anything, is a
        FormatError.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is not a FITS file, or is truncated or damaged.
    """
    name = os.fspath(path)
    if not isinstance(path, OpenHDUs):
        require_file(path)
    try:
        with ExitStack() as stack:
            if isinstance(path, OpenHDUs):
                yield path.hdus
                return
            # an open file: astropy takes some names for URLs, and ~ for somebody's home
            file = stack.enter_context(open_binary(path))
            stream = stack.enter_context(get_readable_fileobj(file, encoding="binary"))
            if (start := stream.read(len(MAGIC))) != MAGIC:
                why = "does not start like one" if start else "is empty"
                raise FormatError(f"{name!r} is not a FITS file: it {why}.")
            stream.seek(0)
            if stream is file:
                size = size_of(file)
                end = check_fits(file, size, name)
                file.seek(0)
                if end < size:
                    log.warning("%s: %d bytes after its last HDU are left out", name, size - end)
                    stream = BytesIO(file.read(end))
            else:
                stream = unpack_fits(stream, name)
            yield stack.enter_context(fits.open(stream, memmap=False))
    except (AlignmentError, MemoryError, Warning):
        raise
    except _PACKING as error:
        raise _unpackable(path, error) from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the file system, and it names the file
        if isinstance(error, OSError | ImportError) and repr(name) in str(error):
            raise  # of a server
        raise FormatError(
            f"{name!r} is damaged, it cannot be read as FITS ({type(error).__name__}: {error})."
        ) from error


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
    blank, zero, scale = (hdu.header.get(key) for key in ("BLANK", "BZERO", "BSCALE"))
    data = _data(hdu, path)
    # integers that are stored without their sign, or with one that the file has no type for
    if data.dtype.kind not in "iu" or not isinstance(blank, int) or (scale or 1) != 1:
        return data, None
    value = blank + int(zero or 0)
    limits = np.iinfo(data.dtype)
    if not limits.min <= value <= limits.max:
        return data, None
    return data, data == value


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
