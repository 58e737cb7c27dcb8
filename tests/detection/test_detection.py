"""Detection on synthetic skies with known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.spatial import cKDTree
from scipy.special import erf

from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.detection import find_stars
from spalipy_astro.errors import ImageError

SKY, READ_NOISE = 300.0, 5.0
NOISE = np.sqrt(SKY + READ_NOISE**2)


def add_stars(image, x, y, flux, fwhm):
    """Add Gaussian stars, integrated over the pixels."""
    ny, nx = image.shape
    s = fwhm / 2.3548 * np.sqrt(2)
    radius = int(np.ceil(3 * fwhm))
    for a, b, c in zip(x, y, flux, strict=True):
        i, j = round(float(b)), round(float(a))
        row = np.arange(max(0, i - radius), min(ny, i + radius + 1))
        col = np.arange(max(0, j - radius), min(nx, j + radius + 1))
        gy = 0.5 * (erf((row + 0.5 - b) / s) - erf((row - 0.5 - b) / s))
        gx = 0.5 * (erf((col + 0.5 - a) / s) - erf((col - 0.5 - a) / s))
        image[np.ix_(row, col)] += c * gy[:, None] * gx


def expose(image, rng):
    """Add photon and read noise."""
    return rng.poisson(image) + rng.normal(0, READ_NOISE, image.shape)


def star_grid(shape, step, rng, margin=15):
    """Positions on a grid, with random places within the pixels."""
    gx, gy = np.meshgrid(
        np.arange(margin, shape[1] - margin, step), np.arange(margin, shape[0] - margin, step)
    )
    jitter = 0.15 * step
    x = gx.ravel() + rng.uniform(-jitter, jitter, gx.size)
    y = gy.ravel() + rng.uniform(-jitter, jitter, gx.size)
    return x, y


def make_sky(shape=(260, 340), *, step=24, fwhm=3.0, seed=1, flux=(2e3, 2e5)):
    """Stars on a grid, their fluxes uniform in the logarithm."""
    rng = np.random.default_rng(seed)
    x, y = star_grid(shape, step, rng, margin=max(15, int(2 * fwhm)))
    f = np.exp(rng.uniform(*np.log(flux), len(x)))
    image = np.full(shape, SKY)
    add_stars(image, x, y, f, fwhm)
    return expose(image, rng), x, y, f


def match(table, x, y, reach=1.5):
    """Row of the detection next to every true star, -1 if there is none."""
    d, k = cKDTree(np.column_stack((table["x"], table["y"]))).query(np.column_stack((x, y)))
    return np.where(d < reach, k, -1)


def unflagged(table):
    """Rows that are stars without reservation; the light of neighbors has been subtracted."""
    return (table["flag"] & ~StarFlag.NEIGHBOR) == 0


def robust_sigma(values):
    return 1.4826 * np.median(np.abs(values))


def centroid_bound(flux, fwhm):
    """Cramér-Rao bound of a Gaussian star's position along one axis, px."""
    h = 0.01
    out = []
    for f in np.atleast_1d(flux):
        planes = []
        for offset in (-h, 0, h):
            plane = np.zeros((41, 41))
            add_stars(plane, [20.2 + offset], [20.3], [f], fwhm)
            planes.append(plane)
        slope = (planes[2] - planes[0]) / (2 * h)
        out.append(1 / np.sqrt(np.sum(slope**2 / (planes[1] + NOISE**2))))
    return np.array(out)


def test_finds_every_star():
    image, x, y, f = make_sky()
    table = find_stars(image)
    k = match(table, x, y)
    assert np.all(k >= 0)
    assert len(set(k)) == len(x)
    assert len(table) <= len(x) + 2
    assert np.mean(unflagged(table[k])) > 0.97
    assert np.median(table["flux"][k] / f) == pytest.approx(1, abs=0.02)
    assert np.median(table["fwhm"][k]) == pytest.approx(3.0, rel=0.02)
    assert np.all(np.diff(table["flux"]) <= 0)
    assert table.colnames == [
        "x", "y", "x_err", "y_err", "flux", "flux_err", "fwhm", "snr", "flag",
    ]  # fmt: skip
    meta = table.meta
    assert meta["shape"] == (260, 340)
    assert meta["n_detected"] == len(table)
    assert meta["fwhm"] == pytest.approx(3.0, rel=0.02)
    assert meta["background"] == pytest.approx(SKY, rel=0.01)
    assert meta["noise"] == pytest.approx(NOISE, rel=0.05)
    assert meta["gain"] == pytest.approx(1, rel=0.3)


def test_positions_are_as_good_as_they_can_be_and_their_errors_true():
    pulls, efficiency, snr = [], [], []
    for seed in range(2):
        image, x, y, f = make_sky((400, 560), step=20, seed=seed, flux=(900, 2e5), fwhm=2.6)
        table = find_stars(image)
        k = match(table, x, y)
        ok = (k >= 0) & unflagged(table[k])
        assert ok.mean() > 0.9
        k = k[ok]
        error = np.column_stack((table["x"][k] - x[ok], table["y"][k] - y[ok]))
        claimed = np.column_stack((table["x_err"][k], table["y_err"][k]))
        pulls.append(error / claimed)
        grid = np.geomspace(900, 2e5, 9)
        bound = np.exp(np.interp(np.log(f[ok]), np.log(grid), np.log(centroid_bound(grid, 2.6))))
        efficiency.append(error / bound[:, None])
        snr.append(f[ok] / np.sqrt(f[ok] + 15.3 * NOISE**2))
    pulls, efficiency, snr = map(np.concatenate, (pulls, efficiency, snr))
    for part in np.array_split(np.argsort(snr), 5):
        assert robust_sigma(pulls[part]) == pytest.approx(1, abs=0.17)
    assert robust_sigma(efficiency[snr > 20]) < 1.12


@pytest.mark.parametrize("fwhm", [1.6, 2.0, 4.5, 8.0, 18.0])
def test_measures_the_width_of_the_stars(fwhm):
    step = max(24, int(6 * fwhm))
    image, x, y, f = make_sky((520, 680), step=step, fwhm=fwhm, flux=(4e3 * fwhm, 8e4 * fwhm))
    rng = np.random.default_rng(5)
    hot = rng.integers(0, image.shape[0], 40), rng.integers(0, image.shape[1], 40)
    image[hot] += 3000
    table = find_stars(image)
    assert table.meta["fwhm"] == pytest.approx(fwhm, rel=0.04)
    k = match(table, x, y, 0.3 * fwhm + 0.5)
    assert np.mean(k >= 0) > 0.95
    assert np.mean(unflagged(table[k[k >= 0]])) > 0.9
    assert np.median(table["flux"][k] / f) == pytest.approx(1, abs=0.04)


def test_given_width_is_only_a_start():
    image, x, y, _ = make_sky()
    table = find_stars(image, fwhm=4.0)
    assert table.meta["fwhm"] == pytest.approx(3.0, rel=0.05)
    assert np.all(match(table, x, y) >= 0)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", ">i2", "<u2", ">i4", "i8"])
def test_any_dtype_and_byte_order(dtype):
    image, _, _, _ = make_sky((150, 210), flux=(5e3, 1e5))
    image = np.clip(np.round(image), 0, 30000)
    reference = find_stars(image)
    table = find_stars(image.astype(dtype))
    assert len(table) == len(reference)
    np.testing.assert_allclose(table["x"], reference["x"], atol=2e-3)
    np.testing.assert_allclose(table["flux"], reference["flux"], rtol=2e-3)


def test_faint_stars_on_a_large_constant():
    image, x, y, _ = make_sky((150, 210), flux=(5e3, 1e5))
    reference = find_stars(image, gain=1.0)
    table = find_stars(image + 1e8, gain=1.0)
    np.testing.assert_allclose(table["x"], reference["x"], atol=2e-3)
    assert table.meta["background"] == pytest.approx(1e8 + SKY, abs=1)
    assert np.all(match(table, x, y) >= 0)


@pytest.mark.parametrize("unit", [1e-28, 1e-17, 1e12])
def test_any_unit(unit):
    image, _, _, _ = make_sky((150, 210), flux=(5e3, 1e5))
    reference = find_stars(image)
    table = find_stars(image * unit)
    np.testing.assert_allclose(table["x"], reference["x"], atol=0.01)
    np.testing.assert_allclose(table["flux"], reference["flux"] * unit, rtol=0.01)
    assert table.meta["gain"] * unit == pytest.approx(reference.meta["gain"], rel=0.5)
    assert table.meta["noise"] / unit == pytest.approx(NOISE, rel=0.05)


@pytest.mark.parametrize("dtype", [float, np.uint16])
def test_empty_margins_are_no_sky(dtype):
    image, x, y, _ = make_sky()
    image[:20] = 0
    image[:, -70:] = 0
    table = find_stars(image.astype(dtype))
    inside = (y > 24) & (x < 265)
    assert np.all(match(table, x[inside], y[inside]) >= 0)
    assert len(table) < inside.sum() + 8
    assert table.meta["noise"] == pytest.approx(NOISE, rel=0.05)


def test_noiseless_simulation():
    image = np.full((300, 410), 10.0)
    x, y = np.array([40.3, 100.6, 160.2]), np.array([50.2, 90.8, 40.5])
    add_stars(image, x, y, [500.0, 5000.0, 2000.0], 3.0)
    table = find_stars(image)
    k = match(table, x, y)
    assert np.all(k >= 0)
    np.testing.assert_allclose(table["x"][k], x, atol=0.02)


def test_leaves_the_input_alone_and_repeats_itself():
    image, _, _, _ = make_sky()
    image[40:50, 60:90] = np.nan
    before = image.copy()
    mask = np.zeros(image.shape, dtype=bool)
    mask[:, 100] = True
    one, two = find_stars(image, mask=mask), find_stars(image, mask=mask)
    np.testing.assert_array_equal(image, before)
    for name in one.colnames:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("how", ["nan", "inf", "mask", "masked array", "error"])
def test_bad_pixels_are_not_seen(how):
    image, x, y, _ = make_sky()
    reference = find_stars(image, gain=1.0)
    bad = np.zeros(image.shape, dtype=bool)
    bad[100:140, 120:180] = True
    bad[:, 250:252] = True
    spoiled = image.copy()
    spoiled[bad] = {"nan": np.nan, "inf": np.inf}.get(how, 50000.0)
    options = {}
    if how == "mask":
        options["mask"] = bad
    elif how == "masked array":
        spoiled = np.ma.MaskedArray(spoiled, bad)
    elif how == "error":
        options["error"] = np.where(bad, np.nan, np.sqrt(image.clip(1)))
    table = find_stars(spoiled, gain=1.0, **options)
    inside = bad[np.round(table["y"]).astype(int), np.round(table["x"]).astype(int)]
    assert np.all(table["flag"][inside] & StarFlag.BAD_PIXELS)
    near = bad.copy()
    for shift in range(-3, 4):
        for axis in (0, 1):
            near |= np.roll(bad, shift, axis)
    touched = near[np.round(table["y"]).astype(int), np.round(table["x"]).astype(int)]
    assert not np.any(table["flag"][~touched] & StarFlag.BAD_PIXELS)
    # stars beyond the reach of the bad pixels are where they were
    d = np.min([np.hypot(x - b, y - a) for a, b in np.argwhere(bad)[::3]], axis=0)
    far = d > 12
    k, r = match(table, x[far], y[far]), match(reference, x[far], y[far])
    assert np.all(k >= 0)
    shift = np.abs(table["x"][k] - reference["x"][r]) / reference["x_err"][r]
    assert np.median(shift) < 0.1
    assert shift.max() < 0.7


def test_stars_stand_out_from_artifacts_that_outnumber_them():
    shape = (500, 700)
    rng = np.random.default_rng(8)
    x, y = star_grid(shape, 200, rng, margin=60)
    image = np.full(shape, SKY)
    add_stars(image, x, y, np.geomspace(6e3, 6e4, len(x)), 2.3)
    image = expose(image, rng)
    n = 20 * len(x)
    hot = rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)
    image[hot] += 10 ** rng.uniform(2.7, 4.2, n)
    for _ in range(3 * len(x)):
        length, angle = 2 + rng.exponential(5), rng.uniform(0, np.pi)
        t = np.linspace(0, length, int(2 * length))
        i = np.round(rng.uniform(20, shape[0] - 20) + t * np.sin(angle)).astype(int)
        j = np.round(rng.uniform(20, shape[1] - 20) + t * np.cos(angle)).astype(int)
        ray = np.unique(np.column_stack((i, j)), axis=0)
        image[ray[:, 0], ray[:, 1]] += 10 ** rng.uniform(2.8, 4) * rng.uniform(0.4, 1, len(ray))
    table = find_stars(image)
    assert table.meta["fwhm"] == pytest.approx(2.3, rel=0.05)
    k = match(table, x, y)
    assert np.sum(unflagged(table[k[k >= 0]])) >= len(x) - 1
    assert np.sum(unflagged(table)) <= len(x) + 1
    assert np.sum((table["flag"] & StarFlag.ARTIFACT) > 0) > 0.9 * n


@pytest.mark.parametrize("widths", [(8, 12, 30), (5, 6, 8)])
def test_narrow_stars_on_a_nebula(widths):
    """Bumps of the nebula, which are wide enough, must not pass for the stars, which hardly are."""
    rng = np.random.default_rng(5)
    image = np.full((400, 500), SKY)
    x, y = star_grid(image.shape, 24, rng)
    add_stars(image, x, y, np.exp(rng.uniform(np.log(1e3), np.log(1e5), len(x))), 1.2)
    for width in widths:
        at = 250 + rng.normal(0, 90, 26), 200 + rng.normal(0, 80, 26)
        add_stars(image, *at, rng.uniform(100, 800, 26) * width**2, width)
    table = find_stars(expose(image, rng))
    assert table.meta["fwhm"] == pytest.approx(1.2, rel=0.1)
    found = match(table[unflagged(table)], x, y)
    assert np.mean(found >= 0) > 0.95


def test_dark_frame_has_no_stars():
    shape = (300, 420)
    rng = np.random.default_rng(2)
    image = rng.normal(150, 10, shape)
    for _ in range(400):
        i, j = rng.integers(2, shape[0] - 2), rng.integers(2, shape[1] - 2)
        image[i, j] += 10 ** rng.uniform(1.8, 4)
    table = find_stars(image)
    assert len(table) > 150
    assert np.sum(unflagged(table)) <= 5


def test_empty_sky():
    image = np.random.default_rng(3).normal(100, 7, (300, 400))
    table = find_stars(image)
    assert len(table) <= 3
    assert table["flag"].dtype.kind == "i"
    assert table.meta["noise"] == pytest.approx(7, rel=0.03)


def test_noise_in_common_is_no_detection():
    rng = np.random.default_rng(4)
    white = rng.normal(100, 10, (301, 401))
    image = (white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]) / 4
    table = find_stars(image)
    assert len(table) <= 5
    assert table.meta["noise"] > 7


@pytest.mark.parametrize("kind", ["whole", "as floats", "flat-fielded"])
def test_quantized_sky(kind):
    rng = np.random.default_rng(6)
    shape = (300, 400)
    x, y = star_grid(shape, 30, rng)
    image = rng.normal(48, 0.7, shape)
    add_stars(image, x, y, np.geomspace(15, 300, len(x)), 2.2)
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    if kind != "whole":
        image = image.astype(np.float32)
    if kind == "flat-fielded":
        image *= rng.normal(1, 0.0005, shape)
    table = find_stars(image)
    k = match(table, x, y)
    assert np.mean(k >= 0) > 0.95
    assert len(table) < 1.1 * len(x)
    assert table.meta["noise"] == pytest.approx(0.77, rel=0.15)


def test_color_filter_array():
    shape = (360, 480)
    rng = np.random.default_rng(7)
    x, y = star_grid(shape, 26, rng)
    flux = np.exp(rng.uniform(np.log(2e4), np.log(2e5), len(x)))
    red, blue = (np.zeros(shape) for _ in range(2))
    add_stars(red, x, y, flux * rng.uniform(0.5, 1.0, len(x)), 2.4)
    green = np.zeros(shape)
    add_stars(green, x, y, flux, 2.4)
    add_stars(blue, x, y, flux * rng.uniform(0.3, 0.7, len(x)), 2.4)
    image = green + 400
    image[::2, ::2] = red[::2, ::2] + 250
    image[1::2, 1::2] = blue[1::2, 1::2] + 150
    table = find_stars(rng.poisson(image).astype(np.uint16))
    k = match(table, x, y)
    assert np.all(k >= 0)
    assert np.mean(unflagged(table[k])) > 0.9
    error = np.concatenate((table["x"][k] - x, table["y"][k] - y))
    assert np.abs(np.median(error)) < 0.01
    assert robust_sigma(error) < 0.06


def test_crowded_sky_keeps_its_level():
    shape = (400, 560)
    rng = np.random.default_rng(9)
    n = 1500
    x, y = rng.uniform(0, shape[1], n), rng.uniform(0, shape[0], n)
    flux = 600 * rng.uniform(0.004, 1, n) ** -0.9
    image = np.full(shape, SKY)
    add_stars(image, x, y, flux, 2.6)
    table = find_stars(expose(image, rng))
    assert table.meta["background"] == pytest.approx(SKY, abs=0.6 * NOISE)
    assert table.meta["fwhm"] == pytest.approx(2.6, rel=0.03)
    bright = (flux > 6000) & (np.minimum(x, shape[1] - x) > 5) & (np.minimum(y, shape[0] - y) > 5)
    assert np.mean(match(table, x[bright], y[bright]) >= 0) > 0.95


@pytest.mark.parametrize(("distance", "ratio"), [(4.2, 1.0), (4.5, 0.3), (6.5, 0.02)])
def test_pairs_are_separated(distance, ratio):
    shape = (260, 340)
    rng = np.random.default_rng(10)
    x, y = star_grid(shape, 40, rng, margin=25)
    angle = rng.uniform(0, 2 * np.pi, len(x))
    x2, y2 = x + distance * np.cos(angle), y + distance * np.sin(angle)
    image = np.full(shape, SKY)
    add_stars(image, x, y, np.full(len(x), 6e4), 3.0)
    add_stars(image, x2, y2, np.full(len(x), 6e4 * ratio), 3.0)
    table = find_stars(expose(image, rng))
    k, k2 = match(table, x, y, 0.8), match(table, x2, y2, 1.2)
    assert np.all(k >= 0)
    assert np.mean(k2 >= 0) > 0.9
    both = k2 >= 0
    assert not np.any(k[both] == k2[both])
    if ratio > 0.1:
        assert np.mean((table["flag"][k] & StarFlag.BLENDED) > 0) > 0.9
    # the neighbor's light does not shift the star
    assert robust_sigma(np.concatenate((table["x"][k] - x, table["y"][k] - y))) < 0.02
    assert np.abs(np.median((table["x"][k] - x) * np.cos(angle))) < 0.01


def test_no_star_twice():
    image, _, _, _ = make_sky((520, 680), step=60, fwhm=9.0, flux=(5e4, 3e6))
    table = find_stars(image)
    good = np.column_stack((table["x"], table["y"]))[unflagged(table)]
    assert len(cKDTree(good).query_pairs(4.5)) == 0


@pytest.mark.parametrize("given", [True, False])
def test_saturated_stars(given):
    image, x, y, f = make_sky(seed=11, flux=(1e4, 6e5))
    ceiling = 20000.0
    peak = f * 0.085
    image = np.minimum(image, ceiling)
    table = find_stars(image, saturation=ceiling if given else None)
    k = match(table, x, y)
    assert np.all(k >= 0)
    full = (table["flag"][k] & StarFlag.SATURATED) > 0
    assert np.all(full[peak > 1.2 * ceiling])
    assert not np.any(full[peak < 0.8 * ceiling])
    error = np.hypot(table["x"][k] - x, table["y"][k] - y)
    assert np.median(error[full]) < 0.02


def test_edges_and_galaxies():
    image, _, _, _ = make_sky()
    rng = np.random.default_rng(12)
    add_stars(image, [0.5, 338.6], [130.0, 50.0], [3e4, 3e4], 3.0)
    galaxy = np.zeros(image.shape)
    add_stars(galaxy, [27.0, 147.0], [123.0, 147.0], [2e5, 2e5], 7.0)
    table = find_stars(image + rng.poisson(galaxy))
    at_edge = match(table, [0.5, 338.6], [130.0, 50.0])
    assert np.all(table["flag"][at_edge] & StarFlag.EDGE)
    wide = match(table, [27.0, 147.0], [123.0, 147.0], 3)
    assert np.all(table["flag"][wide] & (StarFlag.EXTENDED | StarFlag.BLENDED))


def test_errors_given_weigh():
    image, x, y, _ = make_sky()
    error = np.sqrt(image.clip(1))
    table = find_stars(image, error=error)
    twice = find_stars(image, error=2 * error)
    k, l = match(table, x, y), match(twice, x, y)  # noqa: E741
    good = (k >= 0) & (l >= 0)
    assert good.mean() > 0.9
    ratio = twice["x_err"][l[good]] / table["x_err"][k[good]]
    assert np.median(ratio) == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((3, 20, 30)), "2 dimensions, this array has 3"),
        (np.full((20, 30), np.nan), "all 600 pixels"),
        (np.full((20, 30), 7.0), "same value 7"),
        (np.zeros((20, 30), dtype=complex), "complex"),
        (np.zeros((4, 30)), "too small"),
        (np.array([["a", "b"]]), "dtype"),
    ],
)
def test_rejects_what_is_no_image(data, words):
    with pytest.raises(ImageError, match=words):
        find_stars(data)


def test_rejects_an_image_masked_whole():
    with pytest.raises(ImageError, match="masked"):
        find_stars(np.arange(600.0).reshape(20, 30), mask=np.ones((20, 30), dtype=bool))


@pytest.mark.parametrize("name", ["mask", "error"])
def test_rejects_arrays_of_another_shape(name):
    with pytest.raises(ImageError, match=name):
        find_stars(np.zeros((20, 30)), **{name: np.ones((30, 20))})


@pytest.mark.parametrize(
    "options", [{"threshold": 0}, {"gain": -1.0}, {"fwhm": 0.0}, {"threshold": np.nan}]
)
def test_rejects_senseless_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        find_stars(np.zeros((20, 30)), **options)


@pytest.mark.parametrize(
    ("pair", "fwhm"), [("tres1_2h", 1.9), ("sdss_r_night2", 2.1), ("panoptes_2min", 2.1)]
)
def test_real_stars(real_pair, pair, fwhm):
    pair = real_pair(pair)
    table = find_stars(pair.template.data)
    assert table.meta["fwhm"] == pytest.approx(fwhm, rel=0.15)
    stars = table[unflagged(table)]
    k = match(stars, *pair.template_xy.T)
    assert np.mean(k >= 0) > 0.6


def test_real_dark_frame(real_pair):
    table = find_stars(real_pair("tres1_dark_negative").source.data)
    assert np.sum(unflagged(table)) < 30


def test_stars_that_are_unlike_the_psf():
    """A mean of the colors has stars with a skewed halo: the PSF must not shrink to their cores."""
    path = Path(__file__).parents[2] / "docs" / "data" / "panoptes_template.fits.fz"
    raw = fits.getdata(path).astype(float)
    table = find_stars((raw[:-1, :-1] + raw[1:, :-1] + raw[:-1, 1:] + raw[1:, 1:]) / 4)
    assert table.meta["fwhm"] == pytest.approx(2.13, rel=0.05)
    assert 0.05 < table.meta["model_error"] < 0.2


def add_trail(image, angle, point, peak, fwhm):
    """Add a straight trail from edge to edge; return how far each pixel is from it."""
    y, x = np.indices(image.shape)
    across = (x - point[0]) * np.sin(angle) - (y - point[1]) * np.cos(angle)
    image += peak * np.exp(-(across**2) / (2 * (fwhm / 2.3548) ** 2))
    return across


def trailed_sky(rng, number, trails):
    """Stars at random places and trails ``(angle, point, peak, fwhm)``: image and stars."""
    shape = (640, 800)
    x, y = rng.uniform(0, 1, (2, number)) * np.array(shape[::-1])[:, None]
    flux = np.minimum(800 * rng.uniform(0, 1, number) ** -1.2, 3e5)
    image = np.full(shape, SKY)
    add_stars(image, x, y, flux, 3.0)
    for trail in trails:
        add_trail(image, *trail)
    return expose(image, rng), x, y


def left_on_trails(table, x, y, trails):
    """Numbers of usable sources along each trail that are no stars."""
    usable = (table["flag"] & int(UNUSABLE)) == 0
    place = np.column_stack((table["x"], table["y"]))[usable]
    place = place[cKDTree(np.column_stack((x, y))).query(place)[0] > 1.5]
    out = []
    for angle, point, _, fwhm in trails:
        across = np.abs((place - point) @ [np.sin(angle), -np.cos(angle)])
        out.append(np.sum(across < max(4, 1.5 * fwhm)))
    return out


@pytest.mark.parametrize("number", [15, 60, 600])
@pytest.mark.parametrize(
    ("peak", "fwhm"), [(38, 2.0), (38, 6.0), (60, 1.0), (600, 1.5), (8000, 3.0), (8000, 6.0)]
)
def test_flags_trails(number, peak, fwhm):
    rng = np.random.default_rng([number, peak, int(fwhm)])
    trails = [(0.35, (410, 300), peak, fwhm), (2.2, (300, 200), 3 * peak, fwhm)]
    image, x, y = trailed_sky(rng, number, trails)
    table = find_stars(image)
    assert max(left_on_trails(table, x, y, trails)) <= 1
    assert np.sum((table["flag"] & StarFlag.TRAIL) > 0) > 20
    across = [np.abs((x - p[0]) * np.sin(a) - (y - p[1]) * np.cos(a)) for a, p, *_ in trails]
    clear = np.min(across, axis=0) > 12
    inside = (x > 5) & (y > 5) & (x < 794) & (y < 634)
    k = match(table, x, y)[clear & inside]
    assert np.mean(k >= 0) > 0.96
    assert np.mean((table["flag"][k[k >= 0]] & StarFlag.TRAIL) > 0) < 0.01
    assert table.meta["fwhm"] == pytest.approx(3.0, rel=0.08)


def test_six_trails_are_flagged_and_do_not_pass_for_the_psf():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        trails = [
            (
                rng.uniform(0, np.pi),
                rng.uniform(0.1, 0.9, 2) * [800, 640],
                40 * 100 ** rng.uniform(),
                6 ** rng.uniform(),
            )
            for _ in range(6)
        ]
        image, x, y = trailed_sky(rng, 40, trails)
        table = find_stars(image)
        assert max(left_on_trails(table, x, y, trails)) < 4
        assert sum(left_on_trails(table, x, y, trails)) <= 6
        assert table.meta["fwhm"] == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("fault", ["columns", "bleeds", "next to each other", "at the edges"])
def test_flags_columns(fault):
    rng = np.random.default_rng(8)
    image, x, y = trailed_sky(rng, 60, [])
    columns = {"next to each other": [300, 309, 340], "at the edges": [0, 797]}.get(
        fault, [70, 451]
    )
    for column in columns:
        rows = slice(180, 420) if fault == "bleeds" else slice(None)
        image[rows, column : column + 2] += 250
    table = find_stars(image)
    lines = [(np.pi / 2, (column + 0.5, 0), 250, 2) for column in columns]
    assert max(left_on_trails(table, x, y, lines)) <= 1
    assert np.sum((table["flag"] & StarFlag.TRAIL) > 0) > 20


@pytest.mark.parametrize("number", [8, 16, 24])
def test_flags_dashes(number):
    rng = np.random.default_rng(number)
    image, _, _ = trailed_sky(rng, 60, [])
    t = (np.arange(number) - (number - 1) / 2) * 560 / number
    dash_x, dash_y = 400 + t * np.cos(0.7), 320 + t * np.sin(0.7)
    add_stars(image, dash_x, dash_y, np.full(number, 1e5), 3.0)
    table = find_stars(image)
    k = match(table, dash_x, dash_y)
    assert np.all((table["flag"][k[k >= 0]] & StarFlag.TRAIL) > 0)
    assert np.sum((table["flag"] & StarFlag.TRAIL) > 0) <= number + 1


def test_a_bright_star_on_a_trail_is_a_star():
    rng = np.random.default_rng(9)
    trail = (0.35, (410, 300), 150, 2.0)
    image, _, _ = trailed_sky(rng, 60, [trail])
    x = np.array([150.3, 410.6, 700.2])
    y = 300 + (x - 410) * np.tan(0.35)
    add_stars(image, x, y, [6e4, 3e5, 1e5], 3.0)
    table = find_stars(image)
    k = match(table, x, y, reach=0.3)
    assert np.all(k >= 0)
    assert np.all((table["flag"][k] & int(UNUSABLE)) == 0)


def test_spikes_of_a_bright_star_are_flagged_and_the_star_is_not():
    rng = np.random.default_rng(10)
    image, x, y = trailed_sky(rng, 60, [])
    v, u = np.indices(image.shape) - np.array([310, 402])[:, None, None]
    for angle in (0.6, 0.6 + np.pi / 2):
        along = np.abs(u * np.cos(angle) + v * np.sin(angle))
        across = u * np.sin(angle) - v * np.cos(angle)
        image += 4000 * np.exp(-along / 40 - across**2 / 2)
    add_stars(image, [402], [310], [3e6], 3.0)
    table = find_stars(image)
    star = match(table, [402], [310])[0]
    assert table["flag"][star] & StarFlag.TRAIL == 0
    spikes = [(angle, (402, 310), 1, 3) for angle in (0.6, 0.6 + np.pi / 2)]
    x, y = np.append(x, 402), np.append(y, 310)
    assert max(left_on_trails(table, x, y, spikes)) < 4


@pytest.mark.parametrize("number", [10, 100, 1500])
def test_stars_are_no_trails(number):
    for seed in range(4):
        image, _, _ = trailed_sky(np.random.default_rng([seed, number]), number, [])
        assert not np.any(find_stars(image)["flag"] & StarFlag.TRAIL)


def test_an_edge_on_galaxy_takes_no_more_than_its_own_light():
    rng = np.random.default_rng(11)
    image, x, y = trailed_sky(rng, 80, [])
    v, u = np.indices(image.shape) - np.array([310, 402])[:, None, None]
    along, across = u * np.cos(0.5) + v * np.sin(0.5), u * np.sin(0.5) - v * np.cos(0.5)
    image += 800 * np.exp(-np.abs(along) / 40 - np.abs(across) / 4)
    table = find_stars(image)
    flagged = (table["flag"] & StarFlag.TRAIL) > 0
    assert np.all(np.hypot(table["x"] - 402, table["y"] - 310)[flagged] < 250)
    k = match(table, x, y)
    assert np.sum(flagged[k[k >= 0]]) <= 2


@pytest.mark.parametrize("share", [0.001, 0.03])
def test_trails_are_found_where_pixels_are_bad(share):
    rng = np.random.default_rng(12)
    trail = (2.0, (410, 300), 400, 2.0)
    image, x, y = trailed_sky(rng, 60, [trail])
    bad = rng.uniform(size=image.shape) < share
    bad[200:260, 100:500] = True
    table = find_stars(image, mask=bad)
    assert np.sum((table["flag"] & StarFlag.TRAIL) > 0) > 10
    assert left_on_trails(table, x, y, [trail])[0] <= 1
