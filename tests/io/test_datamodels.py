"""Data models of JWST and Roman: objects, ASDF files, and the ASDF extension of FITS files."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace

import asdf
import astropy.units as u
import gwcs
import numpy as np
import pytest
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.modeling.models import Pix2Sky_TAN, RotateNative2Celestial, Scale, Shift
from astropy.nddata import CCDData, NDData
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import FormatError, align, align_many, find_alignment
from spalipy_astro.catalogs import is_catalog
from spalipy_astro.io import is_file_like, open_image, read_image

BAD, SEEN = np.s_[40:45, 30:35], np.s_[60:64, 80:90]
STARTED = "2027-01-01T01:02:03.000"


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(
        source_shape=(210, 260), template_shape=(240, 220), n_stars=90, rotation=20
    )


@pytest.fixture(scope="module")
def sky():
    plane = Shift(-100.0) & Shift(-90.0) | Scale(-1e-4) & Scale(1e-4) | Pix2Sky_TAN()
    celestial = plane | RotateNative2Celestial(150.0, 20.0, 180.0)
    pixels = gwcs.coordinate_frames.Frame2D(name="detector", unit=(u.pix, u.pix))
    world = gwcs.coordinate_frames.CelestialFrame(reference_frame=ICRS(), unit=(u.deg, u.deg))
    wcs = gwcs.WCS([(pixels, celestial), (world, None)])
    wcs.bounding_box = ((-0.5, 259.5), (-0.5, 209.5))
    return wcs


def flags(data):
    bits = np.zeros(data.shape, "u4")
    bits[BAD], bits[SEEN] = 1, 4
    return bits


def jwst(data, wcs):
    """What the objects of JWST's data models have."""
    meta = SimpleNamespace(
        telescope="JWST",
        instrument=SimpleNamespace(name="NIRCAM", detector="NRCA1", filter="F200W", pupil="CLEAR"),
        observation=SimpleNamespace(date="2022-05-01", time="06:00:00.1", obs_id="V01"),
        exposure=SimpleNamespace(start_time=59700.25, start_time_mjd=59700.25, exposure_time=311.5),
        bunit_data="MJy/sr",
        wcs=wcs,
    )
    error = np.sqrt(data)
    return SimpleNamespace(
        data=data, err=error, dq=flags(data), meta=meta, var_poisson=error**2, shape=data.shape
    )


def roman(data, wcs):
    """The tree of a file of Roman, whose unknown values are "?" and -999999."""
    started = Time(STARTED)
    return {
        "data": data,
        "err": np.sqrt(data).astype("f2"),
        "dq": flags(data),
        "meta": {
            "telescope": "ROMAN",
            "model_type": "ImageModel",
            "instrument": {"name": "WFI", "detector": "WFI01", "optical_element": "F062"},
            "exposure": {"start_time": started, "end_time": started + 120 * u.s,
                         "effective_exposure_time": -999999.0},
            "observation": {"observation_id": "?", "program": -999999},
            "wcs": wcs,
        },
    }  # fmt: skip


def in_fits(data, tree):
    """A FITS file with an ASDF extension, and no sky in its cards."""
    stream = BytesIO()
    asdf.AsdfFile(tree).write_to(stream)
    raw = np.frombuffer(stream.getvalue(), "u1")
    column = fits.Column("ASDF_METADATA", f"{len(raw)}B", array=raw[np.newaxis])
    hdus = [fits.PrimaryHDU(header=fits.Header({"TELESCOP": "JWST"}))]
    hdus += [fits.ImageHDU(data, name="SCI"), fits.ImageHDU(flags(data), name="DQ")]
    return fits.HDUList([*hdus, fits.BinTableHDU.from_columns([column], name="ASDF")])


def test_objects_are_taken_everywhere(pair, sky, tmp_path):
    """Planes, gwcs and cards of the exposure come through; a gwcs stays one."""
    source, template = jwst(pair.source.data, sky), jwst(pair.template.data, sky)
    assert is_file_like(source)
    alignment = find_alignment(source, template, spline_order=0)
    out = align(source, template, spline_order=0)
    assert isinstance(out, NDData)
    assert not isinstance(out, CCDData)
    assert out.unit == u.MJy / u.sr
    assert_allclose(out.wcs(50.0, 60.0), sky(50.0, 60.0), atol=1e-10)
    x, y = np.round(alignment.transform(32.0, 42.0)).astype(int)
    assert out.mask[y, x]
    assert out.flags[y, x] == 1
    x, y = np.round(alignment.transform(85.0, 62.0)).astype(int)
    assert out.flags[y, x] == 4
    assert not out.mask[y, x]
    assert out.uncertainty.array[y, x] > 0
    assert alignment.resample(source, ignore_flags=0).mask[y, x]

    options = {"spline_order": 0, "alignments": False, "progress": False}
    table = align_many([source], template, output=tmp_path, **options)
    assert table["status"][0] == "ok", table["reason"][0]
    back = read_image(table["aligned"][0])
    assert (back.flags[y, x], back.mask[y, x], back.unit) == (4, False, u.MJy / u.sr)
    told = {name: back.header[name] for name in ("INSTRUME", "FILTER", "DATE-OBS", "MJD-BEG")}
    assert told == dict(zip(told, ("NIRCAM", "F200W", "2022-05-01", 59700.25), strict=True))
    ra, dec = back.wcs.pixel_to_world_values(50, 60)
    assert_allclose((ra, dec), sky(50.0, 60.0), atol=1e-6)


def test_files_of_roman(pair, sky, tmp_path):
    """As plain ASDF, without the package that defines them."""
    asdf.AsdfFile({"roman": roman(pair.source.data, sky)}).write_to(tmp_path / "r.asdf")
    assert not is_catalog(tmp_path / "r.asdf")
    image = read_image(tmp_path / "r.asdf")
    assert_array_equal(image.data, pair.source.data)
    assert image.unit == u.DN / u.s
    assert image.uncertainty.array.dtype == np.float32
    assert_array_equal(image.mask, flags(image.data) == 1)
    assert_array_equal(image.flags, flags(image.data))
    assert image.header["DATE-BEG"] == STARTED
    assert image.header["MJD-END"] == pytest.approx((Time(STARTED) + 120 * u.s).mjd)
    assert not {"OBS_ID", "PROGRAM", "EFFEXPTM"} & set(image.header)
    assert_allclose(image.wcs.pixel_to_world_values(50, 60), sky(50.0, 60.0), atol=1e-6)
    all_bad = read_image(tmp_path / "r.asdf", ignore_flags=0)
    assert_array_equal(all_bad.mask, flags(image.data) > 0)
    table = align_many(
        [tmp_path / "r.asdf"], tmp_path / "r.asdf", hdu="all", spline_order=0, progress=False
    )
    assert (table["status"][0], table["hdu"][0]) == ("ok", 0)
    with pytest.raises(FormatError, match="has no extension 1"):
        read_image(tmp_path / "r.asdf", hdu=1)


def test_quantities_and_models_with_less(pair):
    data = pair.source.data
    model = SimpleNamespace(data=data * u.DN, err=0.001 * data * u.Unit("1000 DN"), meta=None)
    image = open_image(model)
    assert image.unit == u.DN
    assert (image.wcs, image.mask) == (None, None)
    assert_allclose(find_alignment(image, image).rms, 0, atol=1e-9)
    with pytest.raises(FormatError, match=r"^source: the SimpleNamespace has no image"):
        find_alignment(SimpleNamespace(data=None, err=None, dq=None, meta=None), data)


def test_gwcs_beside_an_image_in_fits(pair, sky, tmp_path):
    """It gives the sky where the cards do not, right to 0.01 px; arrays elsewhere do not matter."""
    arrays = {"data": {"source": "fits:SCI,1"}}
    in_fits(pair.source.data, {"meta": {"wcs": sky}, **arrays}).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    for x, y in ((0, 0), (250, 10), (120, 200)):
        assert_allclose(image.wcs.pixel_to_world_values(x, y), sky(x, y), atol=1e-6)
    assert_array_equal(image.mask, flags(image.data) == 1)


@pytest.mark.parametrize(
    ("tree", "words"),
    [({"meta": {"wcs": {"a": 1}}}, "is not understood; install"), ({"meta": {}}, ""), ({}, "")],
)
def test_no_gwcs_beside_an_image(pair, tmp_path, caplog, tree, words):
    in_fits(pair.source.data, tree).writeto(tmp_path / "a.fits")
    assert read_image(tmp_path / "a.fits").wcs is None
    assert (words in caplog.text) if words else not caplog.messages


def test_a_damaged_extension_does_not_cost_the_image(pair, sky, tmp_path, caplog):
    hdus = in_fits(pair.source.data, {"meta": {"wcs": sky}})
    hdus["ASDF"].data["ASDF_METADATA"][0, 40:80] = 7
    hdus.writeto(tmp_path / "a.fits")
    assert_array_equal(read_image(tmp_path / "a.fits").data, pair.source.data)
    assert "its ASDF extension cannot be read" in caplog.text


def test_asdf_files_without_an_image(tmp_path, alignment):
    alignment.write(tmp_path / "a.asdf")
    with pytest.raises(FormatError, match=r"a\.asdf' holds no image, but an alignment"):
        read_image(tmp_path / "a.asdf")
    asdf.AsdfFile({"lookup": [1, 2]}).write_to(tmp_path / "b.asdf")
    with pytest.raises(FormatError, match=r"b\.asdf' holds no image, but .*lookup"):
        read_image(tmp_path / "b.asdf")
    (tmp_path / "c.asdf").write_bytes((tmp_path / "b.asdf").read_bytes()[:40])
    with pytest.raises(FormatError, match=r"c\.asdf' "):
        read_image(tmp_path / "c.asdf")
