"""A page about a group: a map of its frames, its links, and overlaps to blink."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from spalipy_astro._checks import checked_call, plane_of
from spalipy_astro._geometry import outline
from spalipy_astro.report import _html
from spalipy_astro.report._page import Figures, check_path, provenance_of, verdict_of, write_page
from spalipy_astro.report._verdict import judge_group

__all__ = ["report_group"]

_BLINKED = 6  # overlaps that are shown
_CUT = (300, 450)  # most rows and columns of one
_LEAST = 20  # fewest of either
_LINKS = 200  # of the table of links, the worst first
_COLUMNS = (
    *("", "frame", "status", "part", "links", "stars", "rms, px", "error, px", "FWHM, px"),
    *("ellipticity", "sky", "noise", "flux", "exposure, s"),
)
_OF_LINKS = ("frames", "stars", "log-odds", "rms alone, px", "rms together, px", "used")


@checked_call
def report_group(
    group: Any,
    path: str | os.PathLike[str],
    *,
    image: Callable[[int], Any] | None = None,
    title: str = "Report of a group",
    overwrite: bool = False,
) -> None:
    """
    Write a page about a group: a verdict in words, a map, residuals, and a row for each frame.

    Parameters
    ----------
    group : `~spalipy_astro.GroupAlignment`
        The group.
    path : path-like
        The HTML file. It is written whole or not at all, and needs no other file and no network.
    image : callable, optional
        Returns the image of a frame, by its number: a CCDData, NDData or array of the frame's
        shape, to blink where frames overlap, in a part around the stars that they share. Of color
        images it is the mean of the colors.
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
        If an image is not of the shape of its frame.
    """
    check_path(path, overwrite=overwrite)
    figures = Figures()
    viewers = [] if image is None else list(_overlaps(group, image))
    how = _html.paragraph(
        "Drag the divider, or use the slider with the pointer or the arrow keys. Stars that jump "
        "while the images blink are not aligned."
    )
    body = [
        verdict_of(title, judge_group(group)),
        _html.section("Maps", _html.grid(list(_maps(figures, group)))),
        _html.section("Where frames overlap", how, _html.grid(viewers)) if viewers else "",
        _html.section("Frames", _rows_of_frames(group.table)),
        _html.section("Links", _rows_of_links(group.links)),
        _html.section("Provenance", provenance_of(group.provenance, {})),
    ]
    write_page(path, title, body, overwrite=overwrite)


def _maps(figures: Figures, group: Any) -> Iterator[str]:
    """Yield the maps of the parts of a group."""
    component = np.asarray(group.table["component"])
    for k in range(int(component.max(initial=-1)) + 1):
        n = int((component == k).sum())
        name = "the frames" if component.max() == 0 else f"the {n} frames of part {k}"
        yield figures.draw(
            partial(figures.plotting.plot_group, group, component=k),
            alt=f"Outlines of {n} frames with their numbers, and lines between those that are "
            "linked",
            caption=f"Where {name} lie. Lines are links, the wider the more stars they share; "
            "dashed ones contradict the others. The reference has a wide outline.",
        )
        if any(len(a.matches) for a in np.array(group.alignments, object)[component == k]):
            yield figures.draw(
                partial(figures.plotting.plot_group_residuals, group, component=k),
                alt=f"Arrows at stars of {n} frames, from where the other frames have them",
                caption="The residual of each star in each frame. If neighboring arrows agree, a "
                "distortion was missed.",
            )


def _overlaps(group: Any, image: Callable[[int], Any]) -> Iterator[str]:
    """Yield viewers of the overlaps in which the frames agree least, the worst first."""
    links = [link for link in group.links if link["used"]]
    shown = 0
    for link in sorted(links, key=lambda link: (-float(link["rms"]), link["i"], link["j"])):
        i, j = int(link["i"]), int(link["j"])
        one, two = group.alignments[i], group.alignments[j]
        if one.source_shape is None or two.source_shape is None:
            continue
        window = _window(one, two)
        if window is None:
            continue
        offset, shape = window
        cuts = []
        for k, alignment in ((i, one), (j, two)):
            cuts.append(alignment.resample(plane_of(image(k)), shape=shape, offset=offset))
        caption = f"frames {i} and {j}, which agree to {float(link['rms']):.3f} px (rms)"
        from spalipy_astro.report._viewer import blink  # needs Pillow

        yield blink(cuts, (f"Frame {i}", f"Frame {j}"), caption)
        shown += 1
        if shown == _BLINKED:
            return


def _window(one: Any, two: Any) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return offset and shape of a part of the overlap of two frames, around shared stars."""
    rims = [outline(a.transform, a.source_shape) for a in (one, two)]
    low = np.ceil(np.max([rim.min(axis=0) for rim in rims], axis=0)).astype(int)
    high = np.floor(np.min([rim.max(axis=0) for rim in rims], axis=0)).astype(int) + 1
    _, mine, _ = np.intersect1d(
        one.matches["template_row"], two.matches["template_row"], return_indices=True
    )
    if len(mine):
        xy = np.column_stack([one.matches[f"{axis}_template"][mine] for axis in "xy"])
        middle = np.median(xy, axis=0)
    else:
        middle = (low + high) / 2
    size = np.minimum(high - low, _CUT[::-1])
    if size.min() < _LEAST:
        return None
    start = np.clip(np.round(middle - size / 2).astype(int), low, high - size)
    return (int(start[0]), int(start[1])), (int(size[1]), int(size[0]))


def _rows_of_frames(table: Any) -> str:
    """Return the table with a row for each frame."""
    rows: list[tuple[str, ...]] = []
    marks = []

    def figure(row: Any, name: str, form: str) -> str:
        value = row[name] if name in table.colnames else np.nan
        return format(value, form) if np.isfinite(value) else "–"

    for k, row in enumerate(table):
        name, status = str(row["source"]), str(row["status"])
        name += f"[{row['hdu']}]" if "hdu" in table.colnames and row["hdu"] >= 0 else ""
        marks.append("" if status == "ok" else "failed")
        if status != "ok":
            rows.append((str(k), name, f"✗ {status}", str(row["reason"])))
            continue
        figures = (
            str(row["component"]),
            str(row["links"]),
            str(row["n_matched"]),
            figure(row, "rms", ".3f"),
            figure(row, "error", ".3f"),
            figure(row, "fwhm", ".2f"),
            figure(row, "ellipticity", ".2f"),
            figure(row, "background", ".4g"),
            figure(row, "noise", ".3g"),
            figure(row, "flux_ratio", ".3f"),
            figure(row, "exptime", "g"),
        )
        rows.append((str(k), name, "✓ ok", *figures))
    kinds = {0: "number", 1: "name", 2: "short"}
    kinds |= dict.fromkeys(range(3, len(_COLUMNS)), "number")
    return _html.table(rows, label="All frames", head=_COLUMNS, kinds=kinds, marks=marks)


def _rows_of_links(links: Any) -> str:
    """Return the table with a row for each link, the worst first."""
    if not len(links):
        return ""
    rms = np.asarray(links["rms"], float)
    order = np.argsort(-np.where(np.isnan(rms), np.inf, rms), kind="stable")
    rows = [
        (
            f"{links['i'][k]} – {links['j'][k]}",
            str(links["n_matched"][k]),
            f"{links['log_odds'][k]:.0f}",
            f"{links['rms_before'][k]:.3f}" if "rms_before" in links.colnames else "–",
            f"{rms[k]:.3f}" if links["used"][k] else "–",
            "✓" if links["used"][k] else "✗ contradicts the others",
        )
        for k in order[:_LINKS].tolist()
    ]
    marks = ["" if links["used"][k] else "failed" for k in order[:_LINKS].tolist()]
    kinds = {0: "short", **dict.fromkeys(range(1, 5), "number"), 5: "short"}
    more = len(links) - len(rows)
    note = _html.paragraph(f"{more} more links are better than these.") if more > 0 else ""
    return _html.table(rows, label="Links", head=_OF_LINKS, kinds=kinds, marks=marks) + note
