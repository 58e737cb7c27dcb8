"""Detection on synthetic skies with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.detection import find_stars
from spalipy_astro.errors import ImageError


def make_sky(shape=(180, 240), n=40, fwhm=3.0, seed=1, sky=300.0, flux=(5e3, 8e4)):
    """Gaussian stars on a grid with random subpixel offsets, with Poisson and read noise."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    gx, gy = np.meshgrid(np.arange(15, nx - 15, 24), np.arange(15, ny - 15, 24))
    x = (gx.ravel() + rng.uniform(-3, 3, gx.size))[:n]
    y = (gy.ravel() + rng.uniform(-3, 3, gx.size))[:n]
    f = np.exp(rng.uniform(*np.log(flux), len(x)))
    sigma = fwhm / 2.3548
    yy, xx = np.mgrid[:ny, :nx]
    image = np.full(shape, sky)
    for a, b, c in zip(x, y, f, strict=True):
        image += c / (2 * np.pi * sigma**2) * np.exp(
            -((xx - a) ** 2 + (yy - b) ** 2) / 2 / sigma**2
        )
    image = rng.poisson(image) + rng.normal(0, 5, shape)
    return image, x, y, f


def nearest(table, x, y):
    """Index of the detection next to every true star, and its distance."""
    d = np.hypot(table["x"][None, :] - x[:, None], table["y"][None, :] - y[:, None])
    return d.argmin(axis=1), d.min(axis=1)


def test_finds_all_stars():
    image, x, y, f = make_sky()
    table = find_stars(image, gain=1.0)
    k, d = nearest(table, x, y)
    assert d.max() < 0.3
    assert len(set(k)) == len(x)
    np.testing.assert_allclose(table["flux"][k] / f, 1, atol=0.35)
    assert table.meta["fwhm"] == pytest.approx(3.0, rel=0.1)
    assert np.all(np.diff(table["flux"]) <= 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((3, 20, 30)), "3"),
        (np.full((20, 30), np.nan), "600"),
        (np.full((20, 30), 7.0), "same value 7"),
        (np.zeros((20, 30), dtype=complex), "complex"),
        (np.zeros((4, 30)), "small"),
    ],
)
def test_rejects(data, words):
    with pytest.raises(ImageError, match=words):
        find_stars(data)
