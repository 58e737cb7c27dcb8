"""PNG, JPEG and TIFF files as images, by Pillow and tifffile, which are optional."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any, BinaryIO

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray

from spalipy_astro._files import require_file
from spalipy_astro.errors import FormatError

__all__ = ["is_picture", "read_picture"]

log = logging.getLogger(__name__)

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", *_TIFF)
_HINT = "pip install pillow tifffile"


def is_picture(path: str | os.PathLike[str]) -> bool:
    """
    Tell whether a file begins like a PNG, JPEG or TIFF file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
        False for what is no file.
    """
    return os.path.isfile(path) and _head(path).startswith(_MAGIC)


def read_picture(path: str | os.PathLike[str], *, mask: Any = None) -> CCDData:
    """
    Read a picture with the values that it has in the file.

    Parameters
    ----------
    path : path-like
        PNG, JPEG (by Pillow) or TIFF (by tifffile, with up to 32 bits a color). Of PNG files with
        16 bits a color Pillow reads the upper 8, with a warning in the log.
    mask : array_like of bool, optional
        Bad pixels, shape (ny, nx), in addition to transparent ones.

    Returns
    -------
    `~astropy.nddata.CCDData`
        In adu, of shape (ny, nx), or (3, ny, nx) for a color picture, as FITS files have colors,
        whatever their order in the file. Row 0 is the first one in the file, the top one of a
        picture. Fully transparent pixels are masked.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the package that reads it is not installed.
    FormatError
        If it is damaged, or neither a gray nor a color picture.
    """
    require_file(path)
    name = os.fspath(path)
    is_tiff = _head(path).startswith(_TIFF)
    try:
        planes, opacity = (_read_tiff if is_tiff else _read_with_pillow)(path)
    except (ImportError, FormatError, MemoryError):
        raise
    except Exception as error:  # of damaged files they raise all sorts of things
        raise FormatError(
            f"{name!r} cannot be read as a picture ({type(error).__name__}: {error})."
        ) from error
    if planes.dtype.kind not in "biuf" or planes.ndim not in (2, 3):
        raise FormatError(
            f"{name!r} is neither a gray nor a color picture: its shape is {planes.shape} and its "
            f"type {planes.dtype}."
        )
    if planes.dtype.kind == "b" or planes.dtype == np.float16:
        planes = planes.astype(np.uint8 if planes.dtype.kind == "b" else np.float32)
    planes = np.ascontiguousarray(planes, planes.dtype.newbyteorder("="))
    bad = None if mask is None else np.asarray(mask, bool)
    if opacity is not None and (clear := opacity == 0).any():
        bad = clear if bad is None else bad | clear
    if bad is not None:
        bad = np.array(np.broadcast_to(bad, planes.shape))
    return CCDData(planes, unit="adu", mask=bad)


def _head(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a file."""
    with open(path, "rb") as stream:
        return stream.read(8)


def _read_with_pillow(path: str | os.PathLike[str]) -> tuple[NDArray, NDArray | None]:
    """Return the planes of a picture and its opacity, if it has one."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"to read {os.fspath(path)!r} takes Pillow: {_HINT}") from error
    with warnings.catch_warnings():
        # of large pictures: a camera's has a hundred million pixels
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with open(path, "rb") as stream, Image.open(stream) as file:
            image: Image.Image = file
            if _has_fine_colors(stream):
                log.warning(
                    "%s has 16 bits a color, of which Pillow reads 8; save it as TIFF, which is "
                    "read as it is",
                    os.fspath(path),
                )
            if image.mode == "P" or image.mode in ("CMYK", "YCbCr", "HSV", "LAB", "PA", "RGBX"):
                clear = image.mode == "PA" or "transparency" in image.info
                image = image.convert("RGBA" if clear else "RGB")
            pixels = np.asarray(image)
    return _apart(pixels, opaque=image.mode not in ("LA", "La", "RGBA", "RGBa"))


def _has_fine_colors(stream: BinaryIO) -> bool:
    """Whether a file is a PNG of colors, or gray and opacity, with 16 bits each."""
    at = stream.tell()
    stream.seek(0)
    head = stream.read(26)
    stream.seek(at)
    return head.startswith(_MAGIC[0]) and head[24] == 16 and head[25] in (2, 4, 6)


def _read_tiff(path: str | os.PathLike[str]) -> tuple[NDArray, NDArray | None]:
    """Return the planes of the first picture in a TIFF file, and its opacity."""
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(f"to read {os.fspath(path)!r} takes tifffile: {_HINT}") from error
    with open(path, "rb") as stream, tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise ImportError(
                f"{os.fspath(path)!r} is compressed in a way for which tifffile needs the package "
                "imagecodecs: pip install imagecodecs"
            ) from error
        axes = str(page.axes)
        extra = len(getattr(page, "extrasamples", ()) or ())
        photometric = int(getattr(page, "photometric", 1))
        colors = getattr(page, "colormap", None) if photometric == 3 else None  # of a palette
    if colors is not None and pixels.ndim == 2:
        return np.asarray(colors)[:, pixels], None
    if axes.startswith("S") and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    return _apart(pixels, opaque=extra == 0)


def _apart(pixels: NDArray, *, opaque: bool) -> tuple[NDArray, NDArray | None]:
    """Bring colors to the front, and take the opacity, the last of them, off."""
    if pixels.ndim != 3:
        return pixels, None
    planes = np.moveaxis(pixels, -1, 0)
    opacity = None if opaque or len(planes) not in (2, 4) else planes[-1]
    planes = planes if opacity is None else planes[:-1]
    return (planes[0] if len(planes) == 1 else planes), opacity
