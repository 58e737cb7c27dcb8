"""What all figures share: colors, axes in pixels, and images made ready to be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from spalipy_astro._geometry import has_hull, hull

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = [
    "CLIPPED",
    "OTHER",
    "USED",
    "axes_or_new",
    "central",
    "cut",
    "draw_hull",
    "equal_bins",
    "label_pixels",
    "pixels_of",
    "positions",
    "round_number",
    "shape_of",
    "show_frame",
    "sky_of",
]

FloatArray = NDArray[np.float64]

# Blue, vermilion and bluish green of Okabe & Ito (2008), which color-blind readers can tell apart.
USED = "#0072B2"
CLIPPED = "#D55E00"
OTHER = "#009E73"

# Images are shown at no more pixels than a panel of a figure has; more would only slow the drawing.
_MAX_PIXELS = 1000
_MAD_TO_SIGMA = 1.4826


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the Axes given, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def label_pixels(ax: Axes) -> Axes:
    """Name the axes and give them equal scales."""
    ax.set(xlabel="x (px)", ylabel="y (px)", aspect="equal")
    return ax


def show_frame(ax: Axes, alignment: Alignment) -> Axes:
    """Show the whole of the template's grid."""
    ny, nx = shape_of(alignment)
    ax.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5))
    return label_pixels(ax)


def positions(alignment: Alignment) -> tuple[FloatArray, FloatArray]:
    """Return x and y of the matched stars on the template."""
    x, y = (np.asarray(alignment.matches[name]) for name in ("x_template", "y_template"))
    return x, y


def shape_of(alignment: Alignment) -> tuple[int, int]:
    """Return the template's shape, or for a catalog one that holds the matched stars."""
    if alignment.template_shape is not None:
        return alignment.template_shape
    if not len(alignment.matches):
        raise ValueError(
            "the template has neither a shape nor matched stars, so that there is no frame to "
            "draw; make the alignment with template_shape=(ny, nx)."
        )
    nx, ny = (int(np.ceil(np.max(values))) + 1 for values in positions(alignment))
    return ny, nx


def draw_hull(ax: Axes, alignment: Alignment) -> None:
    """Outline the hull of the stars that the fit used."""
    used = np.asarray(alignment.matches["used"], bool)
    xy = np.column_stack(positions(alignment))[used]
    if not has_hull(xy):
        return
    corners = hull(xy)
    ax.plot(*np.vstack((corners, corners[:1])).T, color="black", linewidth=0.9, linestyle="--")


def pixels_of(image: ArrayLike) -> FloatArray:
    """Return an image as floats, its masked pixels NaN."""
    mask = getattr(image, "mask", None)
    values = np.array(getattr(image, "data", image), dtype=np.float64)
    if mask is not None:
        values[np.broadcast_to(mask, values.shape)] = np.nan
    return values


def cut(
    image: ArrayLike, region: tuple[slice, slice] | None
) -> tuple[FloatArray, tuple[float, float, float, float]]:
    """Return a part of an image, thinned out to what a panel can show, and its extent in pixels."""
    values = pixels_of(image)
    rows, columns = region or (slice(None), slice(None))
    y0, y1, _ = rows.indices(values.shape[0])
    x0, x1, _ = columns.indices(values.shape[1])
    step = max(1, -(-max(y1 - y0, x1 - x0) // _MAX_PIXELS))
    return values[y0:y1:step, x0:x1:step], (x0 - 0.5, x1 - 0.5, y0 - 0.5, y1 - 0.5)


def sky_of(values: FloatArray) -> tuple[float, float]:
    """Return the median and the robust standard deviation of the finite values."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    middle = float(np.median(finite))
    return middle, float(_MAD_TO_SIGMA * np.median(np.abs(finite - middle))) or 1.0


def round_number(value: float) -> float:
    """Return the number of the series 1, 2, 5, 10, ... that is next to a positive value."""
    if not value > 0:
        return 1.0
    decade = 10.0 ** np.floor(np.log10(value))
    return float(decade * min((1, 2, 5, 10), key=lambda digit: abs(np.log(value / decade / digit))))


def central(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the middle of an image, 240 by 160 pixels."""
    rows, columns = (
        slice(max(0, (size - part) // 2), (size + part) // 2)
        for size, part in zip(shape, (160, 240), strict=True)
    )
    return rows, columns


def equal_bins(values: FloatArray, *, most: int = 12, least: int = 8) -> list[NDArray[np.intp]]:
    """Return the indices of up to ``most`` bins with equally many values, ``least`` at least."""
    number = min(most, max(1, len(values) // least))
    return [part for part in np.array_split(np.argsort(values), number) if len(part)]
