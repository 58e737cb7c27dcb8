"""
What comes through of the files of observatories, from reading to an aligned file.

The files are small; cards and extensions are those of the documents of the observatories.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import find_alignment
from spalipy_astro.errors import FormatError, ImageError
from spalipy_astro.io import (
    image_hdus,
    image_names,
    read_image,
    read_mask,
    read_uncertainty,
    to_hdus,
    write_hdus,
)

SHAPE = (80, 120)
BAD, SEEN = (30, 40), (50, 60)  # (y, x) of a block that is bad, and of one that is only flagged


@dataclass(frozen=True)
class Layout:
    """
    A file and what is to come of it.

    Attributes
    ----------
    hdus : callable
        Makes the HDUList.
    cards : mapping
        Cards of the exposure that an aligned image must have.
    unit : str
    spread : float or None
        Standard deviation of its pixels.
    bits : mapping of (y, x) to int
        Flags of the two blocks; empty if the file has none.
    """

    hdus: Callable[[], fits.HDUList]
    cards: Mapping[str, Any]
    unit: str
    spread: float | None = None
    bits: Mapping[tuple[int, int], int] = field(default_factory=dict)
    blank: bool = True


def sky(pixel: float = 0.2 / 3600) -> dict[str, Any]:
    """Cards of a gnomonic projection."""
    names = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 20.0}
    return {**names, "CRPIX1": 60.5, "CRPIX2": 40.5, "CD1_1": -pixel, "CD2_2": pixel}


def pixels() -> np.ndarray:
    return np.full(SHAPE, 100, np.float32)


def plane(value: float, dtype: str = "f4") -> np.ndarray:
    return np.full(SHAPE, value, dtype)


def flags(bad: int, seen: int, dtype: str) -> np.ndarray:
    out = np.zeros(SHAPE, dtype)
    for (y, x), bits in ((BAD, bad), (SEEN, seen)):
        out[y - 2 : y + 3, x - 2 : x + 3] = bits
    return out


def _with(header: Mapping[str, Any]) -> fits.PrimaryHDU:
    return fits.PrimaryHDU(header=fits.Header(dict(header)))


def _extension(data: np.ndarray, name: str, cards: Mapping[str, Any] | None = None, ver: int = 1):
    return fits.ImageHDU(data, fits.Header(dict(cards or {})), name=name, ver=ver)


def _hst() -> fits.HDUList:
    own = {**sky(), "BUNIT": "ELECTRONS", "ORIENTAT": 12.0, "INHERIT": True}
    own |= {"PIXAR_SR": 1e-12, "S_REGION": "POLYGON ICRS 150 20 151 20 151 21", "PC001001": 1.0}
    return fits.HDUList(
        [
            _with({**HST, "TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC", "NEXTEND": 3}),
            _extension(pixels(), "SCI", {**own, "EXPNAME": "j8xi"}),
            _extension(plane(3), "ERR", {"BUNIT": "ELECTRONS"}),
            _extension(flags(4096, 64, "i2"), "DQ"),
        ]
    )


def _jwst() -> fits.HDUList:
    return fits.HDUList(
        [
            _with({**JWST, "TELESCOP": "JWST", "INSTRUME": "NIRCAM", "TIMESYS": "UTC"}),
            _extension(pixels(), "SCI", {**sky(), "BUNIT": "MJy/sr", "MJD-BEG": 59700.25}),
            _extension(plane(3), "ERR", {"BUNIT": "MJy/sr"}),
            _extension(flags(1, 4, "u4"), "DQ"),
            _extension(plane(1), "AREA"),
            _extension(plane(4), "VAR_POISSON"),
            _extension(plane(5), "VAR_RNOISE"),
            fits.BinTableHDU.from_columns([fits.Column("ASDF_METADATA", "1B", array=[0])]),
        ]
    )


def _lsst() -> fits.HDUList:
    names = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT")
    planes = {f"HIERARCH MP_{name}": bit for bit, name in enumerate(names)}
    return fits.HDUList(
        [
            _with({**LSST, "TELESCOP": "Simonyi Survey Telescope", "TIMESYS": "TAI"}),
            _extension(pixels(), "IMAGE", {**sky(), "BUNIT": "adu"}),
            _extension(flags(8, 32, "i4"), "MASK", planes),
            _extension(plane(9), "VARIANCE", {"BUNIT": "adu2"}),
        ]
    )


def _sdss() -> fits.HDUList:
    table = fits.BinTableHDU.from_columns([fits.Column("ALLSKY", "E", array=[1.0])])
    header = {**SDSS, **sky(), "TELESCOP": "2.5m", "BUNIT": "nanomaggy", "TAI": 4506754411.5}
    return fits.HDUList([fits.PrimaryHDU(pixels(), fits.Header(header)), table, table.copy()])


def _decam() -> fits.HDUList:
    return fits.HDUList(
        [
            _with({**DECAM, "TELESCOP": "CTIO 4.0-m telescope", "INSTRUME": "DECam"}),
            _extension(pixels(), "N4", {**sky(), "BUNIT": "electrons", "CCDNUM": 35}),
            _extension(flags(5, 0, "i2"), "DQM"),
            _extension(plane(1 / 9), "WTM"),
        ]
    )


def _des() -> fits.HDUList:
    return fits.HDUList(
        [
            _with({**DECAM, "TELESCOP": "CTIO 4.0-m telescope", "INSTRUME": "DECam"}),
            _extension(pixels(), "SCI", {**sky(), "BUNIT": "electrons"}),
            _extension(flags(16, 2048, "i2"), "MSK"),
            _extension(plane(1 / 9), "WGT"),
        ]
    )


def _ztf() -> fits.HDUList:
    header = {**ZTF, **sky(), "TELESCOP": "P48", "INSTRUME": "ZTF/MOSAIC", "BUNIT": "DN"}
    return fits.HDUList([fits.PrimaryHDU(pixels(), fits.Header(header))])


def _ccdproc() -> fits.HDUList:
    header = {**CCDPROC, **sky(), "BUNIT": "electron"}
    uncertainty = {"UTYPE": "StdDevUncertainty"}
    return fits.HDUList(
        [
            fits.PrimaryHDU(pixels(), fits.Header(header)),
            _extension(flags(1, 0, "u1"), "MASK"),
            _extension(plane(3), "UNCERT", uncertainty),
        ]
    )


def _maxim() -> fits.HDUList:
    header = {**MAXIM, "BZERO": 32768, "PEDESTAL": 0, "SWCREATE": "MaxIm DL", "BAYERPAT": "RGGB"}
    header |= {"OBJCTRA": "10 00 00", "OBJCTDEC": "+20 00 00", "XPIXSZ": 9.0, "BLANK": -32768}
    data = plane(100, "u2")
    data[BAD[0] - 2 : BAD[0] + 3, BAD[1] - 2 : BAD[1] + 3] = 0  # stored as -32768
    hdu = fits.PrimaryHDU(data)
    for key, value in header.items():
        if key != "BZERO":
            hdu.header[key] = value
    return fits.HDUList([hdu])


def _nina() -> fits.HDUList:
    header = {**NINA, "SWCREATE": "N.I.N.A. 3.0", "ROWORDER": "TOP-DOWN", "EQUINOX": 2000.0}
    return fits.HDUList([fits.PrimaryHDU(plane(100, "u2"), fits.Header(header))])


HST = {"DATE-OBS": "2004-05-01", "TIME-OBS": "01:02:03", "EXPSTART": 53126.0430903}
HST |= {"EXPTIME": 500.0, "FILTER1": "F606W"}
JWST = {"DATE-OBS": "2022-05-01", "TIME-OBS": "06:00:00.1", "DATE-BEG": "2022-05-01T06:00:00.1"}
JWST |= {"DATE-AVG": "2022-05-01T06:05:00", "DATE-END": "2022-05-01T06:10:00", "FILTER": "F200W"}
JWST |= {"EFFEXPTM": 311.3}
LSST = {"DATE-AVG": "2025-05-01T06:00:15", "MJD-OBS": 60796.25, "DATE-BEG": "2025-05-01T06:00:00"}
LSST |= {"OBSGEO-X": 1818938.94, "OBSGEO-Y": -5208470.95, "OBSGEO-Z": -3195172.08}
SDSS = {"DATE-OBS": "2001-09-19", "EXPTIME": "53.907456", "FILTER": "r", "RUN": 2583}
DECAM = {"DATE-OBS": "2014-10-01T05:00:00.5", "MJD-OBS": 56931.20833912, "TIMESYS": "utc"}
DECAM |= {"EXPTIME": 90.0, "OBS-LAT": -30.16606, "OBS-LONG": 70.81489, "OBS-ELEV": 2215.0}
ZTF = {"OBSJD": 2458346.8, "OBSMJD": 58346.3, "SHUTOPEN": "2018-08-16T07:12:00.1"}
ZTF |= {"EXPOSURE": 30.0, "MAGZP": 26.2}
CCDPROC = {"DATE-OBS": "2019-03-01T02:00:00", "JD": 2458543.5833, "FILTER": "V", "EXPTIME": 60.0}
MAXIM = {"DATE-OBS": "2020-01-02T03:04:05", "EXPTIME": 120.0, "SITELAT": "48 10 00"}
MAXIM |= {"SITELONG": "16 20 00", "JD": 2458850.628, "INSTRUME": "SBIG ST-8300"}
NINA = {"DATE-LOC": "2024-06-01T23:00:00", "DATE-OBS": "2024-06-01T21:00:00", "SITEELEV": 300.0}
NINA |= {"DATE-AVG": "2024-06-01T21:01:00", "EXPOSURE": 120.0, "MJD-AVG": 60462.876}

LAYOUTS = {
    "HST": Layout(_hst, HST, "electron", 3.0, {BAD: 4096, SEEN: 64}),
    "JWST": Layout(_jwst, JWST, "MJy / sr", 3.0, {BAD: 1, SEEN: 4}),
    "LSST": Layout(_lsst, LSST, "adu", 3.0, {BAD: 8, SEEN: 32}),
    "SDSS": Layout(_sdss, SDSS, "nmgy", blank=False),
    "DECam": Layout(_decam, DECAM, "electron", 3.0, {BAD: 5, SEEN: 0}),
    "DES": Layout(_des, DECAM, "electron", 3.0, {BAD: 16, SEEN: 2048}),
    "ZTF": Layout(_ztf, ZTF, "DN", blank=False),
    "ccdproc": Layout(_ccdproc, CCDPROC, "electron", 3.0),
    "MaxIm": Layout(_maxim, MAXIM, "adu"),
    "NINA": Layout(_nina, NINA, "adu", blank=False),
}

SHIFT = np.array([3, -2])  # px, x and y, from source to template
TEMPLATE = {
    "DATE-OBS": "1999-01-01T00:00:00",
    "MJD-OBS": 51179.0,
    "DATE-BEG": "1999-01-01T00:00:00",
    "DATE-AVG": "1999-01-01T00:01:00",
    "DATE-END": "1999-01-01T00:02:00",
    "MJD-BEG": 51179.0,
    "MJD-AVG": 51179.0007,
    "MJD-END": 51179.0014,
    "TIMESYS": "TDB",
    "TREFPOS": "BARYCENT",
    "MJDREF": 50000.0,
    "TSTART": 1.0,
    "TSTOP": 2.0,
    "TELAPSE": 120.0,
    "XPOSURE": 100.0,
    "RESTFRQ": 1.42e9,
    "RESTWAV": 0.21,
    "SPECSYS": "LSRK",
    "OBSGEO-X": 5e6,
    "OBSGEO-Y": 2e6,
    "OBSGEO-Z": 3e6,
}


def aligned(image, template):
    """Put an image onto a template that is shifted by whole pixels."""
    xy = np.random.default_rng(5).uniform((5, 5), (115, 75), (40, 2))
    alignment = find_alignment(xy, xy + SHIFT, spline_order=0)
    alignment = alignment.__class__(
        **{
            **{name: getattr(alignment, name) for name in alignment.__dataclass_fields__},
            "source_shape": SHAPE,
            "template_shape": SHAPE,
            "original_wcs": template,
        }
    )
    return alignment.resample(image, method="nearest")


@pytest.mark.parametrize("name", LAYOUTS)
def test_round_trip(name, tmp_path):
    """Cards, planes, unit and WCS of each layout, read, aligned, written and read again."""
    layout = LAYOUTS[name]
    layout.hdus().writeto(tmp_path / "in.fits")
    image = read_image(tmp_path / "in.fits")
    template = WCS(fits.Header({**sky(), **TEMPLATE}), fix=False)

    write_hdus(to_hdus(aligned(image, template)), tmp_path / "out.fits")
    header = fits.getheader(tmp_path / "out.fits")
    back = read_image(tmp_path / "out.fits")

    for key, value in layout.cards.items():
        assert header[key] == value
    source = {key for hdu in layout.hdus() for key in hdu.header}
    assert not (TEMPLATE.keys() & set(header)) - source
    assert str(back.unit) == layout.unit
    y, x = np.add(BAD, SHIFT[::-1])
    assert back.mask[y, x] == layout.blank
    y, x = np.add(SEEN, SHIFT[::-1])
    assert not back.mask[y, x]
    assert back.data[y, x] == 100
    if layout.spread is None:
        assert back.uncertainty is None
    else:
        assert_allclose(back.uncertainty.array[y, x], image.uncertainty.array[SEEN])
        assert back.uncertainty.uncertainty_type == image.uncertainty.uncertainty_type
    if layout.bits:
        for place, bits in layout.bits.items():
            y, x = np.add(place, SHIFT[::-1])
            assert back.flags[y, x] == bits
    assert not {"INHERIT", "PIXAR_SR", "S_REGION", "PC001001"} & set(header)
    assert "ORIENTAT" not in header
    assert "BAYERPAT" not in header
    there, here = (w.pixel_to_world(30, 40) for w in (template, back.wcs))
    assert there.separation(here).arcsec < 1e-6


@pytest.mark.parametrize("name", [n for n, one in LAYOUTS.items() if one.spread is not None])
def test_uncertainties_are_of_their_kind(name, tmp_path):
    """A variance is no standard deviation, a weight map of DECam no variance."""
    from astropy.nddata import StdDevUncertainty

    LAYOUTS[name].hdus().writeto(tmp_path / "in.fits")
    spread = read_image(tmp_path / "in.fits").uncertainty.represent_as(StdDevUncertainty)
    assert_allclose(spread.array, 3, rtol=1e-6)


def test_planes_are_no_images(tmp_path):
    """The planes of a file with two chips belong to the chips, each to its own."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for ver in (1, 2):
        hdus += [
            fits.ImageHDU(pixels() * ver, name="SCI", ver=ver),
            fits.ImageHDU(plane(3 * ver), name="ERR", ver=ver),
            fits.ImageHDU(flags(ver, 0, "i2"), name="DQ", ver=ver),
        ]
    hdus.writeto(tmp_path / "a.fits")
    assert image_hdus(tmp_path / "a.fits") == [1, 4]
    for ver, hdu in ((1, 1), (2, 4)):
        image = read_image(tmp_path / "a.fits", hdu=hdu)
        assert_allclose(image.uncertainty.array, 3 * ver)
        assert image.flags[BAD] == ver
        assert image.mask[BAD]


def test_planes_are_found_by_version_or_by_place(tmp_path):
    """All images before all planes, told by EXTVER; or all of version 1, told by their order."""
    by_version = [fits.ImageHDU(pixels(), name="SCI", ver=v) for v in (1, 2)]
    by_version += [fits.ImageHDU(plane(v), name="ERR", ver=v) for v in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *by_version]).writeto(tmp_path / "a.fits")
    by_place = []
    for v in (1, 2):
        by_place += [fits.ImageHDU(pixels(), name=f"N{v}"), fits.ImageHDU(plane(v), name="ERR")]
    fits.HDUList([fits.PrimaryHDU(), *by_place]).writeto(tmp_path / "b.fits")
    for name, numbers in (("a.fits", (1, 2)), ("b.fits", (1, 3))):
        for value, number in enumerate(numbers, 1):
            image = read_image(tmp_path / name, hdu=number)
            assert_allclose(image.uncertainty.array, value)


def test_planes_with_an_axis_of_length_one(tmp_path):
    """They get the shape of the image; planes of another shape do not belong to it."""
    names = {"SCI": pixels(), "ERR": plane(3), "DQ": flags(4, 0, "i2"), "MASK": plane(0, "u1")}
    hdus = [fits.ImageHDU(data[np.newaxis], name=name) for name, data in names.items()]
    hdus.insert(1, fits.ImageHDU(plane(7)[:-1], name="VARIANCE"))
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.shape == image.mask.shape == image.flags.shape == SHAPE
    assert image.mask[BAD]
    assert image.uncertainty.array.shape == SHAPE
    assert image.uncertainty.uncertainty_type == "std"


def test_cards_of_a_primary_header_that_cannot_be_written(tmp_path, caplog):
    """They are named as those of the extension are, in the same warning."""
    hdus = [fits.PrimaryHDU(header=fits.Header({"XXAIN": 1.5, "FILTER": "V"}))]
    hdus.append(fits.ImageHDU(pixels(), fits.Header({"OBSERVER": "me"}), name="SCI"))
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    raw = (tmp_path / "a.fits").read_bytes().replace(b"XXAIN   =", b"GAIN.SPE=")
    (tmp_path / "a.fits").write_bytes(raw.replace(b"'me      '", b"'m\x00      '"))
    header = read_image(tmp_path / "a.fits").header
    assert header["FILTER"] == "V"
    assert len(caplog.messages) == 1
    assert all(name in caplog.messages[0] for name in ("GAIN.SPE", "OBSERVER"))


def test_which_flags_are_bad_can_be_said(tmp_path):
    """By bits, by names that the file has, by names that the user has; none at all."""
    from astropy.nddata.bitmask import extend_bit_flag_map

    LAYOUTS["LSST"].hdus().writeto(tmp_path / "a.fits")
    LAYOUTS["HST"].hdus().writeto(tmp_path / "b.fits")

    def bad(name, **options):
        mask = read_image(tmp_path / name, **options).mask
        return bool(mask[BAD]), bool(mask[SEEN])

    assert bad("a.fits") == (True, False)
    assert bad("a.fits", ignore_flags=0) == (True, True)
    assert bad("a.fits", ignore_flags=None) == (False, False)
    assert bad("a.fits", ignore_flags="CR") == (False, True)
    assert bad("a.fits", ignore_flags="~CR") == (True, False)
    assert bad("a.fits", ignore_flags=["CR", "DETECTED"]) == (False, False)
    assert bad("b.fits", ignore_flags="4096") == (False, True)
    names = extend_bit_flag_map("OfMine", COSMIC=4096, WARM=64)
    assert bad("b.fits", ignore_flags="COSMIC", flag_name_map=names) == (False, True)
    with pytest.raises(ValueError, match=r"ignore_flags is .* got 'NO_SUCH'"):
        read_image(tmp_path / "a.fits", ignore_flags="NO_SUCH")


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8"])
def test_flags_of_any_integer_type(dtype, tmp_path):
    """All bits but those that are ignored count, the sign bit of signed types, too."""
    top = np.array(np.iinfo(dtype).min if dtype[0] == "i" else 128, dtype)
    data = np.zeros(SHAPE, dtype)
    data[BAD], data[SEEN] = top, 2
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels(), name="SCI"), fits.ImageHDU(data, name="DQ")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    mask = read_image(tmp_path / "a.fits", ignore_flags=2).mask
    assert mask[BAD]
    assert mask.sum() == 1


def test_flags_in_a_file_of_their_own(tmp_path):
    """The mask of ZTF, where stars are flagged; the weights of DECam."""
    header = fits.Header({"INSTRUME": "ZTF/MOSAIC"})
    fits.PrimaryHDU(flags(256, 2, "i2"), header).writeto(tmp_path / "mskimg.fits")
    mask = read_mask(tmp_path / "mskimg.fits")
    assert mask[BAD]
    assert not mask[SEEN]
    fits.PrimaryHDU(flags(256, 2, "i2")).writeto(tmp_path / "plain.fits")
    assert read_mask(tmp_path / "plain.fits")[SEEN]
    weights = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(plane(0.25), name="WTM")])
    weights.writeto(tmp_path / "wtm.fits")
    assert read_uncertainty(tmp_path / "wtm.fits").uncertainty_type == "ivar"


@pytest.mark.parametrize("dtype", ["u2", "u4", "i2", "i4", "u1"])
@pytest.mark.parametrize("packed", [False, True])
def test_blank_pixels_are_bad(dtype, packed, tmp_path):
    """BLANK is the stored number, whatever type the pixels become."""
    data = np.full(SHAPE, 100, dtype)
    data[BAD] = 7
    zero = {"u2": 2**15, "u4": 2**31}.get(dtype, 0)
    if packed and zero:
        pytest.skip("astropy cannot write BLANK to compressed unsigned integers")
    hdu = fits.CompImageHDU(data) if packed else fits.PrimaryHDU(data)
    hdu.header["BLANK"] = 7 - zero
    hdu.writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    bad = ~np.isfinite(image.data) if image.mask is None else image.mask | ~np.isfinite(image.data)
    assert bad[BAD]
    assert bad.sum() == 1


def test_wcs_is_inherited_from_the_primary_header(tmp_path):
    """Where the extension says so or is alone, not where it says no or there are others."""
    for inherit, number, found in ((True, 1, 1), (None, 1, 1), (False, 1, 0), (None, 2, 0)):
        images = [fits.ImageHDU(pixels(), name=f"N{k}") for k in range(number)]
        for hdu in images:
            if inherit is not None:
                hdu.header["INHERIT"] = inherit
        path = tmp_path / f"{inherit}{number}.fits"
        fits.HDUList([fits.PrimaryHDU(header=fits.Header(sky())), *images]).writeto(path)
        assert (read_image(path, hdu=1).wcs is not None) == bool(found)


def test_wcs_that_is_not_understood_is_left_out_with_a_warning(tmp_path, caplog):
    plate = {"CTYPE1": "RA---DSS", "CTYPE2": "DEC--DSS", "PLTRAH": 10, "AMDX1": 67.2, "PPO3": 1e5}
    bare = {key: value for key, value in plate.items() if not key.startswith("CTYPE")}
    flat = {**sky(), "CD1_1": 0.0, "CD2_2": 0.0}
    for number, cards in enumerate((plate, bare, flat)):
        path = tmp_path / f"{number}.fits"
        fits.PrimaryHDU(pixels(), fits.Header(cards)).writeto(path)
        caplog.clear()
        assert read_image(path).wcs is None
        assert "its WCS is left out" in caplog.text
        assert f"{number}.fits" in caplog.text
    # a plate's cards beside a projection, as in scans of the Digitized Sky Survey
    fits.PrimaryHDU(pixels(), fits.Header({**bare, **sky()})).writeto(tmp_path / "both.fits")
    world = read_image(tmp_path / "both.fits").wcs.pixel_to_world(59.5, 39.5)
    assert_allclose([world.ra.deg, world.dec.deg], [150, 20])


@pytest.mark.parametrize("ver", [1, 3])
@pytest.mark.parametrize("suffix", ["fits", "fits.fz"])
def test_tables_of_distortions_are_written(tmp_path, ver, suffix):
    """CPDIS and D2IM, beside each of several chips."""
    from astropy.wcs import DistortionLookupTable

    wcs = WCS(fits.Header(sky()))
    wave = np.sin(np.mgrid[:13, :9][1] / 3).astype("f4")
    names = {"cpdis1": 3 * wave, "cpdis2": -2 * wave, "det2im1": wave, "det2im2": wave}
    for name, table in names.items():
        lookup = DistortionLookupTable(table, (1, 1), (1.0, 1.0), (15.0, 10.0))
        setattr(wcs, name, lookup)
    image = aligned(read_plain(tmp_path, wcs=None), wcs)
    assert image.wcs.cpdis1 is not None
    path = tmp_path / f"out.{suffix}"
    other = aligned(read_plain(tmp_path, wcs=None), WCS(fits.Header(sky())))
    write_hdus([*to_hdus(other, name="SCI", ver=9), *to_hdus(image, name="SCI", ver=ver)], path)
    back = read_image(path, hdu=("SCI", ver)).wcs
    x, y = np.meshgrid(np.arange(5.0, 110, 15), np.arange(5.0, 75, 15))
    miss = back.pixel_to_world(x, y).separation(wcs.pixel_to_world(x, y)).arcsec / 0.2
    assert miss.max() < 1e-4
    lost = WCS(fits.Header(sky())).pixel_to_world(x, y).separation(wcs.pixel_to_world(x, y))
    assert lost.arcsec.max() / 0.2 > 1  # what there is to lose


def read_plain(folder, wcs):
    """Return an image with nothing beside it."""
    from astropy.nddata import CCDData

    return CCDData(pixels(), unit="adu", wcs=wcs)


def raw_file(path, *cards):
    """Write a file with cards that no library would write."""
    head = ["SIMPLE  =                    T", "BITPIX  =                  -32"]
    head += ["NAXIS   =                    2", "NAXIS1  =                  120"]
    head += ["NAXIS2  =                   80", *cards, "END"]
    text = "".join(card.ljust(80) for card in head)
    data = pixels().astype(">f4").tobytes()
    text = text.ljust(-(-len(text) // 2880) * 2880)
    path.write_bytes(text.encode("latin-1") + data + bytes(-len(data) % 2880))


@pytest.mark.filterwarnings("ignore:non-ASCII characters are present")
@pytest.mark.parametrize(
    ("card", "named"),
    [
        ("GAIN.SPE=                  1.5", "GAIN.SPE"),
        ("CONTINUE  'of nothing'", "CONTINUE"),
        ("FILTER  = 'R\x00      '", "FILTER"),
        ("OBSERVER= 'R\tS     '", "OBSERVER"),
        ("EXPO$   =                   30", "EXPO$"),
    ],
)
def test_cards_that_cannot_be_written_are_named_when_read(tmp_path, caplog, card, named):
    """Once, before the work; the others stay, before and behind it."""
    raw_file(tmp_path / "a.fits", "GAIN    =                  2.0", card, "RDNOISE =    5.0")
    with caplog.at_level(logging.WARNING, logger="spalipy_astro"):
        image = read_image(tmp_path / "a.fits")
    assert [record for record in caplog.messages if named in record]
    assert len(caplog.messages) == 1
    caplog.clear()
    write_hdus(to_hdus(image), tmp_path / "b.fits")
    assert not caplog.messages
    header = fits.getheader(tmp_path / "b.fits")
    assert header["GAIN"] == 2
    assert header["RDNOISE"] == 5
    assert named not in header


def test_metadata_that_are_no_header(tmp_path, caplog):
    """A dictionary with arrays, dates and numbers that FITS does not know."""
    from spalipy_astro.io import as_header

    meta = {"exposure time": 30.0, "FILTER": "V", "matrix": np.eye(2), "bad": float("nan")}
    meta |= {"nothing": None, "observer": "Ångström", "list": [1, 2], "GAIN": (1.5, "e/adu")}
    header = as_header(meta, "source 3")
    assert header["exposure time"] == 30
    assert header["FILTER"] == "V"
    assert header["GAIN"] == 1.5
    assert len(caplog.messages) == 1
    message = caplog.messages[0]
    assert message.startswith("source 3:")
    assert all(name in message for name in ("matrix", "bad", "observer", "list"))
    fits.PrimaryHDU(pixels(), header).writeto(tmp_path / "a.fits")


def test_units_in_spellings_of_observatories():
    from astropy import units as u

    from spalipy_astro.io._headers import unit_of

    density = u.erg / u.s / u.cm**2 / u.Angstrom
    spellings = {
        "ELECTRONS/S": u.electron / u.s,
        "electrons": u.electron,
        "ELECTRONS PER SECOND": u.electron / u.s,
        "COUNTS": u.ct,
        "counts s-1": u.ct / u.s,
        "e-/s": u.electron / u.s,
        "ADU": u.adu,
        "adu per pixel": u.adu / u.pix,
        "DN/sec": u.DN / u.s,
        "Data Units": u.DN,
        "nanomaggies": u.nmgy,
        "NMGY": u.nmgy,
        "MJy/sr": u.MJy / u.sr,
        "MJY/SR": u.MJy / u.sr,
        "JY/BEAM": u.Jy / u.beam,
        "(MJy/sr)": u.MJy / u.sr,
        "[ADU]": u.adu,
        "mJy/beam": u.mJy / u.beam,
        "MJY/BEAM": u.mJy / u.beam,
        "nJy": u.nJy,
        "K (Tb)": u.K,
        "MAG/ARCSEC**2": u.mag / u.arcsec**2,
        "1E-17 erg/s/cm^2/Ang": u.Unit(1e-17) * density,
        "10**-17 erg/s/cm**2/Angstrom": u.Unit(1e-17) * density,
        "1E-17 erg/s/cm^2/Ang/spaxel": u.Unit(1e-17) * density / u.pix,
    }
    for text, unit in spellings.items():
        assert unit_of(text) == unit, text
    assert unit_of("furlongs") is None
    assert unit_of("UNCALIB") is None


def test_a_unit_that_nobody_knows_is_written_back(tmp_path, caplog):
    """It is not turned into adu, which the file has never said."""
    fits.writeto(tmp_path / "a.fits", pixels(), fits.Header({"BUNIT": "UNCALIB", **sky()}))
    image = read_image(tmp_path / "a.fits")
    assert "the unit 'UNCALIB' is unknown" in caplog.text
    write_hdus(to_hdus(aligned(image, None)), tmp_path / "b.fits")
    assert fits.getheader(tmp_path / "b.fits")["BUNIT"] == "UNCALIB"


def test_uncertainty_in_a_unit_of_its_own():
    """It is converted; one that cannot be is refused by name."""
    from astropy import units as u
    from astropy.nddata import (
        CCDData,
        InverseVariance,
        NDData,
        StdDevUncertainty,
        UnknownUncertainty,
        VarianceUncertainty,
    )

    from spalipy_astro.io import as_image

    milli = u.Unit("0.001 electron")
    for spread in (
        StdDevUncertainty(plane(3000), unit=milli),
        VarianceUncertainty(plane(9e6), unit=milli**2),
    ):
        image = CCDData(pixels(), unit="electron", uncertainty=spread)
        assert_allclose(as_image(image).error, 3, rtol=1e-6)
    image = CCDData(pixels(), unit="electron", uncertainty=UnknownUncertainty(plane(3)))
    with pytest.raises(ImageError, match="is an UnknownUncertainty, which does not say"):
        as_image(image)
    gaps = plane(0.25)
    gaps[0, 0] = 0  # no warning of a division
    image = CCDData(pixels(), unit="electron", uncertainty=InverseVariance(gaps))
    assert np.argwhere(as_image(image).error != 2).tolist() == [[0, 0]]
    wrong = NDData(pixels(), unit="electron")
    wrong._uncertainty = StdDevUncertainty(plane(3), unit="m")
    with pytest.raises(ImageError, match="unit m, its data electron"):
        as_image(wrong)


def test_files_without_images_but_with_planes(tmp_path):
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(plane(3), name="ERR")]).writeto(
        tmp_path / "a.fits"
    )
    with pytest.raises(FormatError):
        read_image(tmp_path / "a.fits")
    assert_array_equal(read_image(tmp_path / "a.fits", hdu="ERR").data, 3)


def test_an_image_with_tables_is_no_catalog(tmp_path):
    """As files of HST, JWST and SDSS are; a table alone still is one."""
    from spalipy_astro.catalogs import is_catalog

    LAYOUTS["SDSS"].hdus().writeto(tmp_path / "frame.fits")
    LAYOUTS["JWST"].hdus().writeto(tmp_path / "cal.fits")
    assert not is_catalog(tmp_path / "frame.fits")
    assert not is_catalog(tmp_path / "cal.fits")
    table = fits.BinTableHDU.from_columns([fits.Column(n, "E", array=[1.0]) for n in ("x", "y")])
    table.writeto(tmp_path / "stars.fits")
    assert is_catalog(tmp_path / "stars.fits")


@pytest.mark.filterwarnings("ignore:Invalid value for 'BLANK'")  # astropy overlooks it
@pytest.mark.parametrize("blank", [-32768, -32768.0, "-32768", " -32768 "])
@pytest.mark.parametrize("zero", [0, 32768, 32768.0, 0.5])
def test_blank_in_whatever_form_it_is_written(tmp_path, blank, zero):
    """An integer, a number with a point, a text; with and without a sign, and scaled."""
    hdu = fits.PrimaryHDU(np.arange(-40, 40, dtype="i2").reshape(8, 10))
    hdu.data[3, 4] = -32768
    hdu.writeto(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BLANK"], hdus[0].header["BZERO"] = blank, zero
    image = read_image(tmp_path / "a.fits")
    bad = ~np.isfinite(image.data) if image.mask is None else image.mask | ~np.isfinite(image.data)
    if not isinstance(blank, int) and zero == 0.5:
        return  # of numbers with fractions no pixel can be told from one that has this value
    assert np.argwhere(bad).tolist() == [[3, 4]]
    assert image.data[0, 0] == -40 + zero


SPREADS = {"NOISE": "std", "RMS": "std", "ERRS": "std", "UNCERTAINTY": "std", "STAT": "var"}


@pytest.mark.parametrize("name", [*SPREADS, "1-1.RMS", "CHIP.VAR"])
def test_planes_by_the_names_of_other_pipelines(tmp_path, name):
    kind = SPREADS.get(name.partition(".")[2] or name, "var")
    chip = name.rpartition(".")[0]
    names = [f"{chip}.{one}" if chip else one for one in ("SCI", "FLG", "CONF")]
    bad, weight = flags(4, 0, "i4"), plane(1)
    weight[0, 0] = 0
    planes = [(pixels(), names[0]), (plane(9), name), (bad, names[1]), (weight, names[2])]
    hdus = [fits.ImageHDU(data, name=called) for data, called in planes]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    assert image_hdus(tmp_path / "a.fits") == [1]
    image = read_image(tmp_path / "a.fits")
    assert image.uncertainty.uncertainty_type == kind
    assert image.mask[0, 0]
    assert image.mask[BAD]
    assert image.flags[BAD] == 4
    assert not image.mask[SEEN]


@pytest.mark.parametrize("name", ["QUALITY", "Data Quality", "BadPixMask", "bad pixel mask", "GPM"])
def test_names_of_bad_pixels(tmp_path, name):
    bad = np.zeros(SHAPE, "u1")
    bad[BAD] = 1
    hdus = [fits.PrimaryHDU(pixels()), fits.ImageHDU(1 - bad if name == "GPM" else bad, name=name)]
    fits.HDUList([*hdus, fits.ImageHDU(bad, name="OBJECT MASK")]).writeto(tmp_path / "a.fits")
    assert np.argwhere(read_image(tmp_path / "a.fits").mask).tolist() == [list(BAD)]


def test_planes_of_tess(tmp_path):
    """Camera and chip stand before the kind of plane, with a blank between."""
    names = ("CAMERA.CCD 1.2 cal", "CAMERA.CCD 1.2 uncert")
    hdus = [
        fits.ImageHDU(plane(value), name=name) for value, name in zip((7, 2), names, strict=True)
    ]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    assert image_hdus(tmp_path / "a.fits") == [1]
    image = read_image(tmp_path / "a.fits")
    assert image.data[0, 0] == 7
    assert image.uncertainty.array[0, 0] == 2


@pytest.mark.parametrize("kind", ["RMSE", "MSE", "INVMSE"])
def test_planes_told_by_cards_of_eso(tmp_path, kind):
    """HDUCLAS2 says what a plane is and SCIDATA whose, in whatever order and by any name."""
    hdus = [fits.PrimaryHDU()]
    for chip, value in (("A", 2), ("B", 3)):
        hdus.append(fits.ImageHDU(pixels(), fits.Header({"HDUCLASS": "ESO"}), name=chip))
        hdus[-1].header.update({"HDUCLAS2": "DATA", "ERRDATA": f"E{chip}"})
        for name, clas in (("E", "ERROR"), ("Q", "QUALITY")):
            bad = flags(value, 0, "i4") if name == "Q" else plane(value)
            cards = {"HDUCLASS": "ESO", "HDUCLAS2": clas, "SCIDATA": chip}
            cards["HDUCLAS3"] = kind if name == "E" else "FLAG32BIT"
            hdus.insert(1, fits.ImageHDU(bad, fits.Header(cards), name=f"{name}{chip}"))
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    assert [name for name, _ in image_names(tmp_path / "a.fits").values()] == ["A", "B"]
    for chip, value in (("A", 2), ("B", 3)):
        image = read_image(tmp_path / "a.fits", hdu=chip)
        assert image.uncertainty.uncertainty_type == {"R": "std", "M": "var", "I": "ivar"}[kind[0]]
        assert image.uncertainty.array[0, 0] == value
        assert image.flags[BAD] == value
        assert image.mask[BAD]


def test_uncertainties_whose_kind_is_in_other_letters(tmp_path):
    hdus = [fits.PrimaryHDU(pixels()), _extension(plane(4), "UNCERT", {"UTYPE": "INVERSEVARIANCE"})]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    assert read_image(tmp_path / "a.fits").uncertainty.uncertainty_type == "ivar"


def test_weight_maps_in_files_of_their_own(tmp_path):
    """DECam's say so in the primary header; others are standard deviations."""
    for product, kind in (("wtmap", "ivar"), ("image", "std")):
        primary = _with({"PRODTYPE": product})
        hdus = fits.HDUList([primary, _extension(plane(4), "N4"), _extension(plane(5), "N5")])
        hdus.writeto(tmp_path / "w.fits", overwrite=True)
        spread = read_uncertainty(tmp_path / "w.fits", hdu="N5")
        assert spread.uncertainty_type == kind
        assert_array_equal(spread.array, 5)


def test_flags_with_the_names_of_pan_starrs(tmp_path):
    """Its files of masks tell the names of bits; poorly convolved pixels are not bad."""
    names = {"DETECTOR": 1, "SAT": 32, "SUSPECT": 128, "CONV.POOR": 16384, "MASK.VALUE": 33}
    cards = {"MSKNUM": len(names)}
    for number, (name, bit) in enumerate(names.items()):
        cards |= {f"MSKNAM{number:02d}": name, f"MSKVAL{number:02d}": bit}
    bits = flags(32, 128 + 16384, "u2")
    packed = fits.CompImageHDU(bits, fits.Header(cards))
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "m.fits")
    assert_array_equal(read_mask(tmp_path / "m.fits"), bits == 32)
    assert_array_equal(read_mask(tmp_path / "m.fits", ignore_flags="SAT"), bits == 128 + 16384)
    planes = [_extension(pixels(), "SCI"), _extension(bits, "MASK", cards)]
    fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.mask[BAD]
    assert not image.mask[SEEN]
    assert image.header["MSKNAM01"] == "SAT"


def test_damaged_names_of_bits_are_overlooked(tmp_path):
    planes = _lsst()
    for number, value in enumerate(("five", -3, 70, 2.5)):
        planes["MASK"].header[f"HIERARCH MP_BROKEN{number}"] = value
    planes.writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.mask[BAD]
    assert not image.mask[SEEN]


RIGHT = WCS(fits.Header(sky())).pixel_to_world(3, 5)
LINEAR = {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR", "CRPIX1": 1.0, "CRPIX2": 1.0}
ALTERNATE = {f"{key}A": value for key, value in sky().items()}


@pytest.mark.parametrize(
    "cards",
    [
        {**sky(), "CUNIT1": "degree", "CUNIT2": "DEGREES"},
        {**sky(), "CUNIT1": "DEG", "CUNIT2": "Deg"},
        {key: str(value) for key, value in sky().items()},
        {**sky(), "EQUINOX": "J2000.0"},
        {**sky(), "DATE-OBS": "31/12/98", "MJD-OBS": "unknown"},
        ALTERNATE,
        {"WCSAXESA": 2, **ALTERNATE},
        {**LINEAR, **ALTERNATE},
        {**sky(), **{f"{key}A": value for key, value in LINEAR.items()}},
    ],
    ids=[
        "units",
        "capital-units",
        "text",
        "equinox",
        "dates",
        "alternate",
        "axes",
        "sky-in-A",
        "linear-in-A",
    ],
)
@pytest.mark.parametrize("where", ["image", "primary"])
def test_wcs_in_odd_cards(tmp_path, cards, where):
    """It is the same sky, when it is read and in the aligned image, which has it in plain cards."""
    header = fits.Header(cards)
    hdus = [fits.PrimaryHDU(pixels(), header)]
    if where == "primary":
        hdus = [fits.PrimaryHDU(header=header), fits.ImageHDU(pixels())]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    off = 0.03 if "EQUINOX" in cards else 1e-6  # between FK5 and ICRS
    assert image.wcs.pixel_to_world(3, 5).separation(RIGHT).arcsec < off
    write_hdus(to_hdus(aligned(image, image.wcs)), tmp_path / "b.fits")
    assert read_image(tmp_path / "b.fits").wcs.pixel_to_world(3, 5).separation(RIGHT).arcsec < off
    header = fits.getheader(tmp_path / "b.fits")
    assert not [key for key in header if key.endswith("A") and key[:-1] in header]


def test_wcs_in_equinox_1950(tmp_path):
    fits.writeto(tmp_path / "a.fits", pixels(), fits.Header({**sky(), "EQUINOX": "B1950"}))
    moved = read_image(tmp_path / "a.fits").wcs.pixel_to_world(3, 5)
    assert moved.frame.name == "fk4"
    assert 0.3 < moved.icrs.separation(RIGHT.icrs).deg < 1


def test_wcs_whose_numbers_are_none(tmp_path, caplog):
    fits.writeto(tmp_path / "a.fits", pixels(), fits.Header({**sky(), "CRVAL1": "10:00:00"}))
    assert read_image(tmp_path / "a.fits").wcs is None
    assert "CRVAL1 is '10:00:00', which is no number" in caplog.text
