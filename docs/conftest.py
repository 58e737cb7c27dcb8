"""The examples of the pages: their frames are put where they run, and what they need is there."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# What stands on a page whose examples need a package that is not always installed.
SIGNS = [
    ("matplotlib", ".. plot::"),
    ("ccdproc", ">>> from ccdproc"),
    ("ccdproc", "stack_frames("),
    ("dask", ">>> import dask"),
]

collect_ignore = [
    page
    for page in HERE.rglob("*.rst")
    for package, sign in SIGNS
    if find_spec(package) is None and sign in page.read_text(encoding="utf-8")
]


@pytest.fixture(autouse=True)
def _frames_of_the_documentation(_doctests_write_elsewhere):
    shutil.copytree(HERE / "data", Path("data"))
    shutil.copytree(HERE.parent / "benchmarks" / "results", Path("results"))
