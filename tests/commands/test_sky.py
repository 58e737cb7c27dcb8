"""Sky catalogs as templates of the command, and the solution in headers."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.testing import assert_array_equal

from spalipy_astro.commands import align_fits

SHAPE = (260, 320)
SCALE = 0.9  # arcsec


def true_wcs(distorted=True):
    """The sky of the source: turned by 30 degrees, and distorted."""
    header = fits.Header()
    suffix = "TAN-SIP" if distorted else "TAN"
    header.update(CTYPE1=f"RA---{suffix}", CTYPE2=f"DEC--{suffix}", CRVAL1=150.0, CRVAL2=20.0)
    header.update(CRPIX1=150.0, CRPIX2=120.0)
    c, s = np.cos(np.deg2rad(30)) * SCALE / 3600, np.sin(np.deg2rad(30)) * SCALE / 3600
    header.update(CD1_1=-c, CD1_2=s, CD2_1=s, CD2_2=c)
    if distorted:
        header.update(A_ORDER=2, B_ORDER=2, A_2_0=1e-5, B_0_2=-1e-5)
    return WCS(header)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with source.fits, which has no WCS, and catalogs of its sky."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    ny, nx = SHAPE
    xy = rng.uniform((-60, -60), (nx + 60, ny + 60), (160, 2))
    flux = 10 ** rng.uniform(3.2, 4.6, len(xy))
    y, x = np.mgrid[:ny, :nx].astype(float)
    image = 100 + rng.normal(0, 3, SHAPE)
    for (a, b), f in zip(xy, flux, strict=True):
        image += f / (2 * np.pi * 1.7) * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 1.7))
    fits.PrimaryHDU(
        np.round(image).astype(np.int16), fits.Header({"DATE-OBS": "2024-03-01T00:00:00"})
    ).writeto("source.fits")
    sky = true_wcs().pixel_to_world(*xy.T)
    Table({"ra": sky.ra.deg, "dec": sky.dec.deg, "flux": flux}).write("sky.ecsv")
    text = {
        "RAJ2000": sky.ra.to_string("hour", sep=" ", precision=4, pad=True),
        "DEJ2000": sky.dec.to_string("deg", sep=" ", precision=3, pad=True, alwayssign=True),
        "Vmag": 20 - 2.5 * np.log10(flux),
    }
    Table(text).write("vizier.csv")
    return tmp_path


def off(header):
    """Return the largest error of a WCS on the source, px."""
    x, y = np.meshgrid(np.linspace(30, 290, 9), np.linspace(30, 230, 8))
    sky = WCS(header, fix=False).pixel_to_world(x, y)
    return sky.separation(true_wcs().pixel_to_world(x, y)).arcsec.max() / SCALE


@pytest.mark.parametrize("catalog", ["sky.ecsv", "vizier.csv"])
@pytest.mark.parametrize(
    "options",
    [[], ["--position", "150.0 20.0", "--pixel-scale", "0.9", "--epoch", "2024.2"]],
    ids=["nothing known", "pointing known"],
)
def test_the_aligned_image_has_the_sky(folder, catalog, options):
    assert align_fits(["source.fits", "out.fits", "-tc", catalog, *options]) == 0
    header, data = fits.getheader("out.fits"), fits.getdata("out.fits")
    assert header["DATE-OBS"] == "2024-03-01T00:00:00"
    # all of the source is on it: nothing is lost but what the kernel leaves at the rim
    assert np.isfinite(data).sum() > 0.9 * SHAPE[0] * SHAPE[1]
    source = fits.getdata("source.fits")[20:-20, 20:-20]
    y, x = np.unravel_index(source.argmax(), source.shape)
    sky = true_wcs().pixel_to_world(x + 20.0, y + 20.0)  # of the brightest star
    x, y = (int(np.round(v)) for v in WCS(header, fix=False).world_to_pixel(sky))
    around = data[y - 5 : y + 6, x - 5 : x + 6]
    assert np.abs(np.unravel_index(around.argmax(), around.shape) - np.array(5)).max() <= 1


def test_position_as_hours(folder):
    options = ["--position", "10:00:00 +20:00:00", "--radius", "0.3"]
    assert align_fits(["source.fits", "out.fits", "-tc", "sky.ecsv", *options]) == 0
    assert WCS(fits.getheader("out.fits"), fix=False).has_celestial


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("s.head", [], "TPV"),
        ("s.head", ["--wcs-kind", "sip"], "TAN-SIP"),
        ("s.wcs", [], "TAN-SIP"),
        ("s.fits", ["--wcs-kind", "tpv"], "TPV"),
        ("source", [], "TAN-SIP"),
    ],
)
def test_the_solution_is_written(folder, name, options, kind):
    before = fits.getdata("source.fits")
    options += ["--write-wcs", name]
    assert align_fits(["source.fits", "out.fits", "-tc", "sky.ecsv", *options]) == 0
    if name == "s.head":
        text = (folder / name).read_text()
        assert text.endswith("\nEND\n")
        header = fits.Header.fromstring(text, sep="\n")
    else:
        path = "source.fits" if name == "source" else name
        header = fits.getheader(path)
        header.remove("NAXIS")  # of a header without pixels, astropy warns
        if name != "s.wcs":
            assert_array_equal(fits.getdata(path), before)
            assert header["DATE-OBS"] == "2024-03-01T00:00:00"
    assert header["CTYPE1"].endswith(kind)
    assert off(header) < 0.15


def test_an_old_solution_is_replaced(folder):
    with fits.open("source.fits", mode="update") as hdus:
        hdus[0].header.update(WCS(true_wcs(distorted=False).to_header()).to_header())
        hdus[0].header.update(CROTA2=12.0, PV2_1=1.0, A_ORDER=3, A_3_0=1e-3, OBJECT="M 13")
    options = ["--write-wcs", "source", "--wcs-kind", "tpv"]
    assert align_fits(["source.fits", "out.fits", "-tc", "sky.ecsv", *options]) == 0
    header = fits.getheader("source.fits")
    assert not {"CROTA2", "A_ORDER", "A_3_0", "CDELT1", "PC1_1"} & set(header)
    assert header["OBJECT"] == "M 13"
    assert off(header) < 0.15


def test_compressed_pixels_stay_as_they_are(folder):
    data = fits.getdata("source.fits")
    packed = fits.CompImageHDU(data, name="CHIP")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto("source.fits.fz")
    with fits.open("source.fits.fz", disable_image_compression=True) as hdus:
        stored = hdus[1].data["COMPRESSED_DATA"][7].copy()
    options = ["-tc", "sky.ecsv", "--write-wcs", "source"]
    assert align_fits(["source.fits.fz", "out.fits", *options]) == 0
    with fits.open("source.fits.fz", disable_image_compression=True) as hdus:
        assert_array_equal(hdus[1].data["COMPRESSED_DATA"][7], stored)
    assert_array_equal(fits.getdata("source.fits.fz", "CHIP"), data)
    assert off(fits.getheader("source.fits.fz", "CHIP")) < 0.15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-tf", "source.fits", "--position", "1 2"], "--position needs a catalog of the sky"),
        (["-tc", "sky.ecsv", "--position", "here"], "two numbers in degrees"),
        (["-tc", "sky.ecsv", "--write-wcs", "s.doc"], "--write-wcs is 'source' or a name"),
        (["-tc", "sky.ecsv", "--wcs-kind", "sip"], "--wcs-kind needs --write-wcs"),
        (["-tf", "source.fits", "-tc", "sky.ecsv"], "a template by itself"),
        (["-tc", "pixels.csv", "--epoch", "2000"], "--epoch is for catalogs of the sky"),
    ],
)
def test_what_does_not_go_together(folder, capsys, options, words):
    Table({"x": [1.0, 2, 5], "y": [3.0, 9, 4]}).write("pixels.csv")
    with pytest.raises(SystemExit) as caught:
        align_fits(["source.fits", "out.fits", *options])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_existing_files_are_kept(folder, capsys):
    (folder / "s.head").write_text("precious")
    arguments = ["source.fits", "out.fits", "-tc", "sky.ecsv", "--write-wcs", "s.head"]
    assert align_fits(arguments) == 1
    assert "s.head exists already" in capsys.readouterr().err
    assert (folder / "s.head").read_text() == "precious"
    assert not (folder / "out.fits").exists()


def test_without_a_sky_the_image_is_written_still(folder, capsys):
    arguments = ["source.fits", "out.fits", "-tf", "source.fits", "--write-wcs", "s.head"]
    assert align_fits(arguments) == 1
    assert "no celestial WCS" in capsys.readouterr().err
    assert (folder / "out.fits").exists()
    assert not (folder / "s.head").exists()
