"""
Figures of an alignment, drawn with matplotlib.

Every function takes the Axes to draw on, makes new ones if there are none, and returns them. Colors
are those that color-blind readers can tell apart, and nothing is told by color alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from spalipy_astro._checks import check_frames, plane_of
from spalipy_astro._neighbors import Neighbors
from spalipy_astro.visualization._canvas import (
    CLIPPED,
    OTHER,
    USED,
    axes_or_new,
    central,
    cut,
    label_pixels,
    pixels_of,
    positions,
    shape_of,
    show_frame,
    sky_of,
)
from spalipy_astro.visualization._drift import plot_drift, plot_sequence
from spalipy_astro.visualization._maps import plot_coverage, plot_distortion, plot_error
from spalipy_astro.visualization._notebook import new_figure
from spalipy_astro.visualization._residuals import (
    plot_residuals,
    plot_residuals_by_flux,
    plot_residuals_by_position,
)

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = [
    "plot_alignment",
    "plot_coverage",
    "plot_difference",
    "plot_distortion",
    "plot_drift",
    "plot_error",
    "plot_image",
    "plot_matches",
    "plot_residuals",
    "plot_residuals_by_flux",
    "plot_residuals_by_position",
    "plot_sequence",
]

_NEAR = 1.0  # px; within it of a matched star, a star is that one


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

    Examples
    --------
    .. plot::

       >>> import numpy as np
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_image
       >>> source, template = example_pair()
       >>> ax = plot_image(template, region=np.s_[300:450, 400:630])
    """
    ax = axes_or_new(ax)
    values, extent = cut(image, region)
    middle, noise = sky_of(values)
    ax.imshow(
        values,
        origin="lower",
        extent=extent,
        cmap="gray_r",
        vmin=middle - 2 * noise,
        vmax=middle + 20 * noise,
        interpolation="nearest",
    )
    return label_pixels(ax)


def plot_difference(
    image: ArrayLike,
    template: ArrayLike,
    ax: Axes | None = None,
    *,
    region: tuple[slice, slice] | None = None,
    limit: float | None = None,
    flux_ratio: float = 1.0,
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
    flux_ratio : float, optional
        How much brighter the stars are in the image than in the template, by which the image is
        divided; ``alignment.flux_ratio[0]`` makes both fluxes equal, so that what remains has
        changed.

    Returns
    -------
    `~matplotlib.axes.Axes`

    Raises
    ------
    ValueError
        If ``flux_ratio`` is not a positive number.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_difference
       >>> source, template = example_pair()
       >>> alignment = find_alignment(source, template)
       >>> aligned = alignment.resample(source)
       >>> part = (slice(300, 450), slice(400, 630))
       >>> ratio = alignment.flux_ratio[0]
       >>> ax = plot_difference(aligned, template, region=part, flux_ratio=ratio)
    """
    if not 0 < flux_ratio < np.inf:
        raise ValueError(f"flux_ratio is a positive number, 1 by default; got {flux_ratio!r}.")
    ax = axes_or_new(ax)
    first, second = pixels_of(template), pixels_of(image)
    shape = tuple(np.minimum(first.shape, second.shape))
    first, second = first[: shape[0], : shape[1]], second[: shape[0], : shape[1]]
    middle, noise = sky_of(first)
    limit = 8 * noise if limit is None else limit
    values, extent = cut((first - middle) - (second - sky_of(second)[0]) / flux_ratio, region)
    ax.imshow(
        values,
        origin="lower",
        extent=extent,
        cmap="gray",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
    )
    return label_pixels(ax)


def plot_matches(
    alignment: Alignment,
    ax: Axes | None = None,
    *,
    image: ArrayLike | None = None,
    template_stars: Table | None = None,
    source_stars: Table | None = None,
) -> Axes:
    """
    Mark the matched stars at their template positions, and the others.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; new ones by default.
    image : array_like or `~astropy.nddata.NDData`, shape (ny, nx), optional
        Image on the template's grid to show beneath the marks, such as the template.
    template_stars, source_stars : `~astropy.table.Table`, optional
        Stars of the template and of the source, with columns ``x`` and ``y`` in the pixels of each
        (as `~spalipy_astro.detect_stars` gives them): those without a match are marked, too.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Circles are stars that the fit used, crosses those that it clipped. Of the stars without a
        match, squares are those of the template, triangles those of the source.

    Raises
    ------
    ValueError
        If the image does not have the template's shape, or a table has no positions.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_matches
       >>> source, template = example_pair()
       >>> ax = plot_matches(find_alignment(source, template), image=template)
    """
    check_frames(alignment, image=image)
    ax = axes_or_new(ax)
    if image is not None:
        plot_image(image, ax)
    matches = alignment.matches
    used = np.asarray(matches["used"])
    x, y = positions(alignment)
    style: dict[str, Any] = {
        "linestyle": "none",
        "markersize": float(np.clip(140 / np.sqrt(len(matches) + 1), 1.8, 5.0)),
        "markeredgewidth": 0.8,
        "fillstyle": "none",
    }
    small = {**style, "markersize": 0.7 * style["markersize"], "markeredgewidth": 0.7}
    words = []
    if template_stars is not None:
        xy = _without_match(_xy(template_stars), np.column_stack((x, y)))
        ax.plot(*xy.T, "s", color=OTHER, **small)
        words.append(f"template alone {len(xy)} □")
    if source_stars is not None:
        known = np.column_stack([np.asarray(matches[name]) for name in ("x_source", "y_source")])
        xy = np.column_stack(alignment.transform(*_without_match(_xy(source_stars), known).T))
        ny, nx = shape_of(alignment)
        xy = xy[np.all((xy > -0.5) & (xy < (nx - 0.5, ny - 0.5)), axis=1)]
        ax.plot(*xy.T, "^", color=CLIPPED, **small)
        words.append(f"source alone {len(xy)} △")
    ax.plot(x[used], y[used], "o", color=USED, **style)
    ax.plot(x[~used], y[~used], "x", color=CLIPPED, **style)
    title = f"matched stars: {used.sum()} used ○, {(~used).sum()} clipped ×"
    ax.set_title("\n".join([title, ", ".join(words)]) if words else title, loc="left")
    return show_frame(ax, alignment)


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
        given, the overview shows their difference before and after the alignment, with equal
        fluxes of the stars (``alignment.flux_ratio``); of color images that of the mean of their
        colors.
    region : tuple of slice, optional
        The part of the template's grid where the differences are shown, rows first; 240 by 160
        pixels in the middle by default, enough to see the shape of stars.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    ValueError
        If an image does not have the shape of its frame.

    Examples
    --------
    .. plot::

       >>> from spalipy_astro import find_alignment
       >>> from spalipy_astro.example import example_pair
       >>> from spalipy_astro.visualization import plot_alignment
       >>> source, template = example_pair()
       >>> alignment = find_alignment(source, template)
       >>> aligned = alignment.resample(source)
       >>> images = {"source": source, "aligned": aligned, "template": template}
       >>> figure = plot_alignment(alignment, **images)
    """
    source, aligned, template = (
        None if image is None else plane_of(image) for image in (source, aligned, template)
    )
    check_frames(alignment, source=source, aligned=aligned, template=template)
    if source is None or aligned is None or template is None:
        figure, axes = new_figure(1, 3, size=(13, 3.6))
        plot_matches(alignment, axes[0], image=template)
        plot_residuals(alignment, axes[1])
        plot_distortion(alignment, axes[2])
        return figure
    figure, axes = new_figure(2, 2, size=(10, 7))
    region = central(shape_of(alignment)) if region is None else region
    ratio = alignment.flux_ratio[0]
    ratio, of = (ratio, f" / {ratio:.2f}") if np.isfinite(ratio) else (1.0, "")
    plot_difference(source, template, axes[0, 0], region=region, flux_ratio=ratio)
    axes[0, 0].set_title(f"before: template − source{of}", loc="left")
    plot_difference(aligned, template, axes[0, 1], region=region, flux_ratio=ratio)
    axes[0, 1].set_title(f"after: template − aligned{of}", loc="left")
    plot_matches(alignment, axes[1, 0], image=template)
    plot_residuals(alignment, axes[1, 1])
    return figure


def _xy(stars: Table) -> Any:
    """Return the positions of a table of stars, shape (N, 2)."""
    missing = {"x", "y"} - set(stars.colnames)
    if missing:
        raise ValueError(
            f"stars have columns 'x' and 'y', px; the table has {', '.join(stars.colnames)}."
        )
    return np.column_stack([np.asarray(stars[name], float) for name in ("x", "y")])


def _without_match(xy: Any, known: Any) -> Any:
    """Return the positions that none of the matched stars has."""
    if len(known) == 0 or len(xy) == 0:
        return xy
    return xy[Neighbors(known).nearest(xy)[0] > _NEAR]
