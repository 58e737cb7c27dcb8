"""What is resampled, how, and into what; and which pixels of the source a tile needs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from math import frexp
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro import _compiled
from spalipy_astro._blas import available_cores
from spalipy_astro.resampling._kernels import Kernel
from spalipy_astro.resampling._pixelmap import Tile

__all__ = [
    "Options",
    "Planes",
    "Positions",
    "Result",
    "Window",
    "float_type",
    "for_each",
    "from_variance",
    "source_window",
    "to_variance",
    "variance_unit",
    "window_around",
]

FloatArray = NDArray[np.floating[Any]]
Positions = tuple[FloatArray, FloatArray]


class Planes(NamedTuple):
    """
    What is resampled: arrays with the shape of ``data``, (..., ny, nx).

    Attributes
    ----------
    data : array
        Anything that can be sliced into arrays of real numbers.
    mask : array of bool or None
        True where a pixel is bad.
    spread : array or None
        The uncertainties.
    kind : {"std", "var", "ivar"}
        What they are.
    frame : (width, height)
        Size of the source.
    corner : (x, y)
        Source pixel of ``data[..., 0, 0]``; other than (0, 0) for a window of the source.
    """

    data: Any
    mask: Any
    spread: Any
    kind: str
    frame: tuple[int, int]
    corner: tuple[int, int] = (0, 0)

    @property
    def dtype(self) -> np.dtype:
        """Type of the resampled pixels."""
        return float_type(self.data.dtype)

    def read(self) -> Planes:
        """Read dask arrays into memory."""
        data, mask, spread = (
            None if array is None else np.asanyarray(array)
            for array in (self.data, self.mask, self.spread)
        )
        return Planes(data, mask, spread, self.kind, self.frame, self.corner)


class Options(NamedTuple):
    """
    How to interpolate; see `spalipy_astro.resampling.resample`.

    ``steps`` are those that output pixels are averaged in, see `averaging_steps`; ``drops`` are
    those of drizzle, see `Drops`.
    """

    method: str | Kernel
    conserve_flux: bool
    fill_value: float
    min_weight: float
    steps: tuple[int, int]
    drops: Any = None


class Result(NamedTuple):
    """
    Resampled planes, all of shape (..., ny, nx).

    ``footprint`` and ``spread`` may be None, and ``weights`` are so but for drizzle; ``mask`` has
    no planes if it was not asked for.
    """

    data: NDArray[Any]
    mask: NDArray[np.bool_]
    footprint: NDArray[np.float32] | None
    spread: NDArray[Any] | None
    weights: NDArray[np.float32] | None = None


def float_type(dtype: np.dtype) -> np.dtype:
    """
    Type that holds the values of another one: float32 where that is enough, else float64.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    """
    if dtype.kind not in "fiub":
        raise TypeError(f"pixels must be real numbers, got an array of type {dtype}.")
    small = 4 if dtype.kind == "f" else 2  # float32 counts to 2**24 only
    return np.dtype(np.float32 if dtype.itemsize <= small else np.float64)


def for_each(function: Callable[[Tile], None], todo: Iterable[Tile], n_threads: int | None) -> None:
    """Call a function for all tiles, shared over threads; errors surface here."""
    todo = list(todo)
    n_threads = min(available_cores() if n_threads is None else n_threads, len(todo))
    if n_threads <= 1:
        for tile in todo:
            function(tile)
        return
    left = deque(todo)

    def work() -> None:
        while left:
            try:
                tile = left.popleft()
            except IndexError:  # another thread was faster
                return
            function(tile)

    # a job for each thread: one for each tile would keep this thread busy beside the others
    with ThreadPoolExecutor(n_threads) as pool:
        jobs = [pool.submit(work) for _ in range(n_threads)]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            left.clear()  # after an error nothing more is begun
        for job in jobs:
            job.result()


class Window(NamedTuple):
    """
    The rectangle of source pixels that a tile needs; it may stick out of the frame.

    Attributes
    ----------
    x0, x1, y0, y1 : int
        First and last + 1 pixel along the axes.
    """

    x0: int
    x1: int
    y0: int
    y1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def grown(self, number: int) -> Window:
        """Return the window with more pixels to all sides."""
        return Window(self.x0 - number, self.x1 + number, self.y0 - number, self.y1 + number)

    def joined(self, other: Window | None) -> Window:
        """Return the smallest window that holds both."""
        if other is None:
            return self
        return Window(
            min(self.x0, other.x0),
            max(self.x1, other.x1),
            min(self.y0, other.y0),
            max(self.y1, other.y1),
        )

    def within(self, corner: tuple[int, int], shape: tuple[int, ...]) -> bool:
        """Whether an array that begins at ``corner`` has all pixels of the window."""
        (x0, y0), (ny, nx) = corner, shape[-2:]
        return self.x0 >= x0 and self.x1 <= x0 + nx and self.y0 >= y0 and self.y1 <= y0 + ny

    def cut(
        self, corner: tuple[int, int], shape: tuple[int, ...]
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of an array that begins at ``corner``, and of the window, where both overlap."""
        ny, nx = shape[-2:]
        x0, x1 = max(self.x0, corner[0]), min(self.x1, corner[0] + nx)
        y0, y1 = max(self.y0, corner[1]), min(self.y1, corner[1] + ny)
        return (
            (slice(y0 - corner[1], y1 - corner[1]), slice(x0 - corner[0], x1 - corner[0])),
            (slice(y0 - self.y0, y1 - self.y0), slice(x0 - self.x0, x1 - self.x0)),
        )


def source_window(positions: Positions, frame: tuple[int, int], radius: float) -> Window | None:
    """Window that kernels of a radius need at positions of `PixelMap.tile`; None off the frame."""
    extent = np.empty(4)
    _compiled.source_extent(*positions, frame, extent)
    return window_around(extent.tolist(), radius)


def window_around(extent: Sequence[float], radius: float) -> Window | None:
    """Window that kernels of a radius need within a box of positions; None for one without."""
    x_min, x_max, y_min, y_max = extent
    if x_max < x_min or y_max < y_min:
        return None
    # two more columns: the spare lanes of the vector instructions read them
    return Window(
        int(np.floor(x_min - radius)) - 1,
        int(np.ceil(x_max + radius)) + 4,
        int(np.floor(y_min - radius)) - 1,
        int(np.ceil(y_max + radius)) + 2,
    )


def to_variance(kind: str, values: FloatArray) -> None:
    """Convert uncertainties to variances, in place; negative ones stay negative."""
    if kind == "std":
        values *= np.abs(values)
    elif kind == "ivar":
        with np.errstate(divide="ignore"):
            np.divide(1.0, values, out=values)


def variance_unit(planes: Planes) -> float:
    """
    Return a power of two that is about as large as the variances are, from a few of them.

    In this unit float32 holds the variances of data in any unit.
    """
    step = tuple(slice(None, None, max(number // 16, 1)) for number in planes.spread.shape)
    variance = np.array(planes.spread[step], float)
    to_variance(planes.kind, variance)
    variance = variance[(variance > 0) & np.isfinite(variance)]
    return 2.0 ** frexp(np.median(variance))[1] if variance.size else 1.0


def from_variance(kind: str, variance: FloatArray, out: NDArray[Any]) -> None:
    """Convert variances, NaN where a pixel is bad, to uncertainties."""
    if kind == "std":
        np.sqrt(variance, out=out, casting="same_kind")
    elif kind == "ivar":
        with np.errstate(divide="ignore"):
            out[...] = np.where(np.isnan(variance), 0.0, 1 / variance)
    else:
        out[...] = variance
