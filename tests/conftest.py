"""Fixtures: the bundled pair, and the folder of real pairs where there is one."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from spalipy_astro.example import example_pair as read_example_pair

ENVIRONMENT_VARIABLE = "SPALIPY_ASTRO_TEST_DATA"


@pytest.fixture(scope="session")
def example_pair() -> tuple[CCDData, CCDData]:
    """Source and template of the bundled pair; not to be written to."""
    return read_example_pair()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pairs: from the environment, or ``../shared/data`` beside the repository."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "pairs.csv").is_file():
        pytest.skip(f"real pairs not found: no pairs.csv in {folder}; set {ENVIRONMENT_VARIABLE}")
    return folder


@pytest.fixture(scope="session")
def real_pair(shared_data) -> Callable[[str], SimpleNamespace]:
    """Read a pair of the folder by name.

    The result has ``source`` and ``template`` (CCDData), ``row`` (its line of ``pairs.csv``), and
    the reference star pairs ``source_xy`` and ``template_xy``, ``(N, 2)`` arrays of 0-based
    ``(x, y)``, empty if there are none.
    """
    with open(shared_data / "pairs.csv", newline="") as stream:
        rows = {row["pair_id"]: row for row in csv.DictReader(stream)}

    def read(name: str) -> SimpleNamespace:
        row = rows[name]
        stars = np.empty((0, 4))
        if (matches := shared_data / "matches" / f"{name}.csv").is_file():
            stars = np.loadtxt(matches, delimiter=",", skiprows=1, ndmin=2)
        return SimpleNamespace(
            name=name,
            row=row,
            source=_read_image(shared_data / row["source"]),
            template=_read_image(shared_data / row["template"]),
            source_xy=stars[:, :2],
            template_xy=stars[:, 2:],
        )

    return read


def _read_image(path: Path) -> CCDData:
    """Read the first image of a file; the headers of some are too odd for ``CCDData.read``."""
    with fits.open(path) as hdus:
        data = next(hdu.data for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2)
        return CCDData(np.array(data), unit="adu")
