"""Pieces of an HTML page. All of them take plain text and escape it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

__all__ = [
    "bullets",
    "data_uri",
    "figure",
    "grid",
    "link",
    "page",
    "paragraph",
    "part",
    "section",
    "table",
]


def page(title: str, body: str, version: str) -> str:
    """Return a page that needs nothing but itself, and may load nothing else."""
    folder = files("spalipy_astro") / "report" / "static"
    parts = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("page.html", "style.css", "viewer.js")
    }
    script = parts["viewer.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return Template(parts["page.html"]).substitute(
        title=escape(title),
        body=body,
        policy=policy,
        style=parts["style.css"],
        script=script,
        version=escape(version),
    )


def data_uri(content: bytes, kind: str) -> str:
    """Return a file of a MIME type as an address that holds it whole."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def link(text: str, anchor: str) -> str:
    """Return a link to another place of the page."""
    return f'<a href="#{anchor}">{escape(text)}</a>'


def bullets(texts: Iterable[str]) -> str:
    """Return a list; nothing for an empty one."""
    items = "".join(f"<li>{escape(text)}</li>\n" for text in texts)
    return f"<ul>\n{items}</ul>" if items else ""


def section(title: str, *content: str) -> str:
    """Return a section with a heading around pieces of HTML; nothing if all are empty."""
    inside = "\n".join(piece for piece in content if piece)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def part(anchor: str, title: str, links: Iterable[str], *content: str) -> str:
    """Return a part of a section that links lead to, with the links that lead on from there."""
    inside = "\n".join(piece for piece in content if piece)
    on = " · ".join(links)
    return f'<article id="{anchor}">\n<h3>{escape(title)}</h3>\n{inside}\n<p>{on}</p>\n</article>'


def grid(pieces: Sequence[str]) -> str:
    """Return pieces of HTML in as many columns as there is room for."""
    return '<div class="grid">\n' + "\n".join(pieces) + "\n</div>" if pieces else ""


def figure(png: bytes, size: tuple[int, int], alt: str, caption: str) -> str:
    """Return a figure of so many pixels with its caption."""
    width, height = size
    return (
        f'<figure><img src="{data_uri(png, "image/png")}" width="{width}" height="{height}" '
        f'alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def table(
    rows: Iterable[Sequence[str]],
    *,
    label: str,
    head: Sequence[str] | None = None,
    kinds: Mapping[int, str] | None = None,
    marks: Sequence[str] | None = None,
    anchors: Sequence[tuple[str, str]] | None = None,
) -> str:
    """
    Return a table that scrolls by itself where it is too wide.

    Parameters
    ----------
    rows : iterable of sequence of str
        The cells. Without ``head``, the first of a row is its heading; with it, the last of a
        shorter row takes the room of all that follow.
    label : str
        What the table is, for those who cannot see it.
    head : sequence of str, optional
        Headings of the columns.
    kinds : mapping, optional
        Classes of columns, by their number.
    marks : sequence of str, optional
        Classes of rows.
    anchors : sequence of (str, str), optional
        Of each row, the anchor that it is, and that to which its first cell is a link.
    """
    kinds = kinds or {}

    def attribute(kind: str) -> str:
        return f' class="{kind}"' if kind else ""

    lines = []
    if head is not None:
        cells = "".join(
            f'<th scope="col"{attribute(kinds.get(i, ""))}>{escape(cell)}</th>'
            for i, cell in enumerate(head)
        )
        lines.append(f"<thead><tr>{cells}</tr></thead>")
    lines.append("<tbody>")
    for number, row in enumerate(rows):
        cells = ""
        for i, cell in enumerate(row):
            tag, more = ("th", ' scope="row"') if head is None and i == 0 else ("td", "")
            kind = kinds.get(i, "")
            if head is not None and i == len(row) - 1 < len(head) - 1:
                kind, more = "words", f' colspan="{len(head) - i}"'
            shown = link(cell, anchors[number][1]) if anchors and i == 0 else escape(cell)
            cells += f"<{tag}{more}{attribute(kind)}>{shown}</{tag}>"
        named = f' id="{anchors[number][0]}"' if anchors else ""
        lines.append(f"<tr{named}{attribute(marks[number] if marks else '')}>{cells}</tr>")
    lines.append("</tbody>")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table>\n'
        + "\n".join(lines)
        + "\n</table></div>"
    )
