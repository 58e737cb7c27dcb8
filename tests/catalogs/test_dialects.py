from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose

from spalipy_astro import CatalogError, StarFlag, find_alignment, read_catalog
from spalipy_astro.catalogs import Dialect, Position, register_dialect, unregister_dialect

DAOPHOT = Dialect(
    "daophot",
    origin=1,
    positions=(Position("XCENTER", "YCENTER", axes=("XERR", "YERR")),),
    magnitude=("MAG",),
    flag=("PIER",),
    bits={1: StarFlag.EDGE, 4: StarFlag.SATURATED},
)


@pytest.fixture
def daophot():
    register_dialect(DAOPHOT)
    yield DAOPHOT
    unregister_dialect("daophot")


def make_table(xy):
    return Table(
        {
            "xcenter": xy[:, 0] + 1,
            "ycenter": xy[:, 1] + 1,
            "mag": np.linspace(10, 15, len(xy)),
            "xerr": np.full(len(xy), 0.1),
            "yerr": np.full(len(xy), 0.2),
            "pier": np.arange(len(xy)) % 5,
        }
    )


XY = np.random.default_rng(1).uniform(0, (400, 300), (60, 2))


def test_columns_are_translated(daophot):
    stars = read_catalog(make_table(XY))
    assert stars.meta["dialect"] == "daophot"
    assert_allclose(np.column_stack((stars["x"], stars["y"])), XY, atol=1e-12)
    assert_allclose(stars["flux"], 10 ** (-0.4 * np.linspace(10, 15, len(XY))))
    assert_allclose(stars["y_err"], 0.2)
    assert stars["flag"][1] == StarFlag.EDGE
    assert stars["flag"][4] == StarFlag.SATURATED
    assert stars["flag"][2] == 0


def test_alignments_are_found_with_it(daophot):
    moved = XY + np.array([12.5, -7.25])
    alignment = find_alignment(make_table(XY), make_table(moved))
    assert_allclose(alignment.transform(100.0, 50.0), (112.5, 42.75), atol=0.05)


def test_files_are_read_with_it(daophot, tmp_path):
    make_table(XY).write(tmp_path / "stars.fits")
    assert read_catalog(tmp_path / "stars.fits").meta["dialect"] == "daophot"


def test_unknown_again_afterwards():
    with pytest.raises(CatalogError, match="catalog has no known position columns"):
        read_catalog(make_table(XY))


def test_error_names_what_is_registered(daophot):
    with pytest.raises(CatalogError, match="XCENTER, YCENTER"):
        read_catalog(Table({"a": [1.0]}))


def test_asked_before_what_comes_along():
    """A program that calls its columns x and y, but counts pixels from 1."""
    register_dialect(Dialect("odd", 1, (Position("x", "y"),), key=("odd_id",)))
    try:
        odd = Table({"x": [11.0], "y": [21.0], "odd_id": [1]})
        assert read_catalog(odd)["x"][0] == 10
        assert read_catalog(odd["x", "y"])["x"][0] == 11
        counted = Table({"x": XY[:, 0] + 1, "y": XY[:, 1] + 1, "odd_id": np.arange(60)})
        assert_allclose(find_alignment(counted, XY).transform(5.0, 6.0), (5.0, 6.0), atol=1e-6)
    finally:
        unregister_dialect("odd")


def test_the_last_one_is_asked_first(daophot):
    register_dialect(Dialect("mine", 0, (Position("XCENTER", "YCENTER"),)))
    try:
        assert read_catalog(make_table(XY)).meta["dialect"] == "mine"
        register_dialect(DAOPHOT, overwrite=True)
        assert read_catalog(make_table(XY)).meta["dialect"] == "daophot"
    finally:
        unregister_dialect("mine")


def test_what_cannot_be_registered(daophot):
    with pytest.raises(TypeError, match="dialect is a Dialect; got dict"):
        register_dialect({"name": "daophot"})
    with pytest.raises(ValueError, match=r"'daophot' is registered already; overwrite=True"):
        register_dialect(DAOPHOT)
    with pytest.raises(ValueError, match="'sextractor' comes with the package"):
        register_dialect(Dialect("sextractor", 0, (Position("x", "y"),)), overwrite=True)
    with pytest.raises(ValueError, match=r"\('daophot'\); got 'iraf'"):
        unregister_dialect("iraf")
    with pytest.raises(ValueError, match="origin is the number of the first pixel, 0 or 1; got 2"):
        Dialect("x", 2, (Position("x", "y"),))
    with pytest.raises(
        ValueError, match=r"positions is a tuple of at least one Position; got \(\)"
    ):
        Dialect("x", 0, ())
