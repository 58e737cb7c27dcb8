"""Files of several chips, images whose WCS is a gwcs, and metadata that cannot be written."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import custom_model
from astropy.nddata import CCDData, NDData
from astropy.wcs import WCS
from numpy.testing import assert_array_equal

from spalipy_astro import Alignment, align_many
from spalipy_astro.commands import align_fits
from spalipy_astro.errors import ExportError, FormatError

SHIFTS = [(6.3, -4.8), (-12.25, 3.5)]
SMALL = {"source_shape": (210, 260), "template_shape": (240, 220), "n_stars": 90}


@pytest.fixture(scope="module")
def chips(make_sky_pair):
    """Two chips, each with its own stars and shift."""
    return [
        make_sky_pair(shift=shift, seed=seed, **SMALL) for seed, shift in enumerate(SHIFTS, start=4)
    ]


def write(path, images, error=True):
    """Write a file with SCI and ERR of each image."""
    hdus = [fits.PrimaryHDU()]
    for ver, image in enumerate(images, 1):
        hdus.append(fits.ImageHDU(np.asarray(image.data, "f4"), name="SCI", ver=ver))
        if error:
            spread = np.full(image.data.shape, np.std(image.data[:9]), "f4")
            hdus.append(fits.ImageHDU(spread, name="ERR", ver=ver))
    fits.HDUList(hdus).writeto(path)
    return str(path)


def test_chips_go_with_chips(chips, tmp_path):
    """From the API: a row and a folder for each, with the shift of its own chip."""
    source = write(tmp_path / "s.fits", [pair.source for pair in chips])
    template = write(tmp_path / "t.fits", [pair.template for pair in chips], error=False)
    table = align_many([source], template, output=tmp_path / "out", hdu="all")
    assert list(table["status"]) == ["ok", "ok"]
    assert list(table["hdu"]) == [1, 3]
    alone = [
        align_many([source], template, hdu=hdu, template_hdu=other)["shift_x"][0]
        for hdu, other in ((1, 1), (3, 2))
    ]
    assert_array_equal(table["shift_x"], alone)
    assert alone[0] - alone[1] == pytest.approx(SHIFTS[0][0] - SHIFTS[1][0], abs=0.5)
    names = [str(name)[-len("hdu1/s_aligned.fits") :] for name in table["aligned"]]
    assert names == ["hdu1/s_aligned.fits", "hdu3/s_aligned.fits"]
    with fits.open(source) as hdus, fits.open(template) as others:
        of_hdus = align_many([hdus], others, hdu="all")
    assert_array_equal(of_hdus["hdu"], table["hdu"])
    assert_array_equal(of_hdus["shift_x"], alone)


def test_all_of_files_with_one_image(chips, tmp_path):
    """Nothing changes but for the column; a file that cannot be opened is a row."""
    source = write(tmp_path / "s.fits", [chips[0].source])
    template = write(tmp_path / "t.fits", [chips[0].template])
    sources = [source, str(tmp_path / "none.fits")]
    table = align_many(sources, template, output=tmp_path / "out", hdu="all")
    assert list(table["status"]) == ["ok", "failed"]
    assert list(table["hdu"]) == [1, -1]
    assert (tmp_path / "out" / "s_aligned.fits").is_file()


def test_template_with_too_few_chips(chips, tmp_path):
    images = [pair.source for pair in chips]
    source = write(tmp_path / "s.fits", [*images, images[0]])
    template = write(tmp_path / "t.fits", [pair.template for pair in chips])
    with pytest.raises(FormatError, match="has 2 images, a source has more"):
        align_many([source], template, hdu="all")


def test_chips_by_the_script(chips, tmp_path):
    """One file with all chips; several files, each in folders."""
    source = write(tmp_path / "s.fits", [pair.source for pair in chips])
    again = write(tmp_path / "r.fits", [pair.source for pair in chips])
    template = write(tmp_path / "t.fits", [pair.template for pair in chips])
    every = ["-tf", template, "--source-ext", "all", "--template-ext", "all"]
    assert align_fits([source, str(tmp_path / "o.fits"), *every]) == 0
    with fits.open(tmp_path / "o.fits") as hdus:
        assert [(hdu.name, hdu.ver) for hdu in hdus[1:]] == [
            (name, ver) for ver in (1, 2) for name in ("SCI", "MASK", "UNCERT")
        ]
    assert align_fits([source, again, str(tmp_path / "out"), *every]) == 0
    for name in ("hdu1/s", "hdu3/s", "hdu1/r", "hdu3/r"):
        assert (tmp_path / "out" / f"{name}_aligned.fits").is_file()


def sky(shift=0.0):
    """A gwcs: a tangential plane with pixels of 0.36 arcsec."""
    import gwcs
    from astropy import units as u
    from astropy.coordinates import ICRS
    from astropy.modeling.models import Pix2Sky_TAN, RotateNative2Celestial, Scale, Shift

    model = (
        (Shift(-110 - shift) & Shift(-120))
        | (Scale(-1e-4) & Scale(1e-4))
        | Pix2Sky_TAN()
        | RotateNative2Celestial(150, 20, 180)
    )
    pixels = gwcs.coordinate_frames.Frame2D(name="detector", unit=(u.pix, u.pix))
    frame = gwcs.coordinate_frames.CelestialFrame(
        reference_frame=ICRS(), unit=(u.deg, u.deg), name="sky"
    )
    return gwcs.WCS([(pixels, model), (frame, None)])


def test_gwcs_in_gwcs_out(chips):
    """NDData keep a gwcs, on a window of the grid, too; CCDData get a FITS WCS."""
    from spalipy_astro import find_alignment

    pair = chips[0]
    template = NDData(pair.template.data, wcs=sky())
    alignment = find_alignment(NDData(pair.source.data), template)
    there = sky().pixel_to_world(40, 50)
    out = alignment.resample(NDData(pair.source.data), shape=(150, 160), offset=(30, 20))
    assert type(out.wcs).__name__ == "WCS"
    assert not isinstance(out.wcs, WCS)
    assert out.wcs.pixel_to_world(10, 30).separation(there).arcsec < 1e-6
    plain = CCDData(pair.source.data, unit="adu")
    out = alignment.resample(plain, shape=(150, 160), offset=(30, 20))
    assert isinstance(out.wcs, WCS)
    assert out.wcs.pixel_to_world(10, 30).separation(there).arcsec < 0.0036


def test_batch_of_images_with_a_gwcs(chips, tmp_path, caplog):
    """They are aligned and written; what FITS cannot hold of their metadata is named once."""
    pair = chips[0]
    meta = {"DATE-OBS": "2024-01-01", "history of": np.ones(3)}
    source = NDData(pair.source.data, wcs=sky(20.0), unit="electron", meta=meta)
    template = NDData(pair.template.data, wcs=sky())
    with caplog.at_level(logging.WARNING, logger="spalipy_astro"):
        table = align_many([source], template, output=tmp_path)
    assert list(table["reason"]) == [""]
    named = [message for message in caplog.messages if "history of" in message]
    assert len(named) == 1
    header = fits.getheader(table["aligned"][0])
    assert header["DATE-OBS"] == "2024-01-01"
    assert header["BUNIT"] == "electron"
    there = sky().pixel_to_world(40, 50)
    alignment = Alignment.read(table["asdf"][0])
    assert not isinstance(alignment.original_wcs, WCS)
    here = alignment.template_wcs.pixel_to_world(40, 50)
    assert here.separation(there).arcsec < 1e-6
    x, y = alignment.transform.inverse(40.0, 50.0)
    assert alignment.pixel_to_sky(x, y).separation(there).arcsec < 1e-6
    assert WCS(header, fix=False).pixel_to_world(40, 50).separation(there).arcsec < 0.0036
    assert source.meta is meta


def test_a_wcs_that_asdf_cannot_write_is_refused_before_the_first_frame(chips, tmp_path):
    """Without files of alignments it does no harm."""
    import gwcs

    pair = chips[0]
    same = custom_model(lambda x: x)()
    same.inverse = custom_model(lambda x: x)()
    steps = [(step.frame, step.transform) for step in sky().pipeline]
    steps[0] = (steps[0][0], (same & same) | steps[0][1])
    template = NDData(pair.template.data, wcs=gwcs.WCS(steps))
    seen = []
    options = {"output": tmp_path / "out", "progress": lambda *told: seen.append(told)}
    with pytest.raises(ExportError, match=r"template: asdf cannot write its WCS: [\s\S]*alignm"):
        align_many([NDData(pair.source.data)], template, **options)
    assert not seen
    assert not (tmp_path / "out").exists()
    table = align_many([NDData(pair.source.data)], template, alignments=False, **options)
    assert list(table["status"]) == ["ok"]
