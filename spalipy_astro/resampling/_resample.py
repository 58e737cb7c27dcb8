"""Resampling: an image with its uncertainty, mask, flags and PSF, onto another pixel grid."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from numbers import Integral
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import (
    FlagCollection,
    InverseVariance,
    NDData,
    NDUncertainty,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.units import Quantity, UnitConversionError, dimensionless_unscaled
from numpy.typing import ArrayLike, NDArray

from spalipy_astro._checks import (
    check_room,
    check_shape,
    in_pixels,
    is_finite_pair,
    number,
    with_colors_last,
    with_mask_apart,
    with_planes_first,
)
from spalipy_astro._choices import METHODS
from spalipy_astro.resampling._brightness import conserves_flux
from spalipy_astro.resampling._dask import interpolate_lazily, is_dask
from spalipy_astro.resampling._drops import drops_of
from spalipy_astro.resampling._header import fresh_meta
from spalipy_astro.resampling._interpolate import averaging_steps, interpolate, interpolate_flags
from spalipy_astro.resampling._kernels import Kernel, has_kernel, kernel_of
from spalipy_astro.resampling._pixelmap import PixelMap
from spalipy_astro.resampling._tiles import Options, Planes, Result, float_type
from spalipy_astro.typing import ImageLike

__all__ = ["bytes_of_pixel", "resample", "resample_flags"]

_KINDS = {StdDevUncertainty: "std", VarianceUncertainty: "var", InverseVariance: "ivar"}


def resample(
    data: ImageLike,
    backward: Model,
    *,
    shape: tuple[int, int] | None = None,
    offset: tuple[float, float] = (0, 0),
    method: str | Kernel = "lanczos3",
    conserve_flux: bool | None = None,
    fill_value: float = np.nan,
    min_weight: float = 0.75,
    mask: ArrayLike | None = None,
    uncertainty: NDUncertainty | None = None,
    flags_method: str = "nearest",
    wcs: Any = None,
    provenance: Mapping[str, Any] | None = None,
    return_footprint: bool = False,
    n_threads: int | None = None,
    colors_last: bool = False,
    pixfrac: float | None = None,
    kernel: str | None = None,
    weights: ArrayLike | str | None = None,
    return_weights: bool = False,
) -> Any:
    """
    Resample an image onto the template's pixel grid.

    Parameters
    ----------
    data : CCDData, NDData, MaskedArray, Quantity or array_like, shape (..., ny, nx)
        The source. Leading axes are planes that share the geometry. Memory maps are read in
        pieces; dask arrays give lazy dask arrays. NaN and infinite
        pixels are bad, whether masked or not.
    backward : astropy.modeling.Model
        Template pixels ``(x, y)`` to source pixels.
    shape : tuple of int, optional
        Shape ``(ny, nx)`` of the output; by default that of ``data``.
    offset : (x0, y0), optional
        Template position of the output's pixel ``[0, 0]``; default (0, 0).
    method : str or Kernel, optional
        ``"lanczos3"`` (default), ``"bicubic"`` (Keys, a = -1/2), ``"bilinear"`` or ``"nearest"``.
        If the output's pixels are larger than the source's, by more than a tenth somewhere, the
        first three are widened accordingly, so that nothing is lost between the pixels.
        ``"adaptive"`` and ``"exact"`` are those of `reproject`, ``"drizzle"`` that of STScI's
        package ``drizzle``; these read dask arrays into memory. A custom `Kernel` is
        treated like the first three.
    conserve_flux : bool, optional
        Whether to multiply by the area of each output pixel in the source, so that the flux of
        objects is kept, instead of surface brightness. By default the unit of ``data`` decides:
        what is per solid angle, such as MJy/sr, per beam, a temperature or in magnitudes keeps its
        value; the flux of everything else, counts above all, is kept.
    fill_value : float, optional
        Value of the pixels that are bad; default NaN.
    min_weight : float, optional
        Weight that must be on good pixels, as a fraction of that within the frame, for an output
        pixel to be good; default 0.75. Sums are renormalized to the good pixels. The weight of a
        bad pixel counts by its absolute value.
    mask : array_like of bool, optional
        Bad pixels in addition to those of ``data``, of its shape or (ny, nx).
    uncertainty : StdDevUncertainty, VarianceUncertainty or InverseVariance, optional
        Used instead of that of ``data``. A pixel is bad where it is negative or not finite.
    flags_method : {"nearest", "or"}, optional
        Flags (as of CCDData) are those of the nearest pixel (default), or the bitwise "or" of all
        pixels under the kernel.
    wcs : object, optional
        WCS of the output; by default it has none.
    provenance : dict, optional
        Cards to add to the header: values or tuples (value, comment).
    return_footprint : bool, optional
        Whether to also return the fraction of each pixel's weight that is on good pixels.
    n_threads : int, optional
        Threads; by default as many as this process has cores. The result does not depend on it.
    colors_last : bool, optional
        Whether the planes are the last axis of ``data``, (ny, nx, k), as in pictures; that of the
        result is the last, too.
    pixfrac : float, optional
        For ``"drizzle"``: the size of the drops that pixels shrink to, as a part of a pixel's, 0 to
        1; default 1. On a finer grid smaller ones leave gaps between them, without data.
    kernel : {"square", "turbo", "point", "gaussian", "lanczos2", "lanczos3"}, optional
        For ``"drizzle"``: the shape of the drops, by default square pixels; see
        `drizzle.resample.Drizzle`.
    weights : array_like or "ivar", optional
        For ``"drizzle"``: weights of the pixels, not negative, of the image's shape or (ny, nx), or
        1 / variance by its uncertainty; by default 1.
    return_weights : bool, optional
        For ``"drizzle"``: whether to also return its weight map. ``sum(weights * data) /
        sum(weights)`` over images on one grid is their drizzled stack where ``conserve_flux`` is
        the same and pixels are, too.

    Returns
    -------
    CCDData, NDData, MaskedArray, Quantity or ndarray
        Of the type of ``data``, but arrays that come with ``uncertainty``, and those of
        `astropy.utils.masked`, give NDData. The
        pixels are of the type of the source if that is a floating-point type (of native byte
        order), else float32 if that is exact, or float64. Uncertainties keep their
        class; bad pixels are masked, have ``fill_value`` and an uncertainty of NaN (an inverse
        variance of 0). Keywords of the old WCS and array are removed from the header. The PSF is
        rotated and scaled to the new grid.
    footprint : ndarray of float32
        Only with ``return_footprint``.
    weights : ndarray of float32
        Only with ``return_weights``: the sum of the weights of the drops in each pixel, which over
        all pixels is that of the source's good pixels within the grid.

    Raises
    ------
    TypeError
        If the pixels are not real numbers, or an uncertainty or the model has the wrong type.
    ValueError
        If shapes do not match, an option is unknown, or a method does not support the request.
    ImportError
        If a method's package is not installed.

    Notes
    -----
    Uncertainties are those of single pixels: the variance is the sum of squared weight x variance,
    in the type of the pixels, which in float32 is good to 3e-7 for errors of any unit and range.
    Resampling correlates neighbors, and that covariance is neglected: the noise of sums over many
    pixels is underestimated by the interpolating methods.

    An output pixel is good if its center lies on the source frame, edges of the outer pixels
    included, and enough of its weight is on good pixels. Bad pixels outside the kernel do not
    change even its last bit.

    References
    ----------
    .. [1] Keys, R. 1981, IEEE Trans. Acoustics, Speech, and Signal Processing, 29, 1153,
       doi:10.1109/TASSP.1981.1163711
    .. [2] Duchon, C. E. 1979, Journal of Applied Meteorology, 18, 1016,
       doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2 (Lanczos filtering)
    .. [3] Fruchter, A. S. & Hook, R. N. 2002, PASP, 114, 144, doi:10.1086/338393 (drizzle)
    .. [4] DeForest, C. E. 2004, Solar Physics, 219, 3, doi:10.1023/B:SOLA.0000021743.24248.b0
       (adaptive)

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.modeling.models import AffineTransformation2D
    >>> from spalipy_astro.resampling import resample
    >>> backward = AffineTransformation2D(np.eye(2), [0.5, 0])  # half a pixel along x
    >>> resample(np.arange(12.0).reshape(3, 4), backward, method="bilinear")
    array([[ 0.5,  1.5,  2.5,  nan],
           [ 4.5,  5.5,  6.5,  nan],
           [ 8.5,  9.5, 10.5,  nan]])
    """
    check_method(method, fill_value)
    drops = drops_of(
        method, pixfrac=pixfrac, kernel=kernel, weights=weights, return_weights=return_weights
    )
    data = with_mask_apart(data)
    fill_value = _in_unit_of(data, fill_value)
    offset = in_pixels("offset", offset)
    min_weight = number("min_weight", min_weight, "above 0 and at most 1")
    _check_options(backward, offset, min_weight, flags_method, n_threads)
    if colors_last:
        if mask is not None and np.ndim(mask) == 3:
            mask = np.moveaxis(np.asanyarray(mask), -1, 0)
        if uncertainty is not None and np.ndim(uncertainty.array) == 3:
            array = np.moveaxis(uncertainty.array, -1, 0)
            uncertainty = type(uncertainty)(array, unit=uncertainty.unit, copy=False)
        if weights is not None and np.ndim(weights) == 3:
            weights = np.moveaxis(np.asarray(weights), -1, 0)
        out = resample(
            with_planes_first(data),
            backward,
            shape=shape,
            offset=offset,
            method=method,
            conserve_flux=conserve_flux,
            fill_value=fill_value,
            min_weight=min_weight,
            mask=mask,
            uncertainty=uncertainty,
            flags_method=flags_method,
            wcs=wcs,
            provenance=provenance,
            return_footprint=return_footprint,
            n_threads=n_threads,
            pixfrac=pixfrac,
            kernel=kernel,
            weights=weights,
            return_weights=return_weights,
        )
        if not isinstance(out, tuple):
            return with_colors_last(out)
        return with_colors_last(out[0]), *(
            with_colors_last(plane) if plane.ndim == 3 else plane for plane in out[1:]
        )
    planes = _planes(data, mask, uncertainty)
    shape = planes.data.shape[-2:] if shape is None else check_shape(shape)
    check_room("shape", shape, _bytes_of(planes))
    pixelmap = PixelMap(backward, shape, offset)
    options = Options(
        method,
        conserves_flux(data) if conserve_flux is None else bool(conserve_flux),
        float(fill_value),
        float(min_weight),
        averaging_steps(pixelmap, method) if has_kernel(method) else (1, 1),
        drops,
    )
    if has_kernel(method) and is_dask(planes.data):
        result = interpolate_lazily(
            planes, backward, shape, offset, options, footprint=return_footprint
        )
    elif has_kernel(method):
        masked = isinstance(data, NDData | np.ma.MaskedArray) or uncertainty is not None
        result = interpolate(
            planes,
            pixelmap,
            options,
            mask=masked,
            footprint=return_footprint,
            n_threads=n_threads,
        )
    else:
        result = _by_others(planes, backward, offset, pixelmap, options, n_threads)
    if isinstance(data, NDData):
        given = data.uncertainty if uncertainty is None else uncertainty
        out = _wrap(data, given, result, wcs, provenance)
        _carry(data, out, pixelmap, options, flags_method, n_threads)
    elif uncertainty is not None:
        spread = type(uncertainty)(result.spread, unit=uncertainty.unit, copy=False)
        out = NDData(result.data, uncertainty=spread, mask=result.mask, wcs=wcs)
    elif isinstance(data, np.ma.MaskedArray):
        out = np.ma.MaskedArray(result.data, result.mask, fill_value=fill_value)
    elif isinstance(data, Quantity):
        out = Quantity(result.data, data.unit, copy=False)
    else:
        out = result.data
    others = [result.footprint] if return_footprint else []
    others += [result.weights] if return_weights else []
    return (out, *others) if others else out


def resample_flags(
    flags: ArrayLike,
    backward: Model,
    *,
    shape: tuple[int, int] | None = None,
    offset: tuple[float, float] = (0, 0),
    flags_method: str = "nearest",
    radius: float = 3.0,
    n_threads: int | None = None,
) -> NDArray[Any]:
    """
    Resample a plane of integer flag bits, such as a data-quality extension.

    Parameters
    ----------
    flags : array_like of int, shape (ny, nx)
        Flags of the source's pixels.
    backward : astropy.modeling.Model
        Template pixels ``(x, y)`` to source pixels.
    shape, offset, n_threads
        As for `resample`.
    flags_method : {"nearest", "or"}, optional
        Take the flags of the nearest pixel (default), or the bitwise "or" of all pixels closer than
        ``radius`` along both axes.
    radius : float, optional
        In pixels of the source or of the output, whichever are larger; by default 3, the radius
        of the Lanczos kernel.

    Returns
    -------
    ndarray of int, shape (ny, nx)
        Flags of the type of ``flags``; 0 outside of the source.

    Raises
    ------
    TypeError
        If the flags are not integers.
    ValueError
        If they are not a plane, or an option is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.modeling.models import AffineTransformation2D
    >>> from spalipy_astro.resampling import resample_flags
    >>> flags = np.zeros((2, 6), np.uint8)
    >>> flags[0, 2] = 4
    >>> backward = AffineTransformation2D(np.eye(2), [1, 0])
    >>> resample_flags(flags, backward)
    array([[0, 4, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0]], dtype=uint8)
    """
    _check_options(backward, offset, 1.0, flags_method, n_threads)
    flags = np.asanyarray(flags)
    shape = flags.shape if shape is None else shape
    pixelmap = PixelMap(backward, check_shape(shape), offset)
    return _flags(flags, pixelmap, flags_method, radius, n_threads)


def _flags(
    flags: Any, pixelmap: PixelMap, flags_method: str, radius: float, n_threads: int | None
) -> NDArray[Any]:
    """Check and resample one plane of flags."""
    flags = np.asarray(flags)
    if flags.dtype.kind not in "iub":
        raise TypeError(f"flags must be integers, got an array of type {flags.dtype}.")
    if flags.ndim != 2:
        raise ValueError(f"flags must be a plane, (ny, nx); got shape {flags.shape}.")
    radius = radius if flags_method == "or" else 0.0
    return interpolate_flags(flags, pixelmap, float(radius), n_threads=n_threads)


def check_method(method: Any, fill_value: Any) -> None:
    """
    Check how to interpolate, and what to fill in, before there is anything to resample.

    Parameters
    ----------
    method, fill_value
        As for `resample`.

    Raises
    ------
    TypeError, ValueError
        If one makes no sense.
    """
    if not isinstance(method, Kernel) and not (isinstance(method, str) and method in METHODS):
        raise ValueError(
            f"method must be one of {', '.join(METHODS)}, or a Kernel; got {method!r}."
        )
    number("fill_value", getattr(fill_value, "value", fill_value), "a number, or NaN")


def _check_options(
    backward: Model, offset: Any, min_weight: float, flags_method: str, n_threads: int | None
) -> None:
    """Raise an error if an argument is invalid."""
    if not isinstance(backward, Model):
        raise TypeError(
            "backward must be an astropy model of template to source pixels, got "
            f"{type(backward).__name__}; for an alignment it is alignment.transform.inverse."
        )
    if (backward.n_inputs, backward.n_outputs) != (2, 2):
        raise ValueError(
            "backward must map two inputs onto two outputs, got "
            f"{backward.n_inputs} and {backward.n_outputs}."
        )
    if not is_finite_pair(offset):
        raise ValueError(f"offset must be two finite numbers (x0, y0), px; got {offset!r}.")
    if flags_method not in ("nearest", "or"):
        raise ValueError(f"flags_method must be 'nearest' or 'or'; got {flags_method!r}.")
    if not 0 < min_weight <= 1:
        raise ValueError(f"min_weight must be above 0 and at most 1; got {min_weight}.")
    if n_threads is not None and not _is_positive(n_threads):
        raise ValueError(f"n_threads must be a positive integer or None; got {n_threads!r}.")


def _in_unit_of(data: Any, fill_value: Any) -> Any:
    """Return the value of pixels without data in the unit of the others."""
    if not isinstance(fill_value, Quantity):
        return fill_value
    unit = getattr(data, "unit", None) or dimensionless_unscaled
    try:
        return float(fill_value.to_value(unit))
    except UnitConversionError:
        raise ValueError(
            f"fill_value is in the unit of the data, {unit or 'none'}; got {fill_value!r}."
        ) from None


def bytes_of_pixel(data: Any, uncertainty: Any = None) -> int:
    """
    Return how much memory a pixel of a resampled image takes.

    Parameters
    ----------
    data, uncertainty
        As for `resample`.

    Returns
    -------
    int
        Bytes of its data, uncertainty and mask, in all planes; 0 for dask arrays.
    """
    return _bytes_of(_planes(data, None, uncertainty))


def _bytes_of(planes: Planes) -> int:
    """Return the bytes of a resampled pixel in all planes."""
    if is_dask(planes.data):
        return 0
    spread = 0 if planes.spread is None else float_type(planes.spread.dtype).itemsize
    return int(np.prod(planes.data.shape[:-2])) * (planes.dtype.itemsize + spread + 1)


def _is_positive(number: Any) -> bool:
    """Whether something is a positive integer."""
    return isinstance(number, Integral) and int(number) > 0


def _planes(data: Any, mask: Any, uncertainty: Any) -> Planes:
    """Take the arrays out of an image."""
    masks = [mask]
    if isinstance(data, NDData):
        uncertainty = data.uncertainty if uncertainty is None else uncertainty
        masks.append(data.mask)
        data = data.data
    if isinstance(data, np.ma.MaskedArray):
        masks.append(None if data.mask is np.ma.nomask else data.mask)
        data = data.data
    elif isinstance(data, Quantity):
        data = data.value
    if not is_dask(data):
        data = np.asanyarray(data)
    float_type(data.dtype)
    if data.ndim < 2 or 0 in data.shape:
        raise ValueError(
            f"data must be an image (ny, nx), or a cube with leading axes; got shape {data.shape}."
        )
    merged = None
    for one in masks:
        if one is not None:
            fitted = _fit("mask", one, data.shape).astype(bool, copy=False)
            merged = fitted if merged is None else np.logical_or(merged, fitted)
    spread, kind = _spread(uncertainty, data.shape)
    return Planes(data, merged, spread, kind, (data.shape[-1], data.shape[-2]))


def _fit(name: str, array: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast a plane to the shape of the data."""
    array = array if is_dask(array) else np.asanyarray(array)
    if array.shape == shape:
        return array
    if array.shape[-2:] != shape[-2:] or array.ndim > len(shape):
        raise ValueError(f"the {name} has shape {array.shape}, the data have shape {shape}.")
    return np.broadcast_to(array, shape)


def _spread(uncertainty: Any, shape: tuple[int, ...]) -> tuple[Any, str]:
    """Return the array of an uncertainty and its kind."""
    if uncertainty is None:
        return None, ""
    if not isinstance(uncertainty, NDUncertainty):
        raise TypeError(
            "uncertainty must be a StdDevUncertainty, VarianceUncertainty or InverseVariance of "
            f"astropy.nddata, got {type(uncertainty).__name__}; wrap the array in the "
            "matching class."
        )
    for known, kind in _KINDS.items():
        if isinstance(uncertainty, known):
            if uncertainty.array is None:
                return None, ""
            return _fit("uncertainty", uncertainty.array, shape), kind
    raise ValueError(
        f"an uncertainty of type {type(uncertainty).__name__} cannot be propagated; make it a "
        "StdDevUncertainty, VarianceUncertainty or InverseVariance, or remove it."
    )


def _by_others(
    planes: Planes,
    backward: Model,
    offset: tuple[float, float],
    pixelmap: PixelMap,
    options: Options,
    n_threads: int | None,
) -> Result:
    """Hand over to reproject or drizzle."""
    from spalipy_astro.resampling import _externals  # reproject takes a while to import

    if options.method == "drizzle":
        return _externals.drizzle(planes.read(), backward, offset, pixelmap, options)
    if planes.spread is not None:
        raise ValueError(
            f"method={options.method!r} cannot propagate uncertainties: reproject does not return "
            "the sums of squared weights. Use 'lanczos3' or 'drizzle', or resample a copy of the "
            "image without its uncertainty."
        )
    return _externals.reproject(
        planes.read(), backward, offset, pixelmap, options, n_threads=n_threads
    )


def _wrap(
    data: NDData,
    uncertainty: NDUncertainty | None,
    result: Result,
    wcs: Any,
    provenance: Mapping[str, Any] | None,
) -> NDData:
    """Put the result into an object of the type of the source."""
    if result.spread is None:
        uncertainty = None
    elif uncertainty is not None:
        uncertainty = type(uncertainty)(result.spread, unit=uncertainty.unit, copy=False)
    return type(data)(
        result.data,
        uncertainty=uncertainty,
        mask=result.mask,
        wcs=wcs,
        meta=fresh_meta(data.meta, provenance),
        unit=data.unit,
    )


def _carry(
    data: NDData,
    out: NDData,
    pixelmap: PixelMap,
    options: Options,
    flags_method: str,
    n_threads: int | None,
) -> None:
    """Give the output the flags and the PSF of the source."""
    kernel = kernel_of(options.method if has_kernel(options.method) else "bilinear")
    arguments = pixelmap, flags_method, kernel.radius, n_threads
    flags = getattr(data, "flags", None)
    if isinstance(flags, FlagCollection):
        out.flags = FlagCollection(shape=out.data.shape)
        for name, plane in flags.items():
            out.flags[name] = _flags(plane, *arguments)
    elif flags is not None:
        out.flags = _flags(flags, *arguments)
    psf = getattr(data, "psf", None)
    if psf is not None:
        out.psf = _transformed_psf(np.asarray(psf), pixelmap)


def _transformed_psf(psf: NDArray[Any], pixelmap: PixelMap) -> NDArray[Any]:
    """Rotate and scale the image of a PSF as the middle of the output is; its sum stays."""
    matrix = pixelmap.central_matrix()
    if psf.ndim != 2 or not np.isfinite(matrix).all() or np.linalg.det(matrix) == 0:
        return deepcopy(psf)
    center = (np.array(psf.shape[::-1]) - 1) / 2
    reach = np.abs(np.linalg.inv(matrix)) @ np.array(psf.shape[::-1]) / 2
    half = np.ceil(reach - 0.5).astype(int)
    backward = AffineTransformation2D(matrix, center - matrix @ half)
    turned = resample(
        psf,
        backward,
        shape=(2 * int(half[1]) + 1, 2 * int(half[0]) + 1),
        fill_value=0.0,
        n_threads=1,
    )
    return turned * (psf.sum() / turned.sum())
