"""Star lists in units that are no pixels, few stars, and frames whose pixels are not square."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS

from spalipy_astro import (
    CatalogError,
    NoMatchError,
    detect_stars,
    find_alignment,
    read_catalog,
)
from spalipy_astro.commands import align_fits
from spalipy_astro.registration._pixels import elongation_of, pixels_of, stamps_of, units_of

TURN = np.array([[0.8, -0.6], [0.6, 0.8]])


def misses(alignment, source, template):
    return np.hypot(*(np.column_stack(alignment.transform(*source.T)) - template).T)


@pytest.mark.parametrize("width", [1e-6, 0.03, 1.0, 10.0, 70.0, 1e7])
@pytest.mark.parametrize("factor", [1.5, 1e-3])
@pytest.mark.parametrize("n", [6, 60])
def test_units_do_not_matter(n, factor, width):
    source = np.random.default_rng(n).uniform(0, width, (n, 2))
    template = factor * source @ TURN.T + 3 * width
    alignment = find_alignment(source, template)
    assert len(alignment.matches) == n
    assert misses(alignment, source, template).max() < 1e-9 * factor * width
    np.testing.assert_allclose(alignment.summary()["scale"], factor, rtol=1e-6)
    assert "steps" not in alignment.provenance


def test_noise_and_priors_are_in_the_lists_own_units():
    rng = np.random.default_rng(2)
    source = rng.uniform(0, 10, (60, 2))
    template = 1.5 * source + 3 + rng.normal(0, 5e-4, (60, 2))
    alignment = find_alignment(source, template, scale=(1.4, 1.6), max_shift=20)
    assert misses(alignment, source, 1.5 * source + 3).max() < 1e-3
    assert 3e-4 < alignment.summary()["rms"] < 1.2e-3
    assert 2e-5 < alignment.error(5.0, 5.0) < 4e-4
    for wrong in ({"scale": (2, 3)}, {"max_shift": 1e-3}):
        with pytest.raises(NoMatchError):
            find_alignment(source, template, **wrong)


def test_lists_in_pixels_are_left_as_they_are():
    rng = np.random.default_rng(0)
    assert units_of(rng.uniform(0, 1000, (300, 2))) == (1.0,)
    assert units_of(rng.uniform(0, 9000, (12, 2))) == (1.0,)
    assert units_of(np.ones((5, 2))) == (1.0,)
    (factor,) = units_of(rng.uniform(0, 10, (60, 2)))
    assert np.log2(factor) % 1 == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("column", ["x", "y", "flux"])
def test_rows_without_values_are_left_out_alike(bad, column):
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 500, (40, 2))
    table = Table({"x": xy[:, 0], "y": xy[:, 1], "flux": rng.uniform(1, 9, 40)})
    other = table.copy()
    other["x"] += 3
    table[column][5] = bad
    direct, read = find_alignment(table, other), find_alignment(read_catalog(table), other)
    assert len(direct.matches) == len(read.matches) == 39
    np.testing.assert_array_equal(direct.transform(5.0, 6.0), read.transform(5.0, 6.0))
    assert 5 not in direct.matches["source_row"]
    masked = Table(table, masked=True)
    masked[column][5] = 1
    masked[column].mask[5] = True
    assert len(find_alignment(masked, other).matches) == 39


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e3, 1e200])
@pytest.mark.parametrize("read", [False, True])
def test_impossible_errors_are_refused_by_name(value, read):
    xy = np.random.default_rng(1).uniform(0, 500, (40, 2))
    table = Table({"x": xy[:, 0], "y": xy[:, 1], "x_err": np.full(40, value)})
    table["y_err"] = 0.1 if value <= 0 else value
    with pytest.raises(CatalogError, match="x_err"):
        find_alignment(read_catalog(table) if read else table, xy + 3)


@pytest.mark.parametrize("value", [1e-30, 1e-200, np.nan, 1e3, 1e200])
def test_some_strange_errors_are_used_right(value):
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 500, (60, 2))
    err = np.full(60, 0.05)
    noisy = xy + rng.normal(0, 0.05, xy.shape)
    err[:3] = value
    if value > 1:
        noisy[:3] += 1.5  # they are as bad as they say
    elif not np.isnan(value):
        noisy[:3] = xy[:3]
    table = Table({"x": noisy[:, 0], "y": noisy[:, 1], "x_err": err, "y_err": err})
    alignment = find_alignment(table, xy + 3, spline_order=0)
    assert misses(alignment, xy, xy + 3).max() < 0.08


@pytest.fixture(scope="module")
def binned(make_sky_pair):
    """A template, and a source of the same sky binned 1 x 2 and turned, with the truth."""
    pair = make_sky_pair(seed=6, rotation=40, n_stars=110)
    data = pair.source.data
    data = data[0::2] + data[1::2]
    points = np.array([[60.0, 40.0], [180.0, 70.0], [300.0, 100.0]])
    return data, pair.template.data, points, pair.forward(points * [1, 2] + [0, 0.5])


@pytest.mark.parametrize(
    "meta",
    [
        {"CCDSUM": "1 2"},
        {"XBINNING": 2, "YBINNING": 1},  # wrong: the stars tell
        {},
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_header_or_stars_tell_of_binned_pixels(binned, meta, swapped):
    data, template, points, right = binned
    image = CCDData(data, unit="adu", meta=meta)
    if swapped:
        alignment = find_alignment(template, image).inverse
    else:
        alignment = find_alignment(image, template)
    assert misses(alignment, points, right).max() < 0.6
    assert len(alignment.matches) > 20


@pytest.mark.parametrize("affine", ["auto", "rigid", "similarity", "affine"])
def test_binned_pixels_when_asked(binned, affine):
    data, template, points, right = binned
    alignment = find_alignment(data, template, source_pixels=(1, 2), affine=affine)
    assert misses(alignment, points, right).max() < (0.3 if affine != "affine" else 0.6)
    np.testing.assert_allclose(alignment.summary()["scale"], np.sqrt(2), rtol=0.01)
    with pytest.raises(NoMatchError):
        find_alignment(data, template, source_pixels=(1, 1))


def test_scale_is_that_of_pixels(binned):
    data, template, points, right = binned
    alignment = find_alignment(data, template, source_pixels=(1, 2), scale=(1.38, 1.45))
    assert misses(alignment, points, right).max() < 0.6
    with pytest.raises(NoMatchError):
        find_alignment(data, template, source_pixels=(1, 2), scale=(0.95, 1.05))


def test_command_takes_binned_pixels(binned, tmp_path):
    data, template, *_ = binned
    fits.writeto(tmp_path / "s.fits", data)
    fits.writeto(tmp_path / "t.fits", template)
    paths = [str(tmp_path / name) for name in ("s.fits", "o.fits")]
    options = ["--source-pixels", "1,2", "--affine", "rigid"]
    assert align_fits([*paths, "-tf", str(tmp_path / "t.fits"), *options]) == 0
    assert fits.getdata(tmp_path / "o.fits").shape == template.shape
    with pytest.raises(SystemExit):
        align_fits([*paths, "-tf", str(tmp_path / "t.fits"), "--source-pixels", "1"])


def test_pixels_of_headers():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (-2e-4, 1e-4)
    assert pixels_of({"CCDSUM": "1 2"}, wcs) == pytest.approx((2, 1))
    halves = {"XBINNING": 1, "YBINNING": 2}, {"CCDSUM": "1 2"}, {"BINNING": "1x2"}
    for meta in (*halves, {"XPIXSZ": 5.4, "YPIXSZ": 10.8}):
        assert pixels_of(meta, None) == pytest.approx((1, 2))
    for meta in ({"XBINNING": "x", "YBINNING": 2}, {"CCDSUM": "12"}, {"BINX": 0, "BINY": 1}, None):
        assert pixels_of(meta, None) == (1, 1)
    assert pixels_of({"XPIXSZ": 9.0, "YPIXSZ": 9.1}, None) == (1, 1)


def test_round_stars_tell_nothing(make_sky_pair):
    pair = make_sky_pair(seed=1)
    xy = np.random.default_rng(0).uniform(20, 200, (40, 2))
    assert elongation_of(stamps_of(np.ones((30, 40)), None, np.empty((0, 2)))) == (1, 1)
    stars = detect_stars(pair.source)
    places = np.column_stack((stars["x"], stars["y"]))
    assert elongation_of(stamps_of(pair.source.data, None, places)) == (1, 1)
    halved = pair.source.data[:, 0::2] + pair.source.data[:, 1::2]
    places = np.column_stack(((stars["x"] - 0.5) / 2, stars["y"]))
    assert elongation_of(stamps_of(halved, None, places)) == (2, 1)
    noise = np.random.default_rng(0).normal(9, 1, (280, 360))
    assert elongation_of(stamps_of(noise, None, xy)) == (1, 1)


def test_shift_of_three_stars():
    """Scale and angle that are known make up for the odds that three stars lack."""
    source = np.array([[100.0, 200.0], [900.0, 350.0], [420.0, 880.0]])
    template = source + np.array([12, -7])
    found = find_alignment(source, template, affine="shift", max_shift=50)
    np.testing.assert_allclose(found.transform(0.0, 0.0), (12, -7), atol=1e-9)
    assert found.summary()["freedom"] == 1
    with pytest.raises(NoMatchError):
        find_alignment(source, template)
