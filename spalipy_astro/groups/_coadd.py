"""All frames of a group on one canvas, their backgrounds matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray

from spalipy_astro._geometry import outline
from spalipy_astro.alignment import Alignment

__all__ = ["coadd"]

FloatArray = NDArray[np.float64]
Window = tuple[slice, slice]


def coadd(
    images: Sequence[Any],
    alignments: Sequence[Alignment],
    shape: tuple[int, int],
    offset: tuple[int, int],
    *,
    combine: str,
    match_background: bool,
    first: int,
    flags: Mapping[str, Any],
) -> tuple[CCDData, FloatArray]:
    """
    Resample frames onto a canvas and combine them.

    Parameters
    ----------
    images : sequence of path, HDU, HDUList, CCDData, NDData or array_like
        Files are read one at a time.
    alignments : sequence of Alignment
        One per image.
    shape : (ny, nx)
        Of the canvas.
    offset : (x0, y0)
        Grid position of its pixel [0, 0].
    combine : {"mean", "sum"}
    match_background : bool
        Whether to subtract one number per image, so that overlaps agree.
    first : int
        The image whose background is kept.
    flags : mapping
        ``ignore_flags`` and ``flag_name_map``, for flags in files.

    Returns
    -------
    CCDData, shape (ny, nx)
    footprint : ndarray, shape (ny, nx)
        Number of images that cover each pixel.
    """
    parts: list[tuple[Window, FloatArray]] = []
    unit = None
    for image, alignment in zip(images, alignments, strict=True):
        window = _window(alignment, shape, offset)
        rows, columns = window
        aligned = alignment.resample(
            image,
            shape=(rows.stop - rows.start, columns.stop - columns.start),
            offset=(offset[0] + columns.start, offset[1] + rows.start),
            **flags,
        )
        data = np.array(getattr(aligned, "data", aligned), dtype=float)
        if getattr(aligned, "mask", None) is not None:
            data[aligned.mask] = np.nan
        parts.append((window, data))
        unit = unit or getattr(aligned, "unit", None)
    level = _levels(parts, first) if match_background else np.zeros(len(parts))
    total, footprint = np.zeros(shape), np.zeros(shape)
    for (window, data), own in zip(parts, level, strict=True):
        good = np.isfinite(data)
        total[window] += np.where(good, data - own, 0.0)
        footprint[window] += good
    empty = footprint == 0
    if combine == "mean":
        total /= np.maximum(footprint, 1)
    total[empty] = np.nan
    return CCDData(total, unit=unit or "adu", mask=empty), footprint


def _window(alignment: Alignment, shape: tuple[int, int], offset: tuple[int, int]) -> Window:
    """Return the part of the canvas where a frame lies."""
    assert alignment.source_shape is not None
    at = outline(alignment.transform, alignment.source_shape) - offset
    low = np.clip(np.floor(at.min(axis=0)).astype(int), 0, np.array(shape[::-1]) - 1)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int) + 1, low + 1, shape[::-1])
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _levels(parts: Sequence[tuple[Window, FloatArray]], first: int) -> FloatArray:
    """
    Return the background of each image above that of one of them.

    The medians of the differences in all overlaps, by least squares with the overlaps' areas as
    weights.
    """
    rows, values = [np.eye(len(parts))[first]], [0.0]
    for b, (two, data_b) in enumerate(parts):
        for a, (one, data_a) in enumerate(parts[:b]):
            low = [max(s.start, t.start) for s, t in zip(one, two, strict=True)]
            high = [min(s.stop, t.stop) for s, t in zip(one, two, strict=True)]
            if low[0] >= high[0] or low[1] >= high[1]:
                continue
            cut = [
                tuple(
                    slice(lo - s.start, hi - s.start)
                    for lo, hi, s in zip(low, high, window, strict=True)
                )
                for window in (one, two)
            ]
            difference = data_a[cut[0]] - data_b[cut[1]]
            difference = difference[np.isfinite(difference)]
            if not len(difference):
                continue
            weight = np.sqrt(len(difference))
            row = np.zeros(len(parts))
            row[a], row[b] = weight, -weight
            rows.append(row)
            values.append(weight * float(np.median(difference)))
    return np.linalg.lstsq(np.array(rows), np.array(values))[0]
