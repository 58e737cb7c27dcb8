"""Reports: one HTML page about an alignment, or about a batch, that needs nothing but itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.nddata import NDData
from astropy.table import Table

from spalipy_astro._checks import (
    check_frames,
    check_pixels,
    checked_call,
    plane_of,
    shape_of,
)
from spalipy_astro.io import Extension, open_image
from spalipy_astro.report import _html
from spalipy_astro.report._frames import (
    alignments_of,
    name_of_template,
    parts_of_frames,
    rows_of_frames,
)
from spalipy_astro.report._page import Figures, check_path, provenance_of, verdict_of, write_page
from spalipy_astro.report._told import told_of
from spalipy_astro.report._verdict import judge, judge_sequence
from spalipy_astro.typing import ImageLike

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = ["report_alignment", "report_sequence"]

_QUALITY = {
    "error": "error",
    "fwhm": "fwhm",
    "ellipticity": "ellipticity",
    "flux": "flux_ratio",
    "depth": "depth",
    "background": "background",
}
_CARDS = ("OBJECT", "DATE-OBS", "FILTER", "EXPTIME", "TELESCOP", "INSTRUME")


@checked_call
def report_alignment(
    alignment: Alignment,
    path: str | os.PathLike[str],
    *,
    source: ImageLike | None = None,
    template: ImageLike | None = None,
    aligned: ImageLike | None = None,
    hdu: Extension | None = None,
    title: str = "Alignment report",
    overwrite: bool = False,
) -> None:
    """
    Write a page about an alignment: a verdict in words, figures, images and tables.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`
        The alignment.
    path : path-like
        The HTML file. It is written whole or not at all, and needs no other file and no network.
    source, template : path, HDU, HDUList, array_like or `~astropy.nddata.NDData`, optional
        The images, of color images the mean of the colors. With both the page has a viewer that
        blinks and subtracts them; without, it has the figures that need no images.
    aligned : path, HDU, HDUList, array_like or `~astropy.nddata.NDData`, optional
        The source on the template's grid; resampled from ``source`` by default.
    hdu : int, str or (str, int), optional
        Which HDU of files and HDULists is the image; by default the first image.
    title : str, optional
        What to write above.
    overwrite : bool, optional
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    ImportError
        If matplotlib is not installed.
    ValueError
        If an image does not have the shape of its frame, or the aligned source and the template
        are not on one grid.
    """
    check_path(path, overwrite=overwrite)
    images: dict[str, Any] = {"source": source, "template": template, "aligned": aligned}
    for name, image in images.items():
        if image is not None:
            shown = open_image(image, name=name, hdu=hdu)
            check_pixels(shown, name=name)
            images[name] = plane_of(shown)
    source, template, aligned = images.values()
    check_frames(alignment, source=source, template=template)
    if template is None:
        check_frames(alignment, aligned=aligned)
    figures = Figures()
    if aligned is None and source is not None:
        shape = alignment.template_shape
        if shape is None and template is not None:
            grid = images["template"]
            shape = np.shape(grid.data if isinstance(grid, NDData) else grid)
        if shape is not None:
            aligned = alignment.resample(source, shape=shape)
    verdict = judge(alignment)
    body = [
        verdict_of(title, verdict),
        _html.section("See for yourself", *_viewers(alignment, template, aligned)),
        _html.section("Figures", _html.grid(list(_drawn(figures, alignment, template, aligned)))),
        _html.section("Numbers", _summary(alignment)),
        _html.section("Matched stars by brightness", _by_brightness(alignment)),
        _html.section("Frames", _frames(alignment, source, template)),
        _html.section("Provenance", provenance_of(told_of(alignment.provenance), alignment.times)),
    ]
    write_page(path, title, body, overwrite=overwrite)


@checked_call
def report_sequence(
    table: Table,
    path: str | os.PathLike[str],
    *,
    title: str = "Report of a batch",
    overwrite: bool = False,
) -> None:
    """
    Write a page about many frames: what became of them in words, their drift, a row for each.

    Each row is a link to what there is to say about its frame, with a picture of its residuals,
    for the first hundred frames; links lead on to the next frame and back to the table.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What `~spalipy_astro.align_many` returns.
    path : path-like
        The HTML file. It is written whole or not at all, and needs no other file and no network.
    title : str, optional
        What to write above.
    overwrite : bool, optional
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    ImportError
        If matplotlib is not installed.
    ValueError
        If the table is not one of `~spalipy_astro.align_many`.
    """
    check_path(path, overwrite=overwrite)
    missing = {"source", "status", "reason", "rms", "log_odds", "shift_x"} - set(table.colnames)
    if missing:
        raise ValueError(
            f"the table lacks {', '.join(sorted(missing))}; a report needs the table that "
            "align_many returns."
        )
    figures = Figures()
    known = {
        f"{name} of the aligned frames": str(table.meta[name])
        for name in ("shape", "offset")
        if name in table.meta
    }
    about = {"template": name_of_template(table), **known}
    alignments = list(alignments_of(table))
    first = next((each for each in alignments if each is not None), None)
    told = told_of(first.provenance) if first is not None else {}
    made = provenance_of({k: v for k, v in told.items() if not k.startswith("quality")}, {})
    body = [
        verdict_of(title, judge_sequence(table)),
        _html.section("Drift", _html.grid(list(_drifts(figures, table)))),
        _html.section("Frames", rows_of_frames(table)),
        _html.section("Each frame", *parts_of_frames(figures, table, alignments)),
        _html.section(
            "Provenance", _html.table(list(about.items()), label="Template and grid"), made
        ),
    ]
    write_page(path, title, body, overwrite=overwrite)


def _viewers(alignment: Alignment, template: Any, aligned: Any) -> list[str]:
    """Return the viewers, if there are both images."""
    if template is None or aligned is None:
        return []
    from spalipy_astro.report._viewer import viewer

    used = np.asarray(alignment.matches["used"], bool)
    x, y = (np.asarray(alignment.matches[f"{axis}_template"])[used] for axis in "xy")
    ny, nx = shape_of(template)
    center = (float(np.median(x)), float(np.median(y))) if len(x) else (nx / 2, ny / 2)
    how = (
        "Drag the divider, or use the slider with the pointer or the arrow keys. Stars that jump "
        "while the images blink are not aligned; those that leave a ring or nothing in the "
        "difference are."
    )
    return [_html.paragraph(how), _html.grid(viewer(template, aligned, center))]


def _drawn(figures: Figures, alignment: Alignment, template: Any, aligned: Any) -> Iterator[str]:
    """Yield the figures of an alignment."""
    plots, s = figures.plotting, alignment.summary()
    ground = template if template is not None else aligned
    yield figures.draw(
        partial(plots.plot_matches, alignment, image=ground),
        alt=f"The template's field with {s['n_used']} matched stars marked",
        caption="The stars that determine the transform. Where there are none, it is extrapolated.",
    )
    yield from _drawn_of_stars(figures, alignment, s)
    yield figures.draw(
        partial(plots.plot_distortion, alignment),
        alt=f"Map of the distortion, {s['distortion']:.2g} px at most",
        caption="The difference between the transform and an affine one.",
    )
    if alignment._errors:
        yield figures.draw(
            partial(plots.plot_error, alignment),
            alt="Map of the 1-sigma error of the transform",
            caption="How well the transform is known. Outside of the dashed line it is "
            "extrapolated.",
        )
    if alignment.source_shape is not None:
        among = ""
        if "coverage" in s:
            among = f"; {s['coverage']:.0%} of the overlap is among matched stars"
        yield figures.draw(
            partial(plots.plot_coverage, alignment),
            alt=f"Map of the coverage{among}",
            caption="Where the source has data, and where matched stars vouch for the transform.",
        )


def _drawn_of_stars(figures: Figures, alignment: Alignment, s: Any) -> Iterator[str]:
    """Yield the figures of the residuals, if there are any."""
    if not s["n_used"]:
        return
    plots = figures.plotting
    yield figures.draw(
        partial(plots.plot_residuals, alignment),
        alt=f"Arrows: residuals of the matched stars, of {s['rms']:.2g} px rms, or their means",
        caption="The residuals of the stars' positions, averaged in cells where there are many. If "
        "neighboring arrows agree, or leave their circles, the fit has missed a distortion.",
    )
    for axis in "xy":
        yield figures.draw(
            partial(plots.plot_residuals_by_position, alignment, axis=axis),
            alt=f"Residuals in x and y against {axis}, with their means in bins",
            caption=f"The same along {axis}. The means should scatter about zero, without a trend.",
        )
    fluxes = [np.asarray(alignment.matches[f"flux_{side}"]) for side in ("template", "source")]
    if any(np.all(flux > 0) for flux in fluxes):
        yield figures.draw(
            partial(plots.plot_residuals_by_flux, alignment),
            alt="Residuals against flux, their rms in bins, and the expected rms as a line",
            caption="Faint stars scatter because of their noise. The squares should follow the "
            "line, which is expected from the position errors.",
        )


def _drifts(figures: Figures, table: Table) -> Iterator[str]:
    """Yield the figures of a sequence."""
    if not np.any(np.asarray(table["status"]) == "ok"):
        return
    for quantity, words in (
        ("shift", "Shift of the frames' centers on the template."),
        ("rotation", "Rotation; a step is a meridian flip or a new setup."),
        ("scale", "Scale, against its median in parts per million; it follows the focus."),
        ("error", "Expected error of the transform: what the alignment is good to."),
        ("rms", "Scatter of single stars, most of them faint; peaks are clouds or bad focus."),
        ("stars", "Stars; their number drops with clouds, twilight and airmass."),
        ("fwhm", "Sharpness: seeing and focus."),
        ("ellipticity", "Roundness: tracking, wind, and the mount."),
        ("flux", "Flux of the stars, over that in the template: clouds and airmass."),
        ("depth", "Flux of the faintest stars that can be seen; smaller is deeper."),
        ("background", "Sky: twilight and the Moon."),
    ):
        if quantity in _QUALITY and not _is_known(table, _QUALITY[quantity]):
            continue
        yield figures.draw(
            partial(figures.plotting.plot_drift, table, quantity=quantity),
            alt=f"{quantity} of each of {len(table)} frames",
            caption=words,
        )


def _is_known(table: Table, name: str) -> bool:
    """Whether a column has anything to draw: a finder of the user's may not tell all."""
    return name in table.colnames and bool(np.isfinite(np.asarray(table[name], float)).any())


def _summary(alignment: Alignment) -> str:
    return _html.table(alignment.summary()._rows(), label="Figures of merit")


def _by_brightness(alignment: Alignment) -> str:
    """Return a table of the matched stars in four classes of brightness."""
    matches = alignment.matches
    flux = np.asarray(matches["flux_template"], float)
    if len(flux) < 8 or not np.all(flux > 0):
        return ""
    used = np.asarray(matches["used"], bool)
    distance2 = np.asarray(matches["dx"]) ** 2 + np.asarray(matches["dy"]) ** 2
    expected2 = 2 * np.asarray(matches["sigma"]) ** 2
    rows = []
    for part in np.array_split(np.argsort(-flux, kind="stable"), 4):
        fitted = part[used[part]]
        rms = [
            f"{np.sqrt(np.mean(values[fitted])):.3f}" if len(fitted) else "–"
            for values in (distance2, expected2)
        ]
        clipped = len(part) - len(fitted)
        faintest, brightest = flux[part].min(), flux[part].max()
        rows.append((f"{brightest:.4g} – {faintest:.4g}", str(len(fitted)), str(clipped), *rms))
    head = ("flux in the template", "used", "clipped", "residual, px rms", "expected, px rms")
    kinds = dict.fromkeys(range(1, 5), "number")
    return _html.table(rows, label="Matched stars by brightness", head=head, kinds=kinds)


def _frames(alignment: Alignment, source: Any, template: Any) -> str:
    """Return a table of what is known about both frames."""
    shapes = (alignment.source_shape, alignment.template_shape)
    metas = [getattr(image, "meta", None) or {} for image in (source, template)]
    rows = [("size", *(f"{s[1]} × {s[0]} px" if s else "a catalog" for s in shapes))]
    counts = [alignment.summary().get(f"n_{side}") for side in ("source", "template")]
    if all(count is not None for count in counts):
        rows.append(("stars", *(str(count) for count in counts)))
    for card in _CARDS:
        values = tuple(str(meta.get(card, "")).strip() for meta in metas)
        if any(values):
            rows.append((card, *values))
    return _html.table(rows, label="The two frames", head=("", "source", "template"))
