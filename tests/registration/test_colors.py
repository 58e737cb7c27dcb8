"""Color images and cubes: found on all planes together, and given back in the layout they had."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.wcs import WCS

from spalipy_astro import ImageError, align, align_many, detect_stars, find_alignment
from spalipy_astro.commands import align_fits
from spalipy_astro.io import read_image

SHAPE = (200, 230)
LEVELS = (1.0, 0.8, 0.5)


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(seed=3, source_shape=SHAPE, template_shape=(180, 240), n_stars=120)


@pytest.fixture(scope="module")
def plain(pair):
    """What each plane comes to if the transform is that of the luminance."""
    mean = np.mean([pair.source.data * level for level in LEVELS], axis=0)
    return find_alignment(mean.astype(np.float32), pair.template.data)


def colored(image, axis):
    return np.stack([image * np.float32(level) for level in LEVELS], axis)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("template", [0, -1, None])
def test_layout_that_came_in_goes_out(pair, plain, axis, template):
    target = pair.template.data
    target = target if template is None else np.stack([target] * 3, template)
    out = align(colored(pair.source.data, axis), target)
    assert out.shape == ((3, 180, 240) if axis == 0 else (180, 240, 3))
    for k, level in enumerate(LEVELS):
        expected = plain.resample(pair.source.data * np.float32(level))
        np.testing.assert_allclose(np.take(out, k, axis), expected, rtol=1e-4, atol=1e-2)


def test_every_plane_is_what_it_would_be_alone(pair, plain):
    cube = colored(pair.source.data, -1)
    out = plain.resample(cube)
    for k in range(3):
        np.testing.assert_array_equal(out[..., k], plain.resample(cube[..., k]))
    footprint = plain.resample(cube, return_footprint=True)[1]
    assert footprint.shape[:2] == out.shape[:2]


def test_mask_of_one_plane_in_a_file(pair, tmp_path):
    hidden = np.zeros(SHAPE, np.uint8)
    hidden[20:24, 30:34] = 1
    uncertainty = np.full(SHAPE, 7.0, np.float32)
    hdus = [fits.PrimaryHDU(colored(pair.source.data, 0))]
    hdus += [fits.ImageHDU(hidden, name="MASK"), fits.ImageHDU(uncertainty, name="UNCERT")]
    fits.HDUList(hdus).writeto(tmp_path / "s.fits")
    image = read_image(tmp_path / "s.fits")
    assert image.shape == (3, *SHAPE)
    np.testing.assert_array_equal(image.mask, [hidden != 0] * 3)
    status = align_fits(
        [*(str(tmp_path / n) for n in ("s.fits", "o.fits")), "-tf", str(tmp_path / "s.fits")]
    )
    assert status == 0
    with fits.open(tmp_path / "o.fits") as out:
        assert [hdu.shape for hdu in out] == [(3, *SHAPE)] * 3


def test_colors_have_no_common_sky(pair, plain):
    with pytest.raises(ValueError, match="each color has a sky of its own"):
        plain.resample(colored(pair.source.data, -1), match_background=True)
    scaled = plain.resample(colored(pair.source.data, -1), scale_flux=True)
    np.testing.assert_array_equal(
        scaled[..., 1], plain.resample(colored(pair.source.data, -1)[..., 1], scale_flux=True)
    )


def test_mask_uncertainty_and_flags_have_the_same_order(pair, plain):
    cube = colored(pair.source.data, -1)
    mask = np.zeros(cube.shape, bool)
    mask[50:60, 70:80, 1] = True
    image = CCDData(
        cube,
        unit="adu",
        mask=mask,
        uncertainty=StdDevUncertainty(np.sqrt(np.abs(cube) + 1)),
        meta={"OBJECT": "M1"},
    )
    out = plain.resample(image)
    alone = plain.resample(
        CCDData(
            cube[..., 1],
            unit="adu",
            mask=mask[..., 1],
            uncertainty=StdDevUncertainty(np.sqrt(np.abs(cube[..., 1]) + 1)),
        )
    )
    np.testing.assert_array_equal(out.data[..., 1], alone.data)
    np.testing.assert_array_equal(out.mask[..., 1], alone.mask)
    np.testing.assert_array_equal(out.uncertainty.array[..., 1], alone.uncertainty.array)
    assert out.meta["OBJECT"] == "M1"
    assert out.mask[..., 1].sum() > out.mask[..., 0].sum()


@pytest.mark.parametrize("axis", [0, -1])
def test_a_bad_pixel_of_one_color_is_bad(pair, axis):
    cube = colored(pair.source.data, axis)
    table = detect_stars(cube)
    x, y = (round(float(table[name][0])) for name in "xy")
    holes = np.zeros(SHAPE, bool)
    holes[y - 6 : y + 7, x - 6 : x + 7] = True
    np.moveaxis(cube, axis, 0)[1][holes] = np.nan
    found = detect_stars(cube)
    near = np.hypot(found["x"] - x, found["y"] - y) < 4
    assert not near.any()
    by_mask = detect_stars(colored(pair.source.data, axis), mask=holes)
    assert not (np.hypot(by_mask["x"] - x, by_mask["y"] - y) < 4).any()


def test_an_empty_plane_hides_nothing(pair):
    cube = colored(pair.source.data, 0)
    full = detect_stars(cube[:2])
    cube[2] = np.nan
    np.testing.assert_array_equal(detect_stars(cube)["x"], full["x"])


def test_opacity_is_no_light(pair):
    cube = colored(pair.source.data, -1)
    opacity = np.random.default_rng(1).uniform(0, 1e5, (*SHAPE, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        detect_stars(np.concatenate((cube, opacity), -1))["x"], detect_stars(cube)["x"]
    )


@pytest.mark.parametrize("shape", [(1, *SHAPE), (1, 1, *SHAPE), (*SHAPE, 1)])
def test_axes_of_length_one(pair, shape):
    out = align(pair.source.data.reshape(shape), pair.template.data)
    expected = align(pair.source.data, pair.template.data)
    assert out.ndim == len(shape)
    np.testing.assert_array_equal(out.reshape(expected.shape), expected)


def test_cube_with_a_wcs_of_three_axes(pair):
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN", "WAVE"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (10, 20, 5e-7), (115, 100, 1), (-1e-4, 1e-4, 1e-8)
    template = CCDData(colored(pair.template.data, 0), unit="adu", wcs=wcs)
    alignment = find_alignment(pair.source, template)
    assert alignment.template_shape == pair.template.shape
    assert alignment.original_wcs.naxis == 2
    aligned = align(NDData(colored(pair.source.data, 0)), template)
    assert isinstance(aligned, NDData)
    assert aligned.data.shape == (3, *pair.template.shape)


def test_four_axes_are_refused(pair):
    with pytest.raises(ImageError, match=r"\(ny, nx, 3\)"):
        detect_stars(np.zeros((2, 3, 20, 20)))


@pytest.mark.parametrize("axis", [0, -1])
def test_batch_and_command(pair, tmp_path, axis):
    cube = colored(pair.source.data, axis)
    fits.writeto(tmp_path / "s.fits", cube)
    fits.writeto(tmp_path / "t.fits", colored(pair.template.data, axis))
    hidden = np.zeros(SHAPE)
    hidden[20:24, 30:34] = 1
    masked = align_many([cube, tmp_path / "s.fits"], tmp_path / "t.fits", source_mask=hidden)
    assert list(masked["status"]) == ["ok", "ok"], list(masked["reason"])
    table = align_many([cube, tmp_path / "s.fits"], tmp_path / "t.fits", output=tmp_path / "out")
    assert list(table["status"]) == ["ok", "ok"], list(table["reason"])
    status = align_fits(
        [
            *(str(tmp_path / name) for name in ("s.fits", "o.fits")),
            *("-tf", str(tmp_path / "t.fits"), "--report", str(tmp_path / "r.html")),
        ]
    )
    assert status == 0
    expected = align(cube, colored(pair.template.data, axis))
    for name in ("o.fits", "out/00000_aligned.fits", "out/s_aligned.fits"):
        np.testing.assert_array_equal(fits.getdata(tmp_path / name), expected)


@pytest.mark.parametrize(
    ("uncertainty", "words"),
    [
        (1e-30, "cannot be the standard deviation"),
        (1e30, "cannot be the standard deviation"),
        (-3.0, "negative in 46000 of 46000"),
        (0.0, "nowhere a positive number"),
        (np.nan, "nowhere a positive number"),
    ],
)
def test_impossible_uncertainties(pair, uncertainty, words):
    image = CCDData(
        pair.source.data,
        unit="adu",
        uncertainty=StdDevUncertainty(np.full(SHAPE, uncertainty)),
    )
    with pytest.raises(ImageError, match=f"uncertainty of the image .*{words}"):
        detect_stars(image)
