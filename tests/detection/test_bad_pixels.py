"""Bad pixels cost information, not stars."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from spalipy_astro import TooFewStarsError, find_alignment
from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.detection import find_stars

SHAPE = (300, 360)
SIGMA = 1.3


def draw(position, flux, seed, noise=5.0):
    """Gaussian stars on a sky of 100."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.random.default_rng(seed).normal(100, noise, SHAPE)
    for (x0, y0), f in zip(position, flux, strict=True):
        peak = f / (2 * np.pi * SIGMA**2)
        image += peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * SIGMA**2))
    return image


@pytest.fixture(scope="module")
def sky():
    rng = np.random.default_rng(8)
    grid = np.stack(np.meshgrid(np.arange(20, 350, 30), np.arange(20, 290, 30)), -1).reshape(-1, 2)
    return grid + rng.uniform(-5, 5, grid.shape), 10 ** rng.uniform(3.2, 4.5, len(grid))


def bad_pixels(name):
    if name == "checkerboard":
        return np.indices(SHAPE).sum(axis=0) % 2 == 1
    if name == "columns":
        return np.broadcast_to(np.arange(SHAPE[1]) % 11 == 3, SHAPE)
    return np.random.default_rng(4).random(SHAPE) < name


def usable(stars):
    return stars[(stars["flag"] & int(UNUSABLE)) == 0]


@pytest.mark.parametrize("bad", [0.03, 0.1, 0.3, "checkerboard", "columns"])
def test_stars_are_measured_on_good_pixels(sky, bad):
    position, flux = sky
    image, mask = draw(position, flux, 1), bad_pixels(bad)
    whole = usable(find_stars(image))
    stars = usable(find_stars(np.where(mask, 4000.0, image), mask=mask))
    distance, nearest = cKDTree(np.column_stack((stars["x"], stars["y"]))).query(position)
    assert np.mean(distance < 0.5) > 0.95
    # none is invented, and the PSF is that of the stars
    assert len(stars) <= len(position)
    assert stars.meta["fwhm"] == pytest.approx(2.3548 * SIGMA, rel=0.03)
    # the errors say what the missing pixels cost
    found = stars[nearest[distance < 0.5]]
    pull = (found["x"] - position[distance < 0.5, 0]) / found["x_err"]
    assert 0.8 < 1.4826 * np.median(np.abs(pull)) < 1.25
    same = cKDTree(np.column_stack((whole["x"], whole["y"]))).query(position[distance < 0.5])[1]
    growth = np.mean(found["x_err"] / whole["x_err"][same])
    assert growth > 1 + 0.25 * np.mean(mask)
    assert np.count_nonzero(found["flag"] & int(StarFlag.BAD_PIXELS)) > 0.3 * len(found)


@pytest.mark.parametrize("value", [1e20, 1e25, -1e30, 1.6e38, np.finfo("f4").max, np.inf, 1e300])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_wild_pixel_is_a_bad_pixel(sky, value, dtype):
    image = draw(*sky, 1).astype(dtype)
    with np.errstate(over="ignore"):
        value = np.array(value).astype(dtype)
    clean, wild = image.copy(), image.copy()
    # the second is in one of the rows by which the units are recognized
    for y, x in ((101, 57), (18, 200)):
        clean[y, x], wild[y, x] = np.nan, value
    one, other = find_stars(clean), find_stars(wild)
    assert len(one) > 80
    for column in one.colnames:
        np.testing.assert_array_equal(one[column], other[column])


def test_light_in_strange_units_is_not_wild(sky):
    image = draw(*sky, 1)
    plain, scaled = find_stars(image), find_stars(image * 2.0**70)
    np.testing.assert_allclose(scaled["x"], plain["x"], atol=0.01)


def test_message_names_what_took_the_stars(sky):
    position, flux = sky
    image = draw(position[:2], 10 * flux[:2], 1)
    mask = np.random.default_rng(2).random(SHAPE) < 0.4
    with pytest.raises(TooFewStarsError, match=r"40 ?% of the pixels of the source are bad"):
        find_alignment(image, draw(position, flux, 2), source_mask=mask)
