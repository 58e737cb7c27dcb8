"""CCDData, NDData and arrays -> validated arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from numpy.typing import NDArray

from spalipy_astro.errors import ImageError

__all__ = ["Image", "as_image"]


@dataclass(frozen=True)
class Image:
    """
    What finding a transform needs of an image.

    Attributes
    ----------
    data : ndarray, shape (ny, nx)
    mask : ndarray of bool or None
    error : ndarray or None
        Standard deviation of the pixels.
    wcs : object or None
    """

    data: NDArray
    mask: NDArray[np.bool_] | None = None
    error: NDArray | None = None
    wcs: Any = None


def as_image(image: Any, *, name: str = "image", mask: Any = None) -> Image:
    """
    Take the planes out of an image.

    Parameters
    ----------
    image : CCDData, NDData or array_like, shape (ny, nx)
        Memory maps and dask arrays are read.
    name : str, optional
        What to call it in error messages.
    mask : array_like of bool, optional
        Bad pixels in addition to the image's own.

    Returns
    -------
    Image

    Raises
    ------
    TypeError
        If it is not an array of real numbers.
    ImageError
        If it is not two-dimensional, or planes differ in shape.
    """
    wcs = error = own = None
    data = image
    if isinstance(image, NDData):
        data, wcs, own = image.data, image.wcs, image.mask
        if image.uncertainty is not None and image.uncertainty.array is not None:
            error = np.asarray(image.uncertainty.represent_as(StdDevUncertainty).array)
    elif isinstance(image, np.ma.MaskedArray):
        data, own = image.data, np.ma.getmaskarray(image)
    try:
        data = np.asarray(data)
    except ValueError as ragged:
        raise TypeError(f"{_not_an_image(name, image)} whose rows differ in length.") from ragged
    if data.ndim == 0:
        raise TypeError(f"{_not_an_image(name, image)}.")
    if data.dtype.kind not in "iuf":
        kind = f" of type {data.dtype}"
        raise TypeError(f"{_not_an_image(name, image)}{kind}; its pixels must be real numbers.")
    if data.ndim != 2:
        raise ImageError(
            f"the {name} has {data.ndim} dimensions, shape {data.shape}; alignment takes "
            "two-dimensional images. Pick a plane of a cube or a color image first."
        )
    planes = [np.asarray(plane, dtype=bool) for plane in (own, mask) if plane is not None]
    for plane, label in [(p, "mask") for p in planes] + (
        [(error, "uncertainty")] if error is not None else []
    ):
        if plane.shape != data.shape:
            raise ImageError(
                f"the {label} of the {name} has shape {plane.shape}, its data {data.shape}."
            )
    merged = np.logical_or.reduce(planes) if planes else None
    return Image(data, merged, error, wcs)


def _not_an_image(name: str, thing: Any) -> str:
    """Say what an image is, and what was given."""
    return (
        f"{name} is an image: a path, an HDU or HDUList, CCDData, NDData or an array of shape "
        f"(ny, nx); got {type(thing).__name__}"
    )
