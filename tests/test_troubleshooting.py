"""Each error has a page that says what to do, with its message as it is today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spalipy_astro import errors

PAGES = Path(__file__).parents[1] / "docs" / "troubleshooting"
NAMES = [name for name in errors.__all__ if name != "AlignmentError"]


@pytest.mark.parametrize("name", NAMES)
def test_page_of_an_error(name):
    pages = [
        page
        for page in PAGES.glob("*.rst")
        if re.search(rf"^{name}: .+\n=+$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(pages) == 1, f"one page has the title '{name}: ...'"
    text = pages[0].read_text(encoding="utf-8")
    label = re.match(r"\.\. _([a-z-]+):\n", text)
    assert label, "a label for the docstring to refer to"
    assert f":ref:`{label[1]}`" in getattr(errors, name).__doc__
    assert ">>> " in text, "the page is run"
    index = (PAGES / "index.rst").read_text(encoding="utf-8")
    assert f":doc:`{pages[0].stem}`" in index
    assert f"`~spalipy_astro.{name}`" in index
