"""The viewer of a report: two images on one grid, small enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from spalipy_astro.report._html import data_uri
from spalipy_astro.visualization import pixels_of, sky_of

__all__ = ["blink", "block_mean", "detail_around", "to_gray", "viewer"]

FloatArray = NDArray[np.float64]

_MAX_PIXELS = 1024  # of a whole frame along its longer side
_DETAIL = (300, 450)  # rows and columns shown in full resolution
_OURS = ("Template", "Aligned source")
_SOFTENING = 3.0  # noises at which the brightness scale turns from linear to logarithmic


def viewer(template: ArrayLike, aligned: ArrayLike, center: tuple[float, float]) -> list[str]:
    """
    Return the HTML of the viewers: the whole frame and, where it is scaled down, a part in full.

    Parameters
    ----------
    template, aligned : array_like or NDData, shape (ny, nx)
        Two images on the same grid.
    center : tuple of float
        Position (x, y) around which the images are shown in full resolution.

    Raises
    ------
    ValueError
        If the images differ in shape.
    """
    images = [pixels_of(image) for image in (template, aligned)]
    if images[0].shape != images[1].shape:
        raise ValueError(
            f"the viewer takes two images on one grid; the template has shape {images[0].shape} "
            f"and the aligned source {images[1].shape}. Resample the source onto the template's "
            "grid, alignment.resample(source, shape=template.shape), or leave one image out."
        )
    small = [block_mean(image, _MAX_PIXELS) for image in images]
    found = [_viewer([_jpeg(to_gray(image)) for image in small], small[0].shape, "the whole frame")]
    part = detail_around(center, images[0].shape)
    if images[0][part].size < images[0].size / 2:
        rows, columns = part
        name = f"pixels {columns.start} to {columns.stop - 1} in x, {rows.start} to "
        name += f"{rows.stop - 1} in y, in full resolution"
        cuts = [image[part] for image in images]
        # The sky is that of the whole frame: a detail may be full of stars.
        gray = [to_gray(c, sky=_sky(image)) for c, image in zip(cuts, images, strict=True)]
        found.append(_viewer([_png(image) for image in gray], cuts[0].shape, name, sharp=True))
    return found


def _sky(image: FloatArray) -> tuple[float, float]:
    """Return the level and the noise of a frame, of which some of the pixels tell enough."""
    step = max(1, max(image.shape) // _MAX_PIXELS)
    return sky_of(image[::step, ::step])


def block_mean(image: FloatArray, most: int) -> FloatArray:
    """Return the means of square blocks of an image, no more than ``most`` along either axis."""
    step = max(1, -(-max(image.shape) // most))
    if step == 1:
        return image
    good = np.isfinite(image)
    total, number = np.where(good, image, 0.0), good.astype(float)
    for axis, size in enumerate(image.shape):
        starts = np.arange(0, size, step)
        total = np.add.reduceat(total, starts, axis=axis)
        number = np.add.reduceat(number, starts, axis=axis)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def to_gray(values: FloatArray, *, sky: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Return gray levels, the sky dark, faint and bright stars both visible; no data are black."""
    middle, noise = sky_of(values) if sky is None else sky
    good = np.isfinite(values)
    if not good.any():
        return np.zeros(values.shape, np.uint8)
    depth = (np.where(good, values, middle) - middle) / noise
    top = max(10.0, float(np.quantile(depth[good], 0.998)))
    low, high = np.arcsinh(-2.5 / _SOFTENING), np.arcsinh(top / _SOFTENING)
    level = np.clip((np.arcsinh(depth / _SOFTENING) - low) / (high - low), 0, 1)
    return np.where(good, np.round(8 + 247 * level), 0).astype(np.uint8)


def detail_around(center: tuple[float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the window of the detail, rows first, whole inside the frame."""
    starts = []
    for middle, size, length in zip(center[::-1], shape, _DETAIL, strict=True):
        starts.append(int(np.clip(round(middle - length / 2), 0, max(0, size - length))))
    rows, columns = (
        slice(start, min(start + length, size))
        for start, length, size in zip(starts, _DETAIL, shape, strict=True)
    )
    return rows, columns


def _jpeg(gray: NDArray[np.uint8]) -> str:
    buffer = BytesIO()
    Image.fromarray(gray[::-1]).save(buffer, "JPEG", quality=80)
    return data_uri(buffer.getvalue(), "image/jpeg")


def _png(gray: NDArray[np.uint8]) -> str:
    buffer = BytesIO()
    Image.fromarray(gray[::-1]).save(buffer, "PNG", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def blink(images: Sequence[ArrayLike], names: Sequence[str], caption: str) -> str:
    """
    Return the HTML of a viewer of two images of the same part of the sky, in full resolution.

    Parameters
    ----------
    images : sequence of array_like, shape (ny, nx)
        Two images on the same grid.
    names : sequence of str
        What they are.
    caption : str
        What they show.
    """
    pixels = [pixels_of(image) for image in images]
    uris = [_png(to_gray(values)) for values in pixels]
    return _viewer(uris, pixels[0].shape, caption, sharp=True, names=names)


def _viewer(
    uris: list[str],
    shape: tuple[int, ...],
    name: str,
    *,
    sharp: bool = False,
    names: Sequence[str] = _OURS,
) -> str:
    """Return one viewer; ``viewer.js`` brings it to life."""
    height, width = shape
    extra = ' class="sharp"' if sharp else ""
    below, above = (
        f'<img src="{uri}" width="{width}" height="{height}"{extra} '
        f'alt="{escape(f"{who}, {name}")}">'
        for uri, who in zip(uris, names, strict=True)
    )
    left, right = (escape(who) for who in names)
    said = [f"the {who.lower()}" if who in _OURS else who for who in names]
    return f"""<figure class="viewer" role="group" data-left="{left}" data-right="{right}"
aria-label="{escape(f"Viewer of {name}")}">
<div class="stage">{below}{above}<div class="divider"></div></div>
<div class="controls">
<label><span>{left}</span>
<input type="range" min="0" max="100" step="0.5" value="50" aria-label="Share of {escape(said[0])}">
<span>{right}</span></label>
<button type="button" class="blink" aria-pressed="false">Blink</button>
<button type="button" class="difference" aria-pressed="false">Difference</button>
<output></output>
</div>
<figcaption>{escape(f"{name[0].upper()}{name[1:]}: {said[0]} left of the divider, {said[1]}")}
right of it.</figcaption>
</figure>"""
