"""Shapes and offsets of pixel grids, checked: nothing is rounded, and no shape is guessed."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from astropy.nddata import NDData

from spalipy_astro._checks._colors import colors_go_last
from spalipy_astro._checks._plain import in_pixels

__all__ = [
    "check_frames",
    "check_image",
    "check_shape",
    "check_whole_offset",
    "is_finite_pair",
    "is_whole",
    "shape_of",
]

Shape = tuple[int, int]


def is_whole(number: Any) -> bool:
    """Tell whether something is a whole number, of whatever type."""
    if isinstance(number, bool | np.bool_):
        return False
    return isinstance(number, Integral) or (isinstance(number, Real) and float(number).is_integer())


def is_finite_pair(pair: Any) -> bool:
    """Tell whether something is two finite numbers."""
    values = tuple(pair) if np.ndim(pair) == 1 else ()
    return len(values) == 2 and all(isinstance(v, Real) and np.isfinite(float(v)) for v in values)


def check_shape(shape: Any, *, name: str = "shape") -> Shape:
    """
    Return a shape as two positive integers.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    sizes = tuple(shape) if np.ndim(shape) == 1 else ()
    if len(sizes) != 2 or not all(isinstance(n, Integral) and int(n) > 0 for n in sizes):
        raise ValueError(f"{name} must be two positive integers (ny, nx); got {shape!r}.")
    return int(sizes[0]), int(sizes[1])


def check_whole_offset(offset: Any) -> tuple[int, int]:
    """
    Return the template pixel ``(x0, y0)`` at which a window begins.

    Raises
    ------
    ValueError
        If it is not two whole numbers.
    """
    offset = in_pixels("offset", offset)
    if not (is_finite_pair(offset) and all(is_whole(value) for value in offset)):
        raise ValueError(
            f"offset must be a template pixel (x0, y0), two whole numbers; got {offset!r}. A grid "
            "that begins at a fraction of a pixel is that of "
            "alignment.shifted(template=(-x0, -y0))."
        )
    return int(offset[0]), int(offset[1])


def check_image(
    image: Any, expected: Shape | None, *, name: str, frame: str, planes: bool = False
) -> None:
    """
    Raise unless an image has the shape of the frame that an alignment was made for.

    Parameters
    ----------
    image : CCDData, NDData or array_like
        What has no shape, or fewer than two axes, is left for others to refuse.
    expected : tuple of int or None
        Shape ``(ny, nx)`` of that frame; None where there was a catalog: any image will do.
    name : str
        The argument, for the message.
    frame : {"source", "template"}
        Which of the alignment's frames it is.
    planes : bool, optional
        Whether leading axes may be there, planes that share the geometry, or three or four colors
        as the last axis.

    Raises
    ------
    ValueError
        With both shapes and what to do.
    """
    shape = shape_of(image)
    if expected is None or len(shape) < 2:
        return
    if planes and colors_go_last(shape, expected) and shape[:2] == tuple(expected):
        return
    if shape[-2:] == tuple(expected) and (planes or len(shape) == 2):
        return
    raise ValueError(
        f"{name} has shape {shape}, but the {frame} of this alignment has shape "
        f"{tuple(expected)}: {_remedy(shape, expected, name, frame, planes)}"
    )


def check_frames(alignment: Any, **images: Any) -> None:
    """
    Raise unless images, by the names of arguments, have the shapes of an alignment's frames.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
    **images : CCDData, NDData, array_like or None
        ``source`` belongs to the source; all others are on the template's grid.

    Raises
    ------
    ValueError
        With both shapes and what to do.
    """
    for name, image in images.items():
        if image is None:
            continue
        frame = "source" if name == "source" else "template"
        shape = getattr(alignment, f"{frame}_shape", None)
        check_image(image, shape, name=name, frame=frame)


def shape_of(image: Any) -> tuple[int, ...]:
    """Return the shape of an image of any kind; () if it has none."""
    image = image.data if isinstance(image, NDData) else image
    shape = getattr(image, "shape", None)
    return tuple(np.shape(image) if shape is None else shape)


def _remedy(shape: tuple[int, ...], expected: Shape, name: str, frame: str, planes: bool) -> str:
    """Say what to do with an image of the wrong shape."""
    (ny, nx), (my, mx) = shape[-2:], expected
    if len(shape) > 2 and not planes and (ny, nx) == (my, mx):
        return f"give one of its planes, {name}[k]."
    if len(shape) == 3 and shape[:2] == (my, mx):
        first = f"planes go first, np.moveaxis({name}, -1, 0)"
        return f"{first}." if planes else f"give one of its planes, {name}[..., k]."
    factor = my // ny if ny else 0
    known = (
        f"alignment.cropped({frame}=np.s_[y0:y1, x0:x1]) is for cut-outs, "
        f"alignment.binned({frame}=n) for binned pixels."
    )
    if (nx, ny) == (my, mx):
        return f"axes are (ny, nx), rows first. {known}"
    if factor > 1 and (my // factor, mx // factor) == (ny, nx):
        return (
            f"if its pixels are binned {factor} x {factor}, use "
            f"alignment.binned({frame}={factor}). {known}"
        )
    if ny >= my and nx >= mx:
        return (
            f"trim it as the {frame} was, {name}[y0:y1, x0:x1], or take the alignment to the whole "
            f"frame, alignment.shifted({frame}=(x0, y0), {frame}_shape={(ny, nx)}). {known}"
        )
    return known
