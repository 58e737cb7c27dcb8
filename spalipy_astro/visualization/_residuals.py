"""Figures of the residuals of the stars' positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_rgba_array

from spalipy_astro.visualization._canvas import (
    CLIPPED,
    USED,
    axes_or_new,
    equal_bins,
    positions,
    round_number,
    shape_of,
    show_frame,
)

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = ["plot_residuals", "plot_residuals_by_flux", "plot_residuals_by_position"]

_MOST_ARROWS = 1000
_STARS_A_CELL = 14  # on average; fewer than three have no mean
_MANY_STARS = 150  # with fewer, the stars themselves are shown
_UNCERTAIN = 2.0  # means that are so much less certain than most would hide their neighbors
_SIGMAS = 3.0


def plot_residuals(
    alignment: Alignment,
    ax: Axes | None = None,
    *,
    scale_bar: float | None = None,
    cells: int | None = None,
) -> Axes:
    """
    Draw the residuals of the stars' positions as arrows.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    scale_bar : float, optional
        Length of the reference arrow in template pixels; by default that of a typical arrow.
    cells : int, optional
        Number of square cells along the longer side of the frame, in each of which the residuals
        are averaged; 0 draws an arrow per star. By default there are about 14 stars in a cell, and
        fewer than 150 stars are drawn one by one.

    Returns
    -------
    `~matplotlib.axes.Axes`
        The title gives the expected error of the transform, ``summary()["error"]``. Arrows are the
        means of the residuals in cells, weighted by the certainty of the stars' positions; cells
        with less than three stars, or with faint ones only, are left out. Circles are the 3-sigma
        errors of these means: a mean that lies beyond its circle is drawn in another color, and
        several that point the same way betray a distortion that the fit did not follow. Where
        single stars are drawn, arrows start at their template positions, the paler the less
        certain a position is; of very many stars, the best measured ones. Crosses are stars that
        the fit clipped.

    Raises
    ------
    ValueError
        If ``cells`` is negative or not a whole number.

    Examples
    --------
    .. plot::

       >>> import matplotlib.pyplot as plt
       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_residuals
       >>> alignment = find_alignment(*example_pair())
       >>> figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
       >>> ax = plot_residuals(alignment, axes[0])
       >>> ax = plot_residuals(alignment, axes[1], cells=0)
    """
    if cells is not None and (cells != int(cells) or cells < 0):
        raise ValueError(f"cells is a whole number from 0 up; got {cells!r}.")
    ax = axes_or_new(ax)
    matches = alignment.matches
    used = np.asarray(matches["used"], bool)
    x, y = positions(alignment)
    if not used.any():
        ax.set_title("residuals: no matched stars", loc="left")
        return show_frame(ax, alignment)
    ny, nx = shape_of(alignment)
    if cells is None:
        cells = round(np.sqrt(used.sum() / _STARS_A_CELL * max(nx / ny, ny / nx)))
        cells = cells if used.sum() >= _MANY_STARS else 0
    draw = _draw_means if cells else _draw_stars
    words = draw(ax, alignment, scale_bar, max(nx, ny) / max(cells, 1))
    ax.scatter(x[~used], y[~used], s=18, marker="x", linewidths=0.8, color=CLIPPED)
    ax.set_title(f"{_headline(alignment)}\n{words}", loc="left")
    return show_frame(ax, alignment)


def _headline(alignment: Alignment) -> str:
    """Say how good the transform is."""
    stars = f"{int(np.sum(alignment.matches['used']))} stars"
    error = alignment.summary().get("error")
    return stars if error is None else f"aligned to {error:.2g} px, {stars}"


def _draw_stars(ax: Axes, alignment: Alignment, scale_bar: float | None, _: float) -> str:
    """Draw an arrow per star, and return what they are in words."""
    matches = alignment.matches
    used = np.asarray(matches["used"], bool)
    x, y = positions(alignment)
    dx, dy, sigma = (np.asarray(matches[name]) for name in ("dx", "dy", "sigma"))
    best = np.flatnonzero(used)
    which = "residuals"
    if len(best) > _MOST_ARROWS:
        best = np.sort(best[np.argsort(sigma[best], kind="stable")[:_MOST_ARROWS]])
        which = f"the best {_MOST_ARROWS}"
    rms = float(np.sqrt(np.mean(dx[best] ** 2 + dy[best] ** 2)))
    bar = round_number(rms) if scale_bar is None else scale_bar
    weight = np.clip(np.median(sigma[best]) / sigma[best], 0.2, 1.0)
    colors = to_rgba_array(USED, weight)
    # The reference arrow gets a twentieth of the frame's width.
    scale = 20 * bar / shape_of(alignment)[1]
    _draw_arrows(ax, (x[best], y[best], dx[best], dy[best]), colors, bar, scale)
    return f"{which}, rms {rms:.3f} px"


def _draw_means(ax: Axes, alignment: Alignment, scale_bar: float | None, side: float) -> str:
    """Draw the mean residual of each cell, and return what the arrows are in words."""
    matches = alignment.matches
    used = np.asarray(matches["used"], bool)
    x, y = (values[used] for values in positions(alignment))
    columns = int(np.ceil(shape_of(alignment)[1] / side))
    cell = np.floor((y + 0.5) / side).astype(int) * columns
    cell += np.floor((x + 0.5) / side).astype(int)
    weight = np.asarray(matches["sigma"])[used] ** -2.0
    _, place, count = np.unique(cell, return_inverse=True, return_counts=True)
    total = np.bincount(place, weight)
    enough = count >= 3
    if not enough.any():
        return "no cell has three stars"
    enough &= total >= np.median(total[enough]) / _UNCERTAIN**2
    px, py, dx, dy = (
        (np.bincount(place, weight * values) / total)[enough]
        for values in (x, y, np.asarray(matches["dx"])[used], np.asarray(matches["dy"])[used])
    )
    reach = _SIGMAS * total[enough] ** -0.5
    bar = round_number(float(np.median(reach))) if scale_bar is None else scale_bar
    # A typical circle nearly fills its cell.
    scale = float(np.median(reach)) / (0.5 * side)
    ax.add_collection(
        EllipseCollection(
            *(2 * reach / scale, 2 * reach / scale, np.zeros(len(reach))),
            units="xy",
            offsets=np.column_stack((px, py)),
            offset_transform=ax.transData,
            facecolors="#e4e4e4",
            edgecolors="none",
        )
    )
    beyond = np.hypot(dx, dy) > reach
    colors = to_rgba_array([CLIPPED if far else USED for far in beyond])
    _draw_arrows(ax, (px, py, dx, dy), colors, bar, scale)
    return f"means in cells, circles {_SIGMAS:g} σ"


def _draw_arrows(ax: Axes, arrows: Any, colors: Any, bar: float, scale: float) -> None:
    """Draw arrows ``(x, y, dx, dy)``, ``scale`` px long per px of the frame, and one to compare."""
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": scale}
    drawn = ax.quiver(*arrows, color=colors, width=0.004, **style)
    # on the line of the title: below the axes there is no room in square figures
    ax.quiverkey(drawn, 0.84, 1.035, bar, f"{bar:g} px", labelpos="E", coordinates="axes")


def plot_residuals_by_position(
    alignment: Alignment, ax: Axes | None = None, *, axis: str = "x"
) -> Axes:
    """
    Draw the residuals against the position along one axis.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    axis : {"x", "y"}, optional
        The coordinate of the template along the abscissa.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Small marks are the residuals of the stars that the fit used, the paler the less certain a
        star's position is; large ones their weighted means in bins of equally many stars, with
        1-sigma errors. The means should scatter about zero; a trend betrays a distortion that the
        fit did not follow. The range is that of the means and of the best stars.

    Raises
    ------
    ValueError
        If ``axis`` is neither "x" nor "y", or there are no matched stars.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_residuals_by_position
       >>> ax = plot_residuals_by_position(find_alignment(*example_pair()))
    """
    if axis not in ("x", "y"):
        raise ValueError(f"axis is 'x' or 'y'; got {axis!r}.")
    ax = axes_or_new(ax)
    matches = alignment.matches
    used = np.asarray(matches["used"], bool)
    if not used.any():
        raise ValueError("there are no matched stars; the transform was given.")
    along = positions(alignment)["xy".index(axis)][used]
    sigma = np.asarray(matches["sigma"])[used]
    weight = sigma**-2.0
    residuals = np.array([np.asarray(matches[name])[used] for name in ("dx", "dy")])
    bins = equal_bins(along)
    errors = np.array([weight[part].sum() for part in bins]) ** -0.5
    means = np.array(
        [[np.average(r[part], weights=weight[part]) for part in bins] for r in residuals]
    )
    limit = max(1.5 * np.max(np.abs(means) + errors), 4 * np.quantile(sigma, 0.1))
    strength = np.clip(np.quantile(sigma, 0.1) / sigma, 0.15, 1.0)
    size = float(np.clip(300 / np.sqrt(len(along) + 1), 2, 9))
    looks = (("dx", USED, "o", "-"), ("dy", CLIPPED, "s", "--"))
    for values, mean, (name, color, marker, line) in zip(residuals, means, looks, strict=True):
        ax.scatter(
            along, values, s=size, marker=marker, linewidths=0, color=to_rgba_array(color, strength)
        )
        ax.errorbar(
            [along[part].mean() for part in bins],
            mean,
            errors,
            color=color,
            marker=marker,
            linestyle=line,
            markersize=5.5,
            markeredgecolor="black",
            markeredgewidth=0.6,
            linewidth=1.2,
            capsize=2.5,
            label=f"{name}, mean",
            zorder=3,
        )
    ax.axhline(0, color="black", linewidth=0.6)
    length = shape_of(alignment)[1 - "xy".index(axis)]
    ax.set(
        xlim=(-0.5, length - 0.5),
        ylim=(-limit, limit),
        xlabel=f"{axis} (px)",
        ylabel="residual (px)",
    )
    beyond = np.mean(np.abs(residuals) > limit)
    more = f", {beyond:.0%} of them beyond the edges" if beyond > 0.005 else ""
    ax.set_title(f"residuals along {axis}{more}", loc="left")
    ax.legend(fontsize="small", ncols=2, loc="upper right")
    return ax


def plot_residuals_by_flux(alignment: Alignment, ax: Axes | None = None) -> Axes:
    """
    Draw the residuals against the brightness of the stars.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Points are the distances of the stars that the fit used from where the transform puts them,
        crosses those of clipped stars. Squares are their rms in bins of equally many stars, and
        the line is the expectation from the position errors of these stars. Squares above the line
        at the bright end betray a distortion that the fit did not follow.

    Raises
    ------
    ValueError
        If the stars have no fluxes, as those of a bare list of positions.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_residuals_by_flux
       >>> ax = plot_residuals_by_flux(find_alignment(*example_pair()))
    """
    matches = alignment.matches
    name, flux = _fluxes(alignment)
    ax = axes_or_new(ax)
    used = np.asarray(matches["used"], bool)
    distance = np.hypot(np.asarray(matches["dx"]), np.asarray(matches["dy"]))
    # Along both axes together.
    expected = np.sqrt(2) * np.asarray(matches["sigma"])
    ax.plot(flux[used], distance[used], ".", color=USED, markersize=3, alpha=0.35)
    ax.plot(flux[~used], distance[~used], "x", color=CLIPPED, markersize=5, markeredgewidth=1)
    bins = [np.flatnonzero(used)[part] for part in equal_bins(flux[used])]
    middle = [np.exp(np.mean(np.log(flux[part]))) for part in bins]
    ax.plot(
        middle,
        [np.sqrt(np.mean(distance[part] ** 2)) for part in bins],
        "s",
        color="black",
        markersize=5,
        markeredgecolor="white",
        label="measured rms",
    )
    ax.plot(
        middle,
        [np.sqrt(np.mean(expected[part] ** 2)) for part in bins],
        "-",
        color="black",
        linewidth=1.3,
        label="expected of the errors",
    )
    ax.set(xscale="log", yscale="log", xlabel=f"flux in the {name}", ylabel="residual (px)")
    positive = distance[distance > 0]
    if positive.size:
        # A few chance hits are infinitely close; they would squeeze the others.
        ax.set_ylim(bottom=float(np.quantile(positive, 0.01)))
    ax.set_title("residuals by brightness", loc="left")
    ax.legend(fontsize="small", loc="upper right")
    return ax


def _fluxes(alignment: Alignment) -> tuple[str, Any]:
    """Return the fluxes of the matched stars, and whose they are."""
    for name in ("template", "source"):
        flux = np.asarray(alignment.matches[f"flux_{name}"], float)
        if len(flux) and np.all(flux > 0):
            return name, flux
    raise ValueError(
        "the matched stars have no fluxes: both catalogs were without a column 'flux'; "
        "plot_residuals_by_position needs none."
    )
