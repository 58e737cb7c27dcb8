"""What all pages have: figures, the verdict, where it comes from, and how it is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from html import escape
from io import BytesIO
from typing import Any

from spalipy_astro._checks import path_of
from spalipy_astro._files import refuse_existing, require_folder, whole_file
from spalipy_astro.report import _html
from spalipy_astro.report._verdict import Verdict
from spalipy_astro.version import __version__

__all__ = ["Figures", "check_path", "provenance_of", "verdict_of", "write_page"]

_DPI = 110
_SIZE = (6.4, 4.4)
_COLORS = 128
_NO_PAGES = (".fits", ".fit", ".fts", ".fz", ".asdf", ".ecsv", ".csv", ".png", ".pdf", ".json")


class Figures:
    """Draws figures as matplotlib comes, whatever the user's settings, and without a window."""

    def __init__(self) -> None:
        try:
            from spalipy_astro import visualization
        except ImportError as error:
            raise ImportError(
                "a report needs matplotlib for its figures: pip install matplotlib"
            ) from error
        self.plotting = visualization

    def draw(self, draw: Callable[[Any], Any], *, alt: str, caption: str) -> str:
        """Return the HTML of a figure that a function draws on the Axes that it is given."""
        from matplotlib import style
        from matplotlib.figure import Figure
        from PIL import Image

        drawn, small = BytesIO(), BytesIO()
        with style.context("default"):
            figure = Figure(figsize=_SIZE, layout="constrained")
            draw(figure.add_subplot())
            figure.savefig(drawn, format="png", dpi=_DPI)
        # A palette makes a figure weigh a third.
        image = Image.open(drawn).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
        image.save(small, "PNG", optimize=True)
        return _html.figure(small.getvalue(), image.size, alt, caption)


def check_path(path: Any, *, overwrite: bool) -> None:
    """Raise, before there is much to do, unless a page can be written there."""
    name = path_of("path", path)
    if os.path.splitext(name)[1].lower() in _NO_PAGES:
        stem = os.path.splitext(name)[0]
        raise ValueError(f"path is that of an HTML page; got {name!r}. Write {stem + '.html'!r}.")
    refuse_existing(name, overwrite=overwrite)
    require_folder(name)


def write_page(
    path: str | os.PathLike[str], title: str, body: list[str], *, overwrite: bool
) -> None:
    """Write the page whole or not at all."""
    page = _html.page(title, "\n".join(piece for piece in body if piece), __version__)
    with whole_file(path, overwrite=overwrite) as part:
        part.write_bytes(page.encode("utf-8", "backslashreplace"))  # of names that are no text


def verdict_of(title: str, verdict: Verdict) -> str:
    """Return the first thing to read."""
    concerns = _html.bullets(verdict.concerns)
    words = "".join(_html.paragraph(fact) for fact in verdict.facts)
    return (
        f"<header><h1>{escape(title)}</h1></header>\n"
        f'<section class="verdict{" check" if concerns else ""}">\n'
        f"<h2>{escape(verdict.headline)}</h2>\n{words}\n"
        + (f"<h3>What to look at</h3>\n{concerns}\n" if concerns else "")
        + "</section>"
    )


def provenance_of(provenance: Mapping[str, Any], times: Mapping[str, float]) -> str:
    """Return a table of what made a transform: options, versions, times."""
    rows = []
    for name, value in provenance.items():
        if name == "options":
            rows += [(f"option {key}", str(given)) for key, given in value.items()]
        elif isinstance(value, list | tuple):
            rows += [(name, str(item)) for item in value]
        else:
            rows.append((name, str(value)))
    if times:
        rows.append(("seconds", ", ".join(f"{name} {t:.2f}" for name, t in times.items())))
    return _html.table(rows, label="Options and versions") if rows else ""
