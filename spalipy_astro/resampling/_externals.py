"""Resampling by other packages: reproject's adaptive and exact methods, and STScI's drizzle."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS, HighLevelWCSMixin
from numpy.typing import NDArray

from spalipy_astro.resampling._drops import weights_of
from spalipy_astro.resampling._pixelmap import PixelMap, Tile, tiles
from spalipy_astro.resampling._tiles import (
    Options,
    Planes,
    Result,
    float_type,
    for_each,
    from_variance,
    source_window,
    to_variance,
)

__all__ = ["drizzle", "reproject"]

FloatArray = NDArray[np.floating[Any]]

_PIXEL = 10 / 3600  # deg: see _tangent_plane
_RADIUS = 12.0  # output pixels: more than the kernels here reach
_ROWS = 1 << 20  # source pixels drizzled at once


class SourceWCS(BaseLowLevelWCS, HighLevelWCSMixin):
    """
    A window of the source on the world of the template: all that reproject needs to know.

    Parameters
    ----------
    backward : astropy.modeling.Model
        Template pixels to source pixels.
    forward : astropy.modeling.Model or None
        Its inverse; adaptive resampling does without.
    world : astropy.wcs.WCS
        Pixels of a window of the template to world coordinates.
    start : (x, y)
        Template pixel that this window begins with.
    corner : (x, y)
        Source pixel that the window begins with.
    """

    def __init__(
        self,
        backward: Model,
        forward: Model | None,
        world: WCS,
        start: tuple[float, float],
        corner: tuple[int, int],
    ) -> None:
        self._backward, self._forward = backward, forward
        self._world, self._start, self._corner = world, start, corner

    pixel_n_dim = 2
    world_n_dim = 2

    @property
    def world_axis_physical_types(self) -> Any:
        """As for the template."""
        return self._world.world_axis_physical_types

    @property
    def world_axis_units(self) -> Any:
        """As for the template."""
        return self._world.world_axis_units

    @property
    def world_axis_object_components(self) -> Any:
        """As for the template."""
        return self._world.world_axis_object_components

    @property
    def world_axis_object_classes(self) -> Any:
        """As for the template."""
        return self._world.world_axis_object_classes

    def pixel_to_world_values(self, *pixel_arrays: Any) -> Any:
        """Map source pixels forward."""
        if self._forward is None:
            raise NotImplementedError("the map from template to source pixels has no inverse.")
        x, y = (np.asarray(t, float) + t0 for t, t0 in zip(pixel_arrays, self._corner, strict=True))
        x, y = self._forward(x, y)
        return self._world.pixel_to_world_values(x - self._start[0], y - self._start[1])

    def world_to_pixel_values(self, *world_arrays: Any) -> Any:
        """Map world coordinates back."""
        x, y = (np.asarray(t, float) for t in self._world.world_to_pixel_values(*world_arrays))
        x, y = self._backward(x + self._start[0], y + self._start[1])
        return x - self._corner[0], y - self._corner[1]


def _tangent_plane() -> WCS:
    """
    Put the plane of the template's pixels on the sky.

    `reproject.reproject_exact` computes overlaps of spherical polygons. A gnomonic projection maps
    straight lines onto great circles, so these are the overlaps in the plane, up to a factor that
    is the same for all that meet in one pixel. Pixels of ten arcseconds are small enough for that,
    and large enough for the precision of their areas: weights are good to 1e-6.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = [-_PIXEL, _PIXEL]
    wcs.wcs.crval = [180.0, 0.0]
    wcs.wcs.set()
    return wcs


def reproject(
    planes: Planes,
    backward: Model,
    offset: tuple[float, float],
    pixelmap: PixelMap,
    options: Options,
    *,
    n_threads: int | None = None,
) -> Result:
    """
    Resample planes without uncertainties with `reproject.reproject_adaptive` or ``_exact``.

    Bad pixels are zeros in the data, and so in a plane of ones; the quotient of the two resampled
    is the weighted mean of the good pixels, the second one their share of the weight.
    """
    from reproject import reproject_adaptive, reproject_exact

    exact = options.method == "exact"
    forward = backward.inverse if exact else None
    result = _empty(planes, pixelmap.shape, options)
    radius = _RADIUS * max(1.0, *pixelmap.pixel_sizes())

    def run(tile: Tile) -> None:
        x, y = pixelmap.tile(tile)
        window = source_window((x, y), planes.frame, radius)
        if window is None:
            return
        inner, outer = window.cut((0, 0), planes.data.shape)
        corner = window.x0 + outer[1].start, window.y0 + outer[0].start
        start = offset[0] + tile.column, offset[1] + tile.row
        world = _tangent_plane() if exact else WCS(naxis=2)
        wcs = SourceWCS(backward, forward, world, start, corner)
        on_frame = _on_frame(x, y, planes.frame)
        area = _areas(x, y)
        for index in np.ndindex(planes.data.shape[:-2]):
            values, good = _good_pixels(planes, index, inner)[:2]
            stack, shape = np.stack([values, good]), (2, tile.rows, tile.columns)
            if exact:
                total, share = reproject_exact(
                    (stack, wcs), world, shape_out=shape, return_footprint=False
                )
            else:
                total, share = reproject_adaptive(
                    (stack, wcs),
                    world,
                    shape_out=shape,
                    return_footprint=False,
                    roundtrip_coords=False,
                    boundary_mode="ignore",
                )
            share = np.where(on_frame & np.isfinite(share), share, 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                mean = total / share
            _store(result, planes, index, tile, mean, None, share, area, options)

    for_each(run, tiles(pixelmap.shape), n_threads)
    return result


def drizzle(
    planes: Planes,
    backward: Model,
    offset: tuple[float, float],
    pixelmap: PixelMap,
    options: Options,
) -> Result:
    """
    Drizzle planes (Fruchter & Hook 2002).

    The package computes in float32. The share of good weight is that of an output pixel's area;
    of drops smaller than pixels, or of another shape, that of the weight of all drops.
    """
    try:
        from drizzle.resample import Drizzle
    except ImportError as error:
        raise ImportError(
            "method='drizzle' needs the package drizzle, which is not installed; install it with "
            "'pip install drizzle', or choose another method."
        ) from error
    drops = options.drops
    weights, unit_of_weights = weights_of(drops, planes), 1.0
    if weights is not None:
        unit_of_weights = float(weights.max()) or 1.0
        weights = np.broadcast_to(weights / unit_of_weights, planes.data.shape)
    forward = backward.inverse
    # The package neglects parts of pixels that stick out of the output: make it larger.
    border = 2 + int(np.ceil(drops.reach / max(min(pixelmap.pixel_sizes()), 1e-3)))
    shape = pixelmap.shape[0] + 2 * border, pixelmap.shape[1] + 2 * border
    stretch = float(np.sqrt(abs(np.linalg.det(pixelmap.central_matrix()))))
    how: dict[str, Any] = {"exptime": 1.0, "pixfrac": drops.pixfrac, "pixel_scale_ratio": stretch}
    indices = list(np.ndindex(planes.data.shape[:-2]))

    def empty() -> Any:
        return Drizzle(kernel=drops.kernel, out_shape=shape, fillval=np.nan, disable_ctx=True)

    def add(total: Any, values: FloatArray, good: FloatArray, squares: Any) -> None:
        with warnings.catch_warnings():
            # flux is conserved here by the area of pixels, whatever the kernel
            warnings.filterwarnings("ignore", message="Kernel .* is not a flux-conserving kernel")
            total.add_image(_padded(values), weight_map=_padded(good), data2=squares, **how)

    sums = [empty() for _ in indices]
    counts = sums if weights is None else [empty() for _ in indices]  # of good pixels
    whole = None if drops.are_pixels else empty()  # of all pixels
    units = [0.0] * len(sums)  # of the variances, which may be too small for float32
    width, height = planes.frame
    rows = max(_ROWS // (width + 2), 1)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        # with a border of one pixel without weight: corners lie between the centers of neighbors
        x, y = np.meshgrid(np.arange(-1.0, width + 1), np.arange(start - 1.0, stop + 1))
        how["pixmap"] = np.stack(forward(x, y), axis=-1) - np.asarray(offset, float) + border
        part = (slice(start, stop), slice(0, width))
        for k, index in enumerate(indices):
            values, good, variance = _good_pixels(planes, index, part)
            squares = None
            if variance is not None:
                units[k] = units[k] or variance.max()
                squares = [_padded(variance / (units[k] or 1.0))]
            if weights is not None:
                add(counts[k], values, good, None)
                good = good * weights[index][part]
            add(sums[k], values, good, squares)
        if whole is not None:
            ones = np.ones((stop - start, width))
            add(whole, ones, ones, None)
    result = _empty(planes, pixelmap.shape, options)
    for tile in tiles(pixelmap.shape):
        x, y = pixelmap.tile(tile)
        area = _areas(x, y)
        part = (
            slice(tile.row + border, tile.row + border + tile.rows),
            slice(tile.column + border, tile.column + border + tile.columns),
        )
        fully = area if whole is None else whole.out_wht[part]
        for index, total, count, unit in zip(indices, sums, counts, units, strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.nan_to_num(count.out_wht[part] / fully, nan=0.0, posinf=0.0)
            if whole is not None:
                share = np.where(_on_frame(x, y, planes.frame), share, 0)
            variance = None
            if planes.spread is not None:
                variance = total.out_img2[0][part] * np.float64(unit)
            _store(result, planes, index, tile, total.out_img[part], variance, share, area, options)
            if result.weights is not None:
                weight = total.out_wht[part] * np.float64(unit_of_weights)
                result.weights[(*index, *tile.slices[1:])] = weight
    return result


def _on_frame(x: FloatArray, y: FloatArray, frame: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which pixels of a tile, whose positions have a border, have their center on a frame."""
    u, v = x[1:-1, 1:-1], y[1:-1, 1:-1]
    width, height = frame
    return (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)


def _empty(planes: Planes, shape: tuple[int, int], options: Options) -> Result:
    """Make room for a result, all of it bad."""
    full = (*planes.data.shape[:-2], *shape)
    spread = None
    if planes.spread is not None:
        spread = np.full(
            full, 0 if planes.kind == "ivar" else np.nan, float_type(planes.spread.dtype)
        )
    return Result(
        np.full(full, options.fill_value, planes.dtype),
        np.ones(full, bool),
        np.zeros(full, np.float32),
        spread,
        np.zeros(full, np.float32) if options.method == "drizzle" else None,
    )


def _good_pixels(
    planes: Planes, index: tuple[int, ...], part: tuple[slice, slice]
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Read a part of one plane: values, weights and variances, all zero where a pixel is bad."""
    values = np.array(planes.data[index][part], np.float64)
    bad = ~np.isfinite(values)
    if planes.mask is not None:
        bad |= np.asarray(planes.mask[index][part], bool)
    variance = None
    if planes.spread is not None:
        variance = np.array(planes.spread[index][part], np.float64)
        to_variance(planes.kind, variance)
        bad |= ~((variance >= 0) & (variance < np.inf))
        variance[bad] = 0
    values[bad] = 0
    return values, (~bad).astype(np.float64), variance


def _padded(values: FloatArray) -> NDArray[np.float32]:
    """Add a border of one pixel of zeros."""
    return np.pad(values, 1).astype(np.float32)


def _areas(x: FloatArray, y: FloatArray) -> FloatArray:
    """Areas of a tile's pixels in the source, from positions with a border of one pixel."""
    (dx_dy, dx_dx), (dy_dy, dy_dx) = (
        ((t[2:, 1:-1] - t[:-2, 1:-1]) / 2, (t[1:-1, 2:] - t[1:-1, :-2]) / 2) for t in (x, y)
    )
    return np.abs(dx_dx * dy_dy - dx_dy * dy_dx)


def _store(
    result: Result,
    planes: Planes,
    index: tuple[int, ...],
    tile: Tile,
    mean: FloatArray,
    variance: FloatArray | None,
    share: FloatArray,
    area: FloatArray,
    options: Options,
) -> None:
    """Write one tile of one plane, scaled by area, filled where too little weight is good."""
    part: Any = (*index, *tile.slices[1:])
    bad = ~((share >= options.min_weight) & np.isfinite(mean))
    factor = area if options.conserve_flux else np.ones_like(area)
    result.data[part] = np.where(bad, options.fill_value, mean * factor)
    result.mask[part] = bad
    if result.footprint is not None:
        result.footprint[part] = share
    if result.spread is not None:
        from_variance(
            planes.kind, np.where(bad, np.nan, variance * np.square(factor)), result.spread[part]
        )
