"""Figures of a group: where its frames lie, what holds them together, and how well."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray

from spalipy_astro._geometry import outline
from spalipy_astro.visualization._canvas import (
    CLIPPED,
    OTHER,
    USED,
    axes_or_new,
    label_pixels,
    round_number,
)

__all__ = ["plot_group", "plot_group_residuals"]

FloatArray = NDArray[np.float64]

_NUMBERED = 60  # frames up to which each has its number
_LABELED = 12  # links up to which each has its number of stars
_ARROWS = 1500
_FEW = 200  # stars that are all shown


def plot_group(group: Any, ax: Axes | None = None, *, component: int = 0) -> Axes:
    """
    Map the frames of a group and the links between them.

    Parameters
    ----------
    group : `~spalipy_astro.GroupAlignment`
        The group.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    component : int, optional
        Which part of the group, as in its table; the largest one by default.

    Returns
    -------
    `~matplotlib.axes.Axes`
        The outlines of the frames on the grid of the component, with their numbers. Lines are the
        links, the wider the more stars they have in common; dashed ones contradict the others and
        were not used. The outline of the reference is wide.

    Raises
    ------
    ValueError
        If there is no such component.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import align_group
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_group
       >>> frame = example_pair()[1].data
       >>> parts = [frame[:420, :620], frame[320:, 100:700], frame[150:600, 480:]]
       >>> ax = plot_group(align_group(parts))
    """
    ax = axes_or_new(ax)
    (ny, nx), (x0, y0) = group.canvas(component)[:2]
    members = np.flatnonzero(np.asarray(group.table["component"]) == component).tolist()
    middle: dict[int, FloatArray] = {}
    for k in members:
        rim = _rim(group.alignments[k])
        middle[k] = (rim.min(axis=0) + rim.max(axis=0)) / 2
        top = k == group.reference
        ax.fill(*rim.T, facecolor=to_rgba(USED, 0.08), edgecolor="none")
        ax.plot(*rim.T, color=USED, linewidth=2.2 if top else 0.8)
    links = [link for link in group.links if link["i"] in middle and link["j"] in middle]
    most = max((int(link["n_matched"]) for link in links), default=1)
    for link in links:
        ends = np.array([middle[int(link["i"])], middle[int(link["j"])]])
        style: dict[str, Any] = {"color": OTHER, "zorder": 3}
        if not link["used"]:
            style = {"color": CLIPPED, "linestyle": "--", "zorder": 4}
        ax.plot(*ends.T, linewidth=0.6 + 2.4 * int(link["n_matched"]) / most, alpha=0.7, **style)
        if len(links) <= _LABELED:
            x, y = ends.mean(axis=0)
            ax.annotate(str(link["n_matched"]), (x, y), fontsize="x-small", ha="center", zorder=5)
    for k in members if len(members) <= _NUMBERED else []:
        weight = "bold" if k == group.reference else "normal"
        box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": USED}
        ax.annotate(
            str(k),
            tuple(middle[k]),
            fontsize="small",
            ha="center",
            va="center",
            weight=weight,
            bbox=box,
            zorder=6,
        )
    edge = 0.03 * max(nx, ny)
    ax.set(xlim=(x0 - edge, x0 + nx + edge), ylim=(y0 - edge, y0 + ny + edge))
    return label_pixels(ax)


def plot_group_residuals(group: Any, ax: Axes | None = None, *, component: int = 0) -> Axes:
    """
    Map where each frame of a group shows the stars that other frames show, too.

    Parameters
    ----------
    group : `~spalipy_astro.GroupAlignment`
        The group.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    component : int, optional
        Which part of the group, as in its table; the largest one by default.

    Returns
    -------
    `~matplotlib.axes.Axes`
        An arrow for each star in each frame, from where the other frames have it. Of many stars
        the best measured quarter is shown, since the noise of the others would hide it, and of very
        many some, evenly chosen. If neighboring arrows agree, a distortion was missed. The scale is
        in the corner.

    Raises
    ------
    ValueError
        If there is no such component.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import align_group
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_group_residuals
       >>> evening, morning = (frame.data for frame in example_pair())
       >>> parts = [morning[:420, :620], evening[100:520, 200:800], morning[150:600, 480:]]
       >>> ax = plot_group_residuals(align_group(parts))
    """
    ax = axes_or_new(ax)
    (ny, nx), (x0, y0) = group.canvas(component)[:2]
    parts = []
    for k in np.flatnonzero(np.asarray(group.table["component"]) == component).tolist():
        matches = group.alignments[k].matches
        used = np.asarray(matches["used"], bool)
        columns = (np.asarray(matches[name])[used] for name in ("x_template", "y_template"))
        gaps = (-np.asarray(matches[name])[used] for name in ("dx", "dy"))
        parts.append(np.column_stack((*columns, *gaps, np.asarray(matches["sigma"])[used])))
        ax.plot(*_rim(group.alignments[k]).T, color=USED, linewidth=0.5, alpha=0.6)
    found = np.concatenate(parts)
    if len(found):
        shown = max(_FEW, len(found) // 4)
        if len(found) > shown:
            found = found[np.sort(np.argsort(found[:, 4], kind="stable")[:shown])]
        found = found[:: max(1, -(-len(found) // _ARROWS))]
        typical = float(np.sqrt(np.mean(np.sum(found[:, 2:4] ** 2, axis=1))))
        length = round_number(typical)
        scale = 0.03 * max(nx, ny) / (typical or 1.0)
        style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1 / scale}
        arrows = ax.quiver(*found[:, :4].T, width=0.0018, color="black", **style)
        ax.quiverkey(arrows, 0.85, 0.96, length, f"{length:g} px", labelpos="E", coordinates="axes")
    edge = 0.03 * max(nx, ny)
    ax.set(xlim=(x0 - edge, x0 + nx + edge), ylim=(y0 - edge, y0 + ny + edge))
    return label_pixels(ax)


def _rim(alignment: Any) -> FloatArray:
    """Return the outline of a frame on the grid; of a catalog, that of the box of its stars."""
    if alignment.source_shape is not None:
        return outline(alignment.transform, alignment.source_shape)
    x, y = (np.asarray(alignment.matches[f"{axis}_source"]) for axis in "xy")
    low, high = (np.array([f(x), f(y)]) for f in (np.min, np.max))
    corners = np.array([low, (high[0], low[1]), high, (low[0], high[1]), low])
    return np.column_stack(alignment.transform(*corners.T))
