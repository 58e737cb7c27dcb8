"""Skies that change within a cell of the mesh, as beside the moon or in a nebula: made level."""

from __future__ import annotations

import numpy as np

from spalipy_astro.detection._background import (
    Background,
    estimate_background,
    in_common,
    windows,
)
from spalipy_astro.detection._medians import median
from spalipy_astro.detection._pixels import PixelSource, find_saturation, keep_saturated

__all__ = ["without_slopes"]

_GROWTH = 1.35  # of the noise by neighbors: that of a slope seems to be common to all of them
_FAR = 12  # px: at that distance neither smoothing nor interpolation leaves noise in common
_SLOPING = 0.4  # part of the variance of a cell that is no noise
_CELLS = (64, 64, 32, 16, 8)  # px of finer and finer meshes; stars would fill a smaller cell
_ROWS = 256  # that are worked on at once


def without_slopes(
    source: PixelSource, background: Background, saturation: float
) -> tuple[PixelSource, Background, float]:
    """
    Subtract the slopes of a sky that changes within a cell of the mesh as much as its noise.

    Parameters
    ----------
    source : PixelSource
    background : Background
        Its sky.
    saturation : float
        Value from which on pixels are saturated; infinity if it is not known.

    Returns
    -------
    PixelSource, Background, float
        The same objects, if the sky does not; otherwise the image with a level sky, that of the
        middle, in which saturated pixels have a value that no other reaches.

    Notes
    -----
    The noise of a cell is the width of the distribution of its pixels. A slope widens it, and no
    star is above such a noise. It does not widen the distribution of the differences of pixels
    that are 12 px from each other, in which the sky on a mesh has been taken away. A surface of the
    second degree is subtracted, and what is left of the slopes on finer and finer meshes.
    """
    if not _is_sloping(source, background):
        return source, background, saturation
    if not np.isfinite(saturation):
        saturation = find_saturation(source)
    ny, nx = source.shape
    image = np.array(source.rows(slice(None)))
    over = (image >= np.float32(saturation)) & np.isfinite(image)
    error = None if source.error is None else np.asarray(source.error) / source.scale
    level = median(background.level)
    plain, sky = source, background
    for cell in _CELLS:
        if cell != _CELLS[0]:
            sky = estimate_background(plain, cell=cell)
        beyond = _bowl(sky) if plain is source else _continued(sky)
        down, across = sky.cell
        for start in range(0, ny, _ROWS):
            rows = np.arange(start, min(start + _ROWS, ny))
            slope = beyond.grid(rows + down, np.arange(nx) + across)[0] - level
            image[rows] -= slope.astype(np.float32)
        plain = PixelSource(image, error=error)
        sky = estimate_background(plain)
        if sky.growth < _GROWTH:
            break
    return plain, sky, keep_saturated(image, over, saturation)


def _bowl(sky: Background) -> Background:
    """Fit a surface of the second degree to a sky, and continue it by a cell on all sides."""
    my, mx = sky.level.shape
    # a mesh is smoothed, which bends its edges
    inner = tuple(slice(1, n - 1) if n > 4 else slice(None) for n in (my, mx))
    y, x = np.meshgrid(np.arange(-1.0, my + 1), np.arange(-1.0, mx + 1), indexing="ij")
    y, x = (y - my / 2) / my, (x - mx / 2) / mx
    terms = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=-1)
    known = terms[1:-1, 1:-1][inner].reshape(-1, 6)
    terms, known = (terms, known) if len(known) > 12 else (terms[..., :3], known[:, :3])
    found = np.linalg.lstsq(known, sky.level[inner].ravel().astype(float), rcond=None)[0]
    level = (terms @ found).astype(np.float32)
    return sky._replace(level=level, noise=np.pad(sky.noise, 1, mode="edge"))


def _continued(sky: Background) -> Background:
    """Continue the slopes of a sky by a cell on all sides: at its edges the mesh would be flat."""
    level = sky.level
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (1, 1)
        if level.shape[axis] > 1:
            level = np.pad(level, width, mode="reflect", reflect_type="odd")
        else:
            level = np.pad(level, width, mode="edge")
    return sky._replace(level=level, noise=np.pad(sky.noise, 1, mode="edge"))


def _is_sloping(source: PixelSource, background: Background) -> bool:
    """Tell whether much of the variance of a cell is not noise."""
    if background.growth < _GROWTH:
        return False
    parts = windows(source, background)
    cut = background.cut
    common = in_common(parts, _FAR, cut), in_common([part.T for part in parts], _FAR, cut)
    return 0.5 * sum(common) > _SLOPING
