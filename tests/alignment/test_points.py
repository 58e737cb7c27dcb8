"""Positions that are moved: as one array, and what cannot be moved."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.modeling.models import AffineTransformation2D
from astropy.table import Column, MaskedColumn, Table

from spalipy_astro import Alignment

# x' = 2 x - y + 3, y' = x + y - 1
MATRIX, OFFSET = np.array([[2.0, -1.0], [1.0, 1.0]]), np.array([3.0, -1.0])
POINTS = np.array([[0.0, 0.0], [10.0, 4.0], [7.5, -2.0]])
MOVED = np.array([[3.0, -1.0], [19.0, 13.0], [20.0, 4.5]])


@pytest.fixture(scope="module")
def alignment():
    return Alignment.from_transform(
        AffineTransformation2D(MATRIX, OFFSET), source_shape=(90, 80), template_shape=(95, 85)
    )


@pytest.mark.parametrize(
    "points",
    [
        POINTS,
        POINTS.tolist(),
        tuple(map(tuple, POINTS)),
        POINTS.astype(">f4"),
        POINTS * u.pix,
        np.ma.array(POINTS),
    ],
)
def test_points_in_one_array(alignment, points):
    moved = alignment.transform_points(points)
    assert type(moved) is np.ndarray
    np.testing.assert_allclose(moved, MOVED)
    np.testing.assert_allclose(alignment.inverse.transform_points(moved), POINTS, atol=1e-12)


def test_one_point_none_and_masked_ones(alignment):
    np.testing.assert_allclose(alignment.transform_points((10, 4)), MOVED[1])
    assert alignment.transform_points(np.empty((0, 2))).shape == (0, 2)
    some = np.ma.array(POINTS, mask=[[False] * 2, [True, False], [False] * 2])
    moved = alignment.transform_points(some)
    np.testing.assert_allclose(moved[[0, 2]], MOVED[[0, 2]])
    assert np.isnan(moved[1]).all()


@pytest.mark.parametrize(
    ("points", "kind", "words"),
    [
        (SkyCoord(1 * u.deg, 2 * u.deg), TypeError, r"^points are .* SkyCoord\. .*sky_to_pixel"),
        (Table({"x": [1.0], "y": [2.0]}), TypeError, r"^points are .* a table\. .*transform_table"),
        (POINTS.T, ValueError, r"^points are \(x, y\) in px, of shape \(N, 2\); .*points\.T"),
        (np.zeros((4, 5)), ValueError, r"^points are .* shape \(4, 5\): np\.column_stack"),
        (5.0, ValueError, r"^points are .* shape \(\)"),
        (POINTS * u.deg, ValueError, "^points is in px; got"),
        (POINTS * 1j, TypeError, "^points is in px, a number or .* ndarray of complex128"),
        ([["1", "2"]], TypeError, "^points is in px, a number or .* list of str"),
        (None, TypeError, "^points is in px, a number or .* None"),
        (zip([1], [2], strict=True), TypeError, "^points is in px, a number or .*; got <zip"),
        ([[1, 2], [3]], TypeError, "^points is in px, a number or"),
    ],
)
def test_what_is_no_array_of_points(alignment, points, kind, words):
    with pytest.raises(kind, match=words):
        alignment.transform_points(points)


@pytest.mark.parametrize(
    ("x", "y", "kind", "words"),
    [
        ("1", 2.0, TypeError, "^x is in px, a number or .*; got '1'"),
        (1.0, None, TypeError, "^y is in px, a number or .*; got None"),
        ([1, 2], [1, 2, 3], ValueError, r"^x and y are of one shape.* \(2,\) and \(3,\)"),
        (1.0, 2 * u.arcsec, ValueError, "^y is in px"),
        (Column([1.0], unit="deg"), 1.0, ValueError, "^x is in px"),
    ],
)
def test_what_is_no_position(some_error, x, y, kind, words):
    with pytest.raises(kind, match=words):
        some_error.error(x, y)


@pytest.fixture(scope="module")
def some_error():
    from spalipy_astro import fit_alignment

    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 100, (30, 2))
    return fit_alignment(xy, xy @ MATRIX.T + OFFSET + rng.normal(0, 0.01, xy.shape))


def test_columns_of_tables_are_positions(some_error):
    plain = some_error.error([20.0, 30.0], [50.0, 60.0])
    x = Column([20.0, 30.0], unit="pix")
    assert np.array_equal(some_error.error(x, Column([50.0, 60.0])), plain)
    masked = some_error.error(MaskedColumn([20.0, 30.0], mask=[False, True]), [50.0, 60.0])
    assert masked[0] == plain[0]
    assert np.isnan(masked[1])
