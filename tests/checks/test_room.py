"""Images that there is no memory for are refused before the work, by the argument's name."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy.modeling.models import Shift
from astropy.nddata import CCDData
from astropy.wcs import WCS

from spalipy_astro import Alignment, align, align_many, find_alignment
from spalipy_astro._checks._room import check_room, in_words, memory
from spalipy_astro.resampling import bytes_of_pixel, resample

HUGE = (30_000_000, 40_000_000)
IMAGE = np.ones((90, 100), np.float32)


def tan():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (10.0, 20.0)
    wcs.wcs.crpix, wcs.wcs.cdelt = (50, 45), (-1e-4, 1e-4)
    return wcs


def given(dx=3.0, **options):
    shapes = {"source_shape": (90, 100), "template_shape": (90, 100), "wcs": tan()}
    return Alignment.from_transform(Shift(dx) & Shift(-2), **{**shapes, **options})


@pytest.mark.parametrize(
    ("options", "name", "shape"),
    [
        ({"shape": HUGE}, "shape", HUGE),
        ({"scale": 1e6}, "scale", (90_000_000, 100_000_000)),
        ({"wcs": (tan(), HUGE)}, "wcs", HUGE),
        ({"wcs": tan(), "shape": HUGE}, "wcs", HUGE),
    ],
)
def test_argument_shape_and_bytes_are_told(options, name, shape):
    words = (
        rf"^{name} asks for an image of shape \({shape[0]}, {shape[1]}\), which takes \d.* [PE]B;"
    )
    with pytest.raises(ValueError, match=words):
        given().resample(IMAGE, **options)
    with pytest.raises(ValueError, match=r"^output='union' asks"):
        given(1e12).resample(IMAGE, output="union")
    with pytest.raises(ValueError, match=r"^template_shape asks"):
        given(template_shape=HUGE).resample(IMAGE)
    with pytest.raises(ValueError, match=r"^shape asks"):
        given().coverage(HUGE)
    with pytest.raises(ValueError, match=r"^shape asks"):
        resample(IMAGE, Shift(1) & Shift(1), shape=HUGE)


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(n_stars=60)


def test_before_anything_is_aligned():
    for options in ({"wcs": (tan(), HUGE)}, {"grid_scale": 1e8}):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"^{name} asks for an image"):
            align(IMAGE, CCDData(IMAGE, unit="adu", wcs=tan()), **options)


def test_batch_before_its_first_frame(pair, tmp_path):
    for options in ({"wcs": (tan(), HUGE)}, {"grid_scale": 1e6}, {"shape": HUGE}):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"^{name} asks for an image"):
            align_many(["none.fits"], pair.template, output=tmp_path, n_workers=1, **options)


def test_what_fits_is_made():
    assert given().resample(IMAGE, scale=3).shape == (270, 300)
    assert given().resample(IMAGE, shape=(500, 400)).shape == (500, 400)


def test_lazy_images_take_none():
    da = pytest.importorskip("dask.array")
    assert bytes_of_pixel(da.ones((9, 9))) == 0
    assert given().resample(da.ones((90, 100)), shape=(5_000, 6_000)).shape == (5_000, 6_000)


def test_bytes_of_a_pixel():
    assert bytes_of_pixel(IMAGE) == 5
    assert bytes_of_pixel(np.ones((3, 9, 9))) == 27
    image = CCDData(IMAGE, unit="adu", uncertainty=np.ones((90, 100)))
    assert bytes_of_pixel(image) == 13


def test_limit_is_that_of_the_machine():
    side = int(np.sqrt(memory() / 4))
    check_room("shape", (side, side))
    with pytest.raises(ValueError, match=re.escape(in_words(memory()))):
        check_room("shape", (side + 2, side + 2))


@pytest.mark.parametrize(
    ("size", "words"), [(12, "12 B"), (4e9, "4 GB"), (3.456e16, "34.6 PB"), (1e25, "1e+07 EB")]
)
def test_words(size, words):
    assert in_words(size) == words


def test_shape_that_is_not_known():
    alignment = given(template_shape=None)
    with pytest.raises(ValueError, match=r"shape is not known .* template_shape= was not given"):
        alignment.resample(IMAGE)
    for output in ("union", "intersection"):
        with pytest.raises(ValueError, match=f"^output='{output}' needs the shapes"):
            alignment.resample(IMAGE, output=output)
    assert alignment.resample(IMAGE, shape=(80, 70)).shape == (80, 70)
    catalog = find_alignment(np.random.default_rng(1).uniform(0, 99, (30, 2)), _points())
    with pytest.raises(ValueError, match="a catalog has none"):
        catalog.resample(IMAGE)


def _points():
    return np.random.default_rng(1).uniform(0, 99, (30, 2)) + 5
