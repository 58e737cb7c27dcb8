"""A frame on its part of the canvas, and how far its pixels are from its edges."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, NDData, VarianceUncertainty
from numpy.typing import NDArray

from spalipy_astro._checks import mask_like
from spalipy_astro._geometry import outline
from spalipy_astro.alignment import Alignment

__all__ = [
    "LAST",
    "Edges",
    "Tile",
    "Window",
    "canvas_of",
    "planes_of",
    "stored",
    "unit_factor",
    "window_of",
    "without_sky",
]

FloatArray = NDArray[np.float64]
Window = tuple[slice, slice]

LAST = 1e-6
"""Weight of what counts only where there is nothing better."""
_MARGIN = 3.0  # px of a frame along its edge, where the kernel lacks some of its pixels
_FEATHER = 64.0  # px: over so many frames of different seeing pass into each other
_STEP = 16  # pixels of the canvas between those of which the position in the frame is calculated


@dataclass(frozen=True)
class Edges:
    """
    How far the pixels of a tile are from the edge of their frame.

    Attributes
    ----------
    x, y : ndarray
        Positions in the frame of every `_STEP`-th pixel of the tile.
    shape : (ny, nx)
        Of the frame.
    margin : float
        From the edge on, where the kernel lacks some of its pixels; px of the frame.
    feather : float
        Within the margin, where the weight rises to 1; px of the frame.
    """

    x: FloatArray
    y: FloatArray
    shape: tuple[int, int]
    margin: float
    feather: float

    @classmethod
    def of(
        cls,
        alignment: Alignment,
        window: Window,
        offset: tuple[int, int],
        feather: float | None,
        *,
        whole: bool,
    ) -> Edges:
        """Return those of a frame on a window of the canvas; no kernel if pixels are whole."""
        shape = alignment.source_shape
        assert shape is not None
        rows, columns = (np.arange(s.start, s.stop - 1 + _STEP, _STEP, dtype=float) for s in window)
        grid = np.meshgrid(columns + offset[0], rows + offset[1])
        x, y = alignment.transform.inverse(*grid)
        # the kernel is widened where pixels of the canvas are larger than those of the frame
        margin = 0.0 if whole else _MARGIN * max(1.0, 1 / alignment.scale)
        if feather is None:
            feather = min(_FEATHER, min(shape) / 4)
        return cls(np.asarray(x), np.asarray(y), shape, margin, feather)

    def weight(self, part: Window) -> FloatArray:
        """Return the weights of pixels of a part of the tile."""
        rows, columns = part
        x, y = (_between(_between(v, rows, 0), columns, 1) for v in (self.x, self.y))
        ny, nx = self.shape
        depth = np.minimum(np.minimum(x, nx - 1 - x), np.minimum(y, ny - 1 - y))
        rise = (depth + 0.5 - self.margin) / max(self.feather, 1e-9)
        rise = np.clip(rise, 0.0, 1.0)
        return np.maximum(rise**2 * (3 - 2 * rise), LAST)


def _between(values: FloatArray, part: slice, axis: int) -> FloatArray:
    """Interpolate along an axis what is known of every `_STEP`-th pixel."""
    at = np.arange(part.start, part.stop) / _STEP
    low = np.minimum(at.astype(int), max(values.shape[axis] - 2, 0))
    shape = [1, 1]
    shape[axis] = -1
    share = (at - low).reshape(shape)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    return (1 - share) * np.take(values, low, axis) + share * np.take(values, high, axis)


@dataclass
class Tile:
    """
    A frame on its part of the canvas.

    Attributes
    ----------
    window : (rows, columns)
        Slices of the canvas.
    data : ndarray, shape (k, ny, nx)
        The colors one after the other, of an image one; NaN where there is no good pixel.
    variance : ndarray of the same shape, or None
    edges : Edges
        How far its pixels are from the edge of the frame.
    """

    window: Window
    data: NDArray[Any]
    variance: NDArray[Any] | None
    edges: Edges

    def cut(self, rows: slice, columns: slice) -> tuple[Window, Window] | None:
        """Return the overlap with a window of the canvas: on the canvas and on the tile."""
        low = [max(s.start, t.start) for s, t in zip(self.window, (rows, columns), strict=True)]
        high = [min(s.stop, t.stop) for s, t in zip(self.window, (rows, columns), strict=True)]
        if low[0] >= high[0] or low[1] >= high[1]:
            return None
        here = (slice(low[0], high[0]), slice(low[1], high[1]))
        y0, x0 = (s.start for s in self.window)
        return here, (slice(low[0] - y0, high[0] - y0), slice(low[1] - x0, high[1] - x0))


def canvas_of(alignments: Iterable[Alignment]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return shape (ny, nx) and offset (x0, y0) of the grid that holds all of some frames."""
    low, high = [], []
    for alignment in alignments:
        if alignment.source_shape is None:
            xy = alignment.matches["x_source"], alignment.matches["y_source"]
            image = np.column_stack(alignment.transform(*xy))
        else:
            image = outline(alignment.transform, alignment.source_shape)
        low.append(image.min(axis=0))
        high.append(image.max(axis=0))
    first = np.floor(np.min(low, axis=0) + 0.5).astype(int)
    last = np.ceil(np.max(high, axis=0) - 0.5).astype(int)
    nx, ny = (last - first + 1).tolist()
    return (ny, nx), (int(first[0]), int(first[1]))


def window_of(alignment: Alignment, shape: tuple[int, int], offset: tuple[int, int]) -> Window:
    """
    Return the part of a canvas where a frame lies.

    Parameters
    ----------
    alignment : Alignment
    shape : (ny, nx)
        Of the canvas.
    offset : (x0, y0)
        Grid position of its pixel [0, 0].

    Returns
    -------
    rows, columns : slice
    """
    assert alignment.source_shape is not None
    at = outline(alignment.transform, alignment.source_shape) - offset
    low = np.clip(np.floor(at.min(axis=0)).astype(int), 0, np.array(shape[::-1]) - 1)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int) + 1, low + 1, shape[::-1])
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def without_sky(image: Any, *, colors_last: bool) -> tuple[Any, FloatArray]:
    """
    Subtract the median of each color from an image; return these, too.

    Where flux is conserved the sky gets the pattern of the sizes of the pixels, which differ from
    frame to frame. Without its sky, an image has none.
    """
    plain = isinstance(image, NDData | np.ma.MaskedArray)
    values = np.asarray(image.data if plain else getattr(image, "value", image))
    values = values.astype(np.result_type(values, np.float32))
    good = np.isfinite(values)
    if getattr(image, "mask", None) is not None and plain:
        good &= ~np.broadcast_to(
            mask_like(np.asarray(image.mask, bool), values.shape), values.shape
        )
    planes, kept = (
        np.moveaxis(array, -1, 0) if colors_last else array.reshape(-1, *array.shape[-2:])
        for array in (values, good)
    )
    sky = np.array(
        [
            np.median(plane[part]) if part.any() else 0.0
            for plane, part in zip(planes, kept, strict=True)
        ]
    )
    planes -= sky[:, np.newaxis, np.newaxis]  # views of the values
    if isinstance(image, CCDData):
        out = copy.copy(image)
        out.data = values
        return out, sky
    if isinstance(image, NDData):  # which keeps the data that it was made with
        parts = ("mask", "unit", "uncertainty", "wcs", "meta")
        other = NDData(values, **{name: getattr(image, name) for name in parts})
        if hasattr(image, "flags"):
            other.flags = image.flags
        return other, sky
    if isinstance(image, np.ma.MaskedArray):
        return np.ma.MaskedArray(values, image.mask), sky
    return values if not hasattr(image, "unit") else values * image.unit, sky


def unit_factor(own: Any, unit: Any, k: int) -> float:
    """Return what brings an image to the unit of the first one."""
    if own is None or unit is None or own == unit:
        return 1.0
    try:
        return float(own.to(unit))
    except (u.UnitConversionError, AttributeError) as error:
        raise ValueError(
            f"images[{k}] is in {own}, and those before it in {unit}; a coadd takes images of "
            "one unit."
        ) from error


def planes_of(
    aligned: Any, factor: float, *, colors_last: bool
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return data and variance of an aligned image, shape (k, ny, nx), NaN where it is bad."""
    mask = getattr(aligned, "mask", None)
    data = np.array(getattr(aligned, "data", aligned))
    spread = getattr(aligned, "uncertainty", None) if isinstance(aligned, NDData) else None
    variance = None
    if spread is not None and spread.array is not None:
        with np.errstate(divide="ignore", over="ignore"):  # bad pixels have an inverse of zero
            variance = np.array(spread.represent_as(VarianceUncertainty).array)
        variance = np.broadcast_to(variance, data.shape) * factor**2
    if mask is not None:
        data[np.broadcast_to(mask, data.shape)] = np.nan
    if variance is not None:
        variance[np.isnan(data)] = np.nan  # not infinite, which no product with zero may be
    if factor != 1:
        data = data * factor

    def first(plane: NDArray[Any]) -> NDArray[Any]:
        plane = np.moveaxis(plane, -1, 0) if colors_last else plane
        return plane.reshape(-1, *plane.shape[-2:])

    return first(data), None if variance is None else first(variance)


def stored(tile: Tile, folder: Path, k: int) -> Tile:
    """Put the pixels of a tile into files."""

    def kept(name: str, plane: NDArray[Any]) -> NDArray[Any]:
        out = np.memmap(folder / f"{name}{k}", plane.dtype, "w+", shape=plane.shape)
        out[...] = plane
        return out

    variance = None if tile.variance is None else kept("variance", tile.variance)
    return Tile(tile.window, kept("data", tile.data), variance, tile.edges)
