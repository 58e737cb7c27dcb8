"""Skies that change within a cell of the mesh: moonlight, twilight and nebulae."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.detection import find_stars

SHAPE, FWHM, NOISE, GAIN = (300, 360), 3.0, 6.0, 2.0
N = 40


def slope(kind, amount):
    """Sky of 100 counts and a slope."""
    y, x = np.indices(SHAPE) / SHAPE[1]
    if kind == "plane":
        light = 0.8 * x + 0.5 * y
    elif kind == "bowl":
        light = np.exp(-((x + 0.1) ** 2 + (y - 0.3) ** 2) / 0.5)
    else:
        waves = np.random.default_rng(1).normal(size=SHAPE)
        light = ndimage.gaussian_filter(waves, 14, mode="wrap")
        light = 0.3 * (light - light.min()) / light.std()
    return 100 + amount * light


def exposure(seed, sky, *, brightest=40.0, mirror=1):
    """Return an image with stars, and their positions; S/N is above 25 by the noise of the sky."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(8, np.array(SHAPE[::-1]) - 8, (N, 2))
    noise = np.sqrt(NOISE**2 + sky / GAIN)
    sigma = FWHM / 2.3548
    light = np.zeros(SHAPE)
    for x, y in xy:
        snr = 25 * (brightest / 25) ** rng.uniform()
        flux = snr * noise[int(y), int(x)] * np.sqrt(4 * np.pi) * sigma
        gy, gx = (
            np.exp(-((np.arange(n) - c) ** 2) / (2 * sigma**2))
            for n, c in zip(SHAPE, (y, x), strict=True)
        )
        light += flux / (2 * np.pi * sigma**2) * gy[:, None] * gx
    noise = np.sqrt(noise**2 + light / GAIN)
    return sky + light + rng.normal(0, 1, SHAPE) * noise, xy


def usable(table):
    return table[(table["flag"] & int(UNUSABLE)) == 0]


def away(table, xy):
    return np.hypot(table["x"][:, None] - xy[:, 0], table["y"][:, None] - xy[:, 1]).min(axis=1)


CASES = [(kind, amount) for kind in ("plane", "bowl") for amount in (500, 3000, 20000, 50000)]


@pytest.mark.parametrize(("kind", "amount"), [*CASES, ("nebula", 200), ("nebula", 500)])
def test_stars_on_a_slope(kind, amount):
    image, xy = exposure(2, slope(kind, amount))
    table = usable(find_stars(image))
    distance = away(table, xy)
    assert np.count_nonzero(distance < 0.5) >= N - 4
    # knots of a nebula are where its light is, too
    assert np.count_nonzero(distance > 1.5) <= (6 if kind == "nebula" else 3)
    assert table.meta["fwhm"] == pytest.approx(FWHM, rel=0.06)


def test_positions_and_errors_are_those_of_a_level_sky():
    pulls = []
    for sky in (slope("plane", 0), slope("plane", 20000)):
        image, xy = exposure(3, sky)
        table = usable(find_stars(image))
        distance = away(table, xy)
        near = distance < 1
        assert np.count_nonzero(near) >= N - 2
        error = np.hypot(table["x_err"], table["y_err"])
        pulls.append(np.sqrt(np.median((distance[near] / error[near]) ** 2)))
    assert pulls[1] == pytest.approx(pulls[0], rel=0.2)


def test_the_level_is_that_of_the_image():
    sky = slope("plane", 20000)
    image, _ = exposure(4, sky)
    meta = find_stars(image).meta
    assert meta["background"] == pytest.approx(np.median(sky), rel=0.1)
    assert meta["noise"] == pytest.approx(np.sqrt(NOISE**2 + np.median(sky) / GAIN), rel=0.2)


@pytest.mark.parametrize("known", [True, False])
def test_saturated_stars_stay_saturated(known):
    image, xy = exposure(5, slope("plane", 20000), brightest=2000.0)
    full = 26000.0
    high = image > full
    number = ndimage.label(high)[1]
    assert number >= 4
    image[high] = full
    table = find_stars(image, saturation=full if known else None)
    saturated = table[(table["flag"] & int(StarFlag.SATURATED)) > 0]
    assert number - 2 <= np.count_nonzero(away(saturated, xy) < 2) <= number + 2


def test_bad_pixels_stay_bad():
    image, xy = exposure(6, slope("plane", 20000))
    image[100:160, 200:260] = np.nan
    image[20, 30:36] = np.inf
    table = usable(find_stars(image))
    inside = (table["x"] > 201) & (table["x"] < 258) & (table["y"] > 101) & (table["y"] < 158)
    assert not inside.any()
    assert np.count_nonzero(away(table, xy) < 0.5) >= N - 6


def test_a_level_sky_stays_as_it_is():
    from spalipy_astro.detection._background import estimate_background
    from spalipy_astro.detection._pixels import PixelSource
    from spalipy_astro.detection._slopes import without_slopes

    rng = np.random.default_rng(7)
    for sigma in (0.0, 1.0, 3.0):
        source = PixelSource(100 + ndimage.gaussian_filter(rng.normal(0, 9, SHAPE), sigma))
        background = estimate_background(source)
        same = without_slopes(source, background, np.inf)
        assert same[0] is source
        assert same[1] is background
