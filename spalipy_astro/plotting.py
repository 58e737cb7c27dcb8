"""
Figures of an alignment, drawn with matplotlib.

Every function takes the Axes to draw on, makes new ones if there are none, and returns them. Colors
are those that color-blind readers can tell apart, and nothing is told by color alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = [
    "plot_alignment",
    "plot_difference",
    "plot_distortion",
    "plot_image",
    "plot_matches",
    "plot_residuals",
]

FloatArray = NDArray[np.float64]

# Blue and vermilion of the palette of Okabe & Ito (2008), which color-blind readers can tell apart.
USED = "#0072B2"
CLIPPED = "#D55E00"

# Images are shown at no more pixels than a panel of a figure has; more would only slow the drawing.
_MAX_PIXELS = 1000
_TEMPLATE_XY = ("x_template", "y_template")
_MAD_TO_SIGMA = 1.4826


def plot_image(
    image: ArrayLike, ax: Axes | None = None, *, region: tuple[slice, slice] | None = None
) -> Axes:
    """
    Show an image in inverted gray levels, the sky white.

    Parameters
    ----------
    image : array_like or `~astropy.nddata.NDData`, shape (ny, nx)
        The image. NaN and masked pixels stay empty.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    region : tuple of slice, optional
        The part to show, rows first: ``image[region]``. The axes still count the pixels of the
        whole image.

    Returns
    -------
    `~matplotlib.axes.Axes`
    """
    ax = _axes(ax)
    values, extent = _cut(image, region)
    middle, noise = _sky(values)
    ax.imshow(
        values,
        origin="lower",
        extent=extent,
        cmap="gray_r",
        vmin=middle - 2 * noise,
        vmax=middle + 20 * noise,
        interpolation="nearest",
    )
    return _label_pixels(ax)


def plot_difference(
    image: ArrayLike,
    template: ArrayLike,
    ax: Axes | None = None,
    *,
    region: tuple[slice, slice] | None = None,
    limit: float | None = None,
) -> Axes:
    """
    Show template minus image, both less their median.

    Parameters
    ----------
    image, template : array_like or `~astropy.nddata.NDData`, shape (ny, nx)
        Two images on the same pixel grid, such as the template and the aligned source. Of images
        of different shapes, the part that both have is shown.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    region : tuple of slice, optional
        The part to show, rows first.
    limit : float, optional
        Difference shown as white, and its negative as black; 8 times the template's noise by
        default.

    Returns
    -------
    `~matplotlib.axes.Axes`
    """
    ax = _axes(ax)
    first, second = _values(template), _values(image)
    shape = tuple(np.minimum(first.shape, second.shape))
    first, second = first[: shape[0], : shape[1]], second[: shape[0], : shape[1]]
    middle, noise = _sky(first)
    limit = 8 * noise if limit is None else limit
    values, extent = _cut((first - middle) - (second - _sky(second)[0]), region)
    ax.imshow(
        values,
        origin="lower",
        extent=extent,
        cmap="gray",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
    )
    return _label_pixels(ax)


def plot_matches(
    alignment: Alignment, ax: Axes | None = None, *, image: ArrayLike | None = None
) -> Axes:
    """
    Mark the matched stars at their template positions.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    image : array_like or `~astropy.nddata.NDData`, shape (ny, nx), optional
        Image on the template's grid to show beneath the marks, such as the template.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Circles are stars that the fit used, crosses those that it clipped.
    """
    ax = _axes(ax)
    if image is not None:
        plot_image(image, ax)
    matches = alignment.matches
    used = np.asarray(matches["used"])
    x, y = (np.asarray(matches[name]) for name in _TEMPLATE_XY)
    style: dict[str, Any] = {
        "linestyle": "none",
        "markersize": 5,
        "markeredgewidth": 0.8,
        "fillstyle": "none",
    }
    ax.plot(x[used], y[used], "o", color=USED, **style)
    ax.plot(x[~used], y[~used], "x", color=CLIPPED, **style)
    ax.set_title(f"matched stars: {used.sum()} used ○, {(~used).sum()} clipped ×", loc="left")
    return _frame(ax, alignment)


def plot_residuals(
    alignment: Alignment, ax: Axes | None = None, *, scale_bar: float | None = None
) -> Axes:
    """
    Draw what the fit leaves of each star's position as an arrow.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    scale_bar : float, optional
        Length of the reference arrow in template pixels; about the rms by default.

    Returns
    -------
    `~matplotlib.axes.Axes`
        The arrows start at the template positions of the stars that the fit used, the paler the
        less certain a star's position is; crosses are stars that it clipped.
    """
    ax = _axes(ax)
    matches = alignment.matches
    used = np.asarray(matches["used"])
    x, y = (np.asarray(matches[name]) for name in _TEMPLATE_XY)
    dx, dy = np.asarray(matches["dx"]), np.asarray(matches["dy"])
    rms = float(np.sqrt(np.mean(dx[used] ** 2 + dy[used] ** 2)))
    bar = _round_number(rms) if scale_bar is None else scale_bar
    nx = _shape(alignment)[1]
    # The reference arrow gets a twentieth of the frame's width.
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 20 * bar / nx}
    sigma = np.asarray(matches["sigma"])[used]
    weight = np.clip(np.median(sigma) / sigma, 0.2, 1.0)
    arrows = ax.quiver(
        x[used],
        y[used],
        dx[used],
        dy[used],
        color=to_rgba_array(USED, weight),
        width=0.003,
        **style,
    )
    ax.scatter(x[~used], y[~used], s=18, marker="x", linewidths=0.8, color=CLIPPED)
    ax.quiverkey(arrows, 0.88, 1.04, bar, f"{bar:g} px", labelpos="E", coordinates="axes")
    ax.set_title(f"residuals, rms {rms:.3f} px", loc="left")
    return _frame(ax, alignment)


def plot_distortion(alignment: Alignment, ax: Axes | None = None) -> Axes:
    """
    Map how far the transform departs from an affine one.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Lines of equal displacement, labeled in template pixels, and arrows along it, not to
        scale.
    """
    ax = _axes(ax)
    ny, nx = _shape(alignment)
    x, y = np.meshgrid(np.linspace(0, nx - 1, 61), np.linspace(0, ny - 1, 45))
    backward = alignment.transform.inverse
    ax.set_title("distortion, px", loc="left")
    if backward.n_submodels == 1:
        ax.text(0.5, 0.5, "none:\nthe transform is affine", ha="center", transform=ax.transAxes)
        return _frame(ax, alignment)
    dx, dy = backward[0].displacement(x, y)
    size = np.hypot(dx, dy)
    ax.contourf(x, y, size, levels=9, cmap="cividis_r", alpha=0.8)
    lines = ax.contour(x, y, size, levels=9, colors="black", linewidths=0.5)
    ax.clabel(lines, fontsize="x-small")
    thin = (slice(4, None, 9), slice(4, None, 9))
    ax.quiver(x[thin], y[thin], dx[thin], dy[thin], angles="xy", width=0.004)
    return _frame(ax, alignment)


def plot_alignment(
    alignment: Alignment,
    *,
    source: ArrayLike | None = None,
    aligned: ArrayLike | None = None,
    template: ArrayLike | None = None,
    region: tuple[slice, slice] | None = None,
) -> Figure:
    """
    Draw an overview of an alignment.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    source, aligned, template : array_like or `~astropy.nddata.NDData`, optional
        The source, the source on the template's grid, and the template. Where all three are
        given, the overview shows their difference before and after the alignment.
    region : tuple of slice, optional
        The part of the template's grid where the differences are shown, rows first; 240 by 160
        pixels in the middle by default, enough to see the shape of stars.

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    if source is None or aligned is None or template is None:
        figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
        plot_matches(alignment, axes[0], image=template)
        plot_residuals(alignment, axes[1])
        plot_distortion(alignment, axes[2])
        return figure
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    region = _central(_shape(alignment)) if region is None else region
    plot_difference(source, template, axes[0, 0], region=region)
    axes[0, 0].set_title("before: template − source", loc="left")
    plot_difference(aligned, template, axes[0, 1], region=region)
    axes[0, 1].set_title("after: template − aligned source", loc="left")
    plot_matches(alignment, axes[1, 0], image=template)
    plot_residuals(alignment, axes[1, 1])
    return figure


def _axes(ax: Axes | None) -> Axes:
    """Return the Axes given, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _label_pixels(ax: Axes) -> Axes:
    """Name the axes and give them equal scales."""
    ax.set(xlabel="x (px)", ylabel="y (px)", aspect="equal")
    return ax


def _frame(ax: Axes, alignment: Alignment) -> Axes:
    """Show the whole of the template's grid."""
    ny, nx = _shape(alignment)
    ax.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5))
    return _label_pixels(ax)


def _shape(alignment: Alignment) -> tuple[int, int]:
    """Return the template's shape, or for a catalog one that holds the matched stars."""
    if alignment.template_shape is not None:
        return alignment.template_shape
    nx, ny = (int(np.ceil(np.max(alignment.matches[name]))) + 1 for name in _TEMPLATE_XY)
    return ny, nx


def _values(image: ArrayLike) -> FloatArray:
    """Return an image as floats, its masked pixels NaN."""
    mask = getattr(image, "mask", None)
    values = np.array(getattr(image, "data", image), dtype=np.float64)
    if mask is not None:
        values[np.broadcast_to(mask, values.shape)] = np.nan
    return values


def _cut(
    image: ArrayLike, region: tuple[slice, slice] | None
) -> tuple[FloatArray, tuple[float, float, float, float]]:
    """Return a part of an image, thinned out to what a panel can show, and its extent in pixels."""
    values = _values(image)
    rows, columns = region or (slice(None), slice(None))
    y0, y1, _ = rows.indices(values.shape[0])
    x0, x1, _ = columns.indices(values.shape[1])
    step = max(1, -(-max(y1 - y0, x1 - x0) // _MAX_PIXELS))
    return values[y0:y1:step, x0:x1:step], (x0 - 0.5, x1 - 0.5, y0 - 0.5, y1 - 0.5)


def _sky(values: FloatArray) -> tuple[float, float]:
    """Return the median and the robust standard deviation of the finite values."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    middle = float(np.median(finite))
    return middle, float(_MAD_TO_SIGMA * np.median(np.abs(finite - middle))) or 1.0


def _round_number(value: float) -> float:
    """Return the number of the series 1, 2, 5, 10, ... that is next to a positive value."""
    if not value > 0:
        return 1.0
    decade = 10.0 ** np.floor(np.log10(value))
    return float(decade * min((1, 2, 5, 10), key=lambda digit: abs(np.log(value / decade / digit))))


def _central(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the middle of an image, 240 by 160 pixels."""
    rows, columns = (
        slice(max(0, (size - part) // 2), (size + part) // 2)
        for size, part in zip(shape, (160, 240), strict=True)
    )
    return rows, columns
