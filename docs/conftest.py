"""The pages' examples read the frames of ``docs/data``: put them where each one runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _frames_of_the_documentation(_doctests_write_elsewhere):
    shutil.copytree(Path(__file__).parent / "data", Path("data"))
