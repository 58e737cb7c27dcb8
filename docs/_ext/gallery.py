"""
Show the pages of a gallery as pictures.

``.. gallery::`` with a page a line takes the first figure of each page, shows it with the page's
title as a link, and puts the pages into a hidden table of contents. The figures are those that the
pages draw when the documentation is built, so no thumbnail can fall behind its example.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_SHARED = ("uri", "candidates", "alt")  # of an image: where its file is, and what it shows


class Gallery(SphinxDirective):
    """The directive."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        folder = self.env.docname.rpartition("/")[0]
        pages = [f"{folder}/{line.strip()}" for line in self.content if line.strip()]
        toctree = addnodes.toctree(
            entries=[(None, page) for page in pages],
            includefiles=pages,
            hidden=True,
            maxdepth=1,
            glob=False,
            caption=None,
            parent=self.env.docname,
            numbered=0,
            titlesonly=False,
            includehidden=False,
        )
        return [toctree, nodes.container(classes=["gallery"], pages=pages)]


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the pictures where the directive was; by now all pages have been read."""
    for container in doctree.findall(nodes.container):
        for page in container.get("pages", ()):
            picture = next(iter(app.env.get_doctree(page).findall(nodes.image)), None)
            if picture is None:
                raise ValueError(f"the page {page} of the gallery has no figure.")
            title = app.env.titles[page].astext()
            shown = nodes.image(**{name: picture[name] for name in _SHARED if name in picture})
            uri = app.builder.get_relative_uri(docname, page)
            link = nodes.reference("", "", shown, refuri=uri, internal=True)
            words = nodes.reference("", title, refuri=uri, internal=True)
            item = nodes.container(
                "", nodes.paragraph("", "", link), nodes.paragraph("", "", words)
            )
            item["classes"] = ["gallery-item"]
            container += item


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("gallery", Gallery)
    app.connect("doctree-resolved", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
