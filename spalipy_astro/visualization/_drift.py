"""Figures of a sequence of frames: how they drift, turn and breathe."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from spalipy_astro._checks import is_template
from spalipy_astro.visualization._canvas import CLIPPED, OTHER, USED, axes_or_new
from spalipy_astro.visualization._notebook import new_figure

__all__ = ["plot_drift", "plot_sequence"]

# Columns of the table of `align_many`, and how they are drawn.
_QUANTITIES = {
    "shift": (("shift_x", "x", USED, "o", "-"), ("shift_y", "y", CLIPPED, "s", "--")),
    "rotation": (("rotation", "", USED, "o", "-"),),
    "scale": (("scale", "", USED, "o", "-"),),
    "error": (("error", "", USED, "o", "-"),),
    "rms": (("rms", "", USED, "o", "-"),),
    "stars": (("n_matched", "matched", OTHER, "D", "-"), ("n_stars", "usable", USED, "o", "--")),
    "fwhm": (("fwhm", "", USED, "o", "-"),),
    "ellipticity": (("ellipticity", "", USED, "o", "-"),),
    "background": (("background", "", USED, "o", "-"),),
    "depth": (("depth", "", USED, "o", "-"),),
    "flux": (("flux_ratio", "", USED, "o", "-"),),
}
_TRIVIAL = ("error", "rms", "n_matched")  # of the template on itself
_LABELS = {
    "shift": "shift of the center (px)",
    "rotation": "rotation (deg)",
    "scale": "scale, from its median (ppm)",
    "error": "error of the transform (px)",
    "rms": "residual of a star, rms (px)",
    "stars": "stars",
    "fwhm": "FWHM of the stars (px)",
    "ellipticity": "ellipticity, 1 - b/a",
    "background": "sky (data units)",
    "depth": "flux of S/N 5 (data units)",
    "flux": "flux of stars, over the template's",
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
    quantity : str, optional
        What to draw: ``"shift"``, ``"rotation"``, ``"scale"``, ``"error"``, ``"rms"``, ``"stars"``,
        ``"fwhm"``, ``"ellipticity"``, ``"background"``, ``"depth"`` or ``"flux"``.
    against : array_like, optional
        The abscissa, one number for each frame, such as the time; by default the number of the
        frame, from 0.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Lines connect neighbors that were aligned. Crosses on the lower edge are frames that were
        not; open circles are frames that were rejected. The template, which matches itself, has
        no error, no residuals and no matched stars in the figure.

    Raises
    ------
    ValueError
        If ``quantity`` is unknown or not in the table, or ``against`` does not have one number for
        each frame.

    Examples
    --------
    .. plot::

       >>> import numpy as np
       >>> from spalipy_astro import align_many
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_drift
       >>> frame = example_pair()[1].data[200:500, 300:700]
       >>> night = [np.roll(frame, (k, -2 * k), (0, 1)) for k in range(6)]
       >>> table = align_many(night, night[0], progress=False)
       >>> ax = plot_drift(table, quantity="shift")
    """
    if quantity not in _QUANTITIES:
        raise ValueError(f"quantity is one of {', '.join(_QUANTITIES)}; got {quantity!r}.")
    abscissa = np.arange(len(table)) if against is None else np.asarray(against)
    if abscissa.shape != (len(table),):
        raise ValueError(
            f"against takes one number for each of {len(table)} frames; got shape {abscissa.shape}."
        )
    ax = axes_or_new(ax)
    status = np.asarray(table["status"])
    good, rejected = status == "ok", status == "rejected"
    failed = ~(good | rejected)
    for column, label, color, marker, line in _known(table, quantity):
        known = np.asarray(table[column], float)
        if column in _TRIVIAL:
            known = np.where(is_template(table), np.nan, known)
        values, bad = np.where(good, known, np.nan), known[rejected]
        if quantity == "scale" and good.any():
            middle = np.nanmedian(values)
            values = (values / middle - 1) * 1e6
            bad = (bad / middle - 1) * 1e6
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
        if rejected.any():
            ax.plot(
                abscissa[rejected],
                bad,
                marker=marker,
                linestyle="none",
                markersize=5,
                markerfacecolor="none",
                markeredgecolor=color,
                label=f"{label} rejected".strip(),
            )
    if failed.any():
        style: dict[str, Any] = {"color": "black", "linestyle": "none", "clip_on": False}
        on_edge = ax.get_xaxis_transform()
        zeros = np.zeros(int(failed.sum()))
        ax.plot(abscissa[failed], zeros, "x", transform=on_edge, label="failed", **style)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="small", ncols=3)
    ax.set(xlabel="frame" if against is None else "", ylabel=_LABELS[quantity])
    if against is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _known(table: Table, quantity: str) -> list[tuple[str, str, str, str, str]]:
    """Return what there is to draw of a quantity."""
    known = [part for part in _QUANTITIES[quantity] if part[0] in table.colnames]
    if not known:
        column = _QUANTITIES[quantity][0][0]
        raise ValueError(
            f"the table has no column {column!r}; quantity={quantity!r} takes one from align_many."
        )
    return known


def plot_sequence(table: Table, *, against: ArrayLike | None = None) -> Figure:
    """
    Draw an overview of a sequence: how its frames lie on the template, and how good they are.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What `~spalipy_astro.align_many` returns.
    against : array_like, optional
        The abscissa; see `plot_drift`.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Examples
    --------
    .. plot::

       >>> import numpy as np
       >>> from spalipy_astro import align_many
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_sequence
       >>> frame = example_pair()[1].data[200:500, 300:700]
       >>> night = [np.roll(frame, (k, -2 * k), (0, 1)) for k in range(6)]
       >>> table = align_many(night, night[0], progress=False)
       >>> figure = plot_sequence(table)
    """
    left = ("shift", "rotation", "stars", "fwhm", "flux")
    right = ("error", "scale", "rms", "ellipticity", "depth")
    figure, axes = new_figure(5, 2, size=(10, 13), sharex=True)
    for column, quantities in zip(axes.T, (left, right), strict=True):
        for ax, quantity in zip(column, quantities, strict=True):
            plot_drift(table, ax, quantity=quantity, against=against)
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    return figure
