"""Methods of an alignment that move positions: points, tables, outlines of regions, the sky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.modeling import Model
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from spalipy_astro._checks import checked_call, numbers_of_pixels, positive_number

if TYPE_CHECKING:
    from spalipy_astro.alignment._alignment import Alignment

__all__ = [
    "pair_of",
    "pixel_to_sky",
    "sky_to_pixel",
    "transform_points",
    "transform_polygon",
    "transform_table",
]

FloatArray = NDArray[np.float64]

_MAX_PIECES = 1024  # of an edge
_CHECKS = 8  # points of each piece that are compared with a straight line


def transform_points(self: Alignment, points: ArrayLike) -> FloatArray:
    """
    Move positions in one array from the source to the template.

    Parameters
    ----------
    points : array_like, shape (N, 2) or (2,)
        Positions ``(x, y)`` in source px; NaN and masked ones become NaN. For the way back use
        ``alignment.inverse.transform_points``, for the sky `sky_to_pixel`.

    Returns
    -------
    ndarray, of the same shape
        Template px.

    Raises
    ------
    TypeError, ValueError
        If they are no numbers of this shape, or not in px, but positions on the sky, say.
    """
    if isinstance(points, SkyCoord):
        raise TypeError(
            "points are positions in px, of shape (N, 2); got a SkyCoord. "
            "alignment.sky_to_pixel(sky) gives the source's pixels of the sky, and "
            "alignment.inverse.sky_to_pixel(sky) the template's."
        )
    if isinstance(points, Table):
        raise TypeError(
            "points are positions in px, of shape (N, 2); got a table. "
            "alignment.transform_table(table) moves the positions in a table."
        )
    xy = numbers_of_pixels("points", points)
    if xy.ndim == 0 or xy.shape[-1] != 2:
        turned = xy.ndim == 2 and len(xy) == 2
        remedy = "turn it, points.T" if turned else "np.column_stack((x, y)) makes it of x and y"
        raise ValueError(
            f"points are (x, y) in px, of shape (N, 2); got an array of shape {xy.shape}: {remedy}."
        )
    return np.stack(self.transform(xy[..., 0], xy[..., 1]), axis=-1)


def transform_table(
    self: Alignment, table: Table, *, columns: tuple[str, str] = ("x", "y")
) -> Table:
    """
    Move the positions in a table from the source to the template.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Positions in source px, without units or in pixels. For the way back use
        ``alignment.inverse.transform_table``.
    columns : tuple of str, optional
        Names of the columns that hold them.

    Returns
    -------
    `~astropy.table.Table`
        A copy with positions in template px. If there are columns of the same names with
        ``_err`` appended, these 1-sigma errors are transformed, too; they do not
        include the error of the transform itself (see `error`).

    Raises
    ------
    ValueError
        If there are no such columns, or they are not in px.
    """
    if not isinstance(table, Table):
        raise TypeError(f"table is an astropy Table of positions; got {type(table).__name__}.")
    if len(columns) != 2 or not set(columns) <= set(table.colnames):
        raise ValueError(
            f"columns are the names of the positions along x and y, got {columns!r}; the table "
            f"has {', '.join(table.colnames)}."
        )
    out = table.copy()
    model = self.transform
    x, y = (_plain(table[name]) for name in columns)
    new = model(x, y)
    for name, values in zip(columns, new, strict=True):
        out[name] = _like(table[name], values)
    errors = [f"{name}_err" for name in columns]
    if set(errors) <= set(table.colnames):
        variance = np.stack([_plain(table[name]) ** 2 for name in errors])
        along_x = np.subtract(model(x + 0.5, y), model(x - 0.5, y))
        along_y = np.subtract(model(x, y + 0.5), model(x, y - 0.5))
        for i, name in enumerate(errors):
            error = np.sqrt(along_x[i] ** 2 * variance[0] + along_y[i] ** 2 * variance[1])
            out[name] = _like(table[name], error)
    return out


def _plain(column: Any) -> FloatArray:
    """Return a column as numbers in px, NaN where it is masked."""
    unit = getattr(column, "unit", None)
    if isinstance(column, u.Quantity):
        values = column.to_value(u.pix)
    elif unit is not None and unit != u.pix:
        raise ValueError(f"positions are in px, got a column in {unit}.")
    else:
        values = column
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


def _like(column: Any, values: FloatArray) -> Any:
    """Return values as a column of the same kind."""
    if isinstance(column, u.Quantity):
        return values << u.pix
    new = type(column)(values, name=column.name, unit=column.unit, description=column.description)
    if hasattr(column, "mask"):
        new.mask = column.mask
    return new


@checked_call
def transform_polygon(
    self: Alignment, vertices: ArrayLike, *, tolerance: float = 0.01, closed: bool = True
) -> FloatArray:
    """
    Move the outline of a region from the source to the template.

    Parameters
    ----------
    vertices : array_like, shape (N, 2)
        Source px.
    tolerance : float, optional
        Largest distance between the straight edges of the result and the transformed
        edges, in template px. Vertices are added where distortion bends an edge by more.
    closed : bool, optional
        Whether to connect the last vertex to the first, as in a polygon (default), or not, as
        in a path.

    Returns
    -------
    ndarray, shape (M, 2)
        Template px. The given vertices are among them, in their order.

    Raises
    ------
    ValueError
        If the vertices or the tolerance are invalid.
    """
    corners = numbers_of_pixels("vertices", vertices)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 2:
        raise ValueError(f"vertices are (x, y) of shape (N, 2), N > 1; got {corners.shape}.")
    tolerance = positive_number("tolerance", tolerance, "a positive number of px", u.pix)
    ends = np.roll(corners, -1, axis=0) if closed else corners[1:]
    edges = [
        _edge(start, end, self.transform, tolerance)
        for start, end in zip(corners, ends, strict=closed)
    ]
    last = [] if closed else [np.column_stack(self.transform(*corners[-1:].T))]
    return np.concatenate([*edges, *last])


def _edge(start: FloatArray, end: FloatArray, model: Model, tolerance: float) -> FloatArray:
    """Return the image of an edge without its end, in as many equal pieces as needed."""
    pieces = 1
    t = np.linspace(0, 1, _CHECKS + 1)[:-1, np.newaxis]
    while True:
        nodes = np.linspace(0, 1, pieces + 1)[:, np.newaxis]
        chords = np.column_stack(model(*(start + nodes * (end - start)).T))
        between = ((np.arange(pieces) + t) / pieces).T.reshape(-1, 1)
        points = np.column_stack(model(*(start + between * (end - start)).T))
        straight = chords[:-1, np.newaxis] + t * np.diff(chords, axis=0)[:, np.newaxis]
        miss = points - straight.reshape(-1, 2)
        if pieces >= _MAX_PIECES or not np.max(np.hypot(*miss.T)) > tolerance:
            return chords[:-1]
        pieces *= 2


def pixel_to_sky(self: Alignment, x: ArrayLike, y: ArrayLike) -> SkyCoord:
    """
    Return the sky positions of source pixels.

    Parameters
    ----------
    x, y : array_like
        Source px.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        In the celestial frame of the template.

    Raises
    ------
    ValueError
        If the template has no sky.
    """
    sky = self.wcs.pixel_to_world(*pair_of(x, y))
    if not isinstance(sky, SkyCoord):
        raise ValueError(_NO_SKY)
    return sky


def sky_to_pixel(self: Alignment, sky: SkyCoord) -> tuple[Any, Any]:
    """
    Return the source pixels of sky positions.

    Parameters
    ----------
    sky : `~astropy.coordinates.SkyCoord`
        In any celestial frame.

    Returns
    -------
    x, y : ndarray or float
        Source px.

    Raises
    ------
    ValueError
        If the template has no sky.
    """
    if not isinstance(sky, SkyCoord):
        raise TypeError(f"sky is a SkyCoord; got {type(sky).__name__}.")
    if list(self.wcs.low_level_wcs.world_axis_object_classes) != ["celestial"]:
        raise ValueError(_NO_SKY)
    x, y = self.wcs.world_to_pixel(sky)
    return x, y


_NO_SKY = (
    "the template has no celestial WCS, so that this alignment ends at its pixels; align with a "
    "template that has one, or with a catalog of sky positions."
)


def pair_of(x: ArrayLike, y: ArrayLike) -> list[FloatArray]:
    """Return positions, px, as two arrays of one shape."""
    x, y = numbers_of_pixels("x", x), numbers_of_pixels("y", y)
    try:
        return list(np.broadcast_arrays(x, y))
    except ValueError:
        raise ValueError(
            f"x and y are of one shape, or one of them is a number; got {x.shape} and {y.shape}."
        ) from None
