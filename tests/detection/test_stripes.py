"""Rows and columns of their own levels."""

from __future__ import annotations

import numpy as np
import pytest

from spalipy_astro.catalogs import UNUSABLE
from spalipy_astro.detection import find_stars
from spalipy_astro.detection._background import estimate_background
from spalipy_astro.detection._pixels import PixelSource
from spalipy_astro.detection._stripes import without_stripes

SHAPE = (400, 500)


def sky(seed, n=40):
    rng = np.random.default_rng(seed)
    xy = np.column_stack((rng.uniform(15, SHAPE[1] - 15, n), rng.uniform(15, SHAPE[0] - 15, n)))
    y, x = (np.arange(float(size)) for size in SHAPE)
    image = 1000 + 0.2 * x + rng.normal(0, 10, SHAPE)
    flux = 10 ** rng.uniform(3.7, 5, n) / (2 * np.pi * 1.69)
    across, down = (np.exp(-((t - xy[:, [k]]) ** 2) / 3.38) for k, t in enumerate((x, y)))
    return image + (flux[:, None] * down).T @ across, xy


def stripes(seed, sigma, rows=True, columns=True):
    rng = np.random.default_rng(seed)
    pattern = np.zeros(SHAPE)
    if rows:
        pattern += rng.normal(0, sigma * 10, (SHAPE[0], 1))
    if columns:
        pattern += rng.normal(0, sigma * 10, SHAPE[1])
    return pattern


def found(image, xy):
    table = find_stars(image)
    table = table[(table["flag"] & int(UNUSABLE)) == 0]
    away = np.hypot(table["x"][:, None] - xy[:, 0], table["y"][:, None] - xy[:, 1])
    return int(np.count_nonzero(away.min(axis=0) < 0.3)), len(table)


@pytest.mark.parametrize("sigma", [1, 3, 10, 50])
@pytest.mark.parametrize("which", [(True, True), (True, False), (False, True)])
def test_stars_between_stripes(sigma, which):
    image, xy = sky(1)
    seen, number = found(image + stripes(2, sigma, *which), xy)
    assert seen >= 38
    assert number <= 44


def test_stripes_alone_are_no_stars():
    noise = np.random.default_rng(3).normal(1000, 10, SHAPE)
    for sigma in (1, 10):
        table = find_stars(noise + stripes(4, sigma))
        assert np.count_nonzero((table["flag"] & int(UNUSABLE)) == 0) <= 2


def test_masked_and_bad_pixels_do_not_spoil_the_levels():
    image, xy = sky(5)
    image += stripes(6, 5)
    image[np.random.default_rng(7).random(SHAPE) < 0.1] = np.nan
    assert found(image, xy)[0] >= 36


@pytest.mark.parametrize("kind", ["plain", "gradient", "crowded", "flat columns"])
def test_ordinary_images_are_left_alone(kind):
    image, _ = sky(8, n=2000 if kind == "crowded" else 40)
    if kind == "gradient":
        image += 3 * np.arange(SHAPE[0])[:, None]
    if kind == "flat columns":
        image[:, 100] += 500  # a single bad column
    source = PixelSource(image)
    assert without_stripes(source, estimate_background(source))[0] is source
