"""Frames behind a color filter array (Bayer mosaics) made fit for detection: private to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.detection._pixels import PixelSource, find_saturation

__all__ = ["is_mosaic", "lone_phase", "luminance"]

_STRIP = 64
_PIECE = 128
_MOST_OTHERS = 0.01  # good pixels among those of the colors that a plane of one does not have


def is_mosaic(source: PixelSource) -> bool:
    """Tell whether pixels of the four parities have different sky levels."""
    ny = source.shape[0]
    first = np.arange(0, ny - 1, max(2, ny // 32 * 2))
    four = _phases(source.rows((first[:, None] + np.arange(2)).ravel()))
    # of pairs of rows by themselves
    four = four.transpose(2, 0, 1, 3).reshape(-1, 4, four.shape[3])
    four = four[np.isfinite(four).all(axis=(1, 2))]
    if not len(four):
        return False
    four.sort(axis=2)  # np.percentile takes longer over a few
    n = four.shape[2]
    low, middle = four[..., n // 6], (four[..., (n - 1) // 2] + four[..., n // 2]) / 2
    spread = np.maximum((middle - low).mean(axis=1), 1e-30)
    levels = (middle - middle.mean(axis=1)[:, None]) / spread[:, None]
    pattern = np.median(levels, axis=0)
    # of a mosaic it is everywhere the same, which rows of their own levels are not
    same = np.mean(levels[:, pattern.argmax()] > levels[:, pattern.argmin()])
    return bool(np.ptp(pattern) > 0.7 and same > 0.9)


def lone_phase(source: PixelSource) -> tuple[int, int] | None:
    """Tell which of four pixels, (y, x) in a square of two, is good where the others are not.

    So are the planes of one color of a mosaic, with NaN where the other colors are; None if the
    image is not one.
    """
    ny, nx = source.shape
    if min(ny, nx) < 32:
        return None
    share = np.zeros((2, 2))
    starts = np.unique(np.linspace(0, ny - 2, 16).astype(int) // 2 * 2)
    for first in starts:
        good = np.isfinite(source.rows(np.array([first, first + 1])))[:, : nx // 2 * 2]
        share += good.reshape(2, -1, 2).mean(axis=1) / len(starts)
        y, x = np.unravel_index(share.argmax(), share.shape)
        others = share.sum() - share[y, x]
        if others >= _MOST_OTHERS:  # it does not become less
            return None
    return (int(y), int(x)) if share[y, x] > 0.3 else None


def luminance(source: PixelSource, saturation: float) -> tuple[PixelSource, float]:
    """Mean of the 2 x 2 pixels around every corner, in which every color filter counts alike.

    The pixels are first divided by their filters' mean response to star light, so that a star
    neither changes its shape with its place on the mosaic nor, but for the rest of its color, is
    shifted by it.  Positions are half a pixel lower than in the image.  Where one of the four
    saturates the mean is set to a value no other reaches; it is returned, too.
    """
    ny, nx = source.shape
    response = _response(source)
    gain = np.tile((1 / response).astype(np.float32), (1, nx // 2 + 1))[:, :nx]
    if not np.isfinite(saturation):
        saturation = find_saturation(source)
    full = float(saturation / response.min())
    out = np.empty((ny - 1, nx - 1), dtype=np.float32)
    for start in range(0, ny - 1, _STRIP):
        rows = source.rows(slice(start, min(start + _STRIP + 1, ny)))
        over = rows >= np.float32(saturation)
        rows = rows * gain[(start + np.arange(len(rows))) % 2]
        rows[~np.isfinite(rows)] = np.nan
        mean = 0.25 * _sum_of_four(rows)
        mean[_sum_of_four(over.astype(np.uint8)) > 0] = full
        out[start : start + len(mean)] = mean
    error = source.error
    if error is not None:
        error = np.asarray(error, dtype=np.float64) / source.scale
        error = 0.25 * np.sqrt(_sum_of_four((error * gain[np.arange(ny) % 2]) ** 2))
    return PixelSource(out, error=error), 0.999 * full


def _sum_of_four(values: NDArray) -> NDArray:
    """Add the four pixels around every corner."""
    pairs = values[1:] + values[:-1]
    return pairs[:, 1:] + pairs[:, :-1]


def _phases(rows: NDArray) -> NDArray:
    """Rearrange rows, of even number, to (piece, phase, block row, block column)."""
    half = rows.shape[1] // 2
    pieces = max(1, half // _PIECE)
    width = half // pieces
    four = rows[:, : 2 * pieces * width].reshape(len(rows) // 2, 2, pieces, width, 2)
    return four.transpose(2, 1, 4, 0, 3).reshape(pieces, 4, len(rows) // 2, width)


def _response(source: PixelSource) -> NDArray[np.float64]:
    """Sensitivity of the pixels of a 2 x 2 block to star light, 1 in the mean, shape (2, 2).

    The mean share of each in the light of bright blocks; where in a block a star lies averages
    out.
    """
    total, number = np.zeros(4), 0
    ny = source.shape[0] // 2 * 2
    for start in range(0, ny, _STRIP):
        four = _phases(source.rows(slice(start, min(start + _STRIP, ny))))
        with np.errstate(invalid="ignore"):
            four = four - np.nan_to_num(
                np.median(four, axis=(2, 3), keepdims=True), posinf=0, neginf=0
            )
            block = four.sum(axis=1)
            spread = np.median(np.abs(block), axis=(1, 2), keepdims=True)
            bright = (block > 15 * spread) & np.isfinite(block) & (four.min(axis=1) > 0)
        share = four.transpose(0, 2, 3, 1)[bright] / block[bright][:, None]
        total += share.sum(axis=0)
        number += len(share)
    if number < 50:
        return np.ones((2, 2))
    return np.clip(4 * total / number, 0.1, 4).reshape(2, 2)
