"""Paths, HDUs and HDULists are taken wherever an image is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import AffineTransformation2D
from astropy.nddata import CCDData, NDData
from astropy.table import Table
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import (
    Alignment,
    GroupAlignment,
    align,
    align_group,
    align_many,
    detect_stars,
    find_alignment,
)
from spalipy_astro.errors import FormatError, ImageError
from spalipy_astro.io import open_image, open_mask
from spalipy_astro.resampling import resample

MIDDLE = np.array([[180.0, 140.0], [60.0, 200.0], [290.0, 80.0]])


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=20, seed=12)


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    """One image in all kinds of files."""
    folder = tmp_path_factory.mktemp("door")
    for name in ("source", "template"):
        data = getattr(pair, name).data
        fits.PrimaryHDU(data).writeto(folder / f"{name}.fits")
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, quantize_level=0)]).writeto(
            folder / f"{name}.fits.fz"
        )
        fits.PrimaryHDU(data).writeto(folder / f"{name}.fits.gz")
        sky = np.full(data.shape, 7, np.float32)
        fits.HDUList(
            [fits.PrimaryHDU(), fits.ImageHDU(sky, name="SKY"), fits.ImageHDU(data, name="SCI")]
        ).writeto(folder / f"{name}_many.fits")
    return folder


def off(pair, alignment):
    """Largest error of an alignment, px."""
    return np.abs(np.column_stack(alignment.transform(*MIDDLE.T)) - pair.forward(MIDDLE)).max()


def opened(path):
    """An HDUList in memory, of which nothing is left to be read."""
    with fits.open(path) as hdus:
        return fits.HDUList([hdu.copy() for hdu in hdus])


KINDS = {
    "str": lambda folder, name: str(folder / f"{name}.fits"),
    "pathlib": lambda folder, name: folder / f"{name}.fits",
    "packed": lambda folder, name: folder / f"{name}.fits.fz",
    "gzipped": lambda folder, name: str(folder / f"{name}.fits.gz"),
    "HDUList": lambda folder, name: opened(folder / f"{name}.fits"),
    "PrimaryHDU": lambda folder, name: opened(folder / f"{name}.fits")[0],
    "ImageHDU": lambda folder, name: opened(folder / f"{name}_many.fits")["SCI"],
    "CompImageHDU": lambda folder, name: fits.CompImageHDU(
        fits.getdata(folder / f"{name}.fits"), quantize_level=0
    ),
    "CCDData": lambda folder, name: CCDData(fits.getdata(folder / f"{name}.fits"), unit="adu"),
    "NDData": lambda folder, name: NDData(fits.getdata(folder / f"{name}.fits")),
    "array": lambda folder, name: fits.getdata(folder / f"{name}.fits"),
}


@pytest.fixture(scope="module")
def expected(pair):
    """What comes of the arrays: alignment, aligned pixels, stars."""
    alignment = find_alignment(pair.source.data, pair.template.data)
    return alignment, alignment.resample(pair.source.data), detect_stars(pair.source.data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_taken_everywhere(pair, folder, expected, tmp_path, kind):
    source, template = (KINDS[kind](folder, name) for name in ("source", "template"))
    expected, pixels, stars = expected
    alignment = find_alignment(source, template)
    assert_array_equal(alignment.matches["x_source"], expected.matches["x_source"])
    assert off(pair, alignment) < 0.1
    aligned = align(source, template)
    for result in (aligned, alignment.resample(source)):
        assert_array_equal(np.asarray(getattr(result, "data", result)), pixels)
    assert isinstance(aligned, CCDData) is (kind not in ("NDData", "array"))
    assert_array_equal(detect_stars(source)["x"], stars["x"])
    if kind in ("str", "HDUList", "array"):  # a page takes longer than all else
        alignment.report(tmp_path / "page.html", source=source, template=template)
        assert (tmp_path / "page.html").stat().st_size > 100_000


@pytest.mark.parametrize("kind", [str, Path, opened])
def test_the_hdu_that_is_named(pair, folder, kind):
    source, template = (kind(folder / f"{name}_many.fits") for name in ("source", "template"))
    for hdu in (2, "SCI", ("SCI", 1)):
        alignment = find_alignment(source, template, hdu=hdu)
        assert off(pair, alignment) < 0.1
    assert_array_equal(align(source, template, hdu=2), alignment.resample(source, hdu="SCI"))
    assert len(detect_stars(source, hdu=2)) == len(detect_stars(pair.source.data))
    assert off(pair, find_alignment(source, pair.template.data, hdu=2)) < 0.1
    assert align(pair.source.data, template, hdu=2).shape == pair.template.shape
    assert alignment.plot(source=source, hdu=2) is not None


def test_hdus_of_the_user_are_not_changed(pair):
    data = pair.source.data.astype(">f4")
    hdu = fits.PrimaryHDU(data, fits.Header({"OBJECT": "M 31"}))
    before, cards = data.copy(), hdu.header.copy()
    aligned = align(hdu, pair.template.data)
    assert hdu.data is data
    assert_array_equal(data.view("u4"), before.view("u4"))
    assert hdu.header == cards
    assert aligned.header["OBJECT"] == "M 31"


def test_masks_are_taken_from_files(pair, folder, tmp_path):
    bad = np.zeros(pair.source.shape, np.uint8)
    bad[:, 180:] = 4
    fits.PrimaryHDU(bad).writeto(tmp_path / "bad.fits")
    expected = detect_stars(pair.source.data, mask=bad != 0)
    for mask in (tmp_path / "bad.fits", fits.ImageHDU(bad), fits.HDUList([fits.PrimaryHDU(bad)])):
        assert_array_equal(open_mask(mask), bad != 0)
        assert_array_equal(detect_stars(folder / "source.fits", mask=mask)["x"], expected["x"])
        alignment = find_alignment(folder / "source.fits", pair.template.data, source_mask=mask)
        # a star on the edge is fitted on its good pixels
        assert np.max(alignment.matches["x_source"]) < 182
        aligned = alignment.resample(pair.source.data, mask=mask)
        assert np.isnan(aligned).sum() > np.isnan(alignment.resample(pair.source.data)).sum()


def test_a_table_hdu_is_a_catalog(pair):
    stars = detect_stars(pair.source.data)["x", "y", "flux"]
    hdu = fits.BinTableHDU(stars.as_array())
    assert off(pair, find_alignment(hdu, pair.template.data)) < 0.1
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((9, 9))), hdu])
    assert off(pair, find_alignment(hdus, pair.template.data, hdu=2)) < 0.1
    assert isinstance(open_image(hdus, hdu=2), Table)


def test_what_holds_no_image_is_an_error_of_the_argument(pair, folder, tmp_path):
    image = pair.template.data
    alignment = find_alignment(pair.source.data, image)
    (tmp_path / "text.fits").write_text("not an image")
    gone, text = str(tmp_path / "gone.fits"), str(tmp_path / "text.fits")
    for call, kind, words in (
        (lambda: find_alignment(gone, image), FileNotFoundError, "source: there is no file"),
        (lambda: find_alignment(image, gone), FileNotFoundError, "template: there is no file"),
        (lambda: align(gone, image), FileNotFoundError, "source: there is no file"),
        (lambda: detect_stars(gone), FileNotFoundError, "image: there is no file"),
        (lambda: alignment.resample(gone), FileNotFoundError, "data: there is no file"),
        (lambda: alignment.plot(source=gone), FileNotFoundError, "source: there is no file"),
        (lambda: detect_stars(image, mask=gone), FileNotFoundError, "mask: there is no file"),
        (lambda: detect_stars(text), FormatError, "image: .*is not a FITS file"),
        (lambda: detect_stars(str(tmp_path)), FormatError, "image: .*is a folder"),
        (lambda: detect_stars(fits.PrimaryHDU()), FormatError, "image: .*contains no image"),
        (lambda: detect_stars(folder / "source.fits", hdu=3), FormatError, "image: .*extension 3"),
        (lambda: detect_stars(image, hdu=1), ValueError, "hdu is for files"),
        (lambda: find_alignment(image, image, hdu=1), ValueError, "hdu is for files"),
        (lambda: find_alignment(None, image), TypeError, "source is an image: a path"),
        (lambda: find_alignment(image, 3), TypeError, "template is an image: a path.*got int"),
        (lambda: find_alignment([[1, 2], [3]], image), TypeError, "source is .*differ in length"),
        (lambda: detect_stars(["a.fits"]), TypeError, "image is an image: .*real numbers"),
    ):
        with pytest.raises(kind, match=words):
            call()


def test_figures_of_merit_are_attributes(pair):
    alignment = find_alignment(pair.source, pair.template)
    s = alignment.summary()
    assert (alignment.n_matched, alignment.rms) == (s["n_matched"], s["rms"])
    assert alignment.shift == (s["shift_x"], s["shift_y"])
    ny, nx = pair.source.shape
    my, mx = pair.template.shape
    moved = pair.forward(np.array([(nx - 1) / 2, (ny - 1) / 2])) - [(mx - 1) / 2, (my - 1) / 2]
    assert_allclose(alignment.shift, moved, atol=0.05)
    assert_allclose([alignment.scale, alignment.rotation], [1, 20], atol=0.02)


SEEN = 64  # a flag of HST that is harmless


def flagged(data, bits):
    """A file of HST: image, and flags of its pixels."""
    flags = np.full(data.shape, bits, "i2")
    return fits.HDUList(
        [
            fits.PrimaryHDU(header=fits.Header({"TELESCOP": "HST"})),
            fits.ImageHDU(data, name="SCI"),
            fits.ImageHDU(np.sqrt(data), name="ERR"),
            fits.ImageHDU(flags, name="DQ"),
        ]
    )


@pytest.mark.parametrize("kind", ["path", "HDUList"])
def test_flags_of_files_are_the_same_on_every_path(pair, folder, expected, tmp_path, kind):
    """What one function takes for bad, by default and as told, all take."""
    template = pair.template.data
    source = flagged(pair.source.data, SEEN)
    known = {} if kind == "path" else {"ignore_flags": "SEEN", "flag_name_map": {"SEEN": SEEN}}
    if kind == "path":
        source.writeto(tmp_path / "s.fits")
        source = tmp_path / "s.fits"
    alignment, _, stars = expected
    assert len(detect_stars(source, **known)) > 0.9 * len(stars)
    aligned = align(source, template, **known)
    assert aligned.mask.mean() < 0.5
    assert aligned.uncertainty is not None
    assert (aligned.flags == SEEN).mean() > 0.3
    told = {"ignore_flags": 0}
    for function in (
        lambda: detect_stars(source, **told),
        lambda: find_alignment(source, template, **told),
        lambda: align(source, template, **told),
    ):
        with pytest.raises(ImageError, match=r"all 100800 pixels .* are bad"):
            function()
    for options, reason in ((known, ""), (told, "are bad")):
        row = align_many([source], template, progress=False, **options)[0]
        assert (row["status"] == "ok") is (not reason)
        assert reason in row["reason"]
    assert alignment.resample(source, **told).mask.all()
    with pytest.raises(ValueError, match=r"^ignore_flags is a number"):
        find_alignment(source, template, ignore_flags="SEEN")


def test_masks_in_files_of_several_chips(pair, tmp_path):
    """The mask of the chip that is aligned, of a path and of an HDUList; bad in the result, too."""
    data, template = pair.source.data, pair.template.data
    chips = [fits.ImageHDU(data * k, name=f"N{k}") for k in (0, 1)]
    bad = np.zeros(data.shape, "u1")
    bad[:, :100] = 1
    planes = [fits.ImageHDU(np.ones_like(bad), name="N0"), fits.ImageHDU(bad, name="N1")]
    for name, hdus in (("s.fits", chips), ("m.fits", planes)):
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / name)
    chosen = {"hdu": "N1"}
    expected = find_alignment(tmp_path / "s.fits", template, source_mask=bad, **chosen)
    assert expected.matches["x_source"].min() > 97
    x, y = expected.transform(np.array([50.0, 200.0]), np.array([140.0, 140.0]))
    for mask in (tmp_path / "m.fits", opened(tmp_path / "m.fits"), fits.ImageHDU(bad)):
        aligned = align(tmp_path / "s.fits", template, source_mask=mask, **chosen)
        assert aligned.mask[np.round(y).astype(int), np.round(x).astype(int)].tolist() == [1, 0]
        table = align_many([tmp_path / "s.fits"], template, source_mask=mask, **chosen)
        assert table["n_matched"][0] == expected.n_matched


def test_flags_of_groups(pair, tmp_path):
    """What is harmless for the alignment is so for what is made of the group, read back, too."""
    flagged(pair.source.data, 4096).writeto(tmp_path / "s.fits")
    images = [tmp_path / "s.fits", pair.source.data[:200]]
    group = align_group(images, spline_order=0, reference=0)
    assert "are bad" in group.table["reason"][0]
    group = align_group(images, spline_order=0, reference=0, ignore_flags="4096")
    assert list(group.table["status"]) == ["ok", "ok"]
    group.write(tmp_path / "g.asdf")
    _, footprint = GroupAlignment.read(tmp_path / "g.asdf").coadd(images)
    assert footprint[250:270, 100:200].min() == 1


@pytest.mark.parametrize("unit", [None, u.adu])
def test_arrays_of_astropy_keep_their_mask(unit):
    """To numpy they are arrays without one."""
    values = np.arange(600.0).reshape(20, 30)
    mask = values % 50 == 7
    image = Masked(np.where(mask, 1e9, values) * (1 if unit is None else unit), mask=mask)
    opened = open_image(image)
    assert opened.unit == unit
    assert_array_equal(opened.mask, mask)
    still, shape = AffineTransformation2D(), image.shape
    alignment = Alignment.from_transform(still, source_shape=shape, template_shape=shape)
    moved = alignment.resample(image, method="nearest")
    again = resample(image, still, method="nearest")
    for aligned in (moved, again):
        assert aligned.unit == unit
        assert_array_equal(aligned.mask, mask)
        assert np.nanmax(aligned.data) == 599
