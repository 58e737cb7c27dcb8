"""Figures of the residuals of the stars' positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
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


def plot_residuals(
    alignment: Alignment, ax: Axes | None = None, *, scale_bar: float | None = None
) -> Axes:
    """
    Draw the residual of each star's position as an arrow.

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
        less certain a star's position is; of very many stars, the best measured ones. Crosses are
        stars that it clipped.
    """
    ax = axes_or_new(ax)
    matches = alignment.matches
    used = np.asarray(matches["used"])
    x, y = positions(alignment)
    dx, dy = np.asarray(matches["dx"]), np.asarray(matches["dy"])
    sigma = np.asarray(matches["sigma"])
    if not used.any():
        ax.set_title("residuals: no matched stars", loc="left")
        return show_frame(ax, alignment)
    rms = float(np.sqrt(np.mean(dx[used] ** 2 + dy[used] ** 2)))
    best = np.flatnonzero(used)
    title = f"residuals, rms {rms:.3f} px"
    if len(best) > _MOST_ARROWS:
        best = np.sort(best[np.argsort(sigma[best], kind="stable")[:_MOST_ARROWS]])
        title += f"; the best {_MOST_ARROWS}"
        rms = float(np.sqrt(np.mean(dx[best] ** 2 + dy[best] ** 2)))
    bar = round_number(rms) if scale_bar is None else scale_bar
    nx = shape_of(alignment)[1]
    # The reference arrow gets a twentieth of the frame's width.
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 20 * bar / nx}
    weight = np.clip(np.median(sigma[best]) / sigma[best], 0.2, 1.0)
    arrows = ax.quiver(
        x[best],
        y[best],
        dx[best],
        dy[best],
        color=to_rgba_array(USED, weight),
        width=0.003,
        **style,
    )
    ax.scatter(x[~used], y[~used], s=18, marker="x", linewidths=0.8, color=CLIPPED)
    # on the line of the title: below the axes there is no room in square figures
    ax.quiverkey(arrows, 0.84, 1.035, bar, f"{bar:g} px", labelpos="E", coordinates="axes")
    ax.set_title(title, loc="left")
    return show_frame(ax, alignment)


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
