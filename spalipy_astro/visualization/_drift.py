"""Figures of a sequence of frames: how they drift, turn and breathe."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from spalipy_astro.visualization._canvas import CLIPPED, OTHER, USED, axes_or_new
from spalipy_astro.visualization._notebook import new_figure

__all__ = ["plot_drift", "plot_sequence"]

# Columns of the table of `align_many`, and how they are drawn.
_QUANTITIES = {
    "shift": (("shift_x", "x", USED, "o", "-"), ("shift_y", "y", CLIPPED, "s", "--")),
    "rotation": (("rotation", "", USED, "o", "-"),),
    "scale": (("scale", "", USED, "o", "-"),),
    "rms": (("rms", "", USED, "o", "-"),),
    "stars": (("n_matched", "", OTHER, "D", "-"),),
}
_LABELS = {
    "shift": "shift of the center (px)",
    "rotation": "rotation (deg)",
    "scale": "scale, from its median (ppm)",
    "rms": "residual, rms (px)",
    "stars": "matched stars",
}


def plot_drift(
    table: Table,
    ax: Axes | None = None,
    *,
    quantity: str = "shift",
    against: ArrayLike | None = None,
) -> Axes:
    """
    Draw how the frames of a sequence lie on the template, one after the other.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What `~spalipy_astro.align_many` returns.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    quantity : {"shift", "rotation", "scale", "rms", "stars"}, optional
        What to draw.
    against : array_like, optional
        The abscissa, one number for each frame, such as the time; by default the number of the
        frame, from 0.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Lines connect neighbors that were aligned. Crosses on the lower edge are frames that were
        not.

    Raises
    ------
    ValueError
        If ``quantity`` is unknown, or ``against`` does not have one number for each frame.
    """
    if quantity not in _QUANTITIES:
        raise ValueError(f"quantity is one of {', '.join(_QUANTITIES)}; got {quantity!r}.")
    abscissa = np.arange(len(table)) if against is None else np.asarray(against)
    if abscissa.shape != (len(table),):
        raise ValueError(
            f"against takes one number for each of {len(table)} frames; got shape {abscissa.shape}."
        )
    ax = axes_or_new(ax)
    good = np.asarray(table["status"]) == "ok"
    for column, label, color, marker, line in _QUANTITIES[quantity]:
        values = np.where(good, np.asarray(table[column], float), np.nan)
        if quantity == "scale" and good.any():
            values = (values / np.nanmedian(values) - 1) * 1e6
        ax.plot(
            abscissa,
            values,
            color=color,
            marker=marker,
            linestyle=line,
            linewidth=1,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=label,
        )
    if not good.all():
        style: dict[str, Any] = {"color": "black", "linestyle": "none", "clip_on": False}
        on_edge = ax.get_xaxis_transform()
        zeros = np.zeros(int((~good).sum()))
        ax.plot(abscissa[~good], zeros, "x", transform=on_edge, label="failed", **style)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="small", ncols=3)
    ax.set(xlabel="frame" if against is None else "", ylabel=_LABELS[quantity])
    if against is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def plot_sequence(table: Table, *, against: ArrayLike | None = None) -> Figure:
    """
    Draw an overview of a sequence: shift, rotation, scale and residuals of its frames.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What `~spalipy_astro.align_many` returns.
    against : array_like, optional
        The abscissa; see `plot_drift`.

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    figure, axes = new_figure(2, 2, size=(10, 6), sharex=True)
    for ax, quantity in zip(axes.flat, ("shift", "rotation", "scale", "rms"), strict=True):
        plot_drift(table, ax, quantity=quantity, against=against)
    for ax in axes[0]:
        ax.set_xlabel("")
    return figure
