"""Interpolation of image planes, tile by tile: numpy around the loops of ``_compiled``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro.resampling._kernels import Kernel, kernel_of
from spalipy_astro.resampling._pixelmap import PixelMap, Tile, tiles
from spalipy_astro.resampling._tiles import (
    Options,
    Planes,
    Positions,
    Result,
    Window,
    float_type,
    for_each,
    source_window,
    variance_unit,
    window_around,
)

__all__ = ["averaging_steps", "interpolate", "interpolate_flags"]

FloatArray = NDArray[np.floating[Any]]

_BLOCK = 1 << 22  # source pixels in memory at once, for each thread
_MOST = 1 << 30  # pixels of a plane that compiled code reads where they are
_LOOSE = 8  # a window of more times the pixels of its tile is found again, from their positions
_SAME_SCALE = 1.1  # output pixels up to this many source pixels in size need no averaging
_LINE = 64  # bytes of the cache at once
_MOST_STEPS = 64  # for each output pixel; still larger ones are not averaged over in full


def averaging_steps(pixelmap: PixelMap, method: str | Kernel) -> tuple[int, int]:
    """
    Return the steps along x and y to divide output pixels into, where these are the larger ones.

    The interpolated source is not band-limited: steps must be short, or as long as its pixels,
    which are the period of what it has beyond the band.
    """
    if method == "nearest":
        return 1, 1
    size_x, size_y = pixelmap.pixel_sizes()
    return _steps(size_x), _steps(size_y)


def _steps(size: float) -> int:
    """Return the number of steps for a pixel."""
    if size <= _SAME_SCALE:
        return 1
    number = int(np.ceil(size / 1.03))
    if size / number < 0.95:
        number = int(np.ceil(size / 0.7))
    return min(number, _MOST_STEPS)


def interpolate(
    planes: Planes,
    pixelmap: PixelMap,
    options: Options,
    *,
    mask: bool = True,
    footprint: bool = False,
    n_threads: int | None = None,
) -> Result:
    """Interpolate all planes at the positions of an output grid."""
    worker = _Interpolator(planes, pixelmap, options, mask, footprint)
    for_each(worker, tiles(pixelmap.shape, options.steps), n_threads)
    lead = planes.data.shape[:-2]
    full = (*lead, *pixelmap.shape)
    return Result(
        worker.out.reshape(full),
        worker.bad.reshape(full) if mask else worker.bad,
        worker.footprint.reshape(full) if footprint else None,
        None if planes.spread is None else worker.spread.reshape(full),
    )


def _in_place(planes: Planes) -> NDArray[Any] | None:
    """Return the pixels, (planes, ny * nx), if compiled code can read them without a copy."""
    data = planes.data
    if planes.mask is not None or planes.spread is not None or not isinstance(data, np.ndarray):
        return None
    size = data.shape[-2] * data.shape[-1]
    plain = data.flags.c_contiguous and data.flags.aligned and data.dtype == planes.dtype
    return data.reshape(-1, size) if plain and size < _MOST else None


def _plain_planes(planes: Planes) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Return pixels, mask and uncertainties if compiled code can read them; no rows for no mask."""
    mask = planes.mask
    if mask is None:
        mask = np.empty((*planes.data.shape[:-2], 0, 0), bool)
    arrays = planes.data, mask, planes.spread
    types = np.dtype(np.float32), np.dtype(bool), np.dtype(np.float32)
    plain = all(
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.flags.c_contiguous
        and array.flags.aligned
        for array, dtype in zip(arrays, types, strict=True)
    )
    return arrays if plain else None


@lru_cache(maxsize=16)
def _tables(method: str | Kernel, dtype: np.dtype) -> tuple[int, NDArray[Any], FloatArray]:
    """Argument ``kernel`` of `_compiled.interpolate_tile`."""
    kernel = kernel_of(method)
    table = kernel.table()
    return kernel.taps, _with_changes(table, dtype), _with_changes(table, float)


def _with_changes(table: FloatArray, dtype: Any) -> NDArray[Any]:
    """Join rows of a table with their change to the next, in whole lines of the cache."""
    table = table.astype(dtype)
    rows, lanes = len(table) - 1, table.shape[1]
    room = np.zeros(2 * rows * lanes + _LINE // table.itemsize, dtype)
    first = -room.__array_interface__["data"][0] % _LINE // table.itemsize
    out = room[first : first + 2 * rows * lanes].reshape(rows, 2 * lanes)
    out[:, :lanes], out[:, lanes:] = table[:-1], np.diff(table, axis=0)
    return out


def plan_tile(
    pixelmap: PixelMap, tile: Tile, frame: tuple[int, int], options: Options
) -> tuple[Positions | None, Positions | None, Window | None]:
    """
    Return the source positions of a tile, those to average over, and the window it needs.

    There are no positions where compiled code finds them: they need not go through memory.
    """
    kernel, steps = kernel_of(options.method), options.steps
    if steps == (1, 1):
        x_min, x_max, y_min, y_max = pixelmap.extent(tile)
        if np.isfinite(x_max - x_min + y_max - y_min):
            right, top = frame[0] - 0.5, frame[1] - 0.5
            edges = max(x_min, -0.5), min(x_max, right), max(y_min, -0.5), min(y_max, top)
            window = window_around(edges, kernel.radius)
            if window is None or window.size <= _LOOSE * (tile.rows + 8) * (tile.columns + 8):
                return None, None, window
    positions = pixelmap.tile(tile)
    window = source_window(positions, frame, kernel.radius)
    if steps == (1, 1) or window is None:
        return positions, None, window
    ends = kernel.factors(steps[0]).size // 2, kernel.factors(steps[1]).size // 2
    fine = pixelmap.fine_tile(tile, steps, ends)
    # `average_tile` lets steps be 1.5 source pixels; up to twice their number to each side
    window = window.grown(3 * sum(steps)).joined(source_window(fine, frame, kernel.radius))
    return positions, fine, window


class _Interpolator:
    """The work for one tile, with the arrays it is written to."""

    def __init__(
        self, planes: Planes, pixelmap: PixelMap, options: Options, mask: bool, footprint: bool
    ) -> None:
        self._planes, self._pixelmap, self._options = planes, pixelmap, options
        self._indices = list(np.ndindex(planes.data.shape[:-2]))
        self._kernel = kernel_of(options.method)
        _tables(options.method, planes.dtype)  # else each thread would make them
        self._factors = [self._kernel.factors(number) for number in options.steps]
        number, shape = len(self._indices), pixelmap.shape
        self.out = np.empty((number, *shape), planes.dtype)
        self.bad = np.empty((number if mask else 0, *shape), bool)
        self.footprint = np.empty((number if footprint else 0, *shape), np.float32)
        some = planes.spread is not None
        dtype = float_type(planes.spread.dtype) if some else np.dtype(float)
        self.spread = np.empty((number if some else 0, *shape), dtype)
        # sums of variances in float32 take half the time; without sums they are exact in float64
        single = self._kernel.taps > 1 and options.steps == (1, 1)
        single = single and self.spread.dtype == planes.dtype == np.float32
        self._variance_type = np.float32 if single else np.float64
        self._unit = variance_unit(planes) if single else 1.0
        self._in_place = _in_place(planes)
        self._plain = _plain_planes(planes) if single else None

    def __call__(self, tile: Tile) -> None:
        frame = self._planes.frame
        positions, fine, window = plan_tile(self._pixelmap, tile, frame, self._options)
        if window is None:
            self._fill(tile)
        elif window.size > _BLOCK and tile.quarters():
            for part in tile.quarters():
                self(part)
        else:
            at_once = max(_BLOCK // window.size, 1)
            for first in range(0, len(self._indices), at_once):
                self._run(tile, slice(first, first + at_once), window, positions, fine)

    def _run(
        self,
        tile: Tile,
        some: slice,
        window: Window,
        positions: Positions | None,
        fine: Positions | None,
    ) -> None:
        """Interpolate some of the planes, or average what is interpolated at finer steps."""
        options = self._options
        source = self._source(some, window)
        kernel = _tables(options.method, self._planes.dtype)
        least, fill = float(options.min_weight), float(options.fill_value)
        rule = options.conserve_flux, least, fill, self._planes.kind
        box = tile.row, tile.column
        outputs = self.out[some], self.bad[some], self.footprint[some], self.spread[some]
        if positions is None:
            grid = self._pixelmap.grid
            _compiled.interpolate_part(source, grid, tile.part, kernel, rule, outputs)
        elif fine is None:
            _compiled.interpolate_tile(source, *positions, kernel, rule, box, outputs)
        else:
            values = self._interpolate_finely(source, fine, kernel)
            both = (*kernel[:2], *self._factors, options.steps)
            _compiled.average_tile(source, *positions, both, values, rule, box, outputs)

    def _interpolate_finely(
        self, source: tuple[Any, ...], fine: Positions, kernel: tuple[Any, ...]
    ) -> NDArray[Any]:
        """Interpolate at the steps that are averaged over; NaN where a pixel is bad."""
        planes, (rows, columns) = source[0].shape[0], fine[0].shape
        out = np.empty((planes, rows - 2, columns - 2), self._planes.dtype)
        empty = (0, 0, 0)
        outputs = out, np.empty(empty, bool), np.empty(empty, np.float32), np.empty(empty)
        none = np.empty((0, 0))
        source = source[0], (none, none, 1.0), *source[2:]
        rule = False, 1.0, np.nan, "var"
        _compiled.interpolate_tile(source, *fine, kernel, rule, (0, 0), outputs)
        return out

    def _fill(self, tile: Tile) -> None:
        """Write a tile that lies outside of the source."""
        self.out[tile.slices] = self._options.fill_value
        self.bad[tile.slices] = True
        self.footprint[tile.slices] = 0
        self.spread[tile.slices] = 0 if self._planes.kind == "ivar" else np.nan

    def _source(self, some: slice, window: Window) -> tuple[Any, ...]:
        """Return argument ``source`` of `_compiled.interpolate_tile`, for some of the planes."""
        planes = self._planes
        if self._in_place is not None and window.within(planes.corner, planes.data.shape):
            none = np.empty((0, 0))
            corner = *planes.corner, planes.data.shape[-1]
            return self._in_place[some], (none, none, 1.0), corner, planes.frame
        load = self._load if self._plain is None else self._load_plain
        block, variances = load(self._indices[some], window)
        return block, variances, (window.x0, window.y0, window.shape[1]), planes.frame

    def _load(
        self, indices: list[tuple[int, ...]], window: Window
    ) -> tuple[NDArray[Any], tuple[FloatArray, FloatArray, float]]:
        """Read a window of the source, NaN where it must not be used, and its variance, there 0."""
        planes = self._planes
        inner, outer = window.cut(planes.corner, planes.data.shape)
        block = np.empty((len(indices), *window.shape), planes.dtype)
        if block[0][outer].shape != window.shape:
            block[...] = np.nan
        for k, index in enumerate(indices):
            view = block[k][outer]
            view[...] = planes.data[index][inner]
            if planes.mask is not None:
                np.copyto(view, np.nan, where=planes.mask[index][inner])
        pixels = block.reshape(len(indices), window.size)
        variance: FloatArray = np.empty((0, 0))
        wide: FloatArray = variance
        if planes.spread is not None:
            variance, beyond = self._load_variance(indices, window, pixels, self._variance_type)
            if beyond:
                wide, _ = self._load_variance(indices, window, pixels, np.float64)
        return pixels, (variance, wide, self._unit)

    def _load_plain(
        self, indices: list[tuple[int, ...]], window: Window
    ) -> tuple[NDArray[Any], tuple[FloatArray, FloatArray, float]]:
        """Do the same in compiled code."""
        planes = self._planes
        assert self._plain is not None
        data, mask, spread = self._plain
        block, variance = (np.empty((len(indices), *window.shape), np.float32) for _ in range(2))
        corner = window.x0 - planes.corner[0], window.y0 - planes.corner[1]
        beyond = False
        for k, index in enumerate(indices):
            arrays = data[index], mask[index], spread[index], corner, block[k], variance[k]
            beyond |= _compiled.load_window(planes.kind, self._unit, *arrays)
        pixels = block.reshape(len(indices), window.size)
        wide: FloatArray = np.empty((0, 0))
        if beyond:
            wide, _ = self._load_variance(indices, window, pixels, np.float64)
        return pixels, (variance.reshape(pixels.shape), wide, self._unit)

    def _load_variance(
        self, indices: list[tuple[int, ...]], window: Window, pixels: NDArray[Any], dtype: Any
    ) -> tuple[FloatArray, bool]:
        """Read the variance of a window; whether some are infinite, as the type is too small."""
        planes = self._planes
        inner, outer = window.cut(planes.corner, planes.data.shape)
        variance = np.empty((len(indices), *window.shape), dtype)
        if variance[0][outer].shape != window.shape:
            variance[...] = 0
        for k, index in enumerate(indices):
            variance[k][outer] = planes.spread[index][inner]
        variance = variance.reshape(pixels.shape)
        beyond = _compiled.accept_uncertainties(planes.kind, self._unit, pixels, variance)
        return variance, beyond


def interpolate_flags(
    flags: Any, pixelmap: PixelMap, radius: float, *, n_threads: int | None = None
) -> NDArray[Any]:
    """
    Resample a plane of flag bits, (ny, nx).

    Bits are those of the nearest pixel if the radius is 0, else of all pixels closer than that, in
    pixels of the source, or in pixels of the output if these are larger somewhere.
    """
    dtype = np.dtype(np.uint8) if flags.dtype.kind == "b" else flags.dtype.newbyteorder("=")
    out = np.zeros(pixelmap.shape, dtype)
    frame = flags.shape[1], flags.shape[0]
    radius *= max(1.0, *pixelmap.pixel_sizes())

    def run(tile: Tile) -> None:
        x, y = pixelmap.tile(tile)
        window = source_window((x, y), frame, radius)
        if window is None:
            return
        if window.size > _BLOCK and tile.quarters():
            for part in tile.quarters():
                run(part)
            return
        inner, outer = window.cut((0, 0), flags.shape)
        block = np.zeros(window.shape, dtype)
        block[outer] = flags[inner]
        corner = window.x0, window.y0
        _compiled.flags_tile(block, corner, frame, x, y, radius, (tile.row, tile.column), out)

    for_each(run, tiles(pixelmap.shape), n_threads)
    return out.astype(flags.dtype.newbyteorder("="), copy=False)
