"""A WCS that maps no pixels to the sky: its matrix is singular, its numbers not finite."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import Shift
from astropy.nddata import CCDData
from astropy.wcs import WCS

from spalipy_astro import Alignment, find_alignment, fit_alignment
from spalipy_astro._checks import flaw_of_wcs
from spalipy_astro.registration import align

FLAWS = {
    "no scale": {"cdelt": [0, 0]},
    "no scale along x": {"cdelt": [0, 1e-4]},
    "zeros": {"cd": [[0, 0], [0, 0]]},
    "one direction": {"cd": [[1e-4, 2e-4], [2e-4, 4e-4]]},
    "rounded": {"cd": [[1e-4 / 3, 1e-4 / 7], [1e-4 / 9, 1e-4 / 21]]},
    "scale": {"cdelt": [np.nan, 1e-4]},
    "position": {"crval": [np.nan, 20], "cdelt": [-1e-4, 1e-4]},
    "pixel": {"crpix": [np.inf, 20], "cdelt": [-1e-4, 1e-4]},
}


def tan(**values):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ("RA---TAN", "DEC--TAN"), (10, 20), (60, 50)
    for name, value in values.items():
        setattr(wcs.wcs, name, value)
    return wcs


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(3)
    stars = np.column_stack((rng.uniform(10, 230, (40, 2)) * [1, 0.8], rng.uniform(500, 3000, 40)))
    y, x = np.mgrid[:200, :240]
    images = []
    for shift in (0.0, 3.3):
        image = rng.normal(100, 3, x.shape)
        for xs, ys, flux in stars:
            image += flux / 25 * np.exp(-((x - xs - shift) ** 2 + (y - ys - shift) ** 2) / 8)
        images.append(image)
    return images


@pytest.mark.parametrize(
    "values",
    [
        {"cdelt": [-1e-4, 1e-4]},
        {"cdelt": [1e-12, 1e-4]},
        {"cd": [[1e-4, 1e-4], [-1e-4, 1e-4]]},
        {"pc": [[0, 1], [1, 0]], "cdelt": [1e-4, 1e-4]},
        {"crota": [0, 30], "cdelt": [-1e-4, 1e-4]},
    ],
)
def test_sound_ones_pass(values):
    assert flaw_of_wcs(tan(**values)) == ""


@pytest.mark.parametrize("flaw", FLAWS)
def test_argument_is_named(flaw):
    points = np.random.default_rng(1).uniform(0, 100, (9, 2))
    sound = fit_alignment(
        points, points + 1, template_shape=(90, 100), wcs=tan(cdelt=[-1e-4, 1e-4])
    )
    wcs = tan(**FLAWS[flaw])
    for call in (
        lambda: fit_alignment(points, points, wcs=wcs),
        lambda: Alignment.from_transform(Shift(1) & Shift(2), wcs=wcs),
        lambda: sound.resample(np.ones((90, 100)), wcs=(wcs, (20, 30))),
    ):
        with pytest.raises(
            ValueError, match=r"^wcs maps no pixels to the sky: .* (singular|not f)"
        ):
            call()


@pytest.mark.parametrize("cards", [("CDELT1", "CDELT2"), ("CD1_1", "CD2_2"), ("CD1_1", "CD1_2")])
def test_header_is_refused_in_words(cards):
    header = tan(cdelt=[1, 1]).to_header()
    for keyword in ("CDELT1", "CDELT2", "PC1_1", "PC2_2"):
        header.remove(keyword, ignore_missing=True)
    for keyword in cards:
        header[keyword] = 0.0
    points = np.random.default_rng(1).uniform(0, 100, (9, 2))
    alignment = fit_alignment(points, points, wcs=tan(cdelt=[-1e-4, 1e-4]))
    with pytest.raises(ValueError, match=r"^wcs: the header .* singular"):
        alignment.resample(np.ones((90, 100)), wcs=(header, (20, 30)))


@pytest.mark.parametrize("flaw", ["zeros", "one direction", "position"])
@pytest.mark.parametrize("which", ["source", "template"])
def test_image_has_no_sky_then(frames, flaw, which, caplog):
    sky = {"source": None, "template": None, which: tan(**FLAWS[flaw])}
    source, template = (
        CCDData(image, unit="adu", wcs=wcs)
        for image, wcs in zip(frames, (sky["source"], sky["template"]), strict=True)
    )
    with caplog.at_level(logging.WARNING):
        alignment = find_alignment(source, template)
    np.testing.assert_allclose(alignment.transform(100.0, 80.0), (103.3, 83.3), atol=0.1)
    assert f"{which}: its WCS is left out, it has no sky" in caplog.text
    assert alignment.wcs.available_frames == ["source_detector", "template_detector"]
    assert align(source, template).wcs is None


def test_file_has_no_sky_then(frames, tmp_path, caplog):
    header = tan(cdelt=[1, 1]).to_header()
    header["CDELT1"] = 0.0
    fits.writeto(tmp_path / "t.fits", np.float32(frames[1]), header)
    with caplog.at_level(logging.WARNING):
        assert align(CCDData(frames[0], unit="adu"), tmp_path / "t.fits").wcs is None
    assert "t.fits: its WCS is left out" in caplog.text
    assert "is singular" in caplog.text
    assert "wcslib" not in caplog.text
