"""The frames of a batch: a table with a row for each, and what there is to say about each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Row, Table

from spalipy_astro._checks import is_template
from spalipy_astro.errors import AlignmentError
from spalipy_astro.report import _html
from spalipy_astro.report._page import Figures
from spalipy_astro.report._verdict import judge

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = ["alignments_of", "name_of_template", "parts_of_frames", "rows_of_frames"]

_COLUMNS = (
    *("frame", "status", "error, px", "stars", "rms, px", "log-odds", "shift x, px", "shift y, px"),
    *("rotation, deg", "scale", "parity", "time, s"),
)
_QUALITY = {
    "fwhm": ("FWHM, px", ".2f"),
    "ellipticity": ("ellipticity", ".2f"),
    "background": ("sky", ".4g"),
    "noise": ("noise", ".3g"),
    "depth": ("flux of S/N 5", ".4g"),
    "flux_ratio": ("flux over the template's", ".3f"),
    "exptime": ("exposure, s", "g"),
    "n_stars": ("usable stars", "g"),
}
_FILES = {"aligned": "aligned image", "asdf": "alignment"}
_PICTURED = 100  # frames whose alignments are looked at: more make a page too heavy


def rows_of_frames(table: Table) -> str:
    """Return the table with a row for each frame, whose name is a link to its part."""
    rows: list[tuple[str, ...]] = []
    marks = []
    for row in table:
        name, status = str(row["source"]), str(row["status"])
        marks.append("" if status == "ok" else "failed")
        if status != "ok":
            rows.append((name, f"✗ {status}", str(row["reason"])))
            continue
        figures = (
            f"{row['error']:.2g}" if "error" in table.colnames else "–",
            f"{row['n_matched']}",
            f"{row['rms']:.3f}",
            f"{row['log_odds']:.0f}",
            f"{row['shift_x']:+.2f}",
            f"{row['shift_y']:+.2f}",
            f"{row['rotation']:.4f}",
            f"{row['scale']:.6f}",
            f"{row['parity']:+d}",
            f"{row['time']:.1f}",
        )
        rows.append((name, "✓ ok (before)" if row["resumed"] else "✓ ok", *figures))
    kinds = {0: "name", 1: "short", **dict.fromkeys(range(2, len(_COLUMNS)), "number")}
    anchors = [(_row(k), _part(k)) for k in range(len(rows))]
    return _html.table(
        rows, label="All frames", head=_COLUMNS, kinds=kinds, marks=marks, anchors=anchors
    )


def parts_of_frames(
    figures: Figures, table: Table, alignments: Sequence[Alignment | None]
) -> Iterator[str]:
    """Yield a part of the page for each frame, with links to its row and to its neighbors."""
    template = is_template(table)
    for k, row in enumerate(table):
        alignment = alignments[k] if k < len(alignments) else None
        content = []
        if str(row["status"]) != "ok":
            content.append(_html.paragraph(f"✗ {row['status']}: {row['reason']}"))
        elif template[k]:
            content.append(_html.paragraph("This frame is the template."))
        elif alignment is not None:
            verdict = judge(alignment)
            content += [_html.paragraph(words) for words in (verdict.headline, *verdict.facts)]
            content.append(_html.bullets(verdict.concerns))
        content.append(_numbers(row))
        if alignment is not None and not template[k] and alignment.matches["used"].any():
            residuals = figures.draw(
                partial(figures.plotting.plot_residuals, alignment),
                alt=f"Arrows: residuals of the stars of frame {row['source']}, or their means",
                caption="If neighboring arrows agree, the fit has missed a distortion.",
            )
            content = [_html.grid(["<div>" + "\n".join(content) + "</div>", residuals])]
        links = [_html.link("back to the table", _row(k))]
        links += [_html.link("previous frame", _part(k - 1))] if k else []
        links += [_html.link("next frame", _part(k + 1))] if k + 1 < len(table) else []
        yield _html.part(_part(k), str(row["source"]), links, *content)


def alignments_of(table: Table) -> Iterator[Alignment | None]:
    """Yield the alignments of the first frames, None for those that have none."""
    from spalipy_astro.alignment import Alignment

    for row in table[:_PICTURED]:
        found = None
        if row["status"] == "ok" and "alignment" in table.colnames:
            found = row["alignment"]
        elif row["status"] == "ok" and "asdf" in table.colnames:
            try:
                found = Alignment.read(str(row["asdf"]))
            except (OSError, AlignmentError):  # moved or replaced since
                found = None
        yield found


def name_of_template(table: Table) -> str:
    """Return what the template is called; of one of the frames that of the frame."""
    name = str(table.meta.get("template", "unknown"))
    rows = np.flatnonzero(is_template(table))
    return f"frame {table['source'][rows[0]]}" if len(rows) == 1 else name


def _numbers(row: Row) -> str:
    """Return a table of how good a frame is, and of what was written."""
    rows = [
        (words, format(row[name], form))
        for name, (words, form) in _QUALITY.items()
        if name in row.colnames and np.isfinite(row[name])
    ]
    written = {name: str(row[name]) for name in _FILES if name in row.colnames}
    rows += [(_FILES[name], path) for name, path in written.items() if path]
    return _html.table(rows, label=f"Quality of {row['source']}") if rows else ""


def _row(k: int) -> str:
    return f"row-{k}"


def _part(k: int) -> str:
    return f"frame-{k}"
