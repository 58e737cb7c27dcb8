"""Color images and cubes: where their planes are, and one image made of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.nddata import CCDData, NDData
from numpy.typing import NDArray

from spalipy_astro.errors import ImageError

__all__ = [
    "colors_go_last",
    "frame_of",
    "luminance",
    "mask_like",
    "plane_of",
    "with_colors_last",
    "with_planes_first",
]

_COLORS = (3, 4)  # red, green, blue and, of four, opacity or a second green
_ALPHA = 4  # colors of which the last one is opacity, where they are the last axis


def colors_go_last(shape: tuple[int, ...], frame: tuple[int, int] | None = None) -> bool:
    """
    Tell whether the last axis of an array has the colors, and not the first.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    frame : tuple of int, optional
        Shape ``(ny, nx)`` that the image is known to have: it decides.

    Returns
    -------
    bool
        True for ``(ny, nx, 3)`` and ``(ny, nx, 4)``, unless the first axis is 3 or 4, too, and for
        ``(ny, nx, 1)``. All else is an image, or has its planes first.
    """
    if len(shape) != 3:
        return False
    if frame is not None:
        first, last = shape[1:] == tuple(frame), shape[:2] == tuple(frame)
        if first != last:
            return last and shape[2] in (1, *_COLORS)
    if shape[2] == 1:
        return shape[0] != 1
    return shape[2] in _COLORS and shape[0] not in _COLORS


def frame_of(shape: tuple[int, ...], frame: tuple[int, int] | None = None) -> tuple[int, int]:
    """
    Return the shape ``(ny, nx)`` of the image in an array of two or more axes.

    Parameters
    ----------
    shape, frame
        As for `colors_go_last`.

    Returns
    -------
    tuple of int
    """
    ny, nx = shape[:2] if colors_go_last(shape, frame) else shape[-2:]
    return int(ny), int(nx)


def mask_like(mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """
    Return a mask of the shape of the data, for one that may be that of a plane.

    Parameters
    ----------
    mask : array_like of bool
    shape : tuple of int
        Shape of the data; see `colors_go_last`.

    Returns
    -------
    ndarray of bool

    Raises
    ------
    ImageError
        If it has the shape of neither.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.shape == shape:
        return mask
    if mask.shape != frame_of(shape):
        raise ImageError(f"the mask has shape {mask.shape}, the image {shape}.")
    plane = mask[:, :, np.newaxis] if colors_go_last(shape) else mask
    return np.array(np.broadcast_to(plane, shape))


def with_planes_first(image: Any) -> Any:
    """
    Bring an image whose last axis has the colors into the order of planes, ``(k, ny, nx)``.

    Parameters
    ----------
    image : CCDData, NDData or array, shape (ny, nx, k)
        With mask, uncertainty and flags of its shape or of shape (ny, nx).

    Returns
    -------
    CCDData, NDData or array, shape (k, ny, nx)
        Of the type of `image`, without a WCS.
    """
    return _moved(image, -1, 0)


def with_colors_last(image: Any) -> Any:
    """Undo `with_planes_first`; the WCS, if there is one, is that of a plane and is kept."""
    return _moved(image, 0, -1)


def _moved(image: Any, start: int, end: int) -> Any:
    """Move an axis of an image and of what belongs to it."""
    if not isinstance(image, NDData):
        return np.moveaxis(image if hasattr(image, "shape") else np.asarray(image), start, end)

    def moved(plane: Any) -> Any:
        return plane if np.ndim(plane) != 3 else np.moveaxis(plane, start, end)

    uncertainty = image.uncertainty
    if uncertainty is not None and uncertainty.array is not None:
        uncertainty = type(uncertainty)(moved(uncertainty.array), unit=uncertainty.unit, copy=False)
    known: dict[str, Any] = {
        "uncertainty": uncertainty,
        "mask": moved(image.mask),
        "meta": image.meta,
        "unit": image.unit,
        "wcs": image.wcs if end == -1 else None,
    }
    if getattr(image, "psf", None) is not None:
        known["psf"] = image.psf
    out = type(image)(moved(image.data), copy=False, **known)
    if isinstance(image, CCDData) and image.flags is not None:
        out.flags = moved(image.flags)
    return out


def luminance(
    data: NDArray, mask: NDArray[np.bool_] | None, error: NDArray | None
) -> tuple[NDArray, NDArray[np.bool_] | None, NDArray | None]:
    """
    Make one image of all planes of a cube, their mean.

    Parameters
    ----------
    data : ndarray, shape (k, ny, nx) or (ny, nx, k)
        Where the colors are follows from the shape; see `colors_go_last`. The last one of four
        that are the last axis is opacity and does not count.
    mask : ndarray of bool or None
        Of the shape of `data`, or of one plane.
    error : ndarray or None
        Standard deviations, likewise.

    Returns
    -------
    data, mask, error : ndarray or None, shape (ny, nx)
        The mean of the planes that have good pixels, bad where a pixel of one of them is bad.
    """
    last = colors_go_last(data.shape)
    data = np.moveaxis(data, -1, 0) if last else data

    def like_data(plane: NDArray | None) -> NDArray | None:
        if plane is None or plane.shape == data.shape:
            return plane
        return np.broadcast_to(plane, data.shape) if plane.ndim == 2 else np.moveaxis(plane, -1, 0)

    mask, error = like_data(mask), like_data(error)
    if last and len(data) == _ALPHA:
        data = data[:-1]
        mask, error = (None if plane is None else plane[:-1] for plane in (mask, error))
    if len(data) == 1:
        return data[0], None if mask is None else mask[0], None if error is None else error[0]
    kept = [k for k in range(len(data)) if _has_pixels(data[k], None if mask is None else mask[k])]
    kept = kept or list(range(len(data)))
    kind = np.float32 if np.can_cast(data.dtype, np.float32) else np.float64
    total = np.zeros(data.shape[1:], kind)
    variance = None if error is None else np.zeros(data.shape[1:], float)
    for k in kept:
        total += data[k]
        if variance is not None and error is not None:
            variance += np.square(error[k], dtype=float)
    bad = None if mask is None else np.logical_or.reduce([mask[k] for k in kept])
    spread = None if variance is None else np.sqrt(variance) / len(kept)
    return total / kind(len(kept)), bad, spread


def _has_pixels(plane: NDArray, mask: NDArray[np.bool_] | None) -> bool:
    """Whether a plane has any good pixel."""
    good = np.isfinite(plane)
    return bool(np.any(good if mask is None else good & ~mask))


def plane_of(image: Any) -> Any:
    """
    Return an image of two axes for one that may have more, to look at.

    Parameters
    ----------
    image : CCDData, NDData or array_like

    Returns
    -------
    CCDData, NDData or array_like, shape (ny, nx)
        The mean of the planes of a color image or cube; any other image as it is.
    """
    data = image.data if isinstance(image, NDData) else image
    shape = tuple(np.shape(data))
    if len(shape) <= 2:
        return image
    data = np.asarray(data)
    while data.ndim > 3 and data.shape[0] == 1:
        data = data[0]
    if data.ndim != 3:
        return image
    mask = image.mask if isinstance(image, NDData) else None
    if isinstance(image, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(image)
    mask = None if mask is None else np.asarray(mask, bool).reshape(np.shape(mask)[-3:])
    mean, bad, _ = luminance(np.ma.getdata(data), mask, None)
    if isinstance(image, NDData):
        return CCDData(mean, mask=bad, unit=image.unit or "adu", meta=image.meta)
    return mean if bad is None else np.ma.MaskedArray(mean, bad)
