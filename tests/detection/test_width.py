"""The width of stars is that on which most sources agree, at whatever scale they are sampled."""

import numpy as np
import pytest
from scipy.special import erf

from spalipy_astro.catalogs import UNUSABLE
from spalipy_astro.detection import find_stars

SHAPE = (240, 320)


def draw(fwhm, n, n_galaxies, seed=7):
    """Stars integrated over pixels, and round exponential disks that are brighter."""
    rng = np.random.default_rng(seed)
    sigma = fwhm / 2.3548
    image = rng.normal(200, 4, SHAPE)
    grid = np.stack(np.meshgrid(np.arange(12, 310, 24), np.arange(12, 230, 24)), -1).reshape(-1, 2)
    position = rng.permutation(grid) + rng.uniform(-4, 4, grid.shape)
    for x0, y0 in position[:n]:
        across = [
            0.5 * (erf((t + 0.5) / sigma / 2**0.5) - erf((t - 0.5) / sigma / 2**0.5))
            for t in (np.arange(SHAPE[0]) - y0, np.arange(SHAPE[1]) - x0)
        ]
        image += 10 ** rng.uniform(2.8, 4) * np.outer(*across)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for x0, y0 in position[n : n + n_galaxies]:
        image += rng.uniform(80, 400) * np.exp(-np.hypot(x - x0, y - y0) / rng.uniform(2, 4))
    return image


@pytest.mark.parametrize("n_galaxies", [0, 15])
@pytest.mark.parametrize("n", [30, 80])
@pytest.mark.parametrize("fwhm", [1.0, 1.2, 1.4, 1.5, 1.6, 2.0])
def test_width_of_undersampled_stars(fwhm, n, n_galaxies):
    stars = find_stars(draw(fwhm, n, n_galaxies))
    assert stars.meta["fwhm"] == pytest.approx(fwhm, rel=0.12)
    assert np.count_nonzero((stars["flag"] & int(UNUSABLE)) == 0) >= 0.9 * n
