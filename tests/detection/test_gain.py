"""Photon noise is taken from the sky only where the stars agree with it."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from spalipy_astro.catalogs import UNUSABLE, StarFlag
from spalipy_astro.detection import find_stars

SHAPE, SIGMA, SKY = (400, 440), 1.2, 300.0


def expose(n, gain=2.0, seed=3):
    """Stars with photon noise and 4 counts of readout noise, and their positions."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[:n]
    position = (grid + 0.5 + rng.uniform(-0.2, 0.2, (n, 2))) * 400 / side
    flux = 10 ** rng.uniform(3.5, 5.3, n)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.full(SHAPE, SKY)
    for (x0, y0), f in zip(position, flux, strict=True):
        peak = f / (2 * np.pi * SIGMA**2)
        image += peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * SIGMA**2))
    return rng.poisson(gain * image) / gain + rng.normal(0, 4, SHAPE), position


@pytest.mark.parametrize("left", [-2.0, -0.05, 0.01, 0.05, 0.5, 2.0, 5.0, 30.0, 60.0])
def test_gain_of_sky_subtracted_frame(left):
    image, position = expose(196)
    stars = find_stars(image - SKY + left)
    assert 1.6 < stars.meta["gain"] < 2.7
    stars = stars[(stars["flag"] & int(UNUSABLE | StarFlag.NEIGHBOR | StarFlag.BLENDED)) == 0]
    assert len(stars) > 185
    nearest = cKDTree(position).query(np.column_stack((stars["x"], stars["y"])))[1]
    pull = (stars["x"] - position[nearest, 0]) / stars["x_err"]
    assert 0.85 < 1.4826 * np.median(np.abs(pull)) < 1.2


@pytest.mark.parametrize("left", [0.01, 0.5, 5.0, 30.0, 60.0])
def test_without_enough_stars_no_gain_rather_than_a_wrong_one(left):
    image, position = expose(9)
    stars = find_stars(image - SKY + left)
    assert len(stars) == len(position)
    # the S/N of the noise of the sky, within what little the level itself changes
    without = find_stars(image - SKY - 2)
    np.testing.assert_allclose(stars["snr"], without["snr"], rtol=0.02)


def test_gain_of_few_stars_is_that_of_a_sky_with_counts():
    image, _ = expose(9)
    assert 1.5 < find_stars(image).meta["gain"] < 2.5


@pytest.mark.parametrize("kind", ["smoothed", "moved"])
def test_errors_where_neighbors_share_photon_noise(kind):
    """Scattered less from pixel to pixel, the noise of bright stars is still there."""
    image, position = expose(196)
    if kind == "smoothed":
        image = ndimage.gaussian_filter(image - SKY, 0.7)
    else:
        image, position = ndimage.shift(image - SKY, 0.5, order=3, mode="nearest"), position + 0.5
    stars = find_stars(image)
    stars = stars[(stars["flag"] & int(UNUSABLE | StarFlag.NEIGHBOR | StarFlag.BLENDED)) == 0]
    nearest = cKDTree(position).query(np.column_stack((stars["x"], stars["y"])))[1]
    pull = (stars["x"] - position[nearest, 0]) / stars["x_err"]
    assert 0.8 < 1.4826 * np.median(np.abs(pull)) < (1.3 if kind == "moved" else 1.6)
