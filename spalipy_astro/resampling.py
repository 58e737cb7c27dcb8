"""Resampling: images, their uncertainties, masks and flags onto another pixel grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    NDUncertainty,
    StdDevUncertainty,
    VarianceUncertainty,
)
from numpy.typing import NDArray

from spalipy_astro._pixelmap import PixelMap, Tile, tiles

__all__ = ["METHODS", "resample"]

_STEPS = 2048
_PLANES = 8
_LARGEST_BLOCK = 1 << 22
_SAME_SCALE = 1.1
_LEAST_GOOD = 0.5


@dataclass(frozen=True)
class Kernel:
    """A separable interpolation kernel: its taps and its profile, |t| < radius, in pixels."""

    taps: int
    lanes: int
    profile: Any

    @property
    def radius(self) -> float:
        """Half of its support in pixels."""
        return self.taps / 2

    def table(self) -> NDArray[np.float64]:
        """Weights by phase: (steps + 2, lanes); each row sums to one."""
        steps = 1 if self.taps <= 2 else _STEPS  # linear weights need no table
        phase = np.arange(steps + 1) / steps
        taps = np.arange(self.taps) - self.taps // 2 + 1
        weights = self.profile(np.abs(phase[:, np.newaxis] - taps))
        weights[np.abs(weights) < 1e-15] = 0  # sinc at integers
        out = np.zeros((steps + 2, self.lanes))
        out[:-1, : self.taps] = weights / weights.sum(axis=1, keepdims=True)
        out[-1] = out[-2]
        return out

    def curve(self) -> NDArray[np.float64]:
        """Profile at steps from 0 to the radius, and a zero."""
        t = np.linspace(0, self.radius, _STEPS * int(np.ceil(self.radius)) + 1)
        return np.append(self.profile(t), 0.0)


def _box(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones_like(t)


def _triangle(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1 - t, 0)


def _keys(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic convolution with a = -1/2, third-order accurate (Keys 1981)."""
    inner = (1.5 * t - 2.5) * t * t + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, inner, np.where(t < 2, outer, 0))


def _lanczos(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(t < 3, np.sinc(t) * np.sinc(t / 3), 0)


KERNELS = {
    "nearest": Kernel(1, 1, _box),
    "bilinear": Kernel(2, 2, _triangle),
    "bicubic": Kernel(4, 4, _keys),
    "lanczos3": Kernel(6, 8, _lanczos),
}
METHODS = (*KERNELS, "adaptive", "exact", "drizzle")


def resample(
    data: Any,
    backward: Model,
    *,
    shape: tuple[int, int] | None = None,
    offset: tuple[float, float] = (0, 0),
    method: str = "lanczos3",
    conserve_flux: bool = True,
    fill_value: float = np.nan,
    mask: Any = None,
    uncertainty: NDUncertainty | None = None,
    wcs: Any = None,
    provenance: Mapping[str, Any] | None = None,
    return_footprint: bool = False,
    n_threads: int | None = None,
) -> Any:
    """
    Resample an image onto the template's pixel grid.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    planes = Planes.of(data, mask, uncertainty)
    if shape is None:
        shape = planes.data.shape[-2:]
    result = _interpolate(
        planes,
        PixelMap(backward, shape, offset),
        shape,
        method=method,
        conserve_flux=conserve_flux,
        fill_value=fill_value,
        footprint=return_footprint,
        n_threads=n_threads,
    )
    if isinstance(data, NDData):
        out = _wrap(data, planes, result, wcs, provenance)
    else:
        out = result.data
    return (out, result.footprint) if return_footprint else out


@dataclass
class Planes:
    data: Any
    mask: Any
    uncertainty: NDUncertainty | None

    @classmethod
    def of(cls, data: Any, mask: Any, uncertainty: Any) -> Planes:
        if isinstance(data, NDData):
            if uncertainty is None:
                uncertainty = data.uncertainty
            own = data.mask
            if own is not None:
                mask = own if mask is None else np.logical_or(own, mask)
            data = data.data
        data = np.asanyarray(data)
        if data.ndim < 2:
            raise ValueError("2-D")
        return cls(
            data,
            None if mask is None else np.broadcast_to(mask, data.shape),
            uncertainty,
        )

    @property
    def dtype(self) -> np.dtype:
        dtype = self.data.dtype
        return np.result_type(dtype.newbyteorder("="), np.float32).type(0).dtype


def _to_variance(uncertainty: NDUncertainty, values: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if isinstance(uncertainty, StdDevUncertainty):
        return values * values
    if isinstance(uncertainty, InverseVariance):
        with np.errstate(divide="ignore"):
            return 1 / values
    return values


def _from_variance(uncertainty: NDUncertainty, values: NDArray[Any]) -> NDArray[np.float64]:
    if isinstance(uncertainty, StdDevUncertainty):
        return np.sqrt(values)
    if isinstance(uncertainty, InverseVariance):
        return 1 / values
    return values


@dataclass
class Result:
    data: NDArray[Any]
    mask: NDArray[np.bool_]
    footprint: NDArray[np.float32]
    uncertainty: NDArray[Any] | None


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


@cache
def _tables(method: str, dtype: str) -> tuple[Any, ...]:
    kernel = KERNELS[method]
    table = kernel.table()
    return tuple(range(kernel.taps)), table.astype(dtype), table


def _interpolate(
    planes: Planes,
    pixelmap: PixelMap,
    shape: tuple[int, int],
    *,
    method: str,
    conserve_flux: bool,
    fill_value: float,
    footprint: bool,
    n_threads: int | None,
) -> Result:
    from spalipy_astro import _kernels  # numba takes a second to import

    kernel = KERNELS[method]
    lead = planes.data.shape[:-2]
    dtype = planes.dtype
    indices = list(np.ndindex(lead))
    out = np.empty((len(indices), *shape), dtype)
    bad = np.empty((len(indices), *shape), bool)
    foot = np.empty((len(indices) if footprint else 0, *shape), np.float32)
    unc = None
    if planes.uncertainty is not None:
        array = np.broadcast_to(planes.uncertainty.array, planes.data.shape)
        unc = np.empty((len(indices), *shape), np.result_type(array.dtype, np.float32).newbyteorder("="))
    frame = planes.data.shape[-1], planes.data.shape[-2]
    wide = kernel.taps > 1 and pixelmap.largest_pixel() > _SAME_SCALE
    curve = kernel.curve()

    def do(tile: Tile) -> None:
        x, y = pixelmap.tile(tile)
        x_min, x_max, y_min, y_max = _kernels.source_extent(x, y, frame)
        if x_max < x_min:
            part = (slice(None), slice(tile.row, tile.row + tile.rows), slice(tile.column, tile.column + tile.columns))
            out[part] = fill_value
            bad[part] = True
            foot[part] = 0
            if unc is not None:
                unc[part] = np.nan
            return
        half_x, half_y = kernel.radius, kernel.radius
        if wide:
            half_x, half_y = half_x * _kernels.largest_reach(x), half_y * _kernels.largest_reach(y)
        x0, x1 = int(np.floor(x_min - half_x)) - 1, int(np.ceil(x_max + half_x)) + 4
        y0, y1 = int(np.floor(y_min - half_y)) - 1, int(np.ceil(y_max + half_y)) + 2
        if (x1 - x0) * (y1 - y0) > _LARGEST_BLOCK and tile.rows * tile.columns > 1:
            for part in tile.quarters():
                do(part)
            return
        cx, cy = slice(max(x0, 0), min(x1, frame[0])), slice(max(y0, 0), min(y1, frame[1]))
        inner = slice(cy.start - y0, cy.stop - y0), slice(cx.start - x0, cx.stop - x0)
        for first in range(0, len(indices), _PLANES):
            group = indices[first : first + _PLANES]
            block = np.full((len(group), y1 - y0, x1 - x0), np.nan, dtype)
            variance = np.empty((len(group) if unc is not None else 0, y1 - y0, x1 - x0))
            for k, index in enumerate(group):
                view = block[k][inner]
                view[...] = planes.data[index][cy, cx]
                if planes.mask is not None:
                    np.copyto(view, np.nan, where=planes.mask[index][cy, cx])
                if unc is not None:
                    variance[k] = np.nan
                    v = _to_variance(planes.uncertainty, array[index][cy, cx])
                    variance[k][inner] = v
                    np.copyto(view, np.nan, where=~((v >= 0) & (v < np.inf)))
                    np.copyto(variance[k][inner], np.nan, where=~np.isfinite(view))
            last = first + len(group)
            out_variance = np.empty((len(group) if unc is not None else 0, tile.rows, tile.columns))
            outputs = out[first:last], bad[first:last], foot[first:last], out_variance
            source = block, variance, (x0, y0), frame
            rule = conserve_flux, _LEAST_GOOD, float(fill_value)
            if wide:
                largest = int(2 * max(half_x, half_y)) + 2
                _kernels.smooth_tile(source, x, y, (kernel.radius, curve, largest), rule, (tile.row, tile.column), outputs)
            else:
                _kernels.interpolate_tile(source, x, y, _tables(method, dtype.str), rule, (tile.row, tile.column), outputs)
            if unc is not None:
                unc[first:last, tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns] = (
                    _from_variance(planes.uncertainty, out_variance)
                )

    todo = list(tiles(shape))
    n_threads = min(_cores() if n_threads is None else n_threads, len(todo))
    if n_threads <= 1:
        for tile in todo:
            do(tile)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(do, todo):
                pass
    full = (*lead, *shape)
    return Result(
        out.reshape(full),
        bad.reshape(full),
        foot.reshape(full) if footprint else foot,
        None if unc is None else unc.reshape(full),
    )


def _wrap(data: NDData, planes: Planes, result: Result, wcs: Any, provenance: Any) -> NDData:
    meta = deepcopy(data.meta)
    for key, value in (provenance or {}).items():
        meta[key] = value
    uncertainty = planes.uncertainty
    if uncertainty is not None:
        uncertainty = type(uncertainty)(result.uncertainty, unit=uncertainty.unit)
    kwargs = {"uncertainty": uncertainty, "mask": result.mask, "meta": meta, "unit": data.unit}
    if wcs is not None:
        kwargs["wcs"] = wcs
    return type(data)(result.data, **kwargs)
