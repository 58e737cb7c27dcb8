"""Hot pixels that outnumber the stars."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from spalipy_astro import detect_stars, find_alignment
from spalipy_astro.catalogs import StarFlag
from spalipy_astro.detection._background import estimate_background
from spalipy_astro.detection._hot import find_hot_pixels
from spalipy_astro.detection._pixels import PixelSource

SHAPE = (300, 400)
SHIFT = np.array([12.0, -7.0])


def render(xy, flux, fwhm, rng):
    """Render Gaussian stars, integrated over the pixels."""
    image = rng.normal(100, 8, SHAPE)
    s = np.sqrt(2) * fwhm / 2.3548
    x, y = np.arange(SHAPE[1]), np.arange(SHAPE[0])
    for (a, b), f in zip(xy, flux, strict=True):
        bx, by = (erf((c + 0.5) / s) - erf((c - 0.5) / s) for c in (x - a, y - b))
        image += f / 4 * by[:, None] * bx
    return image


def sky_of(seed, fwhm, n=45):
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-20, np.array(SHAPE[::-1]) + 20, (n, 2))
    return rng, xy, 600 * max(fwhm, 1.5) * rng.uniform(0.01, 1, n) ** -0.7


@pytest.mark.parametrize("percent", [0.1, 0.75])
@pytest.mark.parametrize("fwhm", [1.2, 1.5, 3.0])
def test_stars_among_hot_pixels_that_stay(fwhm, percent):
    rng, xy, flux = sky_of(3, fwhm)
    hot = np.where(rng.random(SHAPE) < percent / 100, rng.uniform(500, 20000, SHAPE), 0)
    source, template = (render(p, flux, fwhm, rng) + hot for p in (xy - SHIFT, xy))
    alignment = find_alignment(source, template)
    x, y = np.meshgrid(np.linspace(20, 370, 6), np.linspace(20, 270, 6))
    tx, ty = alignment.transform(x, y)
    assert np.sqrt(np.mean((tx - x - SHIFT[0]) ** 2 + (ty - y - SHIFT[1]) ** 2)) < 0.25
    # they are told, too
    table = detect_stars(template)
    warm = table[(table["flag"] & StarFlag.ARTIFACT) > 0]
    assert len(warm) > 0.9 * np.count_nonzero(hot)


def masked(image):
    source = PixelSource(image.astype(np.float32))
    return find_hot_pixels(source, estimate_background(source))


def test_pairs_of_hot_pixels():
    """Pairs are found pixel by pixel, and no star is."""
    rng, xy, flux = sky_of(5, 2.0, n=20)
    image = render(xy, flux, 2.0, rng)
    hot = np.zeros(SHAPE, bool)
    y, x = np.mgrid[8:290:9, 9:390:9]
    hot[y, x] = True
    hot[y[::3], x[::3] + 1] = True
    near = np.zeros(SHAPE, bool)
    for a, b in np.round(xy).astype(int):
        near[max(0, b - 4) : max(0, b + 5), max(0, a - 4) : max(0, a + 5)] = True
    hot &= ~near
    image[hot] += rng.uniform(1000, 5000, SHAPE)[hot]
    found = masked(image)
    assert np.count_nonzero(found & hot) > 0.98 * np.count_nonzero(hot)
    assert np.count_nonzero(found & ~hot) < 5


@pytest.mark.parametrize("fwhm", [0.7, 0.9, 1.2, 3.0])
def test_stars_are_not_hot_pixels(fwhm):
    rng, xy, flux = sky_of(7, fwhm, n=400)
    assert masked(render(xy, flux, fwhm, rng)) is None


def test_a_few_hot_pixels_change_nothing():
    """Most images have some; their stars are measured as ever."""
    rng, xy, flux = sky_of(9, 3.0, n=60)
    image = render(xy, flux, 3.0, rng)
    image[rng.integers(0, 300, 20), rng.integers(0, 400, 20)] += 3000
    assert masked(image) is None


def test_every_second_pixel_is_unknown():
    """Among bad pixels a star looks like a hot pixel; nobody can tell."""
    rng, xy, flux = sky_of(11, 3.0, n=200)
    image = render(xy, flux, 3.0, rng)
    image[np.indices(SHAPE).sum(axis=0) % 2 == 1] = np.nan
    assert masked(image) is None


@pytest.mark.parametrize("number", [0, 60, 300, 5000])
def test_a_quick_look_decides_as_a_long_one(monkeypatch, number):
    """Next to edges, on a slope and among bad pixels, too."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:200, :260]
    image = rng.normal(100 + 0.05 * x, 10)
    for left, top in rng.uniform(0, 200, (15, 2)):
        image += 900 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / 4)
    places = rng.integers(0, 200, (2, number))
    image[places[0], places[1]] += rng.uniform(0, 900, number)
    image[:, [0, -1]] += rng.choice([0, 500], (200, 2), p=[0.9, 0.1])
    bad = rng.random(image.shape) < 0.1
    image[bad] = rng.choice([np.nan, np.inf, -np.inf], bad.sum())
    quick = masked(image)
    assert (quick is None) == (number == 0)
    monkeypatch.setattr("spalipy_astro.detection._hot._has_few", lambda *arguments: False)
    np.testing.assert_array_equal(quick, masked(image))
