"""Positions, lengths and paths: with units or without, and errors that name the argument."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_array_equal

from spalipy_astro import Alignment, align, align_many, detect_stars, find_alignment
from spalipy_astro._checks import check_hdu, check_pixels, in_pixels


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=20, seed=12)


def test_positions_and_lengths_may_have_units(pair, alignment, tmp_path):
    image = CCDData(pair.source.data, unit="adu")
    x, y = np.array([30.0, 200.0]), np.array([50.0, 100.0])
    assert_array_equal(alignment.error(x * u.pix, y * u.pix), alignment.error(x, y))
    corners = np.array([[10.0, 10.0], [200.0, 30.0], [90.0, 150.0]])
    expected = alignment.transform_polygon(corners, tolerance=0.02)
    assert_array_equal(
        alignment.transform_polygon(corners * u.pix, tolerance=0.02 * u.pix), expected
    )
    window = {"shape": (60, 70), "method": "bilinear"}
    plain = alignment.resample(image, offset=(40, 50), fill_value=-7.0, **window)
    for offset in ((40 * u.pix, 50 * u.pix), [40, 50] * u.pix):
        other = alignment.resample(image, offset=offset, fill_value=-7.0 * u.adu, **window)
        assert_array_equal(other.data, plain.data)
    moved = alignment.shifted(source=[3, 4] * u.pix)
    assert moved.transform(33.0, 54.0) == alignment.shifted(source=(3, 4)).transform(33.0, 54.0)
    alignment.write(tmp_path / "a.asdf", portable=True, tolerance=0.01 * u.pix)
    assert (tmp_path / "a.asdf").is_file()


def test_misuse_begins_with_the_name_of_the_argument(pair, alignment):
    image = CCDData(pair.source.data, unit="adu")
    stars = detect_stars(image)
    polygon = [[1, 2], [3, 4], [9, 2]]
    for call, kind, words in (
        (lambda: alignment.error(3 * u.arcsec, 4), ValueError, "x is in px"),
        (lambda: alignment.error(3, 4 * u.deg), ValueError, "y is in px"),
        (lambda: alignment.transform_polygon(polygon * u.deg), ValueError, "vertices is in px"),
        (lambda: alignment.transform_polygon(polygon, tolerance="x"), TypeError, "tolerance is"),
        (lambda: alignment.transform_polygon(polygon, tolerance=1 * u.m), ValueError, "tolerance"),
        (lambda: alignment.to_fits_header(tolerance=0), ValueError, "tolerance is a positive"),
        (lambda: alignment.transform_table(3), TypeError, "table is an astropy Table"),
        (lambda: alignment.then(3), TypeError, "other is an Alignment"),
        (lambda: alignment.shifted(source=(1 * u.m, 2 * u.m)), ValueError, "source is in px"),
        (lambda: alignment.resample(image, offset=[1, 2] * u.deg), ValueError, "offset is in px"),
        (lambda: alignment.resample(image, min_weight="x"), TypeError, "min_weight is"),
        (lambda: alignment.resample(image, fill_value=0 * u.m), ValueError, "fill_value is in"),
        (lambda: alignment.resample(None), TypeError, "data is an image"),
        (lambda: alignment.resample(3), TypeError, "data is an image"),
        (lambda: alignment.resample(stars), TypeError, "data is an image"),
        (lambda: alignment.plot(source=3), TypeError, "source is an image"),
        (lambda: alignment.report("x.html", template=3), TypeError, "template is an image"),
        (lambda: alignment.write(None), TypeError, "path is a path"),
        (lambda: Alignment.read(3), TypeError, "path is a path"),
        (lambda: align(stars, image), TypeError, "source is an image"),
        (lambda: align(image, stars), TypeError, "template is an image, which gives"),
        (lambda: align_many([image], image, output=3), TypeError, "output is a path"),
        (lambda: align_many([image], image, hdu=1.5), TypeError, "hdu is the number"),
        (lambda: find_alignment("a.fits", image, hdu=[1]), TypeError, "hdu is the number"),
    ):
        with pytest.raises(kind, match=f"^{words}"):
            call()
    with pytest.raises(TypeError, match="did you mean source"):
        alignment.plot(sorce=image)


def test_plain_values_are_left_alone():
    array = np.arange(3)
    assert in_pixels("x", array) is array
    assert in_pixels("x", (1, 2)) == (1, 2)
    for hdu in (None, 0, 3, np.int64(2), "SCI", ("SCI", 2)):
        check_hdu(hdu)
    for hdu in (True, 1.0, ("SCI",), ("SCI", "2"), (1, 2)):
        with pytest.raises(TypeError, match=r"^hdu is"):
            check_hdu(hdu)
    for image in (np.zeros((2, 3)), [[1, 2], [3, 4]], np.ma.zeros((2, 2)), np.zeros((2, 2), bool)):
        check_pixels(image, name="image")
    for image in (np.zeros((2, 2), complex), np.zeros(2, "U3"), "x", {}, [[1], [2, 3]]):
        with pytest.raises(TypeError, match=r"^image is an image"):
            check_pixels(image, name="image")
