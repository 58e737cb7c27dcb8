"""All frames of a group on one canvas, their backgrounds matched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.typing import NDArray

from spalipy_astro._checks import check_room, colors_go_last, shape_of
from spalipy_astro._choices import COMBINE
from spalipy_astro._files import scratch_folder
from spalipy_astro.alignment import Alignment
from spalipy_astro.groups._sources import Sheet, image_of
from spalipy_astro.groups._tiles import (
    LAST,
    Edges,
    Tile,
    Window,
    planes_of,
    stored,
    unit_factor,
    window_of,
    without_sky,
)

__all__ = ["COMBINE", "Inputs", "coadd"]

FloatArray = NDArray[np.float64]

_PIXEL = 12  # bytes of a pixel of the canvas: its data and its footprint
_ROWS, _COLUMNS = 128, 1024  # of a block of the canvas
_COPIES = 6  # of a block's pixels, in double precision, while they are combined
_COMPARED = 100_000  # pixels of an overlap from which the difference of two backgrounds is taken
_CELLS = 4  # of an overlap along each axis, where backgrounds are planes
_LEAST = 9  # pixels that show their scatter
_FLAT = 1e-6  # share of the best determined slope, below which one is not determined
_SIGNIFICANT = 5.0  # sigma
_MEDIAN_ERROR = 1.86  # of a median, times the root of the number, per median absolute deviation
_MEDIAN = np.pi / 2  # variance of a median of many normal values over that of their mean
_OWN = (
    *("ALGN", "FLXSCALE", "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "BSCALE", "BZERO"),
    *("CHECKSUM", "DATASUM", "COMMENT", "HISTORY"),
)


class Inputs(Sequence[Any]):
    """
    Frames and their WCS, as reproject takes them: each is read when it is asked for.

    Parameters
    ----------
    placed : sequence of (int, Sheet, Alignment)
        Number, place and alignment of each frame.
    """

    def __init__(self, placed: Sequence[tuple[int, Sheet, Alignment]]) -> None:
        self.placed = placed

    def __len__(self) -> int:
        return len(self.placed)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Inputs(self.placed[index])
        k, sheet, alignment = self.placed[index]
        opened = image_of(k, sheet, alignment)
        pixels = np.asarray(getattr(opened, "data", opened))
        data = np.array(pixels, np.result_type(pixels, np.float32))
        if getattr(opened, "mask", None) is not None:
            data[np.asarray(opened.mask, bool)] = np.nan
        return data, alignment.wcs


def coadd(
    placed: Sequence[tuple[int, Sheet, Alignment]],
    shape: tuple[int, int],
    offset: tuple[int, int],
    *,
    combine: str,
    match_background: bool | str,
    first: int,
    mem_limit: float,
    feather: float | None = None,
    **options: Any,
) -> tuple[CCDData, FloatArray]:
    """
    Resample frames onto a canvas and combine them.

    Parameters
    ----------
    placed : sequence of (int, Sheet, Alignment)
        Number, place and alignment of each frame; one is opened at a time.
    shape : (ny, nx)
        Of the canvas.
    offset : (x0, y0)
        Grid position of its pixel [0, 0].
    combine : str
        One of `COMBINE`.
    match_background : bool or "plane"
        Whether to subtract one number, or a plane, per image (and color), so that overlaps agree.
    first : int
        Place of the image whose background is kept.
    mem_limit : float
        Bytes of aligned frames that are kept in memory; more go to temporary files.
    feather : float, optional
        Over how many px from its edge the weight of a frame in a mean rises; by default a quarter
        of its shorter side, 64 at most.
    **options
        As for `Alignment.resample`.

    Returns
    -------
    CCDData, shape (ny, nx), or with the colors where the images have them
    footprint : ndarray, shape (ny, nx)
        Number of images that have a good pixel there.

    Raises
    ------
    ValueError
        If images differ in their number of colors, or in units that cannot be converted.
    """
    if not (isinstance(match_background, bool | np.bool_) or match_background == "plane"):
        raise ValueError(f"match_background is True, False or 'plane'; got {match_background!r}.")
    check_room("the canvas of these frames", shape, _PIXEL)
    with ExitStack() as stack:
        tiles: list[Tile] = []
        headers: list[Any] = []
        unit: Any = None
        folder: Path | None = None
        last, held = False, 0.0
        kept = np.zeros(1)
        for place, (k, sheet, alignment) in enumerate(placed):
            image = image_of(k, sheet, alignment)
            rows, columns = window = window_of(alignment, shape, offset)
            last = colors_go_last(shape_of(image), alignment.source_shape)
            if match_background:
                image, sky = without_sky(image, colors_last=last)
            aligned = alignment.resample(
                image,
                shape=(rows.stop - rows.start, columns.stop - columns.start),
                offset=(offset[0] + columns.start, offset[1] + rows.start),
                **options,
            )
            own = getattr(aligned, "unit", None)
            unit = own if unit is None else unit
            factor = unit_factor(own, unit, k)
            if match_background and place == first:
                kept = factor * sky
            planes = planes_of(aligned, factor, colors_last=last)
            whole = options.get("method") == "nearest"
            edges = Edges.of(alignment, window, offset, feather, whole=whole)
            tile = Tile(window, *planes, edges)
            if tiles and len(tile.data) != len(tiles[0].data):
                raise ValueError(
                    f"images[{k}] has {len(tile.data)} colors or planes, images[{placed[0][0]}] "
                    f"has {len(tiles[0].data)}; a coadd takes images of one kind."
                )
            held += tile.data.nbytes * (1 if tile.variance is None else 2)
            if held > mem_limit:
                folder = stack.enter_context(scratch_folder()) if folder is None else folder
                tile = stored(tile, folder, k)
            tiles.append(tile)
            headers.append(getattr(aligned, "meta", None) or {})
        level = np.zeros((len(tiles), len(tiles[0].data), 3))
        if match_background == "plane":
            level = _planes(tiles, first)
        elif match_background:
            level[..., 0] = _levels(tiles, first)
        if match_background:
            level[..., 0] -= kept
        data, variance, footprint = _combined(tiles, level, shape, combine, mem_limit)
    if last:
        data = np.moveaxis(data, 0, -1)
        variance = None if variance is None else np.moveaxis(variance, 0, -1)
    elif len(data) == 1:
        data, variance = data[0], None if variance is None else variance[0]
    out = CCDData(
        data,
        unit=unit or "adu",
        mask=np.isnan(data),
        uncertainty=None if variance is None else StdDevUncertainty(np.sqrt(variance)),
        meta=_common(headers),
    )
    return out, footprint


def _levels(tiles: Sequence[Tile], first: int) -> FloatArray:
    """
    Return the background of each image, and color, above that of one of them.

    The medians of the differences in all overlaps, by least squares with the overlaps' areas as
    weights.
    """
    n_colors = len(tiles[0].data)
    rows, values = [np.eye(len(tiles))[first]], [np.zeros(n_colors)]
    for a, b, _, weight, difference in _differences(tiles, 1):
        row = np.zeros(len(tiles))
        row[a], row[b] = weight, -weight
        rows.append(row)
        values.append(weight * np.median(difference, axis=1))
    return np.linalg.lstsq(np.array(rows), np.array(values))[0]


def _planes(tiles: Sequence[Tile], first: int) -> FloatArray:
    """
    Return the background of each image above that of one of them, as a plane.

    The same with the medians in the cells of a grid over each overlap. Slopes, and what goes
    together of them, are left flat unless they stand out from the noise: from a small overlap they
    would be made up for the rest of a frame.

    Returns
    -------
    ndarray, shape (n, n_colors, 3)
        As `_plane_on` takes them.
    """
    n, n_colors = len(tiles), len(tiles[0].data)
    rows, values, scatter = [np.zeros((n, 3))], [np.zeros(n_colors)], []
    for a, b, (y, x), weight, difference in _differences(tiles, _CELLS):
        row = np.zeros((n, 3))
        for k, sign in ((a, weight), (b, -weight)):
            row[k] = sign * np.array([1.0, *_of_tile(tiles[k], y, x)])
        median = np.median(difference, axis=1)
        rows.append(row)
        values.append(weight * median)
        if difference.shape[1] >= _LEAST:
            scatter.append(np.median(np.abs(difference - median[:, np.newaxis]), axis=1))
    design, target = np.array(rows), np.array(values)
    free = np.arange(n) != first
    levels, slopes = design[:, free, 0], design[:, free, 1:].reshape(len(design), -1)
    apart = np.linalg.pinv(levels)
    left, size, modes = np.linalg.svd(slopes - levels @ (apart @ slopes), full_matrices=False)
    along = left.T @ (target - levels @ (apart @ target))
    noise = _MEDIAN_ERROR * np.median(scatter or [np.full(n_colors, np.inf)], axis=0)
    good = (np.abs(along) > _SIGNIFICANT * noise) & (size > _FLAT * size.max(initial=1))[:, None]
    slope = modes.T @ np.where(good, along / np.maximum(size, np.finfo(float).tiny)[:, None], 0.0)
    found = np.zeros((n, n_colors, 3))
    found[free, :, 0] = apart @ (target - slopes @ slope)
    found[free, :, 1:] = np.moveaxis(slope.reshape(-1, 2, n_colors), 1, 2)
    return found


def _of_tile(tile: Tile, y: Any, x: Any) -> tuple[Any, Any]:
    """Return places on the canvas as they lie on a tile, from -1 to 1 along x and y."""
    return tuple(
        (2 * v - s.start - s.stop + 1) / (s.stop - s.start)
        for v, s in zip((x, y), tile.window[::-1], strict=True)
    )


def _plane_on(tile: Tile, level: FloatArray, here: Window) -> FloatArray:
    """Return a background, shape (n_colors, 3), on a part of the canvas, a plane per color."""
    if not level[:, 1:].any():
        return level[:, :1, np.newaxis]
    x, y = _of_tile(tile, *(np.arange(s.start, s.stop) for s in here))
    c, along_x, along_y = (part[:, np.newaxis, np.newaxis] for part in level.T)
    return np.asarray(c + along_x * x + along_y * y[:, np.newaxis])


def _differences(
    tiles: Sequence[Tile], cells: int
) -> Iterator[tuple[int, int, FloatArray, float, FloatArray]]:
    """Yield of each cell of each overlap both tiles, its middle, weight, and values per color."""
    for b, two in enumerate(tiles):
        for a, one in enumerate(tiles[:b]):
            if (both := one.cut(*two.window)) is None:
                continue
            for here in _cells(both[0], cells):
                on_one, on_two = (
                    tuple(
                        slice(s.start - t.start, s.stop - t.start)
                        for s, t in zip(here, tile.window, strict=True)
                    )
                    for tile in (one, two)
                )
                area = (here[0].stop - here[0].start) * (here[1].stop - here[1].start)
                step = max(1, area // _COMPARED)  # whole rows are read from files
                difference = one.data[:, *on_one][:, ::step] - two.data[:, *on_two][:, ::step]
                good = np.isfinite(difference).all(axis=0)
                if not good.any():
                    continue
                weight = np.sqrt(step * np.count_nonzero(good))
                y, x = (v.mean() for v in np.nonzero(good))
                middle = np.array([here[0].start + step * y, here[1].start + x])
                yield a, b, middle, weight, difference[:, good].astype(float)


def _cells(window: Window, number: int) -> Iterator[Window]:
    """Cut a window into so many pieces along each axis, or fewer of 3 px at least."""
    ends = [
        np.linspace(s.start, s.stop, max(1, min(number, (s.stop - s.start) // 3)) + 1)
        .astype(int)
        .tolist()
        for s in window
    ]
    for y0, y1 in pairwise(ends[0]):
        for x0, x1 in pairwise(ends[1]):
            yield slice(y0, y1), slice(x0, x1)


def _combined(
    tiles: Sequence[Tile],
    level: FloatArray,
    shape: tuple[int, int],
    combine: str,
    mem_limit: float,
) -> tuple[NDArray[Any], NDArray[Any] | None, FloatArray]:
    """Combine tiles block by block: data, variance (of all frames or of none), footprint."""
    n_colors = len(tiles[0].data)
    kind = np.result_type(*(tile.data.dtype for tile in tiles))
    data = np.full((n_colors, *shape), np.nan, kind)
    has_variance = all(tile.variance is not None for tile in tiles)
    variance = np.full((n_colors, *shape), np.nan, kind) if has_variance else None
    footprint = np.zeros(shape)
    for block in _blocks(tiles, shape, mem_limit / (8 * _COPIES * n_colors)):
        cuts = [(k, cut) for k, tile in enumerate(tiles) if (cut := tile.cut(*block)) is not None]
        if not cuts:
            continue
        size = tuple(s.stop - s.start for s in block)
        values = np.full((len(cuts), n_colors, *size), np.nan)
        weight = np.zeros((len(cuts), 1, *size))
        spread = np.full(values.shape, np.nan) if has_variance else None
        for place, (k, (here, on_tile)) in enumerate(cuts):
            rows, columns = (
                slice(s.start - t.start, s.stop - t.start) for s, t in zip(here, block, strict=True)
            )
            weight[place, 0, rows, columns] = tiles[k].edges.weight(on_tile)
            pixels = tiles[k].data[:, *on_tile]
            values[place, :, rows, columns] = pixels - _plane_on(tiles[k], level[k], here)
            if spread is not None:
                spread[place, :, rows, columns] = tiles[k].variance[:, *on_tile]  # type: ignore[index]
        good = np.isfinite(values)
        best = good & (weight > LAST)
        good &= (weight > LAST) | ~best.any(axis=0)
        footprint[block] = good.all(axis=1).sum(axis=0)
        found, its_variance = _of_pixels(values, spread, weight * good, combine)
        data[(slice(None), *block)] = found
        if variance is not None:
            variance[(slice(None), *block)] = its_variance
    return data, variance, footprint


def _blocks(tiles: Sequence[Tile], shape: tuple[int, int], most: float) -> Iterator[Window]:
    """Yield windows that cover a canvas, of as many rows as there is memory for."""
    ny, nx = shape
    for x in range(0, nx, _COLUMNS):
        columns = slice(x, min(x + _COLUMNS, nx))
        deep = np.zeros(ny + 1, int)  # tiles that each row crosses
        for tile in tiles:
            if tile.cut(slice(0, ny), columns) is not None:
                deep[tile.window[0].start] += 1
                deep[tile.window[0].stop] -= 1
        number = max(1, int(np.cumsum(deep).max()))
        height = int(np.clip(most / (number * _COLUMNS), 1, _ROWS))
        for y in range(0, ny, height):
            yield slice(y, min(y + height, ny)), columns


def _of_pixels(
    values: FloatArray, variance: FloatArray | None, weight: FloatArray, combine: str
) -> tuple[FloatArray, FloatArray | None]:
    """Combine along the first axis the values that have weights; NaN where there are none."""
    good = weight > 0
    number = good.sum(axis=0)
    none = number == 0
    if combine in ("mean", "sum", "median"):
        share = good.astype(float) if combine == "sum" else weight
        by = 1.0 if combine == "sum" else np.where(none, 1.0, share.sum(axis=0))
        out = np.where(good, share * values, 0.0).sum(axis=0) / by
        spread = None
        if variance is not None:
            spread = np.where(good, share**2 * variance, 0.0).sum(axis=0) / by**2
        if combine == "median" and number.max() > 2:  # of fewer frames it is the mean
            many = number > 2
            out = np.where(many, _median(values, good, number), out)
            if variance is not None:
                plain = np.where(good, variance, 0.0).sum(axis=0) / np.maximum(number, 1) ** 2
                spread = np.where(many, _MEDIAN * plain, spread)
    else:
        pick = {
            "min": lambda: np.argmin(np.where(good, values, np.inf), axis=0),
            "max": lambda: np.argmax(np.where(good, values, -np.inf), axis=0),
            "first": lambda: np.argmax(good, axis=0),
            "last": lambda: len(good) - 1 - np.argmax(good[::-1], axis=0),
        }[combine]()[np.newaxis]
        out = np.take_along_axis(values, pick, axis=0)[0]
        spread = None if variance is None else np.take_along_axis(variance, pick, axis=0)[0]
    out = np.where(none, np.nan, out)
    return out, None if spread is None else np.where(none, np.nan, spread)


def _median(values: FloatArray, good: NDArray[np.bool_], number: NDArray[np.intp]) -> FloatArray:
    """Return the median of the good values along the first axis, infinite where there are none."""
    ordered = np.sort(np.where(good, values, np.inf), axis=0)
    one, two = (
        np.take_along_axis(ordered, np.maximum(k, 0)[np.newaxis], axis=0)[0]
        for k in ((number - 1) // 2, number // 2)
    )
    return 0.5 * one + 0.5 * two


def _common(headers: Sequence[Any]) -> fits.Header:
    """Return the cards that all frames agree on, and how many frames there are."""
    out = fits.Header()
    if headers and all(isinstance(header, fits.Header) for header in headers):
        for card in headers[0].cards:
            same = all(header.get(card.keyword) == card.value for header in headers[1:])
            if same and card.keyword and not card.keyword.startswith(_OWN):
                out.append(card)
    out["NCOMBINE"] = (len(headers), "frames combined")
    return out
