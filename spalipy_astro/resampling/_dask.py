"""Resampling of dask arrays: output chunks that read the source windows they need."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.modeling import Model

from spalipy_astro.resampling._interpolate import interpolate, plan_tile
from spalipy_astro.resampling._pixelmap import PixelMap, tiles
from spalipy_astro.resampling._tiles import Options, Planes, Result, float_type

__all__ = ["interpolate_lazily", "is_dask"]

_CHUNK = 2048  # output pixels along either axis


def is_dask(array: Any) -> bool:
    """Whether an array is dask's, without importing it."""
    return type(array).__module__.partition(".")[0] == "dask"


def interpolate_lazily(
    planes: Planes,
    backward: Model,
    shape: tuple[int, int],
    offset: tuple[float, float],
    options: Options,
    *,
    footprint: bool,
) -> Result:
    """
    Set up what `interpolate` does for planes of dask arrays; nothing is computed yet.

    Each chunk runs in one thread: dask has its own.
    """
    import dask
    import dask.array as da

    types = {"data": planes.dtype, "mask": np.dtype(bool)}
    if footprint:
        types["footprint"] = np.dtype(np.float32)
    if planes.spread is not None:
        types["spread"] = float_type(planes.spread.dtype)
    lead = [_edges(chunks) for chunks in planes.data.chunks[:-2]]
    rows, columns = (
        [(start, min(start + _CHUNK, number)) for start in range(0, number, _CHUNK)]
        for number in shape
    )
    grid = [*lead, rows, columns]
    blocks = {name: np.empty([len(edges) for edges in grid], object) for name in types}
    compute = dask.delayed(_compute)
    for place in np.ndindex(len(rows), len(columns)):
        (top, bottom), (left, right) = rows[place[0]], columns[place[1]]
        pixelmap = PixelMap(backward, (bottom - top, right - left), offset, (top, left))
        x0, x1, y0, y1 = _needed(pixelmap, planes.frame, options)
        for index in np.ndindex(*(len(edges) for edges in lead)):
            ends = [edges[k] for edges, k in zip(lead, index, strict=True)]
            cut = (*(slice(*end) for end in ends), slice(y0, y1), slice(x0, x1))
            result = compute(
                planes.data[cut],
                None if planes.mask is None else planes.mask[cut],
                None if planes.spread is None else planes.spread[cut],
                (planes.kind, planes.frame, (x0, y0)),
                pixelmap,
                options,
                footprint,
            )
            part = (*(stop - start for start, stop in ends), *pixelmap.shape)
            for name, dtype in types.items():
                blocks[name][(*index, *place)] = da.from_delayed(
                    getattr(result, name), shape=part, dtype=dtype
                )
    arrays = {name: da.block(block.tolist()) for name, block in blocks.items()}
    return Result(arrays["data"], arrays["mask"], arrays.get("footprint"), arrays.get("spread"))


def _edges(chunks: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last + 1 index of each chunk along an axis."""
    stops = np.cumsum(chunks)
    return [(int(stop - size), int(stop)) for stop, size in zip(stops, chunks, strict=True)]


def _needed(
    pixelmap: PixelMap, frame: tuple[int, int], options: Options
) -> tuple[int, int, int, int]:
    """First and last + 1 source column and row that an output needs."""
    windows = [
        plan_tile(pixelmap, tile, frame, options)[2]
        for tile in tiles(pixelmap.shape, options.steps)
    ]
    found = [window for window in windows if window is not None]
    if not found:
        return 0, 0, 0, 0
    return (
        max(min(window.x0 for window in found), 0),
        min(max(window.x1 for window in found), frame[0]),
        max(min(window.y0 for window in found), 0),
        min(max(window.y1 for window in found), frame[1]),
    )


def _compute(
    data: Any,
    mask: Any,
    spread: Any,
    about: tuple[str, tuple[int, int], tuple[int, int]],
    pixelmap: PixelMap,
    options: Options,
    footprint: bool,
) -> Result:
    """Resample one chunk from its window of the source."""
    planes = Planes(data, mask, spread, *about)
    return interpolate(planes, pixelmap, options, footprint=footprint, n_threads=1)
