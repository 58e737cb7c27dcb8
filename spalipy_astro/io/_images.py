"""CCDData, NDData and arrays -> validated arrays."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from astropy.units import UnitConversionError
from astropy.wcs import WCS
from numpy.typing import NDArray

from spalipy_astro._checks import colors_go_last, flaw_of_wcs, frame_of, luminance
from spalipy_astro.errors import ImageError

__all__ = ["Image", "as_image"]

log = logging.getLogger(__name__)

_ROWS = 64  # rows of an image that are looked at for their scatter
_BENT = 1.652  # median size of a second difference of white noise, in standard deviations
_ODD = 1e4  # how wrong an uncertainty must be to be no uncertainty


class Image(NamedTuple):
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
    image : CCDData, NDData or array_like, shape (ny, nx), (k, ny, nx) or (ny, nx, k)
        Memory maps and dask arrays are read. Of color images and cubes it is the mean of all
        planes. The last axis has the colors if it is 3 or 4 long and the first is not; see
        `colors_go_last`. Axes of length one do not count.
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
        If it is neither an image nor a cube, planes differ in shape, or the uncertainty cannot be
        that of the pixels.
    """
    wcs = error = own = None
    data = image
    if isinstance(image, NDData):
        data, wcs, own = image.data, image.wcs, image.mask
        if image.uncertainty is not None and image.uncertainty.array is not None:
            _check_signs(np.asarray(image.uncertainty.array), name)
            error = _in_unit_of(image, name)
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
    shape = data.shape
    planes = [np.asarray(plane, dtype=bool) for plane in (own, mask) if plane is not None]
    for plane, label in [(p, "mask") for p in planes] + (
        [(error, "uncertainty")] if error is not None else []
    ):
        if plane.shape != shape and (data.ndim < 3 or plane.shape != frame_of(shape)):
            raise ImageError(
                f"the {label} of the {name} has shape {plane.shape}, its data {data.shape}."
            )
    while data.ndim > 2 and data.shape[0] == 1:  # axes that have nothing to tell
        planes = [plane[0] if plane.ndim == data.ndim else plane for plane in planes]
        error = error[0] if error is not None and error.ndim == data.ndim else error
        data = data[0]
    if 0 in shape:
        raise ImageError(f"the {name} has no pixels: its shape is {shape}.")
    if data.ndim not in (2, 3):
        raise ImageError(
            f"the {name} has {len(shape)} dimensions, shape {shape}; an image has shape (ny, nx), "
            "a color image or cube (k, ny, nx), or (ny, nx, 3)."
        )
    merged = _united(planes, data.shape)
    if data.ndim == 3:
        data, merged, error = luminance(data, merged, error)
    if error is not None:
        _check_scatter(data, merged, error, name)
    return Image(data, merged, error, _of_a_plane(wcs, name))


def _united(planes: list[NDArray[np.bool_]], shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return what is bad in one of several masks, of the image or of each color."""
    if not planes:
        return None
    most = max(plane.ndim for plane in planes)
    if most == 3 and colors_go_last(shape):
        planes = [plane if plane.ndim == 3 else plane[:, :, np.newaxis] for plane in planes]
    merged = planes[0]
    for plane in planes[1:]:
        merged = merged | plane
    return merged


def _check_signs(error: NDArray, name: str) -> None:
    """Raise ImageError for uncertainties, of whatever kind, that are negative."""
    bad = int(np.count_nonzero(error < 0))
    if bad:
        raise ImageError(
            f"the uncertainty of the {name} is negative in {bad} of {error.size} pixels, at worst "
            f"{np.nanmin(error):.3g}; mask these pixels, or leave the uncertainty out."
        )


def _check_scatter(
    data: NDArray, mask: NDArray[np.bool_] | None, error: NDArray, name: str
) -> None:
    """
    Raise ImageError for standard deviations that cannot be those of the pixels.

    Second differences along the rows are free of the sky; their median size is 1.65 standard
    deviations where the noise is white, and stars and smoothing change it by far less than `_ODD`.
    """
    rows = np.s_[:: max(1, len(data) // _ROWS)]
    values, spread = np.asarray(data[rows], float), np.asarray(error[rows], float)
    good = np.isfinite(values)
    if mask is not None:
        good &= ~mask[rows]
    if not good.any():  # that is what is wrong, and detection says it
        return
    good &= np.isfinite(spread) & (spread > 0)
    if not good.any():
        raise ImageError(
            f"the uncertainty of the {name} is nowhere a positive number where its pixels are "
            "good; leave it out, and the noise is measured."
        )
    bent = np.abs(np.diff(np.where(good, values, np.nan), 2, axis=1))
    bent = bent[np.isfinite(bent)]
    if not bent.size:
        return
    measured, stated = float(np.median(bent)) / _BENT, float(np.median(spread[good]))
    if measured > _ODD * stated or (measured > 0 and stated > _ODD * np.ptp(values[good])):
        raise ImageError(
            f"the uncertainty of the {name} cannot be the standard deviation of its pixels: it is "
            f"{stated:.3g} in the middle, and neighboring pixels scatter by {measured:.3g}. Leave "
            "it out, and the noise is measured; VarianceUncertainty is for variances."
        )


def _of_a_plane(wcs: Any, name: str) -> Any:
    """Return the WCS of one plane of a cube; None, with a warning, where it has a flaw."""
    if flaw := flaw_of_wcs(wcs):
        log.warning("%s: its WCS is left out, it has no sky: %s", name, flaw)
        return None
    low = getattr(wcs, "low_level_wcs", wcs)
    if not isinstance(low, WCS) or low.naxis <= 2:
        return wcs
    return low.celestial if low.has_celestial else None


def _in_unit_of(image: NDData, name: str) -> NDArray:
    """Return the standard deviation of the pixels of an image, in the unit of its pixels."""
    try:
        with np.errstate(divide="ignore"):  # an inverse variance of 0 is that of a bad pixel
            spread = image.uncertainty.represent_as(StdDevUncertainty)
    except TypeError as unknown:
        raise ImageError(
            f"the uncertainty of the {name} is an {type(image.uncertainty).__name__}, which does "
            "not say what its numbers are; make it a StdDevUncertainty, VarianceUncertainty or "
            "InverseVariance, or leave it out."
        ) from unknown
    error = np.asarray(spread.array)
    if spread.unit is None or image.unit is None or spread.unit == image.unit:
        return error
    try:
        return error * spread.unit.to(image.unit)
    except UnitConversionError as wrong:
        raise ImageError(
            f"the uncertainty of the {name} has the unit {spread.unit}, its data {image.unit}: "
            "one cannot be converted to the other."
        ) from wrong


def _not_an_image(name: str, thing: Any) -> str:
    """Say what an image is, and what was given."""
    return (
        f"{name} is an image: a path, an HDU or HDUList, CCDData, NDData or an array of shape "
        f"(ny, nx); got {type(thing).__name__}"
    )
