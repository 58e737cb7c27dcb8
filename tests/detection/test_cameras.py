"""Frames that are no textbook: sky-subtracted, smoothed, undersampled, masked, wild numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.detection import find_stars
from spalipy_astro.detection._background import estimate_background, with_common_noise
from spalipy_astro.detection._pixels import PixelSource

SKY, NOISE, SIZE = 300.0, 5.0, 300


def sky(seed, fwhm, *, n=30, size=SIZE, brightest=400.0, photons=False):
    """Return an image, and the positions of its stars, whose S/N is above 20."""
    rng = np.random.default_rng(seed)
    sigma = fwhm / 2.3548
    xy = rng.uniform(12, size - 12, (n, 2))
    least = 20 * NOISE * np.sqrt(4 * np.pi) * max(sigma, 0.45)
    flux = least * (brightest / 20) ** rng.uniform(0, 1, n)
    edges = np.arange(size + 1) - 0.5
    light = np.zeros((size, size))
    for (x, y), total in zip(xy, flux, strict=True):
        along, across = (np.diff(erf((edges - c) / sigma / np.sqrt(2))) / 2 for c in (x, y))
        light += total * across[:, None] * along
    image = SKY + light + rng.normal(0, NOISE, light.shape)
    if photons:
        image += rng.normal(0, 1, light.shape) * np.sqrt(light)
    return image, xy


def usable(table):
    return table[(table["flag"] & int(UNUSABLE)) == 0]


def distances(table, xy):
    """Distance of each source from the nearest true star, and its error along an axis."""
    away = np.hypot(table["x"][:, None] - xy[:, 0], table["y"][:, None] - xy[:, 1]).min(axis=1)
    return away, np.hypot(table["x_err"], table["y_err"]) / np.sqrt(2)


@pytest.mark.parametrize("fwhm", [0.8, 1.0, 1.2, 1.4, 1.45, 1.5, 1.55, 1.6, 1.8, 2.2])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_width_is_found(fwhm, seed):
    image, xy = sky(seed, fwhm)
    table = find_stars(image)
    away, _ = distances(usable(table), xy)
    assert np.count_nonzero(away < 0.3) >= 28
    assert table.meta["fwhm"] == pytest.approx(max(fwhm, 0.9), rel=0.05)


@pytest.mark.parametrize("fwhm", [0.6, 0.8, 1.0, 1.2])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_few_stars_that_are_narrower_than_a_pixel(fwhm, seed):
    """A filter for wider stars hardly sees them; they lie between pixels, as no hot pixel does."""
    image, xy = sky(seed, fwhm, n=9, brightest=60.0)
    image += np.random.default_rng(seed + 50).normal(0, np.sqrt(3) * NOISE, image.shape)
    table = find_stars(image)
    away, _ = distances(usable(table), xy)
    assert np.count_nonzero(away < 0.4) >= (7 if fwhm > 0.6 else 3)
    assert table.meta["fwhm"] < 1.4


@pytest.mark.parametrize("fwhm", [1.0, 1.2, 1.4, 1.5])
@pytest.mark.parametrize("seed", [1, 2])
def test_narrow_stars_among_more_galaxies(fwhm, seed):
    image, xy = sky(seed, fwhm, n=16, brightest=100.0)
    rng = np.random.default_rng(seed)
    y, x = np.indices(image.shape)
    for _ in range(24):
        dx, dy = x - rng.uniform(0, SIZE), y - rng.uniform(0, SIZE)
        radius = np.hypot(dx, dy / rng.uniform(0.3, 1.0))
        image += rng.uniform(20, 150) * np.exp(-radius / rng.uniform(1.5, 4))
    table = find_stars(image)
    assert table.meta["fwhm"] == pytest.approx(fwhm, rel=0.1)
    assert np.count_nonzero(distances(usable(table), xy)[0] < 0.4) >= 11


@pytest.mark.parametrize("n", [4, 8, 20])
def test_a_few_hot_pixels_are_no_stars(n):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        image = rng.normal(SKY, NOISE, (SIZE, SIZE))
        image[rng.integers(0, SIZE, n), rng.integers(0, SIZE, n)] += 40 + rng.exponential(300, n)
        assert len(usable(find_stars(image))) <= 1


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.2, 1.5, 2.5, 4.0])
def test_smoothed_noise_has_no_stars(sigma):
    noise = np.random.default_rng(3).normal(SKY, NOISE, (512, 512))
    assert len(find_stars(ndimage.gaussian_filter(noise, sigma))) <= 1


def interpolated(noise, color):
    """Return the plane of one color, interpolated between its pixels of a Bayer mosaic."""
    plane = np.zeros_like(noise)
    if color == "red":
        plane[::2, ::2] = noise[::2, ::2]
        return ndimage.convolve(plane, np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]), mode="wrap")
    plane[::2, 1::2], plane[1::2, ::2] = noise[::2, 1::2], noise[1::2, ::2]
    cross = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]])
    return ndimage.convolve(plane, cross, mode="wrap")


@pytest.mark.parametrize("color", ["red", "green"])
def test_interpolated_colors_have_no_stars_in_noise(color):
    noise = np.random.default_rng(4).normal(SKY, NOISE, (512, 512))
    assert len(find_stars(interpolated(noise, color))) <= 1


def noise_of_the_filtered(image, fwhm):
    """Standard deviation, and the width of most, in units of what the filter does to white noise.

    And what detection takes it for.
    """
    source = PixelSource(image + SKY)
    found = with_common_noise(source, estimate_background(source), fwhm).noise
    white = ndimage.gaussian_filter(np.pad([[1.0]], 20), fwhm / 2.3548, truncate=2.2)
    filtered = ndimage.gaussian_filter(image, fwhm / 2.3548, truncate=2.2)
    filtered /= np.sqrt(np.sum(white**2))
    return filtered.std(), 1.4826 * np.median(np.abs(filtered)), np.median(found)


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
@pytest.mark.parametrize("kind", ["smoothed", "red", "green"])
def test_the_noise_that_a_filter_sees(kind, fwhm):
    noise = np.random.default_rng(5).normal(0, NOISE, (320, 384))
    smooth = kind == "smoothed"
    image = ndimage.gaussian_filter(noise, 1.0) if smooth else interpolated(noise, kind)
    expected, _, found = noise_of_the_filtered(image, fwhm)
    assert 0.86 * expected < found < 1.05 * expected  # up to 15 % are left alone


@pytest.mark.parametrize("smoothed", [0.0, 0.7, 1.0])
def test_noise_that_differs_from_block_to_block(smoothed):
    """As compression leaves it: pixels seem to have more in common than they have."""
    rng = np.random.default_rng(5)
    image = ndimage.gaussian_filter(rng.normal(0, NOISE, (256, 320)), smoothed)
    image *= np.kron(rng.choice([0.3, 2.0], (32, 40)), np.ones((8, 8)))
    high, low, found = noise_of_the_filtered(image, 5.0)
    assert 0.9 * low < found < 1.1 * high


def test_an_enlarged_frame_has_the_stars_it_had():
    image, _ = sky(4, 3.0, n=15, size=256)
    large = ndimage.zoom(image, 2, order=1)
    assert len(usable(find_stars(large))) <= 17


@pytest.mark.parametrize("times", [2, 3, 4])
def test_pixels_that_are_repeated(times):
    image, xy = sky(4, 3.0, n=15, size=540 // times)
    table = usable(find_stars(np.kron(image, np.ones((times, times)))))
    away, _ = distances(table, times * xy + (times - 1) / 2)
    assert np.count_nonzero(away < 0.3 * times) >= 13
    assert len(table) <= 17


def test_stars_on_smoothed_noise():
    image, xy = sky(5, 3.0, n=25, size=256)
    away, error = distances(usable(find_stars(ndimage.gaussian_filter(image, 1.5))), xy)
    assert np.count_nonzero(away < 0.5) >= 22
    near = away < 0.5
    pull = np.sqrt(np.mean((away[near] / error[near]) ** 2) / 2)
    assert 0.3 < pull < 1.3


@pytest.mark.parametrize("left", [-2.0, 0.0, 0.1, 1.0, 3.0, 10.0])
def test_a_subtracted_sky_tells_no_gain(left):
    image, xy = sky(6, 3.0, n=150, size=512, brightest=3000.0, photons=True)
    table = find_stars(image - SKY + left)
    assert table.meta["gain"] == pytest.approx(1, rel=0.3)
    away, _ = distances(usable(table), xy)
    assert np.count_nonzero(away < 0.5) >= 140
    reference = find_stars(image)
    assert table["snr"].max() == pytest.approx(reference["snr"].max(), rel=0.15)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.25])
def test_bad_pixels_cost_information_not_stars(share):
    image, xy = sky(7, 3.0, n=150, size=512)
    mask = np.random.default_rng(8).random(image.shape) < share
    table = usable(find_stars(image, mask=mask))
    away, error = distances(table, xy)
    assert np.count_nonzero(away < 0.5) >= 140
    assert np.count_nonzero(table["flag"] & StarFlag.BAD_PIXELS) > 20
    alone = (away < 0.5) & ((table["flag"] & int(StarFlag.NEIGHBOR | StarFlag.BLENDED)) == 0)
    pull = np.sqrt(np.mean((away[alone] / error[alone]) ** 2) / 2)
    assert 0.8 < pull < 1.3


def test_a_masked_core_has_no_position():
    image, xy = sky(9, 3.0)
    mask = np.zeros(image.shape, bool)
    x, y = np.round(xy[0]).astype(int)
    mask[y - 4 : y + 5, x - 4 : x + 5] = True
    away, _ = distances(usable(find_stars(image, mask=mask)), xy[:1])
    assert away.min() > 2


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_plane_of_one_color(phase):
    image, xy = sky(10, 4.0, n=60, brightest=200.0)
    plane = np.full(image.shape, np.nan)
    part = tuple(slice(first, None, 2) for first in phase)
    plane[part] = image[part]
    table = usable(find_stars(plane))
    away, error = distances(table, xy)
    assert np.count_nonzero(away < 0.5) > 50
    assert np.median(away[away < 0.5] / error[away < 0.5]) < 2
    whole = usable(find_stars(image))
    assert np.median(table["flux"][:20]) == pytest.approx(np.median(whole["flux"][:20]), rel=0.1)
    assert table.meta["shape"] == image.shape


@pytest.mark.parametrize("value", [1e25, -1e25, 1.6e38, 3e38, -1e30, 1e12, np.inf, 1e300])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_wild_pixels_are_bad(value, dtype):
    image, xy = sky(11, 3.0)
    image = image.astype(dtype)
    reference = find_stars(image)
    with np.errstate(over="ignore"):
        image[100, 57] = np.array(value).astype(dtype)
        image[200, 33:36] = np.array(value).astype(dtype)
    table = find_stars(image)
    assert len(table) == pytest.approx(len(reference), abs=2)
    away, _ = distances(usable(table), xy)
    assert np.count_nonzero(away < 0.3) >= 28


def test_large_numbers_that_are_light():
    """A simulated sky that hardly varies, and stars that are a trillion times as bright."""
    rng = np.random.default_rng(12)
    points = np.zeros((SIZE, SIZE))
    places = rng.integers(15, SIZE - 15, (30, 2))
    points[places[:, 1], places[:, 0]] = 10 ** rng.uniform(3, 6, 30)
    light = ndimage.gaussian_filter(points, 1.4) + 1e-9 * rng.normal(size=points.shape)
    away, _ = distances(usable(find_stars(light)), places)
    assert np.count_nonzero(away < 0.3) >= 25


@pytest.mark.parametrize("at", [-1.0, 0.0, 0.3])
@pytest.mark.parametrize("kind", ["float", "smoothed", "integer"])
def test_a_sky_that_is_cut_off(at, kind):
    """Negative pixels made 0, as of pictures: half of the noise is not there to see it."""
    image, xy = sky(3, 3.0, n=12)
    image -= SKY
    if kind == "smoothed":
        image = ndimage.gaussian_filter(image, 1.0)
    width = 1.4826 * np.median(np.abs(image - np.median(image)))
    image = np.clip(image - at * width, 0, None)
    if kind == "integer":
        image = np.round(image / 2).astype("u2")
    table = find_stars(image)
    away, _ = distances(usable(table), xy)
    assert np.count_nonzero(away < 0.3) >= 11
    assert np.count_nonzero(away > 3) <= 4  # what is left of the noise is not normal


@pytest.mark.parametrize("mean", [0.3, 0.5, 2.0])
def test_counts_of_few_photons_have_hardly_any_stars(mean):
    image = np.random.default_rng(3).poisson(mean, (300, 300))
    assert len(find_stars(image)) <= 15
    background = estimate_background(PixelSource(image))
    assert np.median(background.level) == pytest.approx(mean, rel=0.15)
    assert np.median(background.noise) == pytest.approx(np.sqrt(mean), rel=0.15)


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_dead_pixels_cut_no_sky_off(dtype):
    rng = np.random.default_rng(2)
    image = rng.normal(SKY, NOISE, (200, 200))
    image[rng.random(image.shape) < 0.07] = 0
    background = estimate_background(PixelSource(image.astype(dtype)))
    assert not background.cut


@pytest.mark.parametrize("share", [0.5, 0.7, 0.8])
@pytest.mark.parametrize("kind", ["f4", "u2"])
def test_noise_that_is_cut_off_has_no_stars(share, kind):
    noise = np.random.default_rng(4).normal(0, 5, (300, 320))
    cut = np.clip(noise - np.quantile(noise, share), 0, None)
    assert len(find_stars(np.round(cut).astype(kind) if kind == "u2" else cut.astype(kind))) <= 3
