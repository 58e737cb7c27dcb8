"""Mistakes of a first day: each error begins with the argument, and says what to write."""

from __future__ import annotations

import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import AffineTransformation2D, Shift
from astropy.nddata import CCDData

from spalipy_astro import (
    Alignment,
    FormatError,
    ImageError,
    align_many,
    detect_stars,
    find_alignment,
    fit_alignment,
)

IMAGE = np.zeros((20, 30))
XY = np.array([[1.0, 2.0], [10.0, 3.0], [5.0, 18.0], [15.0, 12.0]])


@pytest.fixture(scope="module")
def alignment():
    moved = Shift(1) & Shift(2)
    return Alignment.from_transform(moved, source_shape=(20, 30), template_shape=(20, 30))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fits.writeto("image.fits", IMAGE)
    return tmp_path


@pytest.mark.parametrize("name", ["x.fits", "x.FIT", "x.fts", "x.fits.fz", "x.fits.gz"])
@pytest.mark.parametrize(
    ("text", "why"), [("", "it is empty"), ("# x y\n1 2\n3 4\n", "it does not start like one")]
)
def test_no_fits_file_under_such_a_name(name, text, why):
    with open(name, "w") as file:
        file.write(text)
    for call, argument in (
        (lambda: find_alignment(name, IMAGE), "source"),
        (lambda: find_alignment(XY, name), "template"),
        (lambda: detect_stars(name), "image"),
        (lambda: align_many(["image.fits"], name), "template"),
    ):
        with pytest.raises(FormatError, match=f"^{argument}: .* is not a FITS file: {why}"):
            call()
    table = align_many([name], XY, progress=False)
    assert why in table["reason"][0]


@pytest.mark.parametrize("name", ["~/x.fits", "~x.fits", "raw/~/x.fits"])
def test_no_home_is_looked_for(name):
    with pytest.raises(FileNotFoundError, match=r"^source: there is no file .*expanduser"):
        find_alignment(name, IMAGE)
    with pytest.raises(FileNotFoundError) as raised:
        find_alignment("x~.fits", IMAGE)
    assert "expanduser" not in str(raised.value)


@pytest.mark.parametrize("mask", [5, "text", "none.fits", [[1], [1, 2]], {"a": 1}, 1j * IMAGE])
def test_what_is_no_mask(alignment, mask):
    kinds = (TypeError, FileNotFoundError)
    for call, argument in (
        (lambda: alignment.resample(IMAGE, mask=mask), "mask"),
        (lambda: find_alignment(IMAGE, IMAGE, source_mask=mask), "source_mask"),
        (lambda: detect_stars(IMAGE, mask=mask), "mask"),
        (lambda: align_many([IMAGE], IMAGE, source_mask=[mask]), "source_mask"),
    ):
        with pytest.raises(kinds, match=f"^{argument}(: there is no file| is an array that is Tr)"):
            call()


@pytest.mark.parametrize("kind", [bool, "u1", "i4", float])
def test_masks_of_numbers(alignment, kind):
    mask = np.zeros(IMAGE.shape, kind)
    mask[4, 5] = 1
    masked = alignment.resample(IMAGE + 1, mask=mask, method="nearest")
    assert np.isnan(masked[6, 6])  # moved by one along x and two along y
    assert np.isfinite(masked[6, 7])


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 0, 4)])
def test_no_pixels(shape):
    with pytest.raises(ImageError, match=rf"^the image has no pixels: its shape is \({shape[0]}"):
        detect_stars(np.zeros(shape))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda a: find_alignment(CCDData, IMAGE), TypeError, "^source is .* the class CCDData"),
        (lambda a: a.resample(np.float64), TypeError, "^data is .* the class float64"),
        (lambda a: a.plot(source=np.ndarray), TypeError, "^source is .* the class ndarray"),
        (lambda a: fit_alignment(XY, XY, wcs=5), TypeError, r"^wcs is .*; got int\. .*WCS\(header"),
        (
            lambda a: Alignment.from_transform(AffineTransformation2D(), wcs=fits.Header()),
            TypeError,
            r"^wcs is an astropy\.wcs\.WCS or a gwcs\.WCS; got Header\. Of a header it is WCS",
        ),
        (lambda a: fit_alignment(XY, XY, weights="x"), TypeError, "^weights are numbers.*got 'x'"),
        (lambda a: a.shifted(source="ab"), TypeError, "^source is in px, .*; got 'ab'"),
        (lambda a: a.transform_polygon("x"), TypeError, "^vertices is in px, .*; got 'x'"),
        (lambda a: a.cropped(source=np.s_[50:60, :]), ValueError, "^source has no pixels in the w"),
        (lambda a: a.report(None), TypeError, "^path is a path, .*; got None"),
        (lambda a: a.report("a.fits"), ValueError, r"^path is .* HTML .* Write 'a\.html'"),
        (lambda a: a.report("no/x.html"), FileNotFoundError, "^there is no folder 'no'"),
        (lambda a: a.write(b"a.fits"), ValueError, r"^path is .* ASDF .* Write 'a\.asdf'"),
        (
            lambda a: align_many([IMAGE], IMAGE, output=""),
            ValueError,
            r"^output is the folder to write to; got ''; '\.' is the one that you are in",
        ),
        (lambda a: align_many([XY], XY, client=5), TypeError, "^client is a dask.*; got 5"),
        (lambda a: align_many([XY], XY, target="no"), FileNotFoundError, "^target: there is no fi"),
        (lambda a: align_many([XY], XY, target="image.fits"), Exception, "^target"),
    ],
)
def test_words(alignment, folder, call, kind, words):
    there = sorted(os.listdir(folder))
    with pytest.raises(kind, match=words):
        call(alignment)
    assert sorted(os.listdir(folder)) == there


def test_a_path_may_be_bytes(alignment):
    alignment.write(b"a.asdf")
    assert Alignment.read(b"a.asdf").transform(0.0, 0.0) == (1.0, 2.0)


def test_no_negative_zero_is_shown(alignment):
    turned = Alignment.from_transform(
        AffineTransformation2D([[1, 1e-9], [-1e-9, 1]]), source_shape=(20, 30)
    )
    assert -1e-6 < turned.rotation < 0
    assert "rotation 0.000 deg" in repr(turned)
    assert "-0.0000" not in str(turned.summary())
