from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance
from astropy.wcs import WCS
from numpy.testing import assert_array_equal

from spalipy_astro import FormatError
from spalipy_astro.io import image_hdus, is_complete, read_image, to_hdus, write_hdus

SHAPE = (30, 41)


@pytest.fixture
def image():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 10.0, 20.0
    wcs.wcs.cdelt = -1e-3, 1e-3
    rng = np.random.default_rng(0)
    return CCDData(
        rng.normal(size=SHAPE).astype(np.float32),
        unit="electron",
        mask=rng.uniform(size=SHAPE) < 0.1,
        uncertainty=InverseVariance(rng.uniform(1, 2, SHAPE)),
        wcs=wcs,
        meta=fits.Header([("OBJECT", "M 31"), ("EXTNAME", "SCI")]),
    )


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fits.fz"])
@pytest.mark.parametrize("in_extension", [False, True])
def test_all_of_an_image_survives(image, tmp_path, name, in_extension):
    path = tmp_path / name
    write_hdus(to_hdus(image, name="CHIP" if in_extension else None, ver=3), path)
    read = read_image(path)
    assert_array_equal(read.data, image.data)
    assert_array_equal(read.mask, image.mask)
    assert_array_equal(read.uncertainty.array, image.uncertainty.array)
    assert isinstance(read.uncertainty, InverseVariance)
    assert read.unit == u.electron
    assert read.header["OBJECT"] == "M 31"
    assert read.wcs.wcs.compare(image.wcs.wcs)


def test_masks_add_up(image, tmp_path):
    write_hdus(to_hdus(image), tmp_path / "a.fits")
    more = np.zeros(SHAPE, bool)
    more[3:7, 20:30] = True
    assert_array_equal(read_image(tmp_path / "a.fits", mask=more).mask, image.mask | more)


def test_images_are_found(image, tmp_path):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 3, 4)))]
    for ver in (1, 2):
        hdus += to_hdus(image, name="CHIP", ver=ver)
    hdus.append(fits.ImageHDU(np.zeros((1, *SHAPE)), name="THIN"))
    path = tmp_path / "a.fits"
    write_hdus(hdus, path)
    assert image_hdus(path) == [2, 5, 8]
    assert read_image(path, hdu=("CHIP", 2)).shape == SHAPE
    assert read_image(path, hdu="THIN").shape == SHAPE
    assert read_image(path, hdu=1).shape == (2, 3, 4)  # a cube, if it is asked for
    for hdu in (99, "NONE"):
        with pytest.raises(FormatError, match=str(hdu)):
            read_image(path, hdu=hdu)


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ({}, u.adu),
        ({"BUNIT": "ADU"}, u.adu),
        ({"BUNIT": "?!"}, u.adu),
        ({"BUNIT": "Jy"}, u.Jy),
    ],
)
def test_units(tmp_path, header, unit):
    fits.PrimaryHDU(np.ones(SHAPE), fits.Header(header)).writeto(tmp_path / "a.fits")
    assert read_image(tmp_path / "a.fits").unit == unit
    assert read_image(tmp_path / "a.fits", unit="s").unit == u.s


def test_a_wcs_that_nobody_understands_is_left_out(tmp_path):
    header = fits.Header({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ", "CD1_1": 1.0})
    fits.PrimaryHDU(np.ones(SHAPE), header).writeto(tmp_path / "a.fits")
    assert read_image(tmp_path / "a.fits").wcs is None


def test_unsigned_integers_keep_their_values(tmp_path):
    data = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint16).reshape(SHAPE) + 60000
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    assert_array_equal(read_image(tmp_path / "a.fits").data, data)


@pytest.mark.parametrize("kept", [0, 100, 2880, 4000, 2880 + 30 * 41 * 4 - 1])
def test_truncated_files(image, tmp_path, kept):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(image.data).writeto(path)
    assert is_complete(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FormatError, match=r"not a FITS file|bytes are missing"):
        read_image(path)
    if kept > 2880:
        assert not is_complete(path)


def test_truncated_gzip(image, tmp_path):
    path = tmp_path / "a.fits.gz"
    fits.PrimaryHDU(image.data).writeto(path)
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FormatError):
        read_image(path)
    path.write_bytes(gzip.compress(b"no image"))
    with pytest.raises(FormatError):
        read_image(path)
