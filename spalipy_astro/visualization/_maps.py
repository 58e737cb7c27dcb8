"""Maps over the template's grid: distortion, error and coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.modeling import Model
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import NDArray

from spalipy_astro.fitting import fit_linear
from spalipy_astro.visualization._canvas import (
    axes_or_new,
    draw_hull,
    positions,
    shape_of,
    show_frame,
)

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = ["plot_coverage", "plot_distortion", "plot_error"]

FloatArray = NDArray[np.float64]

# What `Alignment.coverage` tells apart, with gray levels and hatches.
_KINDS = (
    ("among matched stars", "#ffffff", ""),
    ("extrapolated", "#c8c8c8", "///"),
    ("no data", "#6e6e6e", "xxx"),
)
_MAX_CELLS = 400  # of a map along its longer side
_NO_DISTORTION = 1e-6  # px


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

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_distortion
       >>> ax = plot_distortion(find_alignment(*example_pair()))
    """
    ax = axes_or_new(ax)
    x, y = _mesh(alignment)
    ax.set_title("distortion, px", loc="left")
    dx, dy = _distortion(alignment.transform.inverse, x, y)
    size = np.hypot(dx, dy)
    if not size.max() > _NO_DISTORTION:
        ax.text(0.5, 0.5, "none:\nthe transform is affine", ha="center", transform=ax.transAxes)
        return show_frame(ax, alignment)
    ax.contourf(x, y, size, levels=9, cmap="cividis_r", alpha=0.8)
    lines = ax.contour(x, y, size, levels=9, colors="black", linewidths=0.5)
    ax.clabel(lines, fontsize="x-small")
    thin = (slice(4, None, 9), slice(4, None, 9))
    ax.quiver(x[thin], y[thin], dx[thin], dy[thin], angles="xy", width=0.004)
    return show_frame(ax, alignment)


def plot_error(alignment: Alignment, ax: Axes | None = None) -> Axes:
    """
    Map the 1-sigma error of the transform.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Lines of equal error along each axis, labeled in template pixels, and the stars that the
        fit used, within their dashed hull: outside, the transform is extrapolated.

    Raises
    ------
    ValueError
        If the alignment was made without a fit.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_error
       >>> ax = plot_error(find_alignment(*example_pair()))
    """
    x, y = _mesh(alignment)
    error = alignment.error(*alignment.transform.inverse(x, y))
    ax = axes_or_new(ax)
    used = np.asarray(alignment.matches["used"], bool)
    low, high = float(np.nanmin(error)), float(np.nanmax(error))
    ax.set_title("error of the transform, px", loc="left")
    if high > 1.001 * low > 0:
        levels = _levels(low, high)
        ax.contourf(x, y, error, levels=levels, cmap="cividis_r", extend="both", alpha=0.8)
        lines = ax.contour(x, y, error, levels=levels, colors="black", linewidths=0.5)
        ax.clabel(lines, fontsize="x-small", fmt=lambda level: f"{level:.2g}")
    else:
        ax.set_title(f"error of the transform, {low:.2g} px everywhere", loc="left")
    sx, sy = positions(alignment)
    ax.plot(sx[used], sy[used], ".", color="black", markersize=2, alpha=0.6)
    draw_hull(ax, alignment)
    return show_frame(ax, alignment)


def plot_coverage(alignment: Alignment, ax: Axes | None = None) -> Axes:
    """
    Map where the source has data and where matched stars vouch for the transform.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.

    Returns
    -------
    `~matplotlib.axes.Axes`
        White where the source has data and matched stars lie all around, light and hatched where
        the transform is extrapolated, dark where the source has no data; see `Coverage
        <spalipy_astro.Coverage>`.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_coverage
       >>> ax = plot_coverage(find_alignment(*example_pair()))
    """
    from spalipy_astro.alignment import Coverage

    ax = axes_or_new(ax)
    ny, nx = shape_of(alignment)
    step = max(1, -(-max(nx, ny) // _MAX_CELLS))
    bits = alignment.coverage((ny, nx))[::step, ::step]
    kind = np.where(bits & Coverage.NO_DATA, 2, np.where(bits & Coverage.EXTRAPOLATED, 1, 0))
    ax.imshow(
        kind,
        origin="lower",
        extent=(-0.5, step * kind.shape[1] - 0.5, -0.5, step * kind.shape[0] - 0.5),
        cmap=ListedColormap([color for _, color, _ in _KINDS]),
        vmin=0,
        vmax=2,
        interpolation="nearest",
    )
    handles = []
    for k, (label, color, hatch) in enumerate(_KINDS):
        share = float(np.mean(kind == k))
        if share == 0:
            continue
        text = f"{label} {share:.0%}"
        handles.append(Patch(facecolor=color, hatch=hatch, edgecolor="black", label=text))
        if hatch and share < 1:
            rows, columns = (step * (np.arange(n) + 0.5) - 0.5 for n in kind.shape)
            ax.contourf(columns, rows, kind == k, [0.5, 1.5], colors="none", hatches=[hatch])
    used = np.asarray(alignment.matches["used"], bool)
    x, y = positions(alignment)
    ax.plot(x[used], y[used], ".", color="black", markersize=2, alpha=0.6)
    ax.legend(
        handles=handles,
        fontsize="x-small",
        ncols=3,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderaxespad=0.2,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.0,
    )
    return show_frame(ax, alignment)


def _mesh(alignment: Alignment) -> tuple[FloatArray, FloatArray]:
    """Return positions spread over the template's frame."""
    ny, nx = shape_of(alignment)
    x, y = np.meshgrid(np.linspace(0, nx - 1, 61), np.linspace(0, ny - 1, 45))
    return x, y


def _distortion(backward: Model, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far a map from the template departs from an affine one, in template px."""
    if backward.n_submodels == 2 and hasattr(backward[0], "displacement"):
        return backward[0].displacement(x, y)
    # Inverted and chained alignments have no displacement that could be asked for.
    points = np.column_stack((x.ravel(), y.ravel()))
    mapped = np.column_stack([np.ravel(values) for values in backward(x, y)])
    matrix, offset = fit_linear(points, mapped)
    dx, dy = (np.linalg.solve(matrix, (mapped - offset).T).T - points).T
    return dx.reshape(x.shape), dy.reshape(x.shape)


def _levels(low: float, high: float) -> FloatArray:
    """Return the numbers of the series 1, 2, 5, 10, ... within a range, or equal steps if few."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    series = np.outer(decades, (1, 1.5, 2, 3, 5, 7)).ravel()
    inside = series[(series > low) & (series < high)]
    return inside if len(inside) >= 3 else np.linspace(low, high, 6)[1:-1]
