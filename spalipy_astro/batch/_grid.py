"""The grid of a batch: which pixels all aligned images have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spalipy_astro import _geometry
from spalipy_astro._checks import check_room
from spalipy_astro.alignment import check_grid, finer_shape
from spalipy_astro.batch._task import Outcome, Window
from spalipy_astro.errors import AlignmentError
from spalipy_astro.registration import StarFrame

__all__ = ["common_window", "pixels_of", "shape_of_grid", "window_of_template"]


def pixels_of(
    grid: Any, grid_scale: Any, wcs: Any, shape: tuple[int, int] | None
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """
    Check the grid that is asked for.

    Parameters
    ----------
    grid, grid_scale, wcs
        As for `align_many`.
    shape : tuple of int or None
        Shape ``(ny, nx)`` that was given.

    Returns
    -------
    pixels : dict
        What `output_of` takes for pixels that are not the template's: ``scale`` or ``wcs``.
    shape : tuple of int or None
        The shape, that of the WCS if none was given.

    Raises
    ------
    TypeError, ValueError
        If one makes no sense, or they do not go together.
    """
    scale = check_grid(grid, grid_scale, wcs, names=("grid", "grid_scale"))
    if wcs is None:
        return ({} if scale == 1 else {"scale": scale}), shape
    from spalipy_astro.wcs import celestial_grid

    wcs, own = celestial_grid(wcs)
    shape = shape or own
    if shape is None:
        raise ValueError(
            "wcs= has no shape of its own; give that of the aligned images as wcs=(wcs, (ny, nx)), "
            "or as shape=."
        )
    return {"wcs": wcs}, shape


def window_of_template(
    template: StarFrame, shape: tuple[int, int] | None, pixels: Mapping[str, Any]
) -> Window | None:
    """Return the template's grid, or that of a WCS; None if there is no shape."""
    if "wcs" in pixels:
        from spalipy_astro.wcs import celestial_grid

        try:
            celestial_grid(template.wcs)
        except (TypeError, ValueError):
            raise ValueError(
                "wcs= needs a template with a celestial WCS; this one has none. Solve it, as with "
                "find_alignment(template, catalog), or leave wcs out."
            ) from None
    shape = template.shape if shape is None else shape
    if shape is None:
        return None
    asked = "wcs" if "wcs" in pixels else "grid_scale" if "scale" in pixels else "shape"
    check_room(asked, finer_shape(shape, pixels.get("scale", 1)))
    return (0, 0), shape


def shape_of_grid(window: Window, pixels: Mapping[str, Any]) -> tuple[int, int]:
    """Return the shape of aligned images on a window of the template."""
    return finer_shape(window[1], pixels.get("scale", 1))


def common_window(
    grid: str, template: Window | None, frames: Sequence[Outcome], scale: float = 1
) -> Window | None:
    """
    Return the grid that is asked for of the frames that are aligned.

    Parameters
    ----------
    grid : {"template", "union", "intersection"}
    template : Window or None
        The template's.
    frames : sequence of Outcome
    scale : float, optional
        Pixels of the aligned images per pixel of the template along each axis.

    Returns
    -------
    Window or None
        None if the template has none.

    Raises
    ------
    AlignmentError
        If the frames have no pixel in common.
    ValueError
        If there is no memory for a grid that holds them all.
    """
    if grid == "template" or template is None:
        return template
    if grid == "union":
        windows = [template, *(frame.union for frame in frames if frame.union is not None)]
        low = np.min([offset for offset, _ in windows], axis=0)
        high = np.max([(x + nx, y + ny) for (x, y), (ny, nx) in windows], axis=0)
        width, height = (int(n) for n in high - low)
        check_room("grid='union'", finer_shape((height, width), scale))
        return (int(low[0]), int(low[1])), (height, width)
    outlines = [frame.outline for frame in frames if frame.outline is not None]
    window = _geometry.intersection(outlines, template[1])
    if window is None:
        raise AlignmentError(
            f"the {len(frames)} aligned frames have no pixel in common with the template; use "
            "grid='template' or 'union', or leave those out that lie apart (see shift_x, shift_y)."
        )
    return window
